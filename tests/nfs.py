"""A real NFS for tests: Linux's own server and two of its clients, in a kernel that is a process (user-mode Linux).

    python tests/nfs.py COMMAND ...     runs a command on "machine" a, in whose folder /nfs the export is, then stops
    python tests/nfs.py --fetch         only fetches Debian's packages, unpacked into ~/.cache (nothing is installed)

The guest sees the host's files, and writes to none of them but those of one folder (`Guest.exchange`, its /exchange).
In it are two machines, a and b, with host names, identities and caches of their own. On both, /nfs is the server's
/export by NFS 4.2, and /nfs3 is the same by NFS 3. Mount options are the default ones: attributes are believed for 3 to
60 seconds.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from debian_packages import cache_folder, running, unpack

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("user-mode-linux", "nfs-kernel-server", "kmod", "e2fsprogs", "iproute2")
UNPACKED, PREFIX = cache_folder("nfs"), "nfs-"
HOW = "no user-mode Linux with NFS here (on Debian: python tests/nfs.py --fetch)"
START_S = 60
MEMORY = "3G"  # of which the host gives what is used
DISK_BYTES = 2 << 30  # a hole
MACHINES, MOUNTS = ("a", "b"), ("/nfs", "/nfs3")


class NoGuest(Exception):
    """The guest does not start; the end of what its kernel says."""


def find_root() -> Path | None:
    """The folder with Debian's packages, unpacked; None where they are not here."""
    return UNPACKED if (UNPACKED / "usr/bin/linux.uml").exists() else None


def fetch() -> Path:
    """Fetch Debian's packages and the libraries that this machine lacks, and unpack them."""
    return unpack(PACKAGES, UNPACKED, "--reinstall")


class Command:
    """A command that was started in the guest."""

    def __init__(self, guest: Guest, number: int, arguments: Sequence[str]) -> None:
        self._guest, self.number, self.arguments = guest, number, arguments
        self._ended = threading.Event()
        self._answer: dict[str, Any] = {}

    def is_over(self) -> bool:
        return self._ended.is_set()

    def kill(self, which: int = signal.SIGKILL) -> None:
        """Send a signal to it and all that it started."""
        self._guest.say({"id": self.number, "signal": int(which)})

    def end(self, answer: dict[str, Any]) -> None:
        self._answer = answer
        self._ended.set()

    def finish(self, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
        """Wait for its end.

        Raises:
            TimeoutError: it goes on.
        """
        if not self._ended.wait(timeout_s):
            raise TimeoutError(f"{' '.join(self.arguments)[:500]}\nthe kernel: {self._guest.console()}")
        answer = self._answer
        return subprocess.CompletedProcess(self.arguments, answer["code"], answer["out"], answer["err"])


class Guest:
    """A running guest.

    Args:
        root: see `find_root`.
        folder: a new one.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder, self.exchange = root, folder, folder / "exchange"
        self._commands: dict[int, Command] = {}
        self._numbers = itertools.count(1)
        self._is_ready = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._to_guest = self._from_guest = -1

    def start(self) -> None:
        """Boot; returns when both machines have the export mounted.

        Raises:
            NoGuest: it does not start, for instance where ptrace is not allowed.
        """
        self.exchange.mkdir()
        disk = self.folder / "disk"
        with disk.open("wb") as file:
            file.truncate(DISK_BYTES)
        (guest_in, self._to_guest), (self._from_guest, guest_out) = os.pipe(), os.pipe()
        here = Path(__file__).with_name("nfs_guest.py")
        given = {"PACKAGES": self.root, "EXCHANGE": self.exchange, "PYTHON": sys.executable, "AGENT": here}
        command = [
            *("setpriv", "--pdeathsig", "KILL"),  # with whoever starts it, however that one ends
            *(str(self.root / "usr/bin/linux.uml"), f"mem={MEMORY}", f"ubda={disk}", "rootfstype=hostfs"),
            *("rootflags=/", "ro", "quiet", f"init={here.with_suffix('.sh')}", "con0=null,fd:1", "con=null"),
            *(f"ssl0=fd:{guest_in},fd:{guest_out}", *(f"{name}={value}" for name, value in given.items())),
        ]
        with (self.folder / "console").open("wb") as console:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=(guest_in, guest_out),
                start_new_session=True,
            )
        for descriptor in (guest_in, guest_out):
            os.close(descriptor)
        threading.Thread(target=self._listen, daemon=True).start()
        deadline = time.monotonic() + START_S
        while not self._is_ready.wait(0.1):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NoGuest(self.console())

    def console(self) -> str:
        """The end of what the kernel says, and the programs that start the server."""
        return (self.folder / "console").read_text(encoding="utf-8", errors="replace")[-2000:]

    def _listen(self) -> None:
        with os.fdopen(self._from_guest, "rb") as file:
            for line in file:
                with suppress(ValueError):  # what the line says before it is set up
                    self._hear(json.loads(line))
        for command in self._commands.values():
            command.end({"code": -1, "out": "", "err": "the guest is gone"})

    def _hear(self, answer: dict[str, Any]) -> None:
        if "ready" in answer:
            self._is_ready.set()
        else:
            self._commands.pop(answer["id"]).end(answer)

    def say(self, request: dict[str, Any]) -> None:
        """Send a request to the agent (nfs_guest.py), in a file: more than 4 kilobytes at once stop the line."""
        path = self.exchange / f"request{next(self._numbers)}"
        path.write_text(json.dumps(request), encoding="utf-8")
        os.write(self._to_guest, path.name.encode() + b"\n")

    def begin(self, machine: str, *arguments: str | Path, cwd: str = "/", **env: str) -> Command:
        """Start a command on a machine; "" is the server."""
        number = next(self._numbers)
        command = Command(self, number, [*map(str, arguments)])
        self._commands[number] = command
        env = {
            "PATH": _path(),
            "PYTHONPATH": str(ROOT),
            "HOME": "/root",
            "OMP_NUM_THREADS": "1",
            "LANG": "C.UTF-8",
            **env,
        }
        self.say({"id": number, "machine": machine, "command": command.arguments, "env": env, "cwd": cwd})
        return command

    def run(self, machine: str, *arguments: str | Path, **given: str) -> str:
        """What a command prints that must end well."""
        done = self.begin(machine, *arguments, **given).finish()
        assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}{self.console()}"
        return done.stdout

    def python(self, machine: str, program: str, *arguments: str, **given: str) -> Command:
        """Start a program in Python on a machine."""
        return self.begin(machine, sys.executable, "-c", program, *arguments, **given)

    def stop_server(self) -> None:
        """No request is answered any more; the clients wait."""
        self.run("", "rpc.nfsd", "0")

    def start_server(self) -> None:
        self.run("", "rpc.nfsd", "--grace-time", "10", "--lease-time", "10", "8")

    def stop(self) -> None:
        """End it, as a power cut would; all of its processes are in one group."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._to_guest >= 0:
            os.close(self._to_guest)


def _path() -> str:
    return "/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="module")
def nfs() -> Iterator[Guest]:
    """A guest of this module's own; where it cannot be, the test is skipped and says why."""
    root = find_root()
    if root is None:
        pytest.skip(HOW)
    try:
        with running(Guest, root, PREFIX) as guest:
            yield guest
    except NoGuest as reason:
        if "ptrace" not in str(reason):
            raise
        pytest.skip(f"user-mode Linux may not trace its processes here: {reason}")


def main(arguments: Sequence[str]) -> int:
    """See the module."""
    if list(arguments) == ["--fetch"]:
        print(find_root() or fetch())
        return 0
    with running(Guest, find_root() or fetch(), PREFIX) as guest:
        done = guest.begin("a", *arguments, cwd="/nfs").finish(3600)
        print(done.stdout, end="")
        print(done.stderr, end="", file=sys.stderr)
        return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A real Slurm for tests: one controller and two nodes of one core each on this machine, in a temporary folder.

    python tests/slurm.py COMMAND ...     runs a command with `sbatch`, `squeue` ... of such a cluster, then stops it
    python tests/slurm.py --fetch         only fetches Debian's packages, unpacked into ~/.cache (nothing is installed)

No service of the system is used, no root and no control groups. Two settings make it quick, and are for tests alone: a
requeued job waits `cred_expire` + 1 s (121 by default), and a silent node counts as down after `SlurmdTimeout`.
"""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from debian_packages import cache_folder, running, unpack

START_S = 60
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/slurm-wlm")
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
UNPACKED, PREFIX = cache_folder("slurm"), "slurm-"
HOW = "no Slurm here (on Debian: python tests/slurm.py --fetch)"

CONFIG = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
PluginDir={root}/usr/lib/x86_64-linux-gnu/slurm-wlm
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=8
KillWait=30
MinJobAge=30
SchedulerParameters=sched_interval=2,bf_interval=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldPort={ports[0]}
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=2000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=2000
PartitionName=short Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def find_root() -> Path | None:
    """The folder that has `usr/sbin/slurmctld-wlm` of Debian's packages; None where they are not here."""
    return next((root for root in (UNPACKED, Path("/")) if (root / "usr/sbin/slurmctld-wlm").exists()), None)


def fetch() -> Path:
    """Fetch Slurm's packages and the libraries that this machine lacks, and unpack them."""
    return unpack(PACKAGES, UNPACKED)


class Slurm:
    """A running cluster; `env` is what a process needs to use it.

    Args:
        root: see `find_root`.
        folder: a new one, of a short path, since a socket lies in it.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        libraries = os.pathsep.join(str(root / path) for path in LIBRARIES)
        self.env = {
            **os.environ,
            "LD_LIBRARY_PATH": libraries,
            "PATH": f"{root}/usr/bin{os.pathsep}{os.environ['PATH']}",
            "SLURM_CONF": f"{folder}/slurm.conf",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start everything; returns when both nodes are idle."""
        (self.folder / "state").mkdir()
        config = CONFIG.format(
            host=socket.gethostname(),
            user=getpass.getuser(),
            folder=self.folder,
            root=str(self.root).rstrip("/"),
            ports=_free_ports(3),
        )
        (self.folder / "slurm.conf").write_text(config, encoding="utf-8")
        key, logs = self.folder / "munge.key", self.folder / "munge"
        logs.mkdir(mode=0o700)
        subprocess.run([f"{self.root}/usr/sbin/mungekey", "--create", f"--keyfile={key}"], env=self.env, check=True)
        files = (f"--pid-file={logs}/pid", f"--log-file={logs}/log", f"--seed-file={logs}/seed")
        socket_file = f"--socket={self.folder}/munge.socket"
        self._run("munged", "munged", "--foreground", "--force", f"--key-file={key}", socket_file, *files)
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged does not start")
        self.start_controller()
        for node in ("n1", "n2"):
            self.start_node(node)
        self._wait(lambda: self.states() == ["idle", "idle"], "the nodes do not start")

    def start_controller(self) -> None:
        self._run("slurmctld", "slurmctld-wlm", "-D")

    def start_node(self, node: str) -> None:
        stepd = f"{self.root}/usr/sbin/slurmstepd-wlm"
        self._run(node, "slurmd-wlm", "-D", "-N", node, "-d", stepd)

    def _run(self, name: str, program: str, *arguments: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            command = [f"{self.root}/usr/sbin/{program}", *arguments]
            # In a group of its own: Ctrl-C ends the tests, and these in the order of `stop`.
            self.processes[name] = subprocess.Popen(
                command, env=self.env, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def _wait(self, is_so: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + START_S
        while not is_so():
            died = [name for name, process in self.processes.items() if process.poll() is not None]
            if died or time.monotonic() > deadline:
                tails = "\n".join(path.read_text(errors="replace")[-1500:] for path in self.folder.glob("*.out"))
                raise AssertionError(f"{otherwise} (ended: {died})\n{tails}")
            time.sleep(0.1)

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def states(self) -> list[str]:
        """The nodes' states."""
        return self.ask("sinfo", "--noheader", "--Node", "--format=%T").split()

    def kill_node(self, node: str) -> int:
        """What a power cut is: the node's daemon and all that it runs is gone. Returns how many processes that were."""
        daemon = self.processes.pop(node)
        found = [pid for pid in _own_processes() if f"SLURMD_NODENAME={node}" in _environment(pid)]
        steps = {parent for pid in found if "slurmstepd" in _command(parent := _parent(pid))}
        daemon.kill()
        for pid in (*steps, *found):  # the steps first: they would tell the controller how their jobs have ended
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        daemon.wait()
        return len(found)

    def kill_controller(self) -> None:
        """The controller alone; `start_controller` makes another one, which reads what this one has left."""
        controller = self.processes.pop("slurmctld")
        controller.kill()
        controller.wait()

    def stop(self) -> None:
        """End all jobs and all of its processes, however they were started."""
        ours = f"SLURM_CONF={self.env['SLURM_CONF']}"
        for process in self.processes.values():
            process.kill()
        for pid in _own_processes():
            if ours in _environment(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in self.processes.values():
            process.wait()
        self.processes = {}


def _own_processes() -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if path.stat().st_uid == os.geteuid() and int(path.name) != os.getpid():
                yield int(path.name)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _environment(pid: int) -> Sequence[str]:
    return _text(pid, "environ").split("\0")


def _command(pid: int) -> str:
    return _text(pid, "cmdline")


def _text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A cluster of this module's own; without Debian's packages the test is skipped."""
    root = find_root()
    if root is None:
        pytest.skip(HOW)
    with running(Slurm, root, PREFIX) as cluster:
        yield cluster


def main(arguments: Sequence[str]) -> int:
    """See the module."""
    if list(arguments) == ["--fetch"]:
        print(find_root() or fetch())
        return 0
    with running(Slurm, find_root() or fetch(), PREFIX) as cluster:
        return subprocess.run(arguments or [os.environ.get("SHELL", "sh")], env=cluster.env).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

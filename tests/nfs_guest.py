"""What runs inside the guest of tests/nfs.py, once its server and its clients are there: it runs commands.

A request is a JSON file, whose name comes on a serial line; an answer is a JSON line on it. A request has `id`, and
either `command` (with `machine`, `env`, `cwd`: it is answered when the command ends) or `signal` (for the command of
that id: it is not answered).
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

EXCHANGE = Path("/exchange")
ENTER = """
hostname "$0" && mount --bind "/clients/$0/4" /nfs && mount --bind "/clients/$0/3" /nfs3 && cd "$PWD" && exec "$@"
"""
AS_MACHINE = ("unshare", "--uts", "--mount", "sh", "-c", ENTER)


class Agent:
    """Runs commands, each of them in a group and, if it belongs to a machine, with the host name of that machine."""

    def __init__(self, line: IO[bytes]) -> None:
        self._line, self._lock = line, threading.Lock()
        self._running: dict[int, subprocess.Popen[str]] = {}

    def serve(self) -> None:
        """Until there is nobody any more who asks."""
        self._say({"ready": True})
        for text in self._line:
            request = json.loads((EXCHANGE / text.decode().strip()).read_bytes())
            if "signal" in request:
                self._signal(request["id"], request["signal"])
            else:
                threading.Thread(target=self._run, args=(request,), daemon=True).start()

    def _run(self, request: dict[str, Any]) -> None:
        prefix = [*AS_MACHINE, request["machine"]] if request["machine"] else []
        try:
            process = subprocess.Popen(
                [*prefix, *request["command"]],
                env=os.environ | request["env"],
                cwd=request["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            self._say({"id": request["id"], "code": 127, "out": "", "err": str(error)})
            return
        self._running[request["id"]] = process
        out, err = process.communicate()
        self._say({"id": request["id"], "code": process.returncode, "out": out, "err": err})

    def _signal(self, number: int, which: int) -> None:
        with suppress(KeyError, ProcessLookupError):
            os.killpg(self._running[number].pid, which)

    def _say(self, content: dict[str, Any]) -> None:
        with self._lock:
            self._line.write(json.dumps(content).encode() + b"\n")
            self._line.flush()


def main() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    line = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
    subprocess.run(["stty", "raw", "-echo"], stdin=line, check=True)
    with os.fdopen(line, "r+b", buffering=0) as raw:
        Agent(io.BufferedRWPair(raw, raw)).serve()  # type: ignore[arg-type]


if __name__ == "__main__":
    main()

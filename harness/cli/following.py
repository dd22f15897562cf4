"""`--track` and `--wandb`: starts the process that shows a launch in a tracker, and waits for it at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from harness.errors import UserError, must_be_in

WANDB_CHOICES = ("auto", "offline", "online", "off")
WAIT_S = 60.0  # the most that is waited for the process when the launch has ended
SILENT_S = 15.0  # after so much of it, the user is told why nothing happens
ENDED, CUT_SHORT = b"end", b""
MAX_STARTS = 3  # a process that dies is started again, and goes on where the dead one stopped
FOLLOW = "import sys; from harness.tracking.follower import main; main(*sys.argv[1:])"


def choose_tracker(track: str | None, wandb: str) -> str:
    """Choose the tracker that the options ask for. For W&B, `WANDB_MODE` is set to what they mean.

    Raises:
        UserError: no such choice, options that contradict each other, or a package that is not installed.
    """
    from harness.tracking.client import choose_mode
    from harness.tracking.trackers import tracker_type

    must_be_in(wandb, WANDB_CHOICES, f"--wandb {wandb!r}")
    name = track or "wandb"
    if name != "wandb" and wandb not in ("auto", "off"):
        raise UserError(f"--wandb {wandb} says how to track with W&B, but --track is {name}; leave one of them out")
    package = tracker_type(name).package
    if package is not None and find_spec(package) is None:
        raise UserError(f"--track {name} needs the package {package}; run: pip install {package}")
    if name == "wandb":
        mode = choose_mode() if wandb == "auto" else wandb
        if mode in ("off", "disabled"):
            return "none"
        os.environ["WANDB_MODE"] = mode
    return name


@contextmanager
def following(experiment: Path, tracker: str) -> Iterator[None]:
    """While the context lasts, a process shows what is trained in `RESULTS/NAME`. The end waits for it.

    Args:
        tracker: its name in `TRACKERS`.
    """
    if tracker == "none":
        yield
        return
    process = FollowerProcess(experiment, tracker)
    try:
        yield
    except KeyboardInterrupt:
        process.tell(CUT_SHORT)  # it shows the trials that have ended, then ends; nobody waits for it
        raise
    except BaseException:
        process.end(CUT_SHORT)
        raise
    process.end(ENDED)


class FollowerProcess:
    """Runs harness/tracking/follower.py. A thread prints the process's lines, and starts it again if it dies."""

    def __init__(self, experiment: Path, tracker: str) -> None:
        from harness.records.starts import end_of_starts

        self.experiment, self.tracker = experiment, tracker
        self._since = end_of_starts(experiment)
        self._lock = threading.Lock()
        self._word: bytes | None = None  # how the launch ended
        self._fell_back = self._is_left = False
        self._num_starts = 0
        self._process = self._start()
        self._listener = threading.Thread(target=self._listen, daemon=True, name="follower")
        self._listener.start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._num_starts += 1
        arguments = (str(self.experiment), self.tracker, str(self._since), str(int(self._fell_back)))
        return subprocess.Popen(
            [sys.executable, "-P", "-c", FOLLOW, *arguments],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def _listen(self) -> None:
        """Run in the thread: print the process's lines; start it again when it was killed, or when it fell back."""
        from harness.tracking.follower import FELL_BACK

        while True:
            process = self._process
            assert process.stdout is not None and process.stdin is not None
            with process.stdout:
                for line in process.stdout:
                    print(line.decode(errors="replace").rstrip(), file=sys.stderr, flush=True)
            code = process.wait()
            with self._lock:
                with suppress(OSError):  # nobody reads there any more
                    process.stdin.close()
                self._fell_back |= code == FELL_BACK
                if code == 0 or self._is_left:
                    return
                if self._num_starts == MAX_STARTS:
                    return self._say(f"the process that sends trials there failed {MAX_STARTS} times")
                self._process = self._start()
                if self._word is not None:
                    self._send()

    def tell(self, word: bytes) -> None:
        """Tell the process how the launch ended."""
        with self._lock:
            self._word = word
            self._send()

    def end(self, word: bytes) -> None:
        """Tell the process how the launch ended, and wait until it has shown everything, at most `WAIT_S`."""
        self.tell(word)
        self._listener.join(SILENT_S)
        if self._listener.is_alive():
            print(f"waiting at most {WAIT_S:.0f} s for {self.tracker} to take the last trials", file=sys.stderr)
            self._listener.join(WAIT_S - SILENT_S)
        with self._lock:
            if self._listener.is_alive():
                self._is_left = True
                self._say(f"not everything was shown there within {WAIT_S:.0f} s")
                self._process.kill()

    def _send(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None and self._word is not None
        if not stdin.closed:
            with suppress(OSError), stdin:  # it may have died
                stdin.write(self._word)

    def _say(self, what: str) -> None:
        print(f"{self.tracker}: {what}; run the same command again to show the rest", file=sys.stderr, flush=True)

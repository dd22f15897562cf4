"""What asks a command to end ends it with one line and the signal's code, unless it was told not to listen."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# A command that takes its time, in place of all commands.
SLEEPER = """
import sys, time
import harness.cli

def app(*arguments, **options):
    print("begun", flush=True)
    time.sleep(float(sys.argv[1]))

sys.modules["harness.cli.main"].app = app
harness.cli.main()
"""


@contextmanager
def sleeping(seconds: float, hangup: signal.Handlers) -> Iterator[subprocess.Popen[str]]:
    """The command, begun; `hangup` is what its process does at SIGHUP, as nohup or a shell leaves it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, hangup),
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_is_asked_to_end_says_how_to_go_on(number: signal.Signals) -> None:
    with sleeping(60, signal.SIG_DFL) as process:
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    why = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert err == f"harness: {why}; run the same command again to go on from where it stopped\n"
    assert process.returncode == 128 + number


def test_a_terminal_that_closes_does_not_end_what_nohup_started() -> None:
    with sleeping(1, signal.SIG_IGN) as process:
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")

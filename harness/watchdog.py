"""Ends this process where its work stands still, so that a trial that hangs is not held for ever.

Its lease tells nothing of a hang, since a thread renews it. So each step of a training or a scoring calls `beat`; where
none comes for `$HARNESS_HANG_S` seconds (an hour), the process prints where each of its threads stands, and ends. Its
trials then go on like those of any process that died; one that always hangs in the same epoch is parked.

Outside of `watch` and `rest`, which a worker calls, a beat does nothing: nobody's notebook is ended for being idle.
"""

from __future__ import annotations

import faulthandler
import os
import time

HANG_S = 3600.0
STDERR = 2
REFRESH = 0.05  # of the limit: a timer that is younger is left as it is, since a new one costs 0.05 ms

_is_watching = False
_due = 0.0  # when a beat sets the timer anew


def watch() -> None:
    """Begin to expect beats."""
    global _is_watching, _due
    _is_watching, _due = True, 0.0
    beat()


def beat() -> None:
    """Say that the work goes on. It costs 0.1 microseconds, nearly always."""
    global _due
    if _is_watching and (now := time.monotonic()) >= _due:
        limit_s = hang_seconds()
        faulthandler.dump_traceback_later(limit_s, exit=True, file=STDERR)
        _due = now + REFRESH * limit_s


def rest() -> None:
    """Expect no beats until the next `watch`."""
    global _is_watching
    _is_watching = False
    faulthandler.cancel_dump_traceback_later()


def hang_seconds() -> float:
    """How long no step may end."""
    return float(os.environ.get("HARNESS_HANG_S") or HANG_S)

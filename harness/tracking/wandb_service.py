"""The process that runs wandb for a worker: see harness/tracking/wandb_process.py, which is its other side.

It ends when its worker does, however that ends: runs whose end it was told are finished first, others are abandoned, as
a killed training leaves them (the next start of the trial replaces them).
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from harness.tracking.wandb_tracker import WandbTracker


def serve(descriptor: int) -> None:
    """Log runs as they are told through a socket, until its other side closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to handle
    connection = Connection(descriptor)
    sending = threading.Lock()

    def say(verb: str, key: int, payload: Any = None) -> None:
        with sending, suppress(OSError):
            connection.send((verb, key, payload))

    def end(key: int, tracker: WandbTracker, summary: Any) -> None:
        tracker.finish(summary)
        say("ended", key)

    running: dict[int, WandbTracker] = {}
    ending: list[threading.Thread] = []
    with suppress(EOFError, OSError):
        while True:
            verb, key, payload = connection.recv()
            if verb == "close":
                break
            if verb == "start":
                directory, mode, run = payload
                running[key] = WandbTracker(directory, mode, partial(say, "note", key))
                running[key].start(run)
            elif verb == "log":
                running[key].log(payload)
            elif verb == "finish":
                ending = [thread for thread in ending if thread.is_alive()]
                ending.append(threading.Thread(target=end, args=(key, running.pop(key), payload)))
                ending[-1].start()
    for thread in ending:
        thread.join()  # each ends in time: `WandbTracker.finish` does
    if running:
        os._exit(0)  # else wandb would finish them at exit

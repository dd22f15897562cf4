"""Worker processes that load first and are let go together. Standard library only."""

from __future__ import annotations

from typing import Any


def start_all(workers: list[Any], ready: Any) -> None:
    """Start workers, and wait until each has released the semaphore `ready`.

    Raises:
        SystemExit: one has died.
    """
    for worker in workers:
        worker.start()
    for _ in workers:
        while not ready.acquire(timeout=1):
            check_alive(workers)


def check_alive(workers: list[Any]) -> None:
    """Stop when a worker has died: its traceback is on the terminal.

    Raises:
        SystemExit: one has.
    """
    if any(worker.exitcode not in (None, 0) for worker in workers):
        raise SystemExit("a worker failed")

"""Python's search for garbage (the module `gc`), as programs need it that load large libraries."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLDS = 20_000, 20, 50  # new objects before a search, and how many searches before a more thorough one
_is_own = False  # whether this process is one of our own


def look_for_garbage_rarely() -> None:
    """Let Python look for garbage more rarely in this process; for a process of our own, not for a user's program.

    By default it looks after every 700 new objects. Loading torch and transformers makes a million objects that stay,
    and looking at them again and again is a fifth of the time that loading takes.
    """
    global _is_own
    _is_own = True
    gc.set_threshold(*THRESHOLDS)


@contextmanager
def no_search_for_garbage() -> Iterator[None]:
    """A block in which Python looks for no garbage: one that makes many objects that stay."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def free_garbage() -> None:
    """Find and free all garbage now.

    In a process of our own what is left counts as what stays: a later search, which would take half a second beside
    torch and transformers, looks at newer objects alone.
    """
    gc.collect()
    if _is_own:
        gc.freeze()

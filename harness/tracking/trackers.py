"""The trackers by name. A new one is a file beside this one and a line in `TRACKERS`.

A tracker's class is named as `FILE:CLASS`, not imported: the choices can be listed without loading any.
"""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from harness.errors import must_be_in

if TYPE_CHECKING:
    from harness.tracking.tracker import Tracker

TRACKERS: Mapping[str, str] = {
    "none": "tracker:NullTracker",
    "wandb": "wandb_tracker:WandbTracker",
    "tensorboard": "tensorboard_tracker:TensorboardTracker",
}


def tracker_type(name: str) -> type[Tracker]:
    """The class of a tracker.

    Raises:
        UserError: there is no such tracker.
    """
    must_be_in(name, TRACKERS, f"--track {name!r}")
    found: type[Tracker] = resolve_name(f"harness.tracking.{TRACKERS[name]}")
    return found

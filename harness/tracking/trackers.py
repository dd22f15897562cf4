"""The trackers by name."""

from __future__ import annotations

from collections.abc import Mapping

from harness.tracking.tensorboard_tracker import TensorboardTracker
from harness.tracking.tracker import NullTracker, Tracker
from harness.tracking.wandb_tracker import WandbTracker

TRACKERS: Mapping[str, type[Tracker]] = {
    "none": NullTracker,
    "wandb": WandbTracker,
    "tensorboard": TensorboardTracker,
}

"""The news of a trial, one class each. The last one of a trial is `Done` or `Failed`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.launch.task import TrialTask
from harness.records.schema import Summary


@dataclass(frozen=True)
class Epoch:
    """An epoch ended: {"epoch": int, "metrics": {name: value}, "seconds": float}."""

    task: TrialTask
    entry: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """The trial has a record, whatever its state; it may have been there before.

    Attributes:
        by_another: another process made the record while this launch was about it: its own lines tell of it as well.
    """

    task: TrialTask
    summary: Summary
    by_another: bool = False


@dataclass(frozen=True)
class Failed:
    """The trial ended without a record.

    Attributes:
        user_error: its data, backbone or adapter do not fit together.
        killed: its process died; the next launch goes on from its last epoch.
    """

    task: TrialTask
    message: str
    user_error: bool = False
    killed: bool = False


@dataclass(frozen=True)
class Busy:
    """Another process trains the trial."""

    task: TrialTask


@dataclass(frozen=True)
class Note:
    """A line about how the trial is trained."""

    task: TrialTask
    message: str


@dataclass(frozen=True)
class Slots:
    """How many trials a worker has a use for at once, those under way included; no trial's news, for its launcher."""

    number: int


TrialEvent = Epoch | Done | Failed | Busy | Note

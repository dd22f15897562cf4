"""Which plan of a sweep is under way: launches with one plan share the work, and another plan has to wait for its end.

The budget, the race and the confirm phase may change between launches, and all of them write the same files. So a
launch holds the lease `.plan-HASH-TOKEN.1` of the sweep's folder while it lasts, with the hash of its plan; one that
finds a live lease with another hash is refused. Leases are looked at and made under one more lease, one at a time.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.config.base import content_hash
from harness.errors import TrialError
from harness.launch.run_experiment import RunPlan, manifest_of
from harness.records.leases import Lease, drop_dead_in, holder, locked, take
from harness.search.declaration import Sweep
from harness.sweep.workers import PLAN, plan_leases

PLANNING = "planning"  # the lease of who looks at the plans under way, and adds its own
DECIDES = {"objectives", "constraints", "budget", "search", "race", "confirm", "sampler", "pruner"}


@contextmanager
def under_way(sweep: Sweep, results: Path) -> Iterator[None]:
    """Hold a sweep's plan for a block of code; a folder that may not be written to needs no such care.

    Raises:
        TrialError: a launch with another plan is under way (reason `busy`).
    """
    lease = _take(sweep, results / sweep.name)
    try:
        yield
    finally:
        if lease is not None:
            lease.release()


def plan_hash(sweep: Sweep) -> str:
    """The hash of what decides the files of a sweep: how it searches, races, chooses and confirms."""
    return content_hash({"fingerprint": sweep.fingerprint, **sweep.config.model_dump(mode="json", include=DECIDES)}, 12)


def check_is_last(plan: RunPlan) -> None:
    """Check that the manifest on disk is that of this launch's plan, so that a table made from it is its table.

    Raises:
        TrialError: another launch has written another one since (reason `busy`).
    """
    own, there = manifest_of(plan.experiment), plan.store.manifest()
    if own.arms != there.arms or any(note not in there.notes for note in own.notes):
        raise TrialError(
            "busy",
            f"{plan.store.path}: another launch, of another plan, has written its own winners there meanwhile, so no "
            "table is shown; give the command again when that launch has ended",
        )


def _take(sweep: Sweep, folder: Path) -> Lease | None:
    """The lease of this launch; None where none can be written."""
    own = plan_hash(sweep)
    try:
        with locked(folder, PLANNING):
            _refuse_others(folder, own)
            return take(folder, f"{PLAN}{own}-{uuid.uuid4().hex[:12]}")
    except TrialError as error:
        if error.reason == "disk":  # what has to be written will say so, and what is finished can be shown
            return None
        raise


def _refuse_others(folder: Path, own: str) -> None:
    """Raise TrialError if a launch with another plan lives; what dead ones have left goes."""
    for name in plan_leases(folder):
        drop_dead_in(folder, name)
        held = holder(folder, name)
        if held is not None and name.removeprefix(PLAN).partition("-")[0] != own:
            raise TrialError(
                "busy",
                f"{folder}: process {held.pid} on {held.host} is at this sweep with another budget, race or confirm "
                "phase, and both would write the same files; end that launch or wait for its end, and give the command "
                "again",
            )

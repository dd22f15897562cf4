"""What `harness compare` is asked to compare: `NAME`, `NAME:ARM`, or the path of a results folder (with `:ARM`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.config.table import rows_named
from harness.errors import UserError
from harness.records.schema import Record
from harness.records.store import MANIFEST, RecordStore
from harness.tables.load import LoadedTrial
from harness.tables.model import TrialRef


@dataclass(frozen=True)
class Side:
    """One side: an experiment's complete trials, of all its arms or of one.

    Attributes:
        asked: as it was written on the command line.
        trials: arm -> seed -> complete record, in the table's order.
        failed: arm -> planned trials that are not complete.
    """

    asked: str
    store: RecordStore
    trials: Mapping[str, Mapping[int, Record]]
    failed: Mapping[str, int]
    one_arm: bool

    def loaded(self, arm: str) -> list[LoadedTrial]:
        """The complete trials of an arm as a table reads them."""
        return [
            LoadedTrial(
                TrialRef(self.asked, arm, seed, record.trial_id), record, folder=self.store.trial(record.trial_id)
            )
            for seed, record in self.trials[arm].items()
        ]


def load_side(asked: str, results: Path) -> Side:
    """Read one side.

    Raises:
        UserError: no such experiment or arm (the choices are named), or no trial is complete.
    """
    store, arm = _locate(asked, results)
    manifest = store.manifest()
    shown = list(manifest.arms)
    if arm is not None:
        shown = rows_named(arm, manifest.row_ids, asked, store.name)
    trials: dict[str, dict[int, Record]] = {}
    failed: dict[str, int] = {}
    for name, seeds in manifest.arms.items():
        if name not in shown:
            continue
        for seed, trial_id in seeds.items():
            record = store.trial(trial_id).record()
            if record is not None and record.summary.state == "complete":
                trials.setdefault(name, {})[seed] = record
            else:
                failed[name] = failed.get(name, 0) + 1
    if not trials:
        raise UserError(f"{asked}: no trial is finished, so there is nothing to compare")
    return Side(asked, store, trials, failed, arm is not None and len(shown) == 1)


def _locate(asked: str, results: Path) -> tuple[RecordStore, str | None]:
    """The results folder that is meant, and the arm."""
    for name, arm in _readings(asked):
        path = Path(name)
        folder = path.parent if path.is_file() else path
        if "/" in name and (folder / MANIFEST).is_file():
            return RecordStore(folder.resolve().parent, folder.resolve().name), arm
        if (results / name / MANIFEST).is_file():
            return RecordStore(results, name), arm
    name, arm = _readings(asked)[-1]
    return RecordStore(results, name), arm  # its manifest names the choices


def _readings(asked: str) -> list[tuple[str, str | None]]:
    """`a:b` as a name alone (a path may have a colon), then as a name and an arm."""
    name, colon, arm = asked.partition(":")
    return [(asked, None), (name, arm)] if colon and name and arm else [(asked, None)]


def pair_arms(one: Side, other: Side) -> tuple[list[tuple[str, str]], list[str]]:
    """Which arms are compared, and the arms of either side that have no partner.

    Raises:
        UserError: no arm has a partner.
    """
    if one.one_arm and other.one_arm:
        return [(next(iter(one.trials)), next(iter(other.trials)))], []
    pairs = [(arm, arm) for arm in one.trials if arm in other.trials]
    if not pairs:
        raise UserError(
            f"{one.asked} and {other.asked} share no arm; name one arm of each, as in {one.store.name}:ARM; "
            f"arms: {', '.join(one.trials)} and {', '.join(other.trials)}"
        )
    shared = {arm for arm, _ in pairs}
    alone = [f"{side.asked}: {arm}" for side in (one, other) for arm in side.trials if arm not in shared]
    return pairs, alone

"""What an experiment was launched as. Its manifest keeps every plan, so that nothing can be left out in silence.

A table shows the last plan. Trials that only an earlier plan has (an arm or a seed taken out of the file, the winners
of a smaller budget) are named in a note of the manifest, which the table prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.config.notes import Note
from harness.config.table import TableSettings
from harness.records.provenance import utc_now
from harness.records.schema import Launch, Manifest
from harness.records.store import MANIFEST, RecordStore

# Settings whose change after a launch the table tells: they decide what is significant, judged and shown.
TOLD = ("alpha", "baseline", "level", "arms", "where", "metrics")


def declare_launch(store: RecordStore, manifest: Manifest, budget: Mapping[str, float] | None = None) -> Manifest:
    """The manifest with the plans of all launches, this one included if it is another plan than the last one's.

    Where nothing changes, it is the manifest that is there already, be it one without launches.

    Args:
        budget: of a sweep's search, `trials` or `seconds`; one that differs from the last one's is another plan.
    """
    known = store.manifest() if (store.path / MANIFEST).exists() else None
    launches = () if known is None else known.launches
    before = launches[-1].budget if launches else None
    is_other_budget = before is not None and budget is not None and before != dict(budget)
    if known is None or is_other_budget or (known.arms, known.table) != (manifest.arms, manifest.table):
        if known is not None and not launches:
            launches = (Launch(at=None, arms=known.arms, table=known.table),)
        ids = trial_ids(manifest.arms)
        num_finished = sum(store.trial(trial_id).is_finished() for trial_id in ids)
        plan = Launch(at=utc_now(), num_finished=num_finished, arms=manifest.arms, table=manifest.table)
        launches += (plan if budget is None else plan.model_copy(update={"budget": dict(budget)}),)
    made = manifest.model_copy(update={"launches": launches})
    return made.model_copy(update={"notes": (*manifest.notes, *launch_notes(made))})


def launch_notes(manifest: Manifest) -> list[Note]:
    """What the table must say of earlier plans: trials that it does not show, and settings that were others."""
    notes = []
    left_out = left_out_trials(manifest)
    if left_out:
        each = ", ".join(f"{row} ({seeds_text(seeds)})" for row, seeds in left_out.items())
        notes.append(Note("missing", f"launched earlier, and not in this table: {each}"))
    if budgets := _greater_budgets(manifest.launches):
        notes.append(Note("budget", f"launched earlier with {', '.join(budgets)}, whose results were seen"))
    for key in TOLD if manifest.launches else ():
        usual = TableSettings.model_fields[key].get_default(call_default_factory=True)
        first, now = (_told(key, found.get(key, usual)) for found in (manifest.launches[0].table, manifest.table))
        if first != now:
            be, were = ("are", "were") if key in ("arms", "metrics") else ("is", "was")
            text = f"{key} {be} {now}, but {were} {first} when the experiment was first launched"
            notes.append(Note("test", text))
    return notes


def _told(key: str, value: Any) -> str:
    """A setting of a table in words; of metrics, which ones they are and not how each is printed."""
    if not value and key in ("arms", "metrics"):
        return {"arms": "all", "metrics": "the usual ones"}[key]
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item["metric"]) if isinstance(item, dict) else str(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items()) or "none"
    return "none" if value is None else str(value)


def budget_text(budget: Mapping[str, float]) -> str:
    """`30 trials`, or `600 s of training`."""
    return f"{budget['trials']:.0f} trials" if "trials" in budget else f"{budget['seconds']:g} s of training"


def _greater_budgets(launches: Sequence[Launch]) -> list[str]:
    """The budgets of earlier launches that were greater than the last one's, or of the other kind."""
    last = launches[-1].budget if launches else None
    earlier = [launch.budget for launch in launches[:-1] if launch.budget is not None]
    return list(
        dict.fromkeys(budget_text(b) for b in earlier if last and any(v > last.get(k, 0) for k, v in b.items()))
    )


def seeds_text(seeds: Sequence[int]) -> str:
    """`seed 1`, or `seeds 1, 2`."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def left_out_trials(manifest: Manifest) -> dict[str, list[int]]:
    """Row -> seeds of the trials that an earlier plan has, and the manifest's arms have not."""
    shown = trial_ids(manifest.arms)
    left_out: dict[str, list[int]] = {}
    for launch in manifest.launches:
        for row, seeds in launch.arms.items():
            for seed, trial_id in seeds.items():
                if trial_id not in shown and seed not in left_out.setdefault(row, []):
                    left_out[row].append(seed)
    return {row: sorted(seeds) for row, seeds in left_out.items() if seeds}


def trial_ids(*plans: dict[str, dict[int, str]]) -> set[str]:
    """The trials of some plans."""
    return {trial_id for arms in plans for seeds in arms.values() for trial_id in seeds.values()}


def differences(launched: Launch, manifest: Manifest) -> Iterable[tuple[str, Any, Any]]:
    """Where a manifest is not what was launched: the place, what it has, and what was launched (None: nothing)."""
    for row in dict.fromkeys([*launched.arms, *manifest.arms]):
        before, now = launched.arms.get(row, {}), manifest.arms.get(row, {})
        for seed in sorted({*before, *now}):
            if before.get(seed) != now.get(seed):
                yield f"{row}, seed {seed}", now.get(seed), before.get(seed)
    for key in dict.fromkeys([*launched.table, *manifest.table]):
        if launched.table.get(key) != manifest.table.get(key):
            yield f"table.{key}", manifest.table.get(key), launched.table.get(key)

"""The lines under a table, written from its cells: seeds, interval, test, missing trials, notes of the data."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from harness.config.notes import Note
from harness.config.table import TableSettings
from harness.config.trial import describe_old, version_of
from harness.records.launches import seeds_text
from harness.tables.format import Formatter
from harness.tables.gaps import mark_gaps
from harness.tables.left_out import left_out_notes
from harness.tables.load import Loaded, LoadedTrial
from harness.tables.model import Footnote, Table
from harness.tables.names import metric_header, part_text
from harness.tables.pivot import Pivot
from harness.tables.plans import ColumnPlan
from harness.tables.seed_scores import same_for_every_seed
from harness.tables.value_cells import ValueCells
from harness.tables.wording import over_what, star_note

RESAMPLED = ("interquartile_mean", "probability_of_improvement")  # rows whose intervals are from resampled seeds


def write_footnotes(
    table: Table,
    loaded: Loaded,
    trials: Sequence[LoadedTrial],
    pivot: Pivot,
    plans: Sequence[ColumnPlan],
    values: ValueCells,
    settings: TableSettings,
) -> Table:
    """Add the footnotes to the table, and their marks to the rows or cells that they are about."""
    notes = [_seeds_note(pivot, settings)]
    notes += _fixed_note(pivot, values, settings)
    notes += _interval_note(table, settings)
    notes += _test_notes(plans, values, settings)
    notes += _summary_notes(settings)
    gaps, rows = mark_gaps(table, trials, pivot, plans, settings)
    notes += gaps
    notes += [Footnote(note, kind="uneven") for note in _uneven_cells(pivot, plans, values)]
    notes += left_out_notes(loaded, trials, settings)
    notes += [
        Footnote(f"{arm} is not shown, because it has no {setting}", kind="missing")
        for arm, setting in pivot.left_out.items()
    ]
    notes += [
        Footnote(with_rows(note, trials), kind=note.kind) for note in record_notes(trials) if note.kind != "unmoved"
    ]
    notes += [Footnote(text, kind="unmoved") for text in unmoved_notes(trials)]
    notes += [Footnote(note, kind="method") for note in backbone_notes(trials)]
    notes += [Footnote(note, kind="mixed") for note in mixed_notes(trials)]
    prefix = len(loaded.manifests) > 1
    for manifest in loaded.manifests:
        for note in manifest.notes:
            notes.append(Footnote(f"{manifest.name}: {note.text}" if prefix else note.text, kind=note.kind))
    return replace(table, rows=rows, footnotes=tuple(notes))


def _seeds_note(pivot: Pivot, settings: TableSettings) -> Footnote:
    drawn = [cell for cell in pivot.cells.values() if not same_for_every_seed(cell)]
    finished = [sum(trial.complete for trial in cell) for cell in drawn]
    planned = [len(cell) for cell in drawn]
    spread = {
        "sd": "mean ± sample standard deviation",
        "interval": f"mean [{100 * settings.level:g} % interval]",
        "none": "mean",
    }[settings.spread]
    if finished == planned and len(set(finished)) == 1:
        num = finished[0]
        text = f"{spread} over n = {num} seeds" if num > 1 else "n = 1 seed, so no spread"
    elif not drawn:
        text = "no seed changes a value"
    else:
        text = f"{spread} over the finished seeds, whose number is n"
    if settings.phase == "search":
        text += "; validation data, from the search (test data and comparisons: see the table of the confirm phase)"
    return Footnote(text, kind="seeds")


def _fixed_note(pivot: Pivot, values: ValueCells, settings: TableSettings) -> list[Footnote]:
    """What stands in the cells of arms that no seed changes, since they have no spread over seeds."""
    fixed = {
        settings.labels.get(arm, arm)
        for (row, column), trials in pivot.cells.items()
        if same_for_every_seed(trials) and (arm := pivot.arm_of(row, column)) is not None
    }
    if not fixed:
        return []
    known = any(cell.deterministic and cell.item_error is not None for cell in values.cells.values())
    text = f"nothing is trained in {', '.join(sorted(fixed))}, so no seed changes its values and n is 1"
    if known and settings.spread == "sd":
        text += "; (SE ...): standard error over the test items"
    return [Footnote(text, kind="seeds")]


def _interval_note(table: Table, settings: TableSettings) -> list[Footnote]:
    """Over what the intervals are that the table shows. Resampled ones have a note of their own."""
    texts, known = Formatter(table), []
    for row, column, cell in table:
        text = texts.cell(cell, column)
        shown = text.main if column.kind == "interval" else text.range
        if shown.startswith("[") and not (row.kind == "summary" and row.id in RESAMPLED):
            known.append(cell.item_error is not None)
    return [Footnote(f"intervals: {100 * settings.level:g} %, {over_what(known)}", kind="interval")] if known else []


def _test_notes(plans: Sequence[ColumnPlan], values: ValueCells, settings: TableSettings) -> list[Footnote]:
    if settings.baseline is None:
        return []
    notes = []
    compared = [cell.comparison for cell in values.cells.values() if cell.comparison is not None]
    compared = [comparison for comparison in compared if comparison.why != "not_tested"]
    if values.num_tests:
        text = star_note(settings.baseline, compared, values.num_tests, settings.alpha)
        notes.append(Footnote(text, kind="test"))
        cut = [plan for plan in plans if plan.metric.scored and not plan.metric.tested]
        names = dict.fromkeys(settings.labels.get(p.name, metric_header(p.metric.concrete)) for p in cut)
        if names:
            text = f"{', '.join(names)}: not tested, as it is cut off and mostly the same number"
            notes.append(Footnote(text, kind="test"))
        notes += _power_note(plans, values, settings)
    elif compared:
        few = any(comparison.why in ("one_pair", "no_pair") for comparison in compared)
        why = "a test needs two seeds or more" if few else "every arm differs from it by the same amount on all seeds"
        notes.append(Footnote(f"no test against {settings.baseline}: {why}", kind="test"))
    shown = {show for plan in plans for show in plan.entry.show}
    if "delta" in shown:
        notes.append(Footnote(f"Δ: mean paired difference from {settings.baseline}", kind="test"))
    if "relative" in shown:
        text = f"WERR, error reduction: share of the error of {settings.baseline} that is removed, from the means"
        notes.append(Footnote(text, kind="method"))
    lacking: dict[str, list[str]] = {}
    for where, metric in values.unmatched:
        place = ", ".join(part_text(part) for part in where)
        named = [] if metric is None else [settings.labels.get(metric.name, metric_header(metric.concrete))]
        lacking.setdefault(f" at {place}" if place else "", []).extend(named)
    for at_place, metrics in lacking.items():
        text = f"{settings.baseline} has no {', '.join(metrics)}{at_place}, so nothing is compared there"
        text = text if metrics else f"there is no {settings.baseline}{at_place}, so nothing is compared there"
        notes.append(Footnote(text, kind="missing"))
    return notes


def _power_note(plans: Sequence[ColumnPlan], values: ValueCells, settings: TableSettings) -> list[Footnote]:
    """The smallest detectable difference: without it, "no difference" and "too few seeds" look the same.

    It is that of the first step of Holm's correction, so of the hardest test: what the table marks, not one test alone.
    """
    found: dict[str, list[float]] = {}
    decimals = {}
    for (_, place), cell in values.cells.items():
        plan = plans[place]
        if cell.comparison is not None and cell.comparison.detectable is not None:
            found.setdefault(plan.metric.concrete, []).append(cell.comparison.detectable)
            decimals[plan.metric.concrete] = plan.decimals
    if not found:
        return []
    parts = [
        f"{settings.labels.get(name, metric_header(name))} {statistics.median(sizes):.{decimals[name]}f}"
        for name, sizes in found.items()
    ]
    smallest = f"smallest true difference from {settings.baseline} that is marked with a chance of 80 %"
    text = f"{smallest}, all tests counted (median over the rows): {', '.join(parts)}"
    return [Footnote(text, kind="test")]


def _summary_notes(settings: TableSettings) -> list[Footnote]:
    notes = []
    if "mean" in settings.summary or "weighted_mean" in settings.summary:
        notes.append(Footnote("means over the rows: within each seed first, then over the seeds", kind="method"))
    if any(name.startswith("weighted") for name in settings.summary):
        by = "the given weights" if settings.weights else "number of training examples"
        notes.append(Footnote(f"weighted by {by}", kind="method"))
    if any(name.endswith("reduction") for name in settings.summary):
        text = f"error reduction: share of {settings.baseline}'s mean error that is removed"
        notes.append(Footnote(text, kind="method"))
    if "interquartile_mean" in settings.summary:
        text = "interquartile mean: the mean of the middle half of all scores (rows x seeds)"
        notes.append(Footnote(text, kind="method"))
    if "probability_of_improvement" in settings.summary:
        text = f"probability of improvement: that a seed beats one of {settings.baseline} on a row drawn at random"
        notes.append(Footnote(f"{text}; ties count half, and 50 % is no better", kind="method"))
    resampled = [name for name in RESAMPLED if name in settings.summary]
    if resampled:
        which = " and ".join(name.replace("_", " ") for name in resampled)
        text = f"{which}: {100 * settings.level:g} % intervals from seeds resampled within each row"
        notes.append(Footnote(text, kind="interval"))
    return notes


def _uneven_cells(pivot: Pivot, plans: Sequence[ColumnPlan], values: ValueCells) -> list[str]:
    """A note for each cell whose metric some of its finished records lack."""
    notes = []
    for number, row in enumerate(pivot.row_keys):
        for place, plan in enumerate(plans):
            finished = sum(trial.complete for trial in pivot.trials(row, plan.key))
            have = len(values.cells[number, place].values)
            if have < finished:
                where = ", ".join(part_text(part) for part in (*row, *plan.key))
                notes.append(f"{where}: only {have} of {finished} records have {plan.metric.concrete}")
    return notes


def record_notes(trials: Sequence[LoadedTrial]) -> list[Note]:
    """The notes that the records carry for readers (mostly on the data), each once."""
    records = [trial.record for trial in trials if trial.complete and trial.record is not None]
    found = {note for record in records for note in record.summary.notes}
    old = {describe_old(version_of(record.trial_id, record.config), record.config) for record in records}
    found |= {Note("data", text) for text in old if text is not None}
    return sorted(found, key=lambda note: note.text)


def with_rows(note: Note, trials: Sequence[LoadedTrial]) -> str:
    """A record's note with the rows that it is about, where it says how they were made and does not hold for all."""
    if note.kind != "method":
        return note.text
    rows: dict[str, bool] = {}
    for trial in trials:
        if trial.complete and trial.record is not None:
            rows[trial.ref.arm] = note in trial.record.summary.notes or rows.get(trial.ref.arm, False)
    if all(rows.values()):
        return note.text
    return f"{', '.join(arm for arm, has in rows.items() if has)}: {note.text}"


def unmoved_notes(trials: Sequence[LoadedTrial]) -> list[str]:
    """A warning for each row whose training changed nothing on some seeds."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for trial in trials:
        for note in trial.record.summary.notes if trial.complete and trial.record is not None else ():
            if note.kind == "unmoved":
                seeds.setdefault((trial.ref.arm, note.text), []).append(trial.ref.seed)
    return [f"{arm}, {seeds_text(found)}: {text}" for (arm, text), found in seeds.items()]


def backbone_notes(trials: Sequence[LoadedTrial]) -> list[str]:
    """What a table must say whose trials all start from one pretraining: seeds do not vary it."""
    records = [t.record for t in trials if t.complete and t.record is not None and t.record.provenance is not None]
    found = {r.provenance.backbone_fingerprint for r in records if r.provenance is not None}
    if len(found) != 1:
        return []
    recipes = [str(r.config.get("backbone", {}).get("recipe", "")) for r in records]
    names = {recipe.rpartition("/")[2].removesuffix(".yaml") for recipe in recipes if recipe}  # no path of a machine
    named = f" ({', '.join(sorted(names))})" if names else ""
    return [f"one pretrained backbone{named}: with another pretraining, differences may be others"]


OF_BACKBONE = ("backbone_fingerprint", "preparation_fingerprint")


def mixed_notes(trials: Sequence[LoadedTrial]) -> list[str]:
    """A warning for each experiment whose records were made with different data or backbones."""
    notes = []
    by_experiment: dict[tuple[str, str], dict[str, set[str]]] = {}
    for trial in trials:
        if not trial.complete or trial.record is None or trial.record.provenance is None:
            continue
        data = trial.record.config.get("data", {})
        recipe = trial.record.config.get("backbone", {}).get("recipe", "")
        settings = {"corpus_fingerprint": data.get("corpus", "")} | dict.fromkeys(OF_BACKBONE, recipe)
        for field, setting in settings.items():
            place = by_experiment.setdefault((trial.ref.experiment, field), {})
            known = getattr(trial.record.provenance, field)
            place.setdefault(part_text(setting), set()).update(() if known is None else (known,))
    for (_, field), by_setting in by_experiment.items():
        most = max(len(found) for found in by_setting.values())
        if most > 1:
            notes.append(f"MIXED RECORDS: these trials were made with {most} different values of {field}")
    return notes

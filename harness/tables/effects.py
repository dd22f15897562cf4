"""Main effects and interactions of a factorial design, with intervals over seeds.

A contrast is computed within each seed, over all cells of the design, and then summarised over the seeds, so arms stay
paired. With A's levels a0, a1 .. (a0 the reference) and y averaged over all other factors:

- main effect of A at a1:            y(a1) - y(a0)
- interaction of A and B at a1, b1:  [y(a1, b1) - y(a0, b1)] - [y(a1, b0) - y(a0, b0)], a difference of differences

and so on for three factors (every level pair that is not the reference). Balanced two-level designs: Box, Hunter and
Hunter (2005), chapter 5; their interaction is half of this one, which is the change of the effect itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.config.notes import Note
from harness.config.table import MetricSettings, TableSettings
from harness.errors import UserError
from harness.tables.cells import ResolvedMetric, cell_of_values, resolve_metric
from harness.tables.comparisons import Difference, compare_differences
from harness.tables.layouts import default_metrics
from harness.tables.load import Loaded, LoadedTrial
from harness.tables.model import Cell, Column, Comparison, Footnote, Row, Table
from harness.tables.names import metric_header, part_text
from harness.tables.seed_scores import ItemReader, SeedScores, weighted_sum
from harness.tables.wording import over_what, star_note

Levels = Mapping[str, Sequence[Any]]


class IncompleteDesignError(UserError):
    """A design of which some combination has no finished trial in any seed that the others have."""


@dataclass(frozen=True)
class Contrast:
    """An effect: its factors, each with the level that is compared with the factor's first level."""

    at: tuple[tuple[str, Any], ...]

    @property
    def label(self) -> str:
        """`p = 0.5` or `p = 0.5 x lambda = 0.001`."""
        return " × ".join(f"{factor} = {part_text(level)}" for factor, level in self.at)

    def weights(self, factors: Levels, position: Mapping[str, Any]) -> float:
        """The weight of the arm at `position`: 0, or plus or minus 1 by the number of the others' combinations."""
        weight = 1.0
        about = dict(self.at)
        for factor, levels in factors.items():
            if factor not in about:
                weight /= len(levels)  # averaged over
            elif position[factor] == levels[0]:
                weight *= -1.0  # the reference is subtracted; two references, as in an interaction, are added
            elif position[factor] != about[factor]:
                return 0.0  # a third level has no part in this contrast
        return weight


def contrasts(factors: Levels, max_order: int = 3) -> list[Contrast]:
    """All main effects, then all interactions of two factors, then of three."""
    found = []
    for order in range(1, min(max_order, len(factors)) + 1):
        for names in itertools.combinations(factors, order):
            for levels in itertools.product(*(list(factors[name])[1:] for name in names)):
                found.append(Contrast(tuple(zip(names, levels, strict=True))))
    return found


def contrast_scores(contrast: Contrast, factors: Levels, scores: Mapping[tuple[Any, ...], SeedScores]) -> SeedScores:
    """The contrast by seed, for the seeds that every combination of levels has.

    Args:
        scores: levels, in the order of the factors -> scores.
    """
    parts = []
    for levels in itertools.product(*factors.values()):
        weight = contrast.weights(factors, dict(zip(factors, levels, strict=True)))
        parts.append((weight, scores.get(levels, SeedScores({}))))
    return weighted_sum(parts)


def effects_table(loaded: Loaded, settings: TableSettings, name: str) -> Table:
    """Build the table of effects: a row for each contrast, a column for each metric, Holm-corrected over the table.

    Raises:
        IncompleteDesignError: not every combination has a finished trial at one seed at least.
    """
    (manifest,) = loaded.manifests
    assert manifest.design is not None
    factors: dict[str, list[Any]] = manifest.design["factors"]
    trials = [trial for trial in loaded.trials if trial.position]
    metrics = _metrics(settings, loaded, trials)
    found = contrasts(factors)
    rows = []
    effects = _effects(found, factors, trials, [metric for _, metric in metrics])
    if not any(effect.scores.values for effect in effects.values()):
        where = f"{loaded.path}: no seed of {manifest.name}"
        raise IncompleteDesignError(f"{where} is finished for every combination of its factors")
    compared, num_tests = compare_differences(effects, level=settings.level, alpha=settings.alpha)
    cells = {
        key: _effect_cell(found[key[0]], factors, trials, effect, compared[key], settings.level)
        for key, effect in effects.items()
    }
    columns = [_column(entry, metric, settings) for entry, metric in metrics]
    for number, contrast in enumerate(found):
        order = len(contrast.at)
        group = {1: "main effects", 2: "interactions", 3: "three-way interactions"}[order]
        row = {column.id: cells[number, place] for place, column in enumerate(columns)}
        rows.append(Row(id=contrast.label, label=contrast.label, cells=row, group=group))
    return Table(
        name=name,
        title=" ".join((settings.title or f"Effects: {manifest.description or manifest.name}").split()),
        columns=tuple(columns),
        rows=tuple(rows),
        corner="effect",
        footnotes=tuple(_footnotes(factors, list(cells.values()), num_tests, settings, manifest.notes)),
        experiments=(manifest.name,),
        alpha=settings.alpha,
        spread=settings.spread,
        spec=settings.recorded(),
    )


def _metrics(
    settings: TableSettings, loaded: Loaded, trials: Sequence[LoadedTrial]
) -> list[tuple[MetricSettings, ResolvedMetric]]:
    entries = settings.metrics or tuple(m for m in default_metrics(loaded) if not m.startswith("trainable"))
    plain = [MetricSettings(metric=entry) if isinstance(entry, str) else entry for entry in entries]
    return [(entry, resolve_metric(entry.metric, trials, "effects")) for entry in plain]


def _column(entry: MetricSettings, metric: ResolvedMetric, settings: TableSettings) -> Column:
    unit = "points" if metric.metric.unit == "%" else metric.metric.unit
    header = entry.header or settings.labels.get(entry.metric) or metric_header(metric.concrete)
    direction = metric.metric.direction if metric.scored else None
    decimals = 1 if entry.decimals is None else entry.decimals
    return Column(entry.metric, header, "delta", (), metric.concrete, unit, direction, decimals)


def _effects(
    contrasts: Sequence[Contrast], factors: Levels, trials: Sequence[LoadedTrial], metrics: Sequence[ResolvedMetric]
) -> dict[tuple[int, int], Difference]:
    """Number of a contrast and of a metric -> the effect."""
    reader = ItemReader()
    by_levels: dict[tuple[Any, ...], list[LoadedTrial]] = {}
    for trial in trials:
        by_levels.setdefault(tuple(trial.position[factor] for factor in factors), []).append(trial)
    found = {}
    for place, metric in enumerate(metrics):
        scores = {levels: reader.scores(members, metric) for levels, members in by_levels.items()}
        for number, contrast in enumerate(contrasts):
            of_seeds = contrast_scores(contrast, factors, scores)
            found[number, place] = Difference(contrast.label, metric.name, metric, of_seeds, "no effect")
    return found


def _effect_cell(
    contrast: Contrast,
    factors: Levels,
    trials: Sequence[LoadedTrial],
    effect: Difference,
    comparison: Comparison,
    level: float,
) -> Cell:
    values, planned = effect.scores.values, len({trial.ref.seed for trial in trials})
    if not values:
        return Cell(num_planned=planned)
    used = [t.ref for t in trials if t.ref.seed in values and contrast.weights(factors, t.position)]
    cell = cell_of_values(used, [values[seed] for seed in effect.scores.seeds], planned, level)
    interval = comparison.interval if effect.metric.tested else cell.interval
    return replace(cell, interval=interval, item_error=comparison.item_error, comparison=comparison)


def _footnotes(
    factors: Levels, cells: Sequence[Cell], num_tests: int, settings: TableSettings, notes: Sequence[Note]
) -> list[Footnote]:
    counts = {cell.num_seeds for cell in cells if not cell.missing}
    seeds = f"n = {counts.pop()} seeds" if len(counts) == 1 else "the seeds that every combination has"
    reference = ", ".join(f"{factor} = {part_text(levels[0])}" for factor, levels in factors.items())
    spread = {"sd": "± sample standard deviation", "interval": f"[{100 * settings.level:g} % interval]", "none": ""}[
        settings.spread
    ]
    found = [
        Footnote(
            f"each contrast is computed within a seed; mean {spread} over {seeds}".replace("  ", " "), kind="seeds"
        ),
        Footnote(f"an effect is against {reference}, averaged over the other factors", kind="method"),
        Footnote(
            "an interaction is a difference of differences: how much one effect changes with the other factor",
            kind="method",
        ),
    ]
    compared = [cell.comparison for cell in cells if cell.comparison is not None]
    if num_tests:
        found.append(Footnote(star_note("zero", compared, num_tests, settings.alpha), kind="test"))
        if settings.spread == "interval":
            known = [comparison.item_error is not None for comparison in compared if comparison.p is not None]
            found.append(Footnote(f"intervals: {100 * settings.level:g} %, {over_what(known)}", kind="interval"))
    uneven = [cell for cell in cells if cell.uneven]
    if uneven:
        most, least = max(c.num_planned for c in uneven), min(c.num_seeds for c in uneven)
        found.append(Footnote(f"only {least} of {most} seeds are finished in every combination", kind="missing"))
    return found + [Footnote(note.text, kind=note.kind) for note in notes]

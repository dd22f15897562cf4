"""What the statistics of a cell stand on: a score by seed, and what each test item adds to it.

A score (`target_macro_f1`, `forgetting`, a mean over sources) is a weighted sum of metrics on single domains. Sums and
differences of scores are scores again, so a cell, a difference from the baseline, an effect of a design and a slope
all are `SeedScores` and are all tested alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from harness.errors import UserError
from harness.metrics import METRICS, as_error, split_name
from harness.records.predictions import PredictedItem
from harness.records.schema import Record
from harness.statistics.item_error import Influence, combine
from harness.statistics.samples import LARGEST, SMALLEST
from harness.statistics.shared_variance import PairedSample
from harness.tables.cells import ResolvedMetric
from harness.tables.load import LoadedTrial
from harness.tables.values import primary_metric

ROUNDING = 1e-8  # of a score's scale: no test set has so many items that one of them would weigh less

Parts = tuple[tuple[float, str, str], ...]  # weight, domain, metric of predictions
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class SeedScores:
    """A score by seed.

    Attributes:
        values: seed -> value, in the column's unit.
        influences: seed -> what each block of test items adds to it, in the same unit; None where it is not known.
        whole: whether the influences are all that items add. Those of `forgetting` lack the base model's answers, which
            are the same in all arms, so they fall out of a difference.
        step: by how much one test item moves the score at least; 0 where items are not known.
        scale: of the unit, for what counts as rounding.
        deterministic: whether no seed changes it; then one seed's value stands for any seed.
        what: the parts with their weights relative to the first one's, which is `factor`: two scores with the same
            `what` are each other's multiples. None where there are none.
    """

    values: Mapping[int, float]
    influences: Mapping[int, Influence] | None = None
    whole: bool = True
    step: float = 0.0
    scale: float = 1.0
    deterministic: bool = False
    what: tuple[tuple[float, str, str], ...] | None = None
    factor: float = 1.0

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(sorted(self.values))

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return sum(self.values.values()) / len(self.values)

    def at(self, seed: int) -> float:
        """The value at a seed; of a deterministic score, any seed's."""
        return next(iter(self.values.values())) if self.deterministic else self.values[seed]

    @cached_property
    def sample(self) -> PairedSample:
        """The score as a sample over seeds and items."""
        seeds = self.seeds
        values = np.array([self.values[seed] for seed in seeds])
        rounding = self.step / 1_000 if self.step else ROUNDING * self.scale
        values[np.abs(values) <= rounding] = 0.0
        if self.step == 0.0 and np.ptp(values) <= rounding:
            values = np.full(len(values), np.median(values))
        if self.influences is None:
            return PairedSample(values, deterministic=self.deterministic)
        found = list(self.influences.values())[: 1 if self.deterministic else None]
        return PairedSample.over_items(values, found, self.step, self.deterministic)

    @property
    def item_error(self) -> float | None:
        """The standard error of the mean that is due to the choice of test items; None where it is not known."""
        if self.influences is None or not self.whole:
            return None
        return float(np.sqrt(self.sample.item_variance))


def weighted_sum(parts: Sequence[tuple[float, SeedScores]]) -> SeedScores:
    """The weighted sum of scores within each seed that all of them have; a deterministic one has every seed.

    If the weights sum to 0 and all scores are of one kind, what is the same in all of them (the base model's part of
    `forgetting`) falls out.
    """
    drawn = [set(part.values) for _, part in parts if not part.deterministic] or [set(part.values) for _, part in parts]
    seeds = sorted(set.intersection(*drawn)) if drawn else []
    values = {seed: sum(weight * _at(part.values, seed, part) for weight, part in parts) for seed in seeds}
    influences = None
    if all(part.influences is not None for _, part in parts):
        influences = {
            seed: combine([(w, _at(part.influences or {}, seed, part)) for w, part in parts]) for seed in seeds
        }
    same = len({(part.what, part.factor) for _, part in parts}) == 1 and parts[0][1].what is not None
    contrast = same and abs(sum(weight for weight, _ in parts)) < 1e-9
    return SeedScores(
        values,
        influences,
        contrast or all(part.whole for _, part in parts),
        min((abs(weight) * part.step for weight, part in parts if weight), default=0.0),
        max((part.scale for _, part in parts), default=1.0),
        all(part.deterministic for _, part in parts),
        parts[0][1].what if same else None,
        parts[0][1].factor if same else 1.0,
    )


def error_reduction(own: SeedScores, base: SeedScores, metric: ResolvedMetric) -> SeedScores | None:
    """The share of the baseline's error that is removed, in percent: 100 (1 - mean error / baseline's mean error).

    A ratio of means, so each seed has its linearised part of it (the delta method), and so has each test item.

    Returns:
        None where the metric has no errors, no seed is shared, or the baseline makes no error.
    """
    seeds = weighted_sum([(1.0, own), (-1.0, base)]).seeds
    errors = [[error for seed in seeds if (error := metric.error(side.at(seed))) is not None] for side in (own, base)]
    if not errors[0] or not errors[1] or sum(errors[1]) == 0:
        return None
    mean, ratio = sum(errors[1]) / len(seeds), sum(errors[0]) / sum(errors[1])
    slope = (1.0 if metric.metric.direction == "lower" else -1.0) * 100.0 / mean  # an accuracy rises where errors fall
    moved = weighted_sum([(-slope, own), (slope * ratio, base)])
    shift = 100.0 * (1.0 - ratio) - sum(moved.values.values()) / len(seeds)
    return replace(moved, values={seed: value + shift for seed, value in moved.values.items()}, what=None)


def _at(by_seed: Mapping[int, T], seed: int, part: SeedScores) -> T:
    return next(iter(by_seed.values())) if part.deterministic else by_seed[seed]


def parts_of(name: str, record: Record) -> tuple[Parts, bool] | None:
    """A number of a record as metrics on domains with their weights, and whether these are all of it up to a constant.

    None for what is no such sum (costs, validation metrics, scores that are cut off at 0) or lacks a domain.
    """
    data, primary = record.config.get("data", {}), primary_metric(record)
    target, sources = data.get("target"), tuple(data.get("source", ()))
    where, bare = split_name(name)
    whole = True
    if bare in METRICS:
        domains = (where,) if "/" in name else {"target": (target,), "source": sources}.get(where, ())
        weight = 1.0
    elif primary is not None and name in ("target_error", "source_error", "forgetting", "relative_gain"):
        bare, domains = primary, sources if name in ("source_error", "forgetting") else (target,)
        weight = as_error(primary, 1.0) - as_error(primary, 0.0)
        whole = name not in ("forgetting", "relative_gain")
        if name == "relative_gain":  # (base error - error) / base error, with the base model's error taken as known
            base = record.summary.base.get(target, {}).get(primary)
            weight = 0.0 if base is None or as_error(primary, base) <= 0 else -weight / as_error(primary, base)
    else:
        return None
    if not domains or not weight or any(bare not in record.summary.by_domain.get(domain, {}) for domain in domains):
        return None
    return tuple((weight / len(domains), str(domain), bare) for domain in domains), whole


class ItemReader:
    """Makes `SeedScores` from trials; reads the test items of each record once, when they are first asked for."""

    def __init__(self) -> None:
        self._items: dict[tuple[str, str], Mapping[str, Sequence[PredictedItem]] | None] = {}
        self._influences: dict[tuple[str, str, str, str], tuple[Influence, float] | None] = {}

    def scores(self, trials: Sequence[LoadedTrial], metric: ResolvedMetric) -> SeedScores:
        """A metric of some trials, one a seed. Trials without the metric are left out.

        Raises:
            UserError: a value is not finite, or too large or small to compute with; a file of predictions is corrupt.
        """
        having = [(trial, value) for trial in trials if (value := trial.metric(metric.name)) is not None]
        values = {trial.ref.seed: _checked(trial, value, metric) * metric.scale for trial, value in having}
        fixed = same_for_every_seed([trial for trial, _ in having])
        fixed = fixed and max(values.values()) - min(values.values()) <= ROUNDING * metric.scale
        found = [parts_of(metric.concrete, trial.record) for trial, _ in having if trial.record is not None]
        parts = [each[0] for each in found if each is not None]
        whole = all(each is not None and each[1] for each in found)
        influences: dict[int, tuple[Influence, float]] = {}
        if len(parts) == len(having):
            trials_with = list(zip([trial for trial, _ in having], parts, strict=True))
            influences = self._all(trials_with[: 1 if fixed else None], metric)
        alike = bool(parts) and len(parts) == len(having) and len(set(parts)) == 1
        first = parts[0][0][0] if alike else 1.0
        return SeedScores(
            values,
            {seed: influence for seed, (influence, _) in influences.items()} if influences else None,
            whole,
            min((step for _, step in influences.values()), default=0.0),
            metric.scale,
            fixed,
            tuple((weight / first, domain, bare) for weight, domain, bare in parts[0]) if alike else None,
            first,
        )

    def _all(
        self, trials: Sequence[tuple[LoadedTrial, Parts]], metric: ResolvedMetric
    ) -> dict[int, tuple[Influence, float]]:
        """Seed -> influence and step; empty where a record holds no references, or all items depend on one another."""
        found = {}
        for trial, own in trials:
            pieces = [(weight * metric.scale, self._influence(trial, domain, bare)) for weight, domain, bare in own]
            if any(piece is None for _, piece in pieces):
                return {}
            known = [(weight, *piece) for weight, piece in pieces if piece is not None]
            influence = combine([(weight, influence) for weight, influence, _ in known])
            if len(influence.blocks) < 2:
                return {}  # one speaker or document says nothing of how far others would differ
            found[trial.ref.seed] = influence, min(abs(weight) * step for weight, _, step in known)
        return found

    def _influence(self, trial: LoadedTrial, domain: str, metric: str) -> tuple[Influence, float] | None:
        """What the blocks of a domain's test items add to a metric, as a fraction, and the step of one item."""
        record = (trial.ref.experiment, trial.ref.trial_id)
        key = (*record, domain, metric)
        if key not in self._influences:
            if record not in self._items:
                self._items[record] = trial.test_items()
            self._influences[key] = self._computed((self._items[record] or {}).get(domain, ()), metric)
        return self._influences[key]

    def _computed(self, items: Sequence[PredictedItem], metric: str) -> tuple[Influence, float] | None:
        if not items:
            return None
        references = [item.reference for item in items]
        found = METRICS[metric].influences(references, [item.prediction for item in items])
        if found is None:
            return None
        counted = METRICS[metric].items
        total = len(items) if counted is None else sum(counted.length(reference) for reference in references)
        return Influence.of_items(found, [item.group for item in items]), 1.0 / total


def same_for_every_seed(trials: Sequence[LoadedTrial]) -> bool:
    """Whether trials are the same whatever their seed: nothing is trained in them, or they are one trial."""
    if not trials:
        return False
    untrained = all(trial.record is not None and trial.record.config.get("train") == "none" for trial in trials)
    return untrained or (len(trials) > 1 and len({trial.ref.trial_id for trial in trials}) == 1)


def _checked(trial: LoadedTrial, value: float, metric: ResolvedMetric) -> float:
    if value == 0.0 or SMALLEST < abs(value) * metric.scale < LARGEST:
        return value
    why = "too large or too small a number to compute with" if math.isfinite(value) else "no finite number"
    raise UserError(f"record {trial.ref.trial_id} of {trial.ref.experiment}: {metric.concrete} is {value}, {why}")

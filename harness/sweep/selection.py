"""From searched points to each arm's winner: contenders, the race over seeds, and named selection rules.

Everything here is a pure function of validation metrics; test metrics are not read before the confirm phase.

Rules (several may stand side by side):
- `best`: the best mean of the first objective.
- `constrained`: the best among those whose mean metrics meet every constraint; when none does, the one that misses
  them by least, and it is marked.
- `one_se`: the strongest regularisation whose mean is within one standard error of the best one's (Breiman et al.,
  Classification and Regression Trees, 1984, section 3.4.3); the standard error is that of the best one over its seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from harness.config.rows import Rule
from harness.config.sweep import ConstraintSettings
from harness.records.search import Axis, Objective, SearchPoint, Value
from harness.search.space import position
from harness.statistics import t_quantile

ALPHA = 0.05  # of the one-sided paired t-test by which a contender must lose to drop out of the race


@dataclass(frozen=True)
class Contender:
    """A configuration and its validation metrics by seed."""

    number: int
    params: Mapping[str, Value]
    runs: Mapping[int, Mapping[str, float]]

    def scores(self, metric: str) -> tuple[float, ...]:
        """The metric, seed by seed."""
        return tuple(run[metric] for run in self.runs.values())

    def means(self) -> dict[str, float]:
        """Every metric's mean over the seeds."""
        return {metric: fmean(self.scores(metric)) for metric in next(iter(self.runs.values()))}


@dataclass(frozen=True)
class Winner:
    """What a rule chose.

    Attributes:
        standard_error: of the mean over the seeds; None for one seed.
        feasible: False where no contender met the constraints.
    """

    contender: Contender
    mean: float
    standard_error: float | None
    feasible: bool = True


def choose_contenders(
    points: Iterable[SearchPoint], objective: Objective, rules: Sequence[Rule], num: int
) -> list[SearchPoint]:
    """The complete points that race: the `num` best and, for `constrained`, the `num` best feasible ones as well.

    Points that are the same trainings count once.
    """
    distinct: dict[tuple[str, ...], SearchPoint] = {}
    for point in points:
        if point.state == "complete":
            distinct.setdefault(point.trial_ids, point)
    ranked = sorted(distinct.values(), key=lambda point: (-_signed(objective, point.values[0]), point.number))
    chosen = ranked[:num]
    if "constrained" in rules:
        feasible = [point for point in ranked if point.feasible]
        by_violation = sorted(ranked, key=lambda point: _excess(point.violations))
        chosen += [point for point in (feasible or by_violation)[:num] if point not in chosen]
    return sorted(chosen, key=lambda point: point.number)


def drop_losers(
    contenders: Sequence[Contender], objective: Objective, constraints: Sequence[ConstraintSettings] = ()
) -> list[Contender]:
    """The contenders that stay in the race.

    A contender drops out when another one that meets the constraints at least as well beats it clearly on the first
    objective: a one-sided paired t-test over the seeds (at least two) at `ALPHA`. So one that keeps the constraints is
    never dropped for the sake of one that does not.
    """
    violation = {c.number: _excess(con.violation(c.means()) for con in constraints) for c in contenders}
    return [
        c
        for c in contenders
        if not any(violation[d.number] <= violation[c.number] and _beats(d, c, objective) for d in contenders)
    ]


def _beats(one: Contender, other: Contender, objective: Objective) -> bool:
    pairs = zip(one.scores(objective.metric), other.scores(objective.metric), strict=True)
    differences = [_signed(objective, ours) - _signed(objective, theirs) for ours, theirs in pairs]
    if len(differences) < 2:
        return False
    critical = t_quantile(1 - ALPHA, len(differences) - 1)
    return fmean(differences) > critical * stdev(differences) / math.sqrt(len(differences))


def select(
    rule: Rule,
    contenders: Sequence[Contender],
    objective: Objective,
    constraints: Sequence[ConstraintSettings],
    regularisation: Sequence[Axis],
) -> Winner:
    """Apply a rule to the contenders that are left (at least one, all with the same seeds)."""
    if rule == "best":
        return _winner(_leader(contenders, objective), objective)
    if rule == "one_se":
        return _one_se(contenders, objective, regularisation)
    violations = {c.number: _excess(con.violation(c.means()) for con in constraints) for c in contenders}
    feasible = [c for c in contenders if violations[c.number] <= 0]
    if feasible:
        return _winner(_leader(feasible, objective), objective)
    least = min(contenders, key=lambda c: (violations[c.number], c.number))
    return _winner(least, objective, feasible=False)


def describe_winner(winner: Winner) -> dict[str, Any]:
    """A winner as frozen.json has it."""
    return {
        "trial": winner.contender.number,
        "params": dict(winner.contender.params),
        "validation": winner.contender.means(),
        "seeds": len(winner.contender.runs),
        "standard_error": winner.standard_error,
        "feasible": winner.feasible,
    }


def _one_se(contenders: Sequence[Contender], objective: Objective, axes: Sequence[Axis]) -> Winner:
    best = _winner(_leader(contenders, objective), objective)
    margin = best.standard_error or 0.0
    floor = _signed(objective, best.mean) - margin
    close = [c for c in contenders if _score(c, objective) >= floor]

    def strength(contender: Contender) -> float:
        return fmean(position(axis, contender.params[axis.key]) for axis in axes) if axes else 0.0

    return _winner(max(close, key=lambda c: (strength(c), _score(c, objective), -c.number)), objective)


def _winner(contender: Contender, objective: Objective, feasible: bool = True) -> Winner:
    scores = contender.scores(objective.metric)
    error = stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else None
    return Winner(contender, fmean(scores), error, feasible)


def _leader(contenders: Sequence[Contender], objective: Objective) -> Contender:
    return max(contenders, key=lambda c: (_score(c, objective), -c.number))


def _score(contender: Contender, objective: Objective) -> float:
    return _signed(objective, fmean(contender.scores(objective.metric)))


def _signed(objective: Objective, value: float) -> float:
    """The value with greater always better."""
    return value if objective.direction == "maximize" else -value


def _excess(violations: Iterable[float]) -> float:
    """By how much constraints are missed, summed; 0 where all hold."""
    return sum(max(0.0, violation) for violation in violations)

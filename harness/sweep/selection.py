"""From searched points to each arm's winner: contenders, the race over seeds, and named selection rules.

Everything here is a pure function of validation metrics; test metrics are not read before the confirm phase.

Rules (several may stand side by side):
- `best`: the best mean of the first objective.
- `constrained`: the best among those that surely meet every constraint: its upper bound does, not its mean alone. When
  none does, the one that misses them by least, and it is marked.
- `one_se`: the strongest regularisation whose mean is within one standard error of the best one's (Breiman et al.,
  Classification and Regression Trees, 1984, section 3.4.3); the standard error is that of the best one over its seeds.

Where there was a race, its seeds alone judge. On the search's seed each contender was lucky, or it would not be one: a
mean that counts it in is too good.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from harness.config.rows import Rule
from harness.config.sweep import ConstraintSettings, that_judge
from harness.records.search import Axis, Objective, SearchPoint, Value
from harness.search.space import position
from harness.statistics import t_quantile

ALPHA = 0.05  # of the one-sided paired t-test by which a contender must lose to drop out of the race
LEVEL = 0.95  # one-sided, of the bound by which constraints are judged


@dataclass(frozen=True)
class Contender:
    """A configuration and its validation metrics by seed.

    Attributes:
        searched: on the seeds of the search, by which it became a contender.
        raced: on the seeds of the race; where there are any, they alone judge.
    """

    number: int
    params: Mapping[str, Value]
    searched: Mapping[int, Mapping[str, float]]
    raced: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    @property
    def judged(self) -> Mapping[int, Mapping[str, float]]:
        """The metrics on the seeds that judge."""
        return that_judge(self.searched, self.raced)

    def scores(self, metric: str) -> tuple[float, ...]:
        """The metric, seed by seed."""
        return tuple(run[metric] for run in self.judged.values())

    def means(self) -> dict[str, float]:
        """Every metric's mean over the seeds."""
        return {metric: fmean(self.scores(metric)) for metric in next(iter(self.judged.values()))}

    def excess(self, constraints: Sequence[ConstraintSettings], *, surely: bool) -> float:
        """By how much constraints are missed, summed; 0 where all hold.

        Args:
            surely: judge the mean's one-sided bound at `LEVEL` instead of the mean: a constraint holds where it does
                not only look so. With one seed there is no bound.
        """
        means = self.means()
        margins = [self._margin(constraint.metric) if surely else 0.0 for constraint in constraints]
        return _excess(con.violation(means) + margin for con, margin in zip(constraints, margins, strict=True))

    def _margin(self, metric: str) -> float:
        scores = self.scores(metric)
        if len(scores) < 2:
            return 0.0
        return t_quantile(LEVEL, len(scores) - 1) * stdev(scores) / math.sqrt(len(scores))


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
    contenders: Sequence[Contender],
    objective: Objective,
    constraints: Sequence[ConstraintSettings] = (),
    *,
    surely: bool = True,
) -> list[Contender]:
    """The contenders that stay in the race.

    A contender drops out when another one that meets the constraints at least as well, by its mean and by its bound,
    beats it clearly on the first objective: a one-sided paired t-test over the seeds (at least two) at `ALPHA`. So one
    that keeps the constraints is never dropped for the sake of one that does not. Old sweeps (`surely` False) looked
    at the mean alone.
    """
    bounds = (False, True) if surely else (False,)
    missed = {c.number: [c.excess(constraints, surely=bound) for bound in bounds] for c in contenders}

    def keeps_as_well(one: Contender, other: Contender) -> bool:
        return all(ours <= theirs for ours, theirs in zip(missed[one.number], missed[other.number], strict=True))

    return [c for c in contenders if not any(keeps_as_well(d, c) and _beats(d, c, objective) for d in contenders)]


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
    *,
    surely: bool = True,
) -> Winner:
    """Apply a rule to the contenders that are left (at least one, all with the same seeds).

    Args:
        surely: see `Contender.excess`; old sweeps judged by the mean.
    """
    if rule == "best":
        return _winner(_leader(contenders, objective), objective)
    if rule == "one_se":
        return _one_se(contenders, objective, regularisation)
    violations = {c.number: c.excess(constraints, surely=surely) for c in contenders}
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
        "seeds": len(winner.contender.judged),
        "standard_error": winner.standard_error,
        "feasible": winner.feasible,
    }


def judged_by(search_seeds: Sequence[int], race_seeds: Sequence[int]) -> dict[str, Any]:
    """How contenders were judged, as frozen.json has it. Files without it judged by means over all seeds."""
    seeds = list(that_judge(search_seeds, race_seeds))
    which = "the race's seeds; the search's are left out" if race_seeds else "the search's seeds: there was no race"
    bound = f"the one-sided {100 * LEVEL:g} % bound of the mean (Student's t over {len(seeds)} seeds)"
    return {
        "seeds": seeds,
        "means": which,
        "constraints": bound if len(seeds) > 1 else "the value of the one seed: a bound needs two",
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

"""Judge claims: compare what was expected before the run with what the records say.

A claim is upheld if the whole confidence interval agrees with it, not upheld if none of it does, and undecided
otherwise: "the difference is not significant" upholds nothing. Intervals are not corrected for the number of claims, so
a table lists every claim, whatever its verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from harness.config.table import Claim, ContrastClaim, TableSettings, TrendClaim
from harness.errors import UserError
from harness.statistics.samples import Interval
from harness.statistics.seeds import compare_by_seed, summarise
from harness.tables.cells import ResolvedMetric, resolve_metric
from harness.tables.load import Loaded, LoadedTrial
from harness.tables.model import JudgedClaim, TrialRef
from harness.tables.names import dimension_header, metric_header

Verdict = Literal["upheld", "not upheld", "undecided"]


def judge_claims(settings: TableSettings, loaded: Loaded) -> tuple[JudgedClaim, ...]:
    """Every claim of a spec, judged from the finished trials.

    Raises:
        UserError: a claim names an arm, metric or setting that the records do not have.
    """
    return tuple(_judge(claim, settings, loaded, number) for number, claim in enumerate(settings.claims))


def _judge(claim: Claim, settings: TableSettings, loaded: Loaded, number: int) -> JudgedClaim:
    where = f"table.claims.{number}"
    if isinstance(claim, ContrastClaim):
        return _judge_contrast(claim, settings, loaded, where)
    return _judge_trend(claim, settings, loaded, where)


def _judge_contrast(claim: ContrastClaim, settings: TableSettings, loaded: Loaded, where: str) -> JudgedClaim:
    arm, than = (
        loaded.rows_named(name, f"{where}.{side}")[0] for side, name in (("arm", claim.arm), ("than", claim.than))
    )
    trials = [trial for trial in loaded.trials if trial.ref.arm in (arm, than)]
    metric = resolve_metric(claim.metric, trials, where)
    by_experiment: dict[str, dict[str, dict[int, float]]] = {}
    for trial in trials:
        value = trial.metric(claim.metric)
        if value is not None:
            seeds = by_experiment.setdefault(trial.ref.experiment, {}).setdefault(trial.ref.arm, {})
            seeds[trial.ref.seed] = value * metric.scale
    both = {name: arms for name, arms in by_experiment.items() if arm in arms and than in arms}
    own, other = ({s: v for s, v in _mean_over(both, name).items()} for name in (arm, than))
    paired = compare_by_seed(own, other, settings.level)
    low, high = _wanted_range(claim, metric)
    refs = tuple(t.ref for t in trials if t.complete and t.ref.seed in paired.seeds and t.ref.experiment in both)
    unit = _difference_unit(metric)
    by = f" by more than {claim.by:g} {unit}".rstrip() if claim.by and claim.expect != "equal" else ""
    expected = f"within {claim.by:g} {unit} of" if claim.expect == "equal" else f"{claim.expect}{by} than"
    statement = f"{metric_header(metric.concrete)}: {arm} is {expected} {than}"
    return _judged(
        claim, statement, paired.mean_difference, paired.interval, (low, high), unit, paired.count, refs, loaded
    )


def _mean_over(by_experiment: Mapping[str, Mapping[str, Mapping[int, float]]], arm: str) -> dict[int, float]:
    """Seed -> mean over the experiments, for the seeds that all of them have."""
    found = [arms[arm] for arms in by_experiment.values()]
    shared = set.intersection(*(set(seeds) for seeds in found)) if found else set()
    return {seed: sum(seeds[seed] for seeds in found) / len(found) for seed in sorted(shared)}


def _wanted_range(claim: ContrastClaim, metric: ResolvedMetric) -> tuple[float, float]:
    """The open range in which the difference must lie."""
    if claim.expect == "equal":
        return -claim.by, claim.by
    higher = claim.expect == "higher" or (claim.expect == "better") == (metric.metric.direction == "higher")
    if claim.expect in ("higher", "lower"):
        higher = claim.expect == "higher"
    return (claim.by, math.inf) if higher else (-math.inf, -claim.by)


def _judge_trend(claim: TrendClaim, settings: TableSettings, loaded: Loaded, where: str) -> JudgedClaim:
    arm = None if claim.arm is None else loaded.rows_named(claim.arm, f"{where}.arm")[0]
    than = None if claim.than is None else loaded.rows_named(claim.than, f"{where}.than")[0]
    trials = [t for t in loaded.trials if t.complete and (arm is None or t.ref.arm in (arm, than))]
    metric = resolve_metric(claim.metric, trials, where)
    points, used = _trend_points(claim, metric, trials, arm, than, where)
    slopes = {seed: _slope(found) for seed, found in points.items()}
    usable = {seed: slope for seed, slope in slopes.items() if slope is not None}
    if not usable:
        raise UserError(
            f"{where}.along: {claim.along} has fewer than two values in the finished trials of {loaded.names}"
        )
    found = summarise(list(usable.values()), settings.level)
    per = (
        f"per factor of ten of {dimension_header(claim.along)}" if claim.log else f"per {dimension_header(claim.along)}"
    )
    unit = f"{_difference_unit(metric)} {per}".strip()
    what = metric_header(metric.concrete) + (f" of {arm}" if arm else "")
    if than is not None:
        what = f"gain of {arm} over {than} in {metric_header(metric.concrete)}"
    statement = f"{what} is {claim.expect} along {dimension_header(claim.along)}"
    wanted = (0.0, math.inf) if claim.expect == "increasing" else (-math.inf, 0.0)
    refs = tuple(ref for ref in used if ref.seed in usable)
    return _judged(claim, statement, found.mean, found.interval, wanted, unit, found.count, refs, loaded)


def _trend_points(
    claim: TrendClaim,
    metric: ResolvedMetric,
    trials: Sequence[LoadedTrial],
    arm: str | None,
    than: str | None,
    where: str,
) -> tuple[dict[int, list[tuple[float, float]]], list[TrialRef]]:
    """Seed -> points (setting, value or gain); seeds with fewer points than others are left out. And the trials."""
    own: dict[tuple[int, float, str], float] = {}
    base: dict[tuple[int, float, str], float] = {}
    used: list[TrialRef] = []
    for trial in trials:
        value, x = trial.metric(claim.metric), trial.coordinate(claim.along)
        if value is None or isinstance(x, bool) or not isinstance(x, (int, float)):
            continue
        if claim.log and x <= 0:
            raise UserError(
                f"{where}.log: {claim.along} is {x:g} in arm {trial.ref.arm}; a logarithm needs values above 0"
            )
        place = (trial.ref.seed, math.log10(x) if claim.log else float(x), trial.ref.experiment)
        side = base if than is not None and trial.ref.arm == than else own
        if place in side:
            raise UserError(f"{where}: two arms have {claim.along} = {x:g} at seed {trial.ref.seed}; name one with arm")
        side[place] = value * metric.scale
        used.append(trial.ref)
    points: dict[int, list[tuple[float, float]]] = {}
    sign = 1.0 if metric.metric.direction == "higher" else -1.0
    for (seed, x, experiment), value in own.items():
        if than is None:
            points.setdefault(seed, []).append((x, value))
        elif (seed, x, experiment) in base:
            points.setdefault(seed, []).append((x, sign * (value - base[seed, x, experiment])))
    most = max((len(found) for found in points.values()), default=0)
    return {seed: found for seed, found in points.items() if len(found) == most}, used


def _slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Least-squares slope; None with fewer than two different x."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if len({x for x, _ in points}) < 2 or spread == 0:
        return None
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def verdict_of(interval: Interval | None, low: float, high: float) -> Verdict:
    """Upheld if the interval lies inside the open range (low, high), not upheld if outside, undecided if across."""
    if interval is None:
        return "undecided"
    if low < interval.low and interval.high < high:
        return "upheld"
    return "not upheld" if interval.high <= low or interval.low >= high else "undecided"


def _difference_unit(metric: ResolvedMetric) -> str:
    return "points" if metric.metric.unit in ("%", "points") else metric.metric.unit


def _judged(
    claim: Claim,
    statement: str,
    estimate: float | None,
    interval: Interval | None,
    wanted: tuple[float, float],
    unit: str,
    num_seeds: int,
    trials: tuple[TrialRef, ...],
    loaded: Loaded,
) -> JudgedClaim:
    declared = [m.claims[claim.id].at for m in loaded.manifests if claim.id in m.claims]
    experiments = {ref.experiment for ref in trials}
    everywhere = bool(experiments) and all(
        claim.id in manifest.claims for manifest in loaded.manifests if manifest.name in experiments
    )
    started = [
        trial.record.provenance.started_at
        for trial in loaded.trials
        if trial.ref in set(trials) and trial.record is not None and trial.record.provenance is not None
    ]
    at = max(declared) if everywhere else None
    return JudgedClaim(
        id=claim.id,
        text=claim.text,
        statement=statement,
        verdict=verdict_of(interval, *wanted),
        estimate=estimate,
        interval=interval,
        unit=unit,
        num_seeds=num_seeds,
        declared_at=at,
        before_results=at is not None and len(started) == len(trials) and all(at <= start for start in started),
        trials=trials,
    )

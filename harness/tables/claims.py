"""Judge claims: compare what was expected before the run with what the records say.

A claim is upheld if the whole confidence interval agrees with it, not upheld if none of it does, and undecided
otherwise: "the difference is not significant" upholds nothing. The intervals are over seeds and test items, and hold
together: with k claims each has the level 1 - (1 - level) / k (Bonferroni), so that with a chance of 95 % no claim of
the table is judged wrongly. Where every seed gives the same difference and no items are known (two numbers of
parameters), the interval is that difference alone. Each trend is a column of its own, which shares no variances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.config.table import Claim, ContrastClaim, TableSettings, TrendClaim
from harness.errors import UserError
from harness.statistics.samples import Interval
from harness.statistics.shared_variance import SharedComparison, compare_all
from harness.tables.cells import ResolvedMetric, resolve_metric
from harness.tables.load import Loaded, LoadedTrial
from harness.tables.model import Footnote, JudgedClaim, TrialRef
from harness.tables.names import dimension_header, metric_header
from harness.tables.seed_scores import ItemReader, SeedScores, weighted_sum
from harness.tables.wording import over_what

Verdict = Literal["upheld", "not upheld", "undecided"]
Trials = Sequence[LoadedTrial]


@dataclass(frozen=True)
class _Question:
    """What decides a claim: a score by seed, and the open range in which its mean must lie.

    Attributes:
        place: arm and column, as for `compare_all`.
        beside: other arms' differences of the same kind, which say how much such differences vary.
    """

    statement: str
    scores: SeedScores
    wanted: tuple[float, float]
    unit: str
    trials: tuple[TrialRef, ...]
    place: tuple[str, str]
    beside: Mapping[tuple[str, str], SeedScores]


def judge_claims(settings: TableSettings, loaded: Loaded) -> tuple[tuple[JudgedClaim, ...], tuple[Footnote, ...]]:
    """Every claim of a spec, judged from the finished trials; and what must be said of how.

    Raises:
        UserError: a claim names an arm, metric or setting that the records do not have.
    """
    reader = ItemReader()
    questions = [_question(claim, loaded, number, reader) for number, claim in enumerate(settings.claims)]
    samples = {place: scores for question in questions for place, scores in question.beside.items()}
    samples |= {question.place: question.scores for question in questions}
    found = compare_all({place: scores.sample for place, scores in samples.items() if scores.values})
    level = 1.0 - (1.0 - settings.level) / max(1, len(questions))
    judged = tuple(
        _judged(claim, question, found.get(question.place), level, loaded)
        for claim, question in zip(settings.claims, questions, strict=True)
    )
    return judged, _notes(questions, settings)


def _notes(questions: Sequence[_Question], settings: TableSettings) -> tuple[Footnote, ...]:
    if not questions:
        return ()
    known = [question.scores.influences is not None for question in questions]
    level = f"{100 * settings.level:g} %"
    text = f"claims are judged by {level} intervals {over_what(known)}"
    if len(known) > 1:
        text += f"; together they hold with {level} (Bonferroni over the {len(known)} claims)"
    return (Footnote(text, kind="interval"),)


def _question(claim: Claim, loaded: Loaded, number: int, reader: ItemReader) -> _Question:
    where = f"table.claims.{number}"
    if isinstance(claim, ContrastClaim):
        return _contrast(claim, loaded, where, reader)
    return _trend(claim, loaded, where, reader)


def _contrast(claim: ContrastClaim, loaded: Loaded, where: str, reader: ItemReader) -> _Question:
    loaded = loaded.with_rows(claim.arm, claim.than)
    sides = (loaded.row_meant(name, f"{where}.{side}") for side, name in (("arm", claim.arm), ("than", claim.than)))
    (arm, first), (than, second) = sides
    trials = [trial for trial in loaded.trials if trial.ref.arm in (arm, than)]
    metric = resolve_metric(claim.metric, trials, where)
    by_place: dict[str, dict[str, list[LoadedTrial]]] = {}
    for trial in loaded.trials:
        by_place.setdefault(trial.place, {}).setdefault(trial.ref.arm, []).append(trial)
    scores = {
        (place, name): reader.scores(members, metric)
        for place, arms in by_place.items()
        for name, members in arms.items()
    }
    both = [place for place in by_place if all(scores.get((place, name), _NOTHING).values for name in (arm, than))]
    names = dict.fromkeys(name for _, name in scores if name != than)
    differences = {name: _mean_difference(scores, both, name, than) for name in names}
    own = differences[arm]
    unit = _difference_unit(metric)
    by = f" by more than {claim.by:g} {unit}".rstrip() if claim.by and claim.expect != "equal" else ""
    expected = f"{f'within {claim.by:g} {unit}'.rstrip()} of" if claim.expect == "equal" else f"{claim.expect}{by} than"
    statement = f"{metric_header(metric.concrete)}: {arm} is {expected} {than}"
    seeds = set(own.values)
    used = [t for t in trials if t.complete and t.place in both and t.metric(claim.metric) is not None]
    column = f"{claim.metric} {than} {' '.join(both)}"
    return _Question(
        "; ".join([statement, *filter(None, (first, second))]),
        own,
        _wanted_range(claim, metric),
        unit,
        tuple(trial.ref for trial in used if trial.ref.seed in seeds),
        (arm, column),
        {(name, column): found for name, found in differences.items() if metric.tested},
    )


_NOTHING = SeedScores({})


def _mean_difference(
    scores: Mapping[tuple[str, str], SeedScores], places: Sequence[str], arm: str, than: str
) -> SeedScores:
    """The mean over experiments, or over what a `for_each` repeats, of one arm's difference from another."""
    share = 1.0 / max(1, len(places))
    parts = [
        (weight, scores.get((place, name), _NOTHING))
        for place in places
        for weight, name in ((share, arm), (-share, than))
    ]
    return weighted_sum(parts) if parts else _NOTHING


def _wanted_range(claim: ContrastClaim, metric: ResolvedMetric) -> tuple[float, float]:
    """The open range in which the difference must lie."""
    if claim.expect == "equal":
        return -claim.by, claim.by
    higher = claim.expect == "higher" or (claim.expect == "better") == (metric.metric.direction == "higher")
    if claim.expect in ("higher", "lower"):
        higher = claim.expect == "higher"
    return (claim.by, math.inf) if higher else (-math.inf, -claim.by)


def _trend(claim: TrendClaim, loaded: Loaded, where: str, reader: ItemReader) -> _Question:
    loaded = loaded.with_rows(claim.arm, claim.than)
    arm, first = (None, "") if claim.arm is None else loaded.row_meant(claim.arm, f"{where}.arm")
    than, second = (None, "") if claim.than is None else loaded.row_meant(claim.than, f"{where}.than")
    trials = [t for t in loaded.trials if t.complete and (arm is None or t.ref.arm in (arm, than))]
    metric = resolve_metric(claim.metric, trials, where)
    own, base = _trend_points(claim, trials, than, where)
    sign = 1.0 if metric.metric.direction == "higher" else -1.0
    used = [point for point in own if than is None or point in base]
    mean = sum(x for x, _ in used) / max(1, len(used))
    spread = sum((x - mean) ** 2 for x, _ in used)
    if len({x for x, _ in used}) < 2 or spread == 0:
        raise UserError(
            f"{where}.along: {claim.along} has fewer than two values in the finished trials of {loaded.names}"
        )
    parts = []  # the slope of a line through y(x) is the sum of (x - mean) y(x) / spread
    for x, place in used:
        weight = (x - mean) / spread
        if than is None:
            parts.append((weight, reader.scores(own[x, place], metric)))
            continue
        parts += [(side * sign * weight, reader.scores(of[x, place], metric)) for side, of in ((1, own), (-1, base))]
    scores = weighted_sum(parts)
    if not scores.values:
        raise UserError(f"{where}.along: no seed is finished at all values of {claim.along} in {loaded.names}")
    per = (
        f"per factor of ten of {dimension_header(claim.along)}" if claim.log else f"per {dimension_header(claim.along)}"
    )
    what = metric_header(metric.concrete) + (f" of {arm}" if arm else "")
    if than is not None:
        what = f"gain of {arm} over {than} in {metric_header(metric.concrete)}"
    statement = f"{what} is {claim.expect} along {dimension_header(claim.along)}"
    seen = [trial.ref for of in (own, base) for point in used for trial in of.get(point, ())]
    return _Question(
        "; ".join([statement, *filter(None, (first, second))]),
        scores,
        (0.0, math.inf) if claim.expect == "increasing" else (-math.inf, 0.0),
        f"{_difference_unit(metric)} {per}".strip(),
        tuple(ref for ref in seen if ref.seed in scores.values),
        (claim.id, where),
        {},
    )


Points = dict[tuple[float, str], list[LoadedTrial]]  # setting and place -> trials, one a seed


def _trend_points(claim: TrendClaim, trials: Trials, than: str | None, where: str) -> tuple[Points, Points]:
    """The trials at each point of the line, and those of the arm over which the gain is meant."""
    own: Points = {}
    base: Points = {}
    for trial in trials:
        value, x = trial.metric(claim.metric), trial.coordinate(claim.along)
        if value is None or isinstance(x, bool) or not isinstance(x, (int, float)):
            continue
        if claim.log and x <= 0:
            raise UserError(
                f"{where}.log: {claim.along} is {x:g} in arm {trial.ref.arm}; a logarithm needs values above 0"
            )
        side = base if than is not None and trial.ref.arm == than else own
        members = side.setdefault((math.log10(x) if claim.log else float(x), trial.place), [])
        if any(other.ref.seed == trial.ref.seed for other in members):
            raise UserError(f"{where}: two arms have {claim.along} = {x:g} at seed {trial.ref.seed}; name one with arm")
        members.append(trial)
    return own, base


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
    claim: Claim, question: _Question, found: SharedComparison | None, level: float, loaded: Loaded
) -> JudgedClaim:
    trials = question.trials
    declared = [m.claims[claim.id].at for m in loaded.manifests if claim.id in m.claims]
    experiments = {ref.experiment for ref in trials}
    everywhere = bool(experiments) and all(
        claim.id in manifest.claims for manifest in loaded.manifests if manifest.name in experiments
    )
    begun = {
        (trial.ref.experiment, trial.ref.trial_id): trial.record.provenance.started_at
        for trial in loaded.trials
        if trial.record is not None and trial.record.provenance is not None
    }
    started = [begun.get((ref.experiment, ref.trial_id)) for ref in trials]
    at = max(declared) if everywhere else None
    interval = None if found is None else found.interval(level)
    return JudgedClaim(
        id=claim.id,
        text=claim.text,
        statement=question.statement,
        verdict=verdict_of(interval, *question.wanted),
        estimate=None if found is None else found.mean,
        interval=interval,
        unit=question.unit,
        num_seeds=0 if found is None else found.count,
        declared_at=at,
        before_results=at is not None and all(start is not None and at <= start for start in started),
        trials=trials,
    )

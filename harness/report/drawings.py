"""Draw the report's figures from its sources, each with a caption and a description in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from harness.config.trees import show
from harness.errors import UserError
from harness.figures.attention import Attention, draw_attention, mean_attention, parse_attention
from harness.figures.labels import MetricLabel, axis_labels, metric_label
from harness.figures.learning_curves import Curve, draw_learning_curves
from harness.figures.scores import best_point, points_in
from harness.figures.style import slug, words_of
from harness.figures.sweep_figures import axis_pairs, sweep_figures
from harness.figures.tradeoff import Outcome, draw_tradeoff, front_of_arms, mean_of
from harness.metrics import METRICS, as_error, metric_words
from harness.records.names import file_name
from harness.records.search import Objective, SearchPoint, SearchResult
from harness.report.methods import named, sentence
from harness.report.sources import Sources

ATTENTION = "attention.json"


@dataclass(frozen=True)
class Drawing:
    """A figure of the page.

    Attributes:
        name: of its files.
        section: `curves`, `tradeoff`, `search` or `attention`.
        title: above it, a few words.
        caption: under it, how to read it.
        words: what it shows, for those who cannot see it.
        themed: whether its colours may follow the page's theme (a colour scale may not).
    """

    name: str
    section: str
    title: str
    caption: str
    words: str
    figure: Figure
    themed: bool = True


def make_drawings(sources: Sources) -> Iterator[Drawing]:
    """Every figure that applies."""
    if sources.manifest is not None and sources.primary is not None:
        yield from _curves(sources, sources.primary)
        yield from _tradeoff(sources, sources.primary)
        yield from _attention(sources)
    if sources.search is not None:
        yield from _search(sources)


def primary_label(primary: str) -> MetricLabel:
    """How the primary metric is shown on an axis."""
    better = METRICS[primary].direction == "higher"
    return metric_label(Objective(metric=primary, direction="maximize" if better else "minimize"))


def _curves(sources: Sources, primary: str) -> Iterator[Drawing]:
    keys = (f"valid_target/{primary}", f"valid_source/{primary}")
    curves: dict[str, list[Curve]] = {}
    for arm, seed, record in sources.complete():
        log = [entry["metrics"] for entry in sources.folder(record).read_log()]
        if log and all(key in entry for entry in log for key in keys):
            target, source = (tuple(float(entry[key]) for entry in log) for key in keys)
            curves.setdefault(arm, []).append(Curve(seed, target, source, record.summary.best_epoch or len(log)))
    if not curves:
        return
    base, untrained = None, sources.untrained
    if untrained is not None and all(key in untrained.summary.valid for key in keys):
        base = (untrained.summary.valid[keys[0]], untrained.summary.valid[keys[1]])
    label = primary_label(primary)
    ends = []
    for arm, runs in curves.items():
        best = [run.target[run.best_epoch - 1] * label.scale for run in runs]
        ends.append(f"{arm} {sum(best) / len(best):.1f} (epoch {', '.join(str(run.best_epoch) for run in runs)})")
    caption = (
        f"Validation {metric_words(primary)} after each epoch, on the target and the mean of the sources. Thin lines "
        "are single seeds; thick lines are their mean, up to the last epoch that all reached. Dots mark the epochs "
        "whose weights were kept."
    )
    words = f"{caption} Mean kept target score, and kept epochs by seed: {'; '.join(ends)}."
    figure = draw_learning_curves(curves, label, base)
    yield Drawing("learning_curves", "curves", "Learning curves", caption, words, figure)


def _tradeoff(sources: Sources, primary: str) -> Iterator[Drawing]:
    outcomes: dict[str, list[Outcome]] = {}
    for arm, _, record in sources.complete():
        summary, target = record.summary, record.config["data"]["target"]
        if primary in summary.base.get(target, {}) and "forgetting" in summary.metrics:
            before, after = summary.base[target][primary], summary.by_domain[target][primary]
            gain = as_error(primary, before) - as_error(primary, after)
            outcomes.setdefault(arm, []).append(Outcome(100 * gain, 100 * summary.metrics["forgetting"]))
    if not outcomes:
        return
    means = [
        f"{arm} {mean_of(runs).gain:+.1f} gained, {mean_of(runs).forgetting:+.1f} forgotten"
        for arm, runs in outcomes.items()
    ]
    caption = (
        f"Points of {metric_words(primary)} gained on the target against points forgotten on the sources, test sets. "
        f"On the front of the means: {named(front_of_arms(outcomes))}."
    )
    words = f"{caption} Means: {'; '.join(means)}."
    figure = draw_tradeoff(outcomes, metric_words(primary))
    yield Drawing("forgetting_against_gain", "tradeoff", "Forgetting against gain", caption, words, figure)


def _attention(sources: Sources) -> Iterator[Drawing]:
    found: dict[str, list[Attention]] = {}
    for arm, _, record in sources.complete():
        files = sources.folder(record).files
        if files.has(ATTENTION):
            found.setdefault(arm, []).append(parse_attention(files.json(ATTENTION), f"{files.place}/{ATTENTION}"))
    for arm, runs in found.items():
        try:
            attention = mean_attention(runs)
        except UserError as error:
            raise UserError(f"{arm}: {ATTENTION}: {error}") from error
        strongest = {
            layer: attention.adapters[max(range(len(weights)), key=lambda place: weights[place])]
            for layer, weights in attention.layers.items()
        }
        caption = "Mean attention weights over the adapters, layer by layer."
        words = f"{caption} Strongest: {'; '.join(f'{layer} {name}' for layer, name in strongest.items())}."
        figure = draw_attention(arm, attention, len(runs))
        yield Drawing(file_name(f"attention_{arm}"), "attention", arm, caption, words, figure, themed=False)


TITLES = {
    "importance": "Which settings mattered",
    "contour": "Two settings at once",
    "isolation": "Each setting, the others at their best",
    "expected": "What a tuning budget buys",
    "pareto": "Two objectives",
}


def _search(sources: Sources) -> Iterator[Drawing]:
    assert sources.search is not None
    contours = contour_titles(sources.search)
    for name, figure in sweep_figures(sources.search):
        kind = name.split("_")[0]
        title = TITLES.get(kind, name.replace("_", " "))
        title = contours.get(name, title)
        caption, best = _search_words(sources, kind)
        words = f"{caption} {best}".strip()
        yield Drawing(name, "search", title, caption, words, figure, themed=kind != "contour")


def contour_titles(result: SearchResult) -> dict[str, str]:
    """The name of each contour's file -> its arm and settings in words."""
    titles = {}
    for arm in result.axes:
        labels = axis_labels(result.axes[arm])
        for x_axis, y_axis in axis_pairs(result, arm):
            one, other = labels[x_axis.key], labels[y_axis.key]
            titles[slug(f"contour_{arm}_{one}_{other}")] = f"{words_of(arm)}: {one} and {other}"
    return titles


def _search_words(sources: Sources, kind: str) -> tuple[str, str]:
    """How to read the figure, and the best trial of each arm."""
    assert sources.search is not None
    goal = metric_label(sources.search.objectives[0])
    about = {
        "importance": f"How much of the variation of {goal.name} each searched setting explains.",
        "contour": f"{goal.name} over two searched settings: every trial, on a surface drawn between the trials.",
        "isolation": f"The best {goal.name} at each value of a setting, whatever the other settings are.",
        "expected": f"The expected best {goal.name} of n trials, for each n up to the budget.",
        "pareto": "Both objectives of every complete trial, and each arm's non-dominated front.",
    }.get(kind, f"{goal.name} over the search.")
    best = []
    for arm in sources.search.axes:
        point = best_of(sources, arm)
        if point is not None:
            settings = ", ".join(f"{key.rsplit('.', 1)[-1]} {show(value)}" for key, value in point.params.items())
            best.append(f"{arm}: {goal.number(point.values[0])} (trial {point.number}; {settings})")
    return sentence(about), f"Best validation score by arm: {'; '.join(best)}." if best else ""


def best_of(sources: Sources, arm: str) -> SearchPoint | None:
    """The arm's best feasible search trial."""
    assert sources.search is not None
    return best_point(points_in(sources.search, arm, "complete"), sources.search.objectives[0].direction)

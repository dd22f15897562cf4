"""Metrics as pure functions of references and predictions, and what each number means (direction, unit).

Error rates and accuracies are fractions in records (0.25), percent in tables (25.0). Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower"]
KAPPA = 0.03  # tolerated loss on the source domain, absolute: 3 % (arXiv 2210.03255, section 4)


@dataclass(frozen=True)
class Metric:
    """How to read a number: which direction is better, its unit, and one line of what it is."""

    direction: Direction
    unit: str
    meaning: str

    def better(self, value: float, other: float) -> bool:
        """Whether `value` beats `other`."""
        return value > other if self.direction == "higher" else value < other


def accuracy(references: Sequence[int], predictions: Sequence[int]) -> float:
    """Share of predictions that equal their reference."""
    _same_length(references, predictions)
    return sum(r == p for r, p in zip(references, predictions, strict=True)) / len(references)


def macro_f1(references: Sequence[int], predictions: Sequence[int], num_classes: int) -> float:
    """Unweighted mean of the classes' F1; a class with no reference and no prediction counts as 0."""
    _same_length(references, predictions)
    scores = []
    for label in range(num_classes):
        true = sum(r == p == label for r, p in zip(references, predictions, strict=True))
        support, predicted = references.count(label), predictions.count(label)
        scores.append(2 * true / (support + predicted) if support + predicted else 0.0)
    return sum(scores) / num_classes


def character_error_rate(references: Sequence[str], predictions: Sequence[str]) -> float:
    """Edit distance over characters of all pairs, by the number of reference characters (can exceed 1)."""
    import jiwer

    _same_length(references, predictions)
    return float(jiwer.cer(list(references), list(predictions)))


def word_error_rate(references: Sequence[str], predictions: Sequence[str]) -> float:
    """Edit distance over words of all pairs, by the number of reference words (can exceed 1)."""
    import jiwer

    _same_length(references, predictions)
    return float(jiwer.wer(list(references), list(predictions)))


def _same_length(references: Sequence[object], predictions: Sequence[object]) -> None:
    if len(references) != len(predictions) or not references:
        raise ValueError(f"{len(references)} references and {len(predictions)} predictions cannot be scored")


def as_error(name: str, value: float) -> float:
    """A metric as an error (lower is better): accuracies and F1 become one minus themselves."""
    return 1.0 - value if METRICS[name].direction == "higher" else value


def forgetting(name: str, base_source: float, source_after: float) -> float:
    """How much of the source metric was lost by adapting: positive is worse, whatever the metric's direction."""
    return as_error(name, source_after) - as_error(name, base_source)


def original_scale(
    name: str, base_sources: Sequence[float], sources_after: Sequence[float], kappa: float = KAPPA
) -> float:
    """OriginalScale of arXiv 2210.03255: `mean_i max(0, kappa - loss_i) / kappa`; 1 where no source got worse."""
    losses = [max(0.0, forgetting(name, base, after)) for base, after in zip(base_sources, sources_after, strict=True)]
    return sum(max(0.0, kappa - loss) / kappa for loss in losses) / len(losses)


def relative_gain(name: str, base_target: float, target_after: float) -> float | None:
    """Error reduced by, as a share of the base model's error (WERR where the metric is the WER); negative if worse.

    The AdaptWERR of arXiv 2210.03255 is this, cut at 0. None when the base makes no error.
    """
    base_error = as_error(name, base_target)
    return (base_error - as_error(name, target_after)) / base_error if base_error > 0 else None


def constrained_score(
    name: str,
    base_target: float,
    target_after: float,
    base_sources: Sequence[float],
    sources_after: Sequence[float],
    kappa: float = KAPPA,
) -> float:
    """Damage-control score of arXiv 2210.03255, one-sided: gain on the target, scaled down by loss on the sources.

    `mean_i max(0, kappa - loss_i) / kappa * max(0, base_error - error) / base_error`; a source that improves is never
    punished (`loss_i` is at least 0). For accuracies the error is one minus the accuracy.

    Returns:
        a share in [0, 1]; 0 when the base makes no error on the target, since nothing can be gained.
    """
    kept = original_scale(name, base_sources, sources_after, kappa)
    base_error, error = as_error(name, base_target), as_error(name, target_after)
    return kept * max(0.0, base_error - error) / base_error if base_error > 0 else 0.0


_TASK_METRICS: Mapping[str, tuple[Direction, str]] = {
    "accuracy": ("higher", "share of sentences with the right class"),
    "macro_f1": ("higher", "mean F1 of the classes"),
    "cer": ("lower", "character error rate"),
    "wer": ("lower", "word error rate"),
}

METRICS: dict[str, Metric] = {
    name: Metric(direction, "%", meaning) for name, (direction, meaning) in _TASK_METRICS.items()
}
for _name, (_direction, _meaning) in _TASK_METRICS.items():
    METRICS[f"target_{_name}"] = Metric(_direction, "%", f"{_meaning}, target test set")
    METRICS[f"source_{_name}"] = Metric(_direction, "%", f"{_meaning}, mean over source test sets, adapter on")
METRICS |= {
    "forgetting": Metric("lower", "points", "source error after adapting minus before (primary metric)"),
    "constrained_score": Metric("higher", "%", "relative target gain, scaled by source loss (kappa 3 points)"),
    "trainable_parameters": Metric("lower", "", "number of weights that learn"),
    "trainable_share": Metric("lower", "%", "weights that learn, by all weights of the base model"),
    "seconds": Metric("lower", "s", "training and evaluation time"),
    "peak_memory_mb": Metric("lower", "MB", "peak resident (or GPU) memory"),
    "best_epoch": Metric("lower", "", "epoch whose weights were kept"),
}

PRIMARY: dict[str, str] = {"text": "macro_f1", "speech": "cer"}  # what selection, forgetting and the score look at

# Read from a record's test metrics by domain, before and after adapting; a table computes them (tables/values.py).
DERIVED_METRICS: dict[str, Metric] = {
    "target_error": Metric("lower", "%", "error of the primary metric (CER; 1 - macro F1), target test set"),
    "source_error": Metric("lower", "%", "error of the primary metric, mean over source test sets, adapter on"),
    "base_target_error": Metric("lower", "%", "error of the primary metric, target test set, base model"),
    "base_source_error": Metric("lower", "%", "error of the primary metric, mean over source test sets, base model"),
    "relative_gain": Metric("higher", "%", "target error removed, by the base model's error (primary metric)"),
    "original_scale": Metric("higher", "%", "share of the tolerated source loss that is left (kappa 3 points)"),
}
PRIMARY_METRICS = ("target_primary", "source_primary")  # stand for macro F1 in text, CER in speech
TABLE_METRICS: tuple[str, ...] = (
    *(name for name in METRICS if name not in _TASK_METRICS),
    *DERIVED_METRICS,
    *PRIMARY_METRICS,
)


def describe_metric(name: str) -> Metric | None:
    """The metric that a table's column can show: one of `METRICS`, `DERIVED_METRICS`, or `DOMAIN/METRIC` (`es/wer`)."""
    known = DERIVED_METRICS.get(name) or METRICS.get(name)
    if known is not None:
        return known
    domain, _, task = name.rpartition("/")
    if task not in _TASK_METRICS or not domain:
        return None
    direction, meaning = _TASK_METRICS[task]
    return Metric(direction, "%", f"{meaning}, test set of {domain}, adapter on")


_VALIDATED: dict[str, tuple[str, ...]] = {"text": ("macro_f1", "accuracy"), "speech": ("cer", "wer")}


def validation_metrics(family: Literal["text", "speech"]) -> dict[str, Direction]:
    """The validation metrics that a record of a family has, and which direction is better.

    They are measured after each epoch on at most `loop.valid_limit` examples a domain; `valid_forgetting` and
    `valid_constrained_score` compare with the base model on the same examples.
    """
    directions: dict[str, Direction] = {}
    for domain in ("target", "source"):
        directions |= {f"valid_{domain}/{name}": METRICS[name].direction for name in _VALIDATED[family]}
    return directions | {
        "valid_target/loss": "lower",
        "valid_forgetting": METRICS["forgetting"].direction,
        "valid_constrained_score": METRICS["constrained_score"].direction,
    }


def primary_metric(names: Collection[str]) -> str:
    """The metric that selection, forgetting and the score look at, of a record with these metrics.

    Args:
        names: metrics of either family, with or without a prefix (`valid_target/cer`, `macro_f1`).

    Raises:
        KeyError: none of them is a primary metric.
    """
    bare = {name.rpartition("/")[2] for name in names}
    for validated in _VALIDATED.values():
        if validated[0] in bare:
            return validated[0]
    raise KeyError(f"primary metric ({' or '.join(names[0] for names in _VALIDATED.values())})")


SCORERS: dict[str, Callable[..., float]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "cer": character_error_rate,
    "wer": word_error_rate,
}

"""Name the numbers of records and tables: metrics on a domain, numbers computed from several metrics, and costs.

macro_f1  target_macro_f1  source_macro_f1    a metric of predictions, in a record's test metrics
es/wer  valid_target/cer                      the same on one domain, or on validation data
forgetting  trainable_share  seconds          worked out by the trial, or what it cost
target_error  target_primary                  worked out by the table
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.metrics.metric import Direction, Metric, ScoredMetric
from harness.metrics.registry import METRICS

ROLES = {"target": "target test set", "source": "mean over source test sets, adapter on"}


def _read_as(metric: Metric, where: str) -> Metric:
    """The metric, described for one place: 'word error rate, target test set'."""
    return Metric(metric.direction, metric.unit, f"{metric.meaning}, {where}")


# Numbers that a record names.
RECORDED: dict[str, Metric] = {
    **METRICS,
    **{f"{role}_{name}": _read_as(metric, where) for name, metric in METRICS.items() for role, where in ROLES.items()},
    "forgetting": Metric("lower", "points", "source error after adapting minus before (primary metric)"),
    "constrained_score": Metric("higher", "%", "relative target gain, scaled by source loss (kappa 3 points)"),
    "trainable_parameters": Metric("lower", "", "number of weights that learn"),
    "trainable_share": Metric("lower", "%", "weights that learn, by all weights of the base model"),
    "seconds": Metric("lower", "s", "training and evaluation time"),
    "peak_memory_mb": Metric("lower", "MB", "peak resident (or GPU) memory"),
    "trials_a_step": Metric("higher", "", "trials that shared a step, mean over its steps (engine packed)"),
    "packing_gain": Metric("higher", "", "times as fast as alone that its pack trained it (engine packed)"),
    "best_epoch": Metric("lower", "", "epoch whose weights were kept"),
}

# Read from a record's test metrics by domain, before and after adapting; a table computes them (tables/values.py).
DERIVED_METRICS: dict[str, Metric] = {
    "target_error": Metric("lower", "%", "error of the primary metric, target test set"),
    "source_error": Metric("lower", "%", "error of the primary metric, mean over source test sets, adapter on"),
    "base_target_error": Metric("lower", "%", "error of the primary metric, target test set, base model"),
    "base_source_error": Metric("lower", "%", "error of the primary metric, mean over source test sets, base model"),
    "relative_gain": Metric("higher", "%", "target error removed, by the base model's error (primary metric)"),
    "original_scale": Metric("higher", "%", "share of the tolerated source loss that is left (kappa 3 points)"),
}
PRIMARY_METRICS = ("target_primary", "source_primary")  # each stands for the primary metric of the record's task
TABLE_METRICS: tuple[str, ...] = (
    *(name for name in RECORDED if name not in METRICS),
    *DERIVED_METRICS,
    *PRIMARY_METRICS,
)
_WORDS = {"mb": "", "valid": "validation"}


def split_name(name: str) -> tuple[str, str]:
    """Where a number was measured, and its bare name: `target_macro_f1` -> target, macro_f1; `es/wer` -> es, wer."""
    where, slash, bare = name.rpartition("/")
    if slash:
        return where, bare
    role, _, rest = name.partition("_")
    return (role, rest) if role in ROLES and rest in METRICS else ("", name)


def scored_metric(name: str) -> ScoredMetric | None:
    """The metric of predictions behind a name (`target_cer`, `es/wer`); None for any other number."""
    return METRICS.get(split_name(name)[1])


def describe_metric(name: str) -> Metric | None:
    """Describe a table's number: one of `RECORDED` or `DERIVED_METRICS`, or a metric on a domain (`es/wer`)."""
    known = DERIVED_METRICS.get(name) or RECORDED.get(name)
    if known is not None:
        return known
    domain, bare = split_name(name)
    if bare not in METRICS or not domain:
        return None
    return _read_as(METRICS[bare], f"test set of {domain}, adapter on")


def metric_words(name: str) -> str:
    """A number's name in words: `target_macro_f1` -> `target macro F1`, `es/wer` -> `es WER`."""
    where, bare = split_name(name)
    known = METRICS.get(bare)
    parts = re.split(r"[_/]", where if known is not None else name)
    words = [_WORDS.get(word, word) for word in parts] + ([known.label] if known is not None else [])
    return " ".join(word for word in words if word)


def validation_metrics(metrics: Sequence[str]) -> dict[str, Direction]:
    """The validation metrics that a record of a task has, and which direction is better.

    They are measured after each epoch on at most `loop.valid_limit` examples a domain; `valid_forgetting` and
    `valid_constrained_score` compare with the base model on the same examples.

    Args:
        metrics: of the task.
    """
    directions: dict[str, Direction] = {
        f"valid_{domain}/{name}": METRICS[name].direction for domain in ROLES for name in metrics
    }
    return directions | {
        "valid_target/loss": "lower",
        "valid_forgetting": RECORDED["forgetting"].direction,
        "valid_constrained_score": RECORDED["constrained_score"].direction,
    }

"""Metrics as pure functions of references and predictions, and what each number means (direction, unit).

    metric        what a metric says of itself
    registry      METRICS: the metrics of predictions, one file each
    names         what records and tables call a number
    adaptation    forgetting, gain and score: numbers worked out from a metric before and after adapting

Error rates and accuracies are fractions in records (0.25), percent in tables (25.0). Loads no torch.
"""

from harness.metrics.adaptation import KAPPA, as_error, constrained_score, forgetting, original_scale, relative_gain
from harness.metrics.metric import Answer, Direction, Metric, ScoredMetric
from harness.metrics.names import (
    DERIVED_METRICS,
    PRIMARY_METRICS,
    RECORDED,
    TABLE_METRICS,
    describe_metric,
    metric_words,
    scored_metric,
    split_name,
    validation_metrics,
)
from harness.metrics.registry import METRICS

__all__ = [
    "DERIVED_METRICS",
    "KAPPA",
    "METRICS",
    "PRIMARY_METRICS",
    "RECORDED",
    "TABLE_METRICS",
    "Answer",
    "Direction",
    "Metric",
    "ScoredMetric",
    "as_error",
    "constrained_score",
    "describe_metric",
    "forgetting",
    "metric_words",
    "original_scale",
    "relative_gain",
    "scored_metric",
    "split_name",
    "validation_metrics",
]

"""The metrics of predictions, by name. To add one: write its file, and add it here and to a task's `metrics`."""

from __future__ import annotations

from harness.metrics.absolute_error import MAE
from harness.metrics.accuracy import ACCURACY
from harness.metrics.correlation import PEARSON, SPEARMAN
from harness.metrics.error_rates import CER, WER
from harness.metrics.macro_f1 import MACRO_F1
from harness.metrics.metric import ScoredMetric
from harness.metrics.spans import SPAN_F1, TAG_ACCURACY

METRICS: dict[str, ScoredMetric] = {
    "accuracy": ACCURACY,
    "macro_f1": MACRO_F1,
    "cer": CER,
    "wer": WER,
    "pearson": PEARSON,
    "spearman": SPEARMAN,
    "mae": MAE,
    "span_f1": SPAN_F1,
    "tag_accuracy": TAG_ACCURACY,
}

"""The metrics of predictions, by name. To add one: write its file, and add it here and to a task's `metrics`."""

from __future__ import annotations

from harness.metrics.accuracy import ACCURACY
from harness.metrics.error_rates import CER, WER
from harness.metrics.macro_f1 import MACRO_F1
from harness.metrics.metric import ScoredMetric

METRICS: dict[str, ScoredMetric] = {
    "accuracy": ACCURACY,
    "macro_f1": MACRO_F1,
    "cer": CER,
    "wer": WER,
}

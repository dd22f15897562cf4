"""A small fixed list of trials, and its trials as the harness makes them."""

from __future__ import annotations

from workload import Workload, make_workload

from harness.config.trial import TrialConfig
from harness.training.resources import Resources
from harness.training.trial import Trial


def small_workload() -> Workload:
    return make_workload(2, recipe="text_small", first_layer=2, epochs=1, train_limit=20, valid_limit=5)


def trial_of(config: TrialConfig) -> Trial:
    return Trial(config, Resources(sealed=True))

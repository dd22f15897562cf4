"""Measure what one training costs, in a few seconds: some steps and some scoring on the real data, scaled.

Measuring reads training and validation data only, writes nothing, and throws its copy of the model away.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from harness.backbones.model import TaskModel
from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.engines.prices import Price
from harness.engines.probe import describe_speed
from harness.errors import UserError, first_line, no_exits
from harness.tasks.task import Item
from harness.training.adapting import adapt
from harness.training.loop import FitPlan, fit
from harness.training.memory import PeakMemory
from harness.training.pulls import output_pull
from harness.training.resources import Resources
from harness.training.trial import Trial

WARM_UP_BATCHES = 2  # the first steps are slower, and tell how many are affordable
TRAIN_S = 3.0  # for the training that is measured
SCORE_S = 0.7  # for each domain that is scored


class PriceProbe:
    """Measures prices.

    Args:
        resources: what is loaded already, and loaded once; sealed ones for a search.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def price(self, config: TrialConfig) -> Price:
        """One training of this config, all its epochs, measured.

        Raises:
            UserError: the config does not fit its data, backbone or layers.
        """
        return probe(config, self._resources)

    def speed(self, config: TrialConfig, known: Execution | None) -> str:
        """Say what makes trainings of this config fast: see harness.engines.probe.describe_speed.

        Raises:
            UserError: the config does not fit its data, backbone or layers.
        """
        return describe_speed(config, self._resources, known)


def probe(config: TrialConfig, resources: Resources) -> Price:
    """Measure; a training that fails has no price, and its `source` says why.

    Raises:
        UserError: the config does not fit its data, backbone or layers.
    """
    torch.set_num_threads(config.loop.threads)
    memory = PeakMemory(torch.device(config.loop.device))
    trial = Trial(config, resources)
    began = time.monotonic()
    adapted = adapt(trial.fresh_base(), config)
    build_s = time.monotonic() - began
    epochs = config.loop.epochs if adapted.num_trainable else 0
    try:
        with no_exits():
            epoch_s = _epoch_s(trial, adapted.model) if epochs else 0.0
            epoch_valid_s, whole_valid_s = _scoring_s(trial, adapted.model)
    except UserError:
        raise
    # As in a trial: whatever a user's own strategy raises, the search records it as that trial's failure.
    except Exception as error:
        return Price(None, f"the timed training failed: {first_line(error)}", trainable=adapted.num_trainable)
    # Without training, the validation scores are the trial; with it, they are kept from the best epoch.
    seconds = 2 * build_s + max(1, epochs) * epoch_valid_s + epochs * epoch_s
    return Price(
        seconds=seconds,
        source="a probe",
        is_probed=True,
        test_s=whole_valid_s,  # the test sets are sealed: about as large as the whole validation sets
        peak_memory_mb=memory.peak_mb(),
        trainable=adapted.num_trainable,
    )


def _epoch_s(trial: Trial, model: TaskModel) -> float:
    """Seconds of one training epoch, without scoring."""
    items = trial.train_items()
    batch = trial.config.loop.batch_size
    first = _spread(items, WARM_UP_BATCHES * batch)
    _fit_s(trial, model, first)
    per_item = _fit_s(trial, model, first) / len(first)
    num = max(len(first), int(TRAIN_S / per_item) // batch * batch)
    chosen = _spread(items, num)
    return _fit_s(trial, model, chosen) / len(chosen) * len(items)


def _fit_s(trial: Trial, model: TaskModel, items: Sequence[Item]) -> float:
    config, task = trial.config, trial.domains.task(trial.config.loop.augment)
    plan = FitPlan(
        optim=config.optim,
        loop=config.loop.model_copy(update={"epochs": 1, "patience": None}),
        seed=config.seed,
        score_epoch=lambda model: {"valid": 0.0},
        select="valid",
        metric=task.primary,
        output_pull=output_pull(config, trial.domains),
    )
    return fit(model, task, list(items), plan).elapsed_s


def _scoring_s(trial: Trial, model: TaskModel) -> tuple[float, float]:
    """Seconds of scoring an epoch's validation items, and whole validation sets."""
    data = trial.config.data
    epoch_s = whole_s = 0.0
    for name in (data.target, *data.source):
        items = trial.domains.items(name, "valid")
        first = _spread(items, 16)
        per_item = _score_s(trial, model, first) / len(first)
        chosen = _spread(items, max(len(first), int(SCORE_S / per_item)))
        per_item = _score_s(trial, model, chosen) / len(chosen)
        epoch_s += per_item * len(trial.validation.items(name))
        whole_s += per_item * len(items)
    return epoch_s, whole_s


def _score_s(trial: Trial, model: TaskModel, items: Sequence[Item]) -> float:
    began = time.monotonic()
    trial.domains.score(model, items, trial.config.loop)
    return max(time.monotonic() - began, 1e-6)


def _spread(items: Sequence[Item], num: int) -> list[Item]:
    """About `num` items, evenly over the list: the first ones may all be of one kind."""
    step = max(1, len(items) // num)
    return list(items[::step][:num])

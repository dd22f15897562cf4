"""Measure what a training costs here, in a few seconds: some steps and some scoring on the real data, scaled.

Prices are measured by the plain loop, which no other engine is slower than. Measuring reads training and validation
data only, writes nothing, and throws its copy of the model away.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.backbones.model import TaskModel
from harness.config.base import content_hash
from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.engines.packed.scheduler import PackScheduler
from harness.engines.prices import Price, config_shape
from harness.engines.registry import Engines
from harness.engines.speed import describe_speed
from harness.errors import UserError, first_line, no_exits
from harness.tasks.task import Item
from harness.training.adapting import adapt
from harness.training.fit_plan import FitPlan
from harness.training.free_memory import leaves_room
from harness.training.loop import fit
from harness.training.memory import PeakMemory
from harness.training.pulls import output_pull
from harness.training.resources import Resources
from harness.training.trial import Trial

WARM_UP_BATCHES = 2  # the first steps are slower, and tell how many are affordable
TRAIN_S = 0.2  # for the training that is measured
SCORE_S = 0.05  # for each domain that is scored
PACKS = (1, 4, 16, 64)
PACK_BATCHES = 12  # of a training by which the size of packs is chosen
NUM_VALID = 4  # items scored there: sizes are compared by their steps


@dataclass(frozen=True)
class _Rates:
    """What was measured of one training, for others that differ in their data alone.

    Attributes:
        build_s: of making its model.
        train_s: of an epoch, for each input step of the items.
        score_s: of scoring, for each input step of the items.
    """

    build_s: float
    train_s: float
    score_s: float
    peak_memory_mb: float | None
    trainable: int


class PriceProbe:
    """Measures prices.

    Args:
        resources: what is loaded already, and loaded once; sealed ones for a search.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources, self._engines = resources, Engines()
        self._rates: dict[str, _Rates] = {}

    def price(self, config: TrialConfig) -> Price:
        """One training of this config, all its epochs, measured; or scaled from one that differs in its data alone.

        A training that fails has no price, and its `source` says why.

        Raises:
            UserError: the config does not fit its data, backbone or layers.
        """
        torch.set_num_threads(config.loop.threads)
        trial, key = Trial(config, self._resources), _like(config)
        is_known = key in self._rates
        try:
            with no_exits():
                rates = self._rates.get(key) or self._rates.setdefault(key, _measure(trial))
        except UserError:
            raise
        # As in a trial: whatever a user's own strategy raises, the search records it as that trial's failure.
        except Exception as error:
            return Price(None, f"the timed training failed: {first_line(error)}")
        epochs = config.loop.epochs if rates.trainable else 0
        names = (config.data.target, *config.data.source)
        valid_s = rates.score_s * sum(_steps(trial.validation.items(name)) for name in names)
        # Without training, the validation scores are the trial; with it, they are kept from the best epoch.
        train_s = rates.train_s * _steps(trial.train_items()) if epochs else 0.0
        return Price(
            seconds=2 * rates.build_s + max(1, epochs) * valid_s + epochs * train_s,
            source="a probe of the same training on other data" if is_known else "a probe",
            is_probed=True,
            # the test sets are sealed: about as large as the whole validation sets
            test_s=rates.score_s * sum(_steps(trial.domains.items(name, "valid")) for name in names),
            peak_memory_mb=rates.peak_memory_mb,
            trainable=rates.trainable,
        )

    def speed(self, config: TrialConfig, known: Execution | None) -> str:
        """Say what makes its trainings fast: see harness.engines.speed.describe_speed.

        Raises:
            UserError: the config does not fit its data, backbone or layers.
        """
        return describe_speed(config, self._resources, self._engines, known)


def _like(config: TrialConfig) -> str:
    """The same for all configs that differ in nothing but their data and how often they go through it."""
    data = config.data.model_copy(update={"target": "", "source": (), "train_limit": None})
    loop = config.loop.model_copy(update={"epochs": 1, "patience": None, "valid_limit": None})
    return content_hash(config_shape(config.model_copy(update={"data": data, "loop": loop})))


def _measure(trial: Trial) -> _Rates:
    memory = PeakMemory(torch.device(trial.config.loop.device))
    began = time.monotonic()
    adapted = adapt(trial.fresh_base(), trial.config)
    build_s = time.monotonic() - began
    train_s = _train_s(trial, adapted.model) if adapted.num_trainable else 0.0
    score_s = _score_s(trial, adapted.model)
    return _Rates(build_s, train_s, score_s, memory.peak_mb(), adapted.num_trainable)


def _train_s(trial: Trial, model: TaskModel) -> float:
    """Seconds of training for each input step of the items, without scoring."""
    items = trial.train_items()
    batch = trial.config.loop.batch_size
    first = _spread(items, WARM_UP_BATCHES * batch)
    _fit_s(trial, model, first)
    per_item = _fit_s(trial, model, first) / len(first)
    chosen = _spread(items, max(len(first), int(TRAIN_S / per_item) // batch * batch))
    return _fit_s(trial, model, chosen) / _steps(chosen)


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


def _score_s(trial: Trial, model: TaskModel) -> float:
    """Seconds of scoring for each input step of the items."""
    seconds = num_steps = 0.0
    for name in (trial.config.data.target, *trial.config.data.source):
        items = trial.domains.items(name, "valid")
        first = _spread(items, 16)
        per_item = _scoring_s(trial, model, first) / len(first)
        chosen = _spread(items, max(len(first), int(SCORE_S / per_item)))
        seconds += _scoring_s(trial, model, chosen)
        num_steps += _steps(chosen)
    return seconds / num_steps


def _scoring_s(trial: Trial, model: TaskModel, items: Sequence[Item]) -> float:
    began = time.monotonic()
    trial.domains.score(model, items, trial.config.loop)
    return max(time.monotonic() - began, 1e-6)


def _steps(items: Sequence[Item]) -> int:
    """Input steps (tokens, frames) of some items."""
    return sum(len(item.inputs) for item in items)


def _spread(items: Sequence[Item], num: int) -> list[Item]:
    """About `num` items, evenly over the list: the first ones may all be of one kind."""
    step = max(1, len(items) // num)
    return list(items[::step][:num])


def best_pack(config: TrialConfig, resources: Resources, asked: Execution) -> int:
    """The size of packs that trains a config fastest here, by a few batches; 1 where its trials cannot be packed.

    For devices on which the size may change bits, so that it has to be known before the first trial.

    Args:
        config: of a trial that is about to be trained many times.
        resources: of a search.
        asked: packs as they are wanted, and no larger ones.

    Raises:
        UserError: the config does not fit its data, backbone or layers.
    """
    data, engines = config.data, Engines()
    limit = min(len(Trial(config, resources).train_items()), PACK_BATCHES * config.loop.batch_size)
    loop = config.loop.model_copy(update={"epochs": 1, "patience": None, "valid_limit": NUM_VALID})
    few = config.model_copy(update={"loop": loop, "data": data.model_copy(update={"train_limit": limit})})
    best, best_s = 1, float("inf")
    for size in (size for size in PACKS if size <= asked.pack):
        if not leaves_room(torch.device(config.loop.device)):
            break
        # The first run warms up.
        seconds = [_pack_s(few, resources, engines, asked.model_copy(update={"pack": size})) for _ in range(2)][-1]
        if seconds is None or seconds > best_s:
            break
        best, best_s = size, seconds
    return best


def _pack_s(config: TrialConfig, resources: Resources, engines: Engines, asked: Execution) -> float | None:
    """Seconds a trial of such a pack; None if memory ran out, or its trials cannot be packed."""
    torch.set_num_threads(config.loop.threads)
    size = asked.pack
    rates = [config.optim.lr * (1 + number / 64) for number in range(size)]
    configs = [config.model_copy(update={"optim": config.optim.model_copy(update={"lr": rate})}) for rate in rates]
    engine = engines.of(asked)
    steps = [Trial(each, resources, engine=engine).steps() for each in configs]
    scheduler, ended = PackScheduler(size, engines.prefixes), 0
    try:
        fittings = [next(each) for each in steps]
        if fittings[0].engine.execution.engine != "packed":
            return None
        began = time.perf_counter()
        for fitting in fittings:
            scheduler.add(fitting)
        while ended < size:
            for done in scheduler.run():
                ended += 1
                if isinstance(done.outcome, BaseException):
                    raise done.outcome
    except UserError:
        raise
    # As in a trial: what a user's own code raises is written down as its trials' failure, once they train.
    except Exception:
        return None
    finally:
        for each in steps:
            each.close()
    return (time.perf_counter() - began) / size if scheduler.size == size else None

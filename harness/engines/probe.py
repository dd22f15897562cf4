"""Which engine trains a config fastest here, measured in a few seconds: the plain loop, the cut, packs of 2, 4, 8 ...

Each candidate trains the same few batches, with what it needs computed before. Seconds are of the processor where one
thread trains (other processes do not count then), of the clock otherwise and on a GPU. A faster engine is taken only if
it saves more than MARGIN, so that a probe's noise does not leave the plain loop for nothing. And measuring takes no
more than WORTH of the time that all trainings would take by the plain loop: a short search has fewer rounds, fewer
candidates, or none. What has to be loaded (corpus, backbone) comes on top: without it nothing is known.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from harness.adapters.widths import has_open_width
from harness.config.execution import PLAIN, EngineName, Execution
from harness.config.trial import TrialConfig
from harness.engines.cut.cut import find_cut, learning_in_layers, num_block_weights, why_no_cut
from harness.engines.packed.engine import PackedEngine
from harness.engines.packed.scheduler import PackScheduler
from harness.engines.registry import Engines
from harness.training.engine import PLAIN_ENGINE, Engine, Fitting
from harness.training.free_memory import memory_limits, own_peak
from harness.training.memory import is_out_of_memory
from harness.training.peft_arm import BEFORE_LAYERS, WHY_BEFORE
from harness.training.resources import Resources
from harness.training.trial import Trial
from harness.training.views import num_views_of

SIZES = (2, 4, 8, 16, 32)
MARGIN = 0.03
BATCH_S = 1.5  # of training by the plain loop, about
MAX_BATCHES = 12
ROUNDS = 2
FREE_SHARE = 0.2  # of the memory: a pack that leaves less of it is not taken
VALID = 4  # items scored: the engines are compared by their steps
WORTH = 0.1  # of what all the trainings would take by the plain loop


@dataclass(frozen=True)
class EngineProbe:
    """What was measured, for one config.

    Attributes:
        execution: the fastest.
        why: in words, for people.
        seconds: engine and pack -> seconds of one trial's batches.
        phi: share of the frozen forward pass before the cut; None without one.
        limit: predicted gain of the cut (harness/engines/cut/cut.py).
    """

    execution: Execution
    why: str
    seconds: dict[str, float] = field(default_factory=dict)
    phi: float | None = None
    limit: float | None = None


def describe_cut(config: TrialConfig, resources: Resources) -> tuple[float, float] | str:
    """phi and the predicted gain of a config's cut; or why there is none.

    Raises:
        UserError: the config does not fit its data, backbone or layers.
    """
    if reason := why_no_cut(config):
        return reason
    trial = Trial(config, resources)
    adapted = trial.adapted()
    cut = find_cut(config, adapted.model)
    if cut.layer == BEFORE_LAYERS:
        return WHY_BEFORE
    num_learning = adapted.num_trainable - learning_in_layers(adapted.model) * 2 / 3
    return cut.phi, cut.gain(num_block_weights(trial.base.encoder), num_learning)


def describe_speed(config: TrialConfig, resources: Resources, known: Execution | None) -> str:
    """Say, without measuring, what makes a config's trainings fast: its cut, and whether trials can be packed.

    Args:
        config: of a trial.
        resources: of a search.
        known: the engine, where it is chosen already.

    Raises:
        UserError: the config does not fit its data, backbone or layers.
    """
    chosen = "" if known is None else f"{known.text}; "
    if any(has_open_width(member.settings) for member in config.members):
        chosen = "; ".join([*Trial(config, resources).adapted().told, chosen])
    cut = describe_cut(config, resources)
    if isinstance(cut, str):
        return f"{chosen}each trial trains by itself and runs all layers in every step: {cut}"
    engine, reason = _fastest(config, resources, Engines())
    if engine == "plain":
        return f"{chosen}each trial trains by itself and runs all layers in every step: {reason}"
    together = {"packed": "its trials can train together", "cut": f"its trials cannot train together: {reason}"}
    num_views = num_views_of(config.loop.augment)
    views = "" if num_views is None else f" of each of the {num_views} augmented views"
    gain = (
        f"the layers that never change ({cut[0]:.2f} of the forward pass) can be run once for each item{views}, "
        f"which makes training at most {cut[1]:.2f} times as fast"
    )
    return f"{chosen}{gain}; {together[engine]}"


@dataclass(frozen=True)
class Ahead:
    """How much training is planned, for which an engine is chosen; None: unknown, or not bounded.

    Attributes:
        trials: trainings, of all workers together.
        seconds: of training, of all workers together.
    """

    trials: int | None = None
    seconds: float | None = None

    def wall_s(self, config: TrialConfig, num_items: int, batch_s: float, num_jobs: int) -> float:
        """Seconds until all of it is done by the plain loop, in so many workers."""
        of_trial = batch_s * config.loop.epochs * math.ceil(num_items / config.loop.batch_size)
        in_trials = math.inf if self.trials is None else self.trials * of_trial
        return min(in_trials, math.inf if self.seconds is None else self.seconds) / num_jobs


def probe_engines(
    config: TrialConfig, resources: Resources, max_pack: int = SIZES[-1], num_jobs: int = 1, ahead: Ahead = Ahead()
) -> EngineProbe:
    """Measure a config.

    Args:
        config: of a trial that is about to be trained many times.
        resources: of a search.
        max_pack: no larger packs: more trials are never under way.
        num_jobs: workers that will train at once, each with a pack in its memory.
        ahead: the training that the engine is chosen for.

    Raises:
        UserError: the config does not fit its data, backbone or layers.
    """
    cut = describe_cut(config, resources)
    if isinstance(cut, str):
        return EngineProbe(PLAIN, cut)
    phi, limit = cut
    engines = Engines()
    engine, reason = _fastest(config, resources, engines)
    if engine == "plain":
        return EngineProbe(PLAIN, str(reason))
    candidates = [PLAIN, Execution(engine="cut")]
    if engine == "packed":
        candidates += [Execution(engine="packed", pack=size) for size in SIZES if size <= max_pack]
    num_items = len(Trial(config, resources).train_items())
    began = time.perf_counter()
    batch_s = _seconds_a_batch(config, num_items, resources)
    all_s = ahead.wall_s(config, num_items, batch_s, num_jobs)
    num_batches = max(2, min(MAX_BATCHES, int(BATCH_S / max(batch_s, 1e-4))))
    small = _few_batches(config, num_items, num_batches)
    run_s = batch_s * num_batches
    tried = [engines.of(each) for each in candidates]
    seconds, left_out = _measure_all(tried, small, resources, num_jobs, run_s, began + WORTH * all_s)
    execution, why = _choose(seconds, reason)
    return EngineProbe(execution, "; ".join(filter(None, (why, left_out))), seconds, phi, limit)


def _fastest(config: TrialConfig, resources: Resources, engines: Engines) -> tuple[EngineName, str | None]:
    """The fastest engine that can train a config, and why it is not the packed one (None where it is)."""
    trial = Trial(config, resources)
    asked = engines.of(Execution(engine="packed", pack=2))
    engine, reason = asked.choose(config, trial.domains, trial.adapted().model)
    return engine.execution.engine, reason


def _measure_all(
    candidates: Sequence[Engine],
    config: TrialConfig,
    resources: Resources,
    num_jobs: int,
    run_s: float,
    deadline: float,
) -> tuple[dict[str, float], str]:
    """Seconds of the candidates' batches, in their order, as far as memory and time allow; why not of all of them.

    Args:
        run_s: what a run of the first is going to take; then it is what one of the last took, or twice that for packs.
        deadline: of `time.perf_counter`. Where twice the time of all rounds is not left, there is one round.
    """
    seconds: dict[str, float] = {}
    for engine in candidates:
        execution = engine.execution
        is_pack = execution.engine == "packed"
        name = f"packed {execution.pack}" if is_pack else execution.engine
        left = f"packs of {execution.pack} or more" if is_pack else "other engines"
        num_warm = 1 if execution.pack <= 2 else 0  # a pack before this one has made the first calls
        began = time.perf_counter()
        if began + (num_warm + 1) * run_s > deadline:
            return seconds, f"{left} were not measured, since that would take more than {WORTH:.0%} of the training"
        num_rounds = ROUNDS if began + 2 * (num_warm + ROUNDS) * run_s <= deadline else 1
        found = _measure(config, resources, engine, num_jobs, num_warm, num_rounds)
        if found is None:  # a larger pack would not fit either
            return seconds, f"{left} do not fit into memory"
        seconds[name] = found
        # An estimate of the next candidate's run: the next pack has twice as many trials.
        run_s = (time.perf_counter() - began) / (num_warm + num_rounds) * (2 if is_pack else 1)
        if execution.pack > 2 and found > 1.3 * min(seconds.values()):
            break  # it only gets worse
    return seconds, ""


def _choose(seconds: dict[str, float], reason: str | None) -> tuple[Execution, str]:
    """Choose an engine, and say how fast each was; `reason` says why trials cannot be packed (None: they can)."""
    if "cut" not in seconds:
        return PLAIN, ""
    best, chosen = seconds["plain"], PLAIN
    for name, found in seconds.items():
        if found < best * (1 - MARGIN):
            best, chosen = found, _named(name)
    speeds = ", ".join(
        f"{name.replace('packed', 'packs of')}: {seconds['plain'] / found:.2f}"
        for name, found in seconds.items()
        if name != "plain"
    )
    why = f"measured speed, with the plain loop as 1: {speeds}"
    return chosen, f"{why}; its trials cannot train together: {reason}" if reason else why


def _named(name: str) -> Execution:
    """The execution whose seconds have this name."""
    engine, _, pack = name.partition(" ")
    return Execution.model_validate({"engine": engine, "pack": int(pack or 1)})


def _few_batches(config: TrialConfig, num_items: int, num_batches: int) -> TrialConfig:
    """The config with one epoch of so many batches, and next to no scoring."""
    loop, data = config.loop, config.data
    limit = min(num_items, num_batches * loop.batch_size)
    changed = loop.model_copy(update={"epochs": 1, "patience": None, "valid_limit": VALID})
    return config.model_copy(update={"loop": changed, "data": data.model_copy(update={"train_limit": limit})})


def _seconds_a_batch(config: TrialConfig, num_items: int, resources: Resources) -> float:
    """Seconds of a batch by the plain loop, the better of two runs (the first one warms up); 0 if memory ran out."""
    few = [_few_batches(config, num_items, 2)]
    return min((_run(few, resources, PLAIN_ENGINE) or 0.0) / 2 for _ in range(2))


def _leaves_room(device: torch.device, num_jobs: int) -> bool:
    """Whether enough memory is free with as many workers as there will be, each with what this process needed."""
    others = (num_jobs - 1) * own_peak(device)
    return all(limit.free - others > FREE_SHARE * limit.total for limit in memory_limits(device))


def _measure(
    config: TrialConfig, resources: Resources, engine: Engine, num_jobs: int, num_warm: int, num_rounds: int
) -> float | None:
    """Seconds of one of `engine.execution.pack` trials, the best of the rounds; None if memory ran out or short."""
    # The same seed, as in a search: the trials' batches have the same shapes.
    rates = [config.optim.lr * (1 + number / 64) for number in range(engine.execution.pack)]
    configs = [config.model_copy(update={"optim": config.optim.model_copy(update={"lr": rate})}) for rate in rates]
    rounds = []
    for _ in range(num_warm + num_rounds):
        seconds = _run(configs, resources, engine)
        if seconds is None or not _leaves_room(torch.device(config.loop.device), num_jobs):
            return None
        rounds.append(seconds)
    return min(rounds[num_warm:]) / len(configs)


def _run(configs: list[TrialConfig], resources: Resources, engine: Engine) -> float | None:
    """Seconds of all trainings together, without what comes before and after; None if memory ran out."""
    torch.set_num_threads(configs[0].loop.threads)
    steps = [Trial(config, resources, engine=engine).steps() for config in configs]
    try:
        seconds = _train([next(each) for each in steps], engine)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
    finally:
        for each in steps:
            each.close()
    return seconds


def _train(fittings: Sequence[Fitting], engine: Engine) -> float | None:
    """Seconds of the trainings; None if a pack had to be made smaller."""
    loop = fittings[0].plan.loop
    on_one_core = loop.threads == 1 and loop.device == "cpu"
    clock: Callable[[], float] = time.process_time if on_one_core else time.perf_counter
    began = clock()
    if not isinstance(engine, PackedEngine):
        for fitting in fittings:
            fitting.fit()
        return clock() - began
    scheduler = PackScheduler(engine.execution.pack, engine.prefixes)
    for fitting in fittings:
        scheduler.add(fitting)
    left = len(fittings)
    while left:
        for ended in scheduler.run():
            left -= 1
            if isinstance(ended.outcome, BaseException):
                raise ended.outcome
    return clock() - began if scheduler.size == engine.execution.pack else None

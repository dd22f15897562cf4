"""Trains a list of trials by one of our engines and keeps every epoch's entry, as a search's workers would see them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.engines.registry import Engines
from harness.training.resources import Resources
from harness.training.trial import Report, Trial

Entries = list[dict[str, Any]]


def train_list(
    configs: Sequence[TrialConfig],
    resources: Resources,
    engine: str,
    pack_size: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> list[Entries]:
    """Each trial's entries (`epoch`, `metrics`, `seconds`, the clock's `cpu_s` by then), in the configs' order.

    Args:
        engine: "plain", "cut", "packed", or "auto" (packs that grow); a trial that the engine cannot train, or with
            "auto" cannot pack, is an error here, not a fallback.
        pack_size: trials under way at once; with "auto" at most.
        clock: seconds; of the process's CPU time if nothing else is given.

    Raises:
        RuntimeError: a trial failed, or was trained by another engine.
    """
    execution = Execution.model_validate({"engine": engine, "pack": pack_size})
    engines = Engines()
    driver = engines.driver(pack_size, grows=engine == "auto")
    entries: list[Entries] = [[] for _ in configs]
    trials: dict[int, Trial] = {}
    waiting = list(enumerate(configs))
    num_ended = 0
    while num_ended < len(configs):
        while waiting and driver.room:
            number, config = waiting.pop(0)
            trials[number] = Trial(config, resources, None, _keeper(entries[number], clock), engines.of(execution))
            driver.start(number, trials[number].steps())
        for done in driver.run():
            if done.error is not None:
                raise RuntimeError(f"trial {done.name} failed") from done.error
            executed = trials.pop(done.name).executed
            if executed["engine"] != ("packed" if engine == "auto" else engine):
                raise RuntimeError(f"trial {done.name} was trained by {executed}, not by {engine}")
            num_ended += 1
    return entries


def _keeper(entries: Entries, clock: Callable[[], float]) -> Report:
    def keep(entry: dict[str, Any]) -> None:
        entries.append({**entry, "cpu_s": clock()})

    return keep

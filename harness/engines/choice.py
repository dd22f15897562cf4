"""Choose the engine that trains an arm, once: the one that is asked for, or `auto`.

The choice is stored, so that every later launch uses the same engine: for a searched arm with its sweep, for an
experiment in `RESULTS/NAME/execution.json`. Where nothing is stored, the plain loop has been used.

Nothing is measured beforehand: on a CPU `auto` packs what can be packed, one trial at first and more as long as that
pays (packed/growth.py), which changes no bit. On a GPU the size of a pack may change bits, so it is measured and fixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config.execution import MOST, PACKING, PLAIN, Execution, execution_of
from harness.config.trial import TrialConfig
from harness.disk import write_json
from harness.errors import UserError
from harness.records.files import read_json

AUTO = "auto"


class EngineChoice:
    """What a command asks for.

    Args:
        engine: one of harness.config.execution.ENGINE_NAMES.
        pack: trials to a pack, at most.
        capture: whether a GPU replays the steps of packs as graphs.

    Raises:
        UserError: an unknown engine, or options that it has no use for.
    """

    def __init__(self, engine: str = "plain", pack: int | None = None, capture: bool = False) -> None:
        self.engine, self.pack, self.capture = engine, pack, capture
        self._asked = execution_of(engine, pack, capture)

    def choose(self, config: TrialConfig, max_pack: int = MOST) -> Execution:
        """The engine for an arm that nothing has been trained of yet.

        Args:
            config: of one of its trials.
            max_pack: how many trials are ever under way at once.

        Raises:
            UserError: the config does not fit its data, backbone or layers, or its device no graphs.
        """
        if self.capture and config.loop.device == "cpu":
            raise UserError("--capture: loop.device is cpu, and there are CUDA graphs on a GPU alone; leave it out")
        if self.engine != AUTO:
            return self._asked
        if config.train == "none":
            return PLAIN
        asked = self._asked.model_copy(update={"pack": min(max_pack, self._asked.pack)})
        if config.loop.device == "cpu":
            return asked
        from harness.engines.measure import best_pack  # it loads torch
        from harness.training.resources import Resources

        return asked.model_copy(update={"pack": best_pack(config, Resources(sealed=True), asked)})

    def agree(self, known: Mapping[str, Any], what: str) -> Execution:
        """Return the stored engine, after a check that no other one is asked for; the size of packs may change.

        Args:
            known: the stored engine.
            what: the thing that was begun with it, for the error.

        Raises:
            UserError: another engine is asked for.
        """
        execution = Execution.model_validate(known)
        if self.engine not in (AUTO, execution.engine):
            raise UserError(
                f"--engine {self.engine}: {what} was begun with engine {execution.engine}, and all trials of an arm "
                f"use one engine; leave --engine out to go on with {execution.engine}, or give another --results folder"
            )
        if execution.engine in PACKING:
            pack = {} if self.pack is None else {"pack": self.pack}
            return execution.model_copy(update={**pack, "capture": self.capture})
        return execution


def experiment_executions(
    folder: Path, configs: Mapping[str, Sequence[TrialConfig]], choice: EngineChoice, has_records: bool
) -> dict[str, Execution]:
    """Read the engines of an experiment's arms from its folder; choose and write those that are missing.

    Args:
        folder: of the experiment's results.
        configs: an arm's trials, by arm.
        choice: what is asked for.
        has_records: whether something has been trained there already.

    Raises:
        UserError: the arms were begun with another engine, or a config does not fit.
    """
    path = folder / "execution.json"
    known: dict[str, Any] = read_json(path) if path.exists() else {}
    if not known and (has_records or choice.engine == "plain"):
        if choice.engine not in (AUTO, "plain"):
            return {arm: choice.agree(PLAIN.model_dump(mode="json"), f"{folder.name}") for arm in configs}
        return dict.fromkeys(configs, PLAIN)
    found = {}
    for arm, trials in configs.items():
        if arm in known:
            found[arm] = choice.agree(known[arm], f"arm {arm}")
        else:
            found[arm] = choice.choose(trials[0])
    content = {arm: execution.model_dump(mode="json") for arm, execution in found.items()}
    if {**known, **content} != known:
        write_json(path, {**known, **content})
    return found


def num_slots(executions: Mapping[str, Execution]) -> int:
    """How many trials a worker trains at once: the size of the largest pack."""
    return max((execution.pack for execution in executions.values()), default=1)

"""Choose the engine that trains an arm, once: the one that is asked for, or the fastest one that a probe measures.

The choice is stored, so that every later launch uses the same engine: for a searched arm as an attribute of its study,
for an experiment in `RESULTS/NAME/execution.json`. Where nothing is stored, the plain loop has been used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.execution import PLAIN, Execution, execution_of
from harness.config.trial import TrialConfig
from harness.disk import write_json
from harness.errors import UserError, first_line, no_exits
from harness.records.store import read_json

if TYPE_CHECKING:  # torch is loaded only when there is something to train
    from harness.training.resources import Resources

ATTRIBUTE = "execution"
AUTO = "auto"


@dataclass
class EngineChoice:
    """What a command asks for: an engine, or `auto`, which probes.

    Args:
        engine: `auto`, or one of harness.config.execution.ENGINE_NAMES.
        pack: trials to a pack; with `auto` the most that it tries.
        num_jobs: workers that will train at once: their packs must fit into memory together.

    Raises:
        UserError: an unknown engine, or a pack that it has no use for.
    """

    engine: str = "plain"
    pack: int | None = None
    num_jobs: int = 1

    def __post_init__(self) -> None:
        self.reasons: dict[str, str] = {}  # by arm: why its engine was chosen just now
        self._resources: Resources | None = None
        if self.engine != AUTO:
            execution_of(self.engine, self.pack)

    def choose(
        self,
        arm: str,
        config: TrialConfig,
        max_pack: int,
        *,
        num_trials: int | None = None,
        train_s: float | None = None,
    ) -> Execution:
        """The engine for an arm that nothing has been trained of yet.

        Args:
            config: probed where the choice is `auto`.
            max_pack: how many of its kind are ever under way at once.
            num_trials: trainings that the arm is going to have, where that is known.
            train_s: seconds of training that it may have, where they are bounded.

        Raises:
            UserError: the config does not fit its data, backbone or layers.
        """
        if self.engine != AUTO:
            return execution_of(self.engine, self.pack)
        if config.train == "none":
            return PLAIN
        from harness.engines.probe import Ahead, probe_engines
        from harness.training.resources import Resources

        self._resources = self._resources or Resources(sealed=True)
        most = min(max_pack, self.pack or max_pack)
        try:
            with no_exits():
                found = probe_engines(config, self._resources, most, self.num_jobs, Ahead(num_trials, train_s))
        except UserError:
            raise
        # As in a trial: whatever a user's own strategy raises is written down as its trials' failure, once they train.
        except Exception as error:
            self.reasons[arm] = f"the timed training failed: {first_line(error)}"
            return PLAIN
        self.reasons[arm] = found.why
        return found.execution

    def release(self) -> None:
        """Free the memory of the probes: the workers load what they need themselves."""
        self._resources = None

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
        if self.pack is not None and execution.engine == "packed":
            return execution.model_copy(update={"pack": self.pack})
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
            found[arm] = choice.choose(arm, trials[0], max_pack=16, num_trials=len(trials))
    choice.release()
    content = {arm: execution.model_dump(mode="json") for arm, execution in found.items()}
    if {**known, **content} != known:
        write_json(path, {**known, **content})
    return found


def num_slots(executions: Mapping[str, Execution]) -> int:
    """How many trials a worker trains at once: the size of the largest pack."""
    return max((execution.pack for execution in executions.values()), default=1)

"""What one worker does with one trial: lock it, skip it if it is finished, train it, turn failures into records."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.config.execution import PLAIN, Execution
from harness.config.trial import TrialConfig
from harness.errors import TrialError, UserError
from harness.records.schema import Summary
from harness.records.store import TrialFolder
from harness.tracking.tracker import NullTracker, Tracker, TrialRun
from harness.tracking.wandb_process import WandbProcess

if TYPE_CHECKING:  # torch is loaded in the worker, not by who starts it
    from harness.engines.packed.driver import PackDriver
    from harness.training.engine import Fitting
    from harness.training.loop import FitState

RETRIED_REASONS = ("oom", "killed", "error", "disk", "checkpoint")  # the others would fail again in the same way


@dataclass(frozen=True)
class TrialTask:
    """A trial to train, and where its record goes. `wandb` is the folder and mode of W&B, or None."""

    config: TrialConfig
    run: TrialRun
    folder: Path
    wandb: tuple[Path, str] | None = None
    retry_failed: bool = False
    execution: Execution = PLAIN

    @property
    def title(self) -> str:
        return self.run.title


@dataclass(frozen=True)
class TrialEvent:
    """News of a trial: an epoch's entry, a summary, or a failure that left no record.

    `busy` means that another process trains it.
    """

    kind: Literal["epoch", "done", "failed", "busy", "note"]
    task: TrialTask
    entry: dict[str, Any] | None = None
    summary: Summary | None = None
    message: str = ""
    user_error: bool = False
    reason: str | None = None  # of `failed`, where it is known: "killed"


def must_train(task: TrialTask, summary: Summary | None) -> bool:
    """Whether a trial with this summary (or none) has to be trained."""
    if summary is None:
        return True
    return summary.state == "failed" and (task.retry_failed or summary.reason in RETRIED_REASONS)


class Worker:
    """Trains trials one after another, sharing corpora and backbones between them."""

    def __init__(self) -> None:
        from harness.engines.registry import Engines  # torch is loaded in the worker, not by who starts it
        from harness.training.resources import Resources

        # Those of the search have no test data. The confirm phase reads it, with resources of its own.
        self.resources = {sealed: Resources(sealed) for sealed in (True, False)}
        self.engines = Engines()  # with one budget of memory for the process
        self._wandb = WandbProcess()

    def close(self) -> None:
        """Wait for what W&B has not finished yet."""
        self._wandb.close()

    def train(self, task: TrialTask, tell: Callable[[TrialEvent], bool | None], wait: bool = False) -> TrialEvent:
        """Train a trial, alone, or find it finished: see `steps`."""
        from harness.training.engine import drive

        return drive(self.steps(task, tell, wait))

    def steps(
        self, task: TrialTask, tell: Callable[[TrialEvent], bool | None], wait: bool = False
    ) -> Generator[Fitting, FitState, TrialEvent]:
        """Train a trial, or find it finished; a generator, as `Trial.steps`.

        Args:
            tell: called with each epoch's event; True prunes the trial.
            wait: wait for another process that holds the trial (otherwise the answer is `busy`).
        """
        folder = TrialFolder(task.folder)
        try:
            summary = folder.summary()
            if summary is not None and not must_train(task, summary):  # a published trial gets no folder to lock
                return TrialEvent("done", task, summary=summary)
            with folder.lock(wait) as held:
                if not held:
                    return TrialEvent("busy", task)
                summary = folder.summary()
                if summary is not None and not must_train(task, summary):
                    return TrialEvent("done", task, summary=summary)
                summary = yield from self._train(task, folder, tell)
                return TrialEvent("done", task, summary=summary)
        except UserError as error:
            return TrialEvent("failed", task, message=str(error), user_error=True)
        except (TrialError, OSError) as error:
            return TrialEvent("failed", task, message=str(error))

    def _train(
        self, task: TrialTask, folder: TrialFolder, tell: Callable[[TrialEvent], bool | None]
    ) -> Generator[Fitting, FitState, Summary]:
        from harness.training.run_trial import trial_steps

        tracker: Tracker = NullTracker()
        if task.wandb is not None:

            def complain(line: str) -> None:
                tell(TrialEvent("note", task, message=f"{task.title}: {line}"))

            tracker = self._wandb.tracker(*task.wandb, complain)
        run = replace(task.run, again=folder.has_started())
        folder.clear()
        return (
            yield from trial_steps(
                task.config,
                run,
                folder,
                self.resources[task.run.phase == "search"],
                tracker,
                lambda entry: tell(TrialEvent("epoch", task, entry=entry)),
                self.engines.of(task.execution),
            )
        )


class PackedWorker:
    """A worker with `num_slots` trials under way, those that can be packed together.

    Args:
        tell: called with each epoch's event; True prunes the trial.
    """

    def __init__(self, num_slots: int, tell: Callable[[TrialEvent], bool | None]) -> None:
        self.num_slots, self._tell = num_slots, tell
        self._worker = Worker()
        self._driver: PackDriver[TrialEvent] = self._worker.engines.driver(num_slots)
        self._started: TrialTask | None = None

    def __len__(self) -> int:
        """How many trials are under way."""
        return len(self._driver)

    def start(self, task: TrialTask) -> None:
        """Start a trial in a free slot; one that cannot be packed is trained here, to its end."""
        self._started = task
        self._driver.start(task, self._worker.steps(task, self._tell))

    def run(self) -> list[TrialEvent]:
        """A little of everything that is under way; the last event of each trial that has ended.

        Raises:
            Exception: whatever `tell` raised.
        """
        finished = self._driver.run()
        for line in self._driver.scheduler.take_notes():
            assert self._started is not None
            self._tell(TrialEvent("note", self._started, message=line))
        for done in finished:
            if done.error is not None:
                raise done.error
        return [done.result for done in finished if done.result is not None]

    def close(self) -> None:
        """Stop whatever is under way; wait for what W&B has not finished yet."""
        self._driver.close()
        self._worker.close()

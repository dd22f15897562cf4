"""What one worker does with one trial: lock it, skip it if it is finished, train it, turn failures into records."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import TrialError, UserError
from harness.launch.events import Busy, Done, Epoch, Failed, Note, TrialEvent
from harness.launch.stopping import Pausing
from harness.launch.task import TrialTask
from harness.records.failures import ASKED, TRIES, Failures
from harness.records.leases import LeaseLost
from harness.records.schema import Summary
from harness.records.starts import note_start
from harness.records.trial_folder import TrialFolder
from harness.watchdog import beat, rest, watch

if TYPE_CHECKING:  # torch is loaded in the worker, not by who starts it
    from harness.engines.packed.driver import PackDriver
    from harness.training.engine import Fitting
    from harness.training.fit_plan import FitState
    from harness.training.resources import Resources

AGAIN = ".again"  # beside records/ and search/: trainings of which only the weights are wanted


class Worker:
    """Trains trials one after another, sharing corpora and backbones between them.

    Args:
        stopping: asked at the end of each epoch; True leaves the trial there, which raises `Pausing`.
        loaded: what others in this process have loaded, by whether it is sealed, and what they may use later.
    """

    def __init__(
        self, stopping: Callable[[], bool] = lambda: False, loaded: dict[bool, Resources] | None = None
    ) -> None:
        self._stopping = stopping
        from harness.engines.registry import Engines  # torch is loaded in the worker, not by who starts it
        from harness.training.resources import Resources

        # Those of the search have no test data. The confirm phase reads it, with resources of its own.
        self.resources = {} if loaded is None else loaded
        for sealed in (True, False):
            self.resources.setdefault(sealed, Resources(sealed))
        self.engines = Engines()  # with one budget of memory for the process
        self._trained: set[Path] = set()  # the folders of what was trained here, also because others take from it

    def steps(
        self, task: TrialTask, tell: Callable[[TrialEvent], bool | None]
    ) -> Generator[Fitting, FitState, Done | Failed | Busy]:
        """Train a trial, or find it finished or held by another process; a generator, as `Trial.steps`.

        What it takes weights from is trained first, here, where nobody has done so; where somebody else is at it, the
        trial is busy like one that is trained elsewhere itself.

        Args:
            tell: called with each `Epoch`; True prunes the trial. A `Note` tells of what is trained first.
        """
        folder = TrialFolder(task.folder)
        try:
            summary = folder.summary()
            if summary is not None and not (task.must_train(summary) or task.lacks_weights(summary)):
                folder.check_whole()
                return self._found(task, summary)  # a published trial gets no folder to lock
            for need in task.needs:
                ended = yield from self._need(task, need, tell)
                if ended is not None:
                    return ended
            with folder.lock(wait=False) as held:
                if not held:
                    return Busy(task)
                summary = folder.summary()
                if summary is None or task.must_train(summary):
                    summary = yield from self._try(task, folder, tell, summary)
                    self._trained.add(task.folder)
                elif task.lacks_weights(summary):
                    yield from self._train_weights(task, folder)
                    self._trained.add(task.folder)
                return self._found(task, summary)
        except LeaseLost:  # this process was silent for too long, and another one trains the trial now
            return Busy(task)
        except UserError as error:
            return Failed(task, str(error), user_error=True)
        except (TrialError, OSError) as error:
            return Failed(task, str(error))

    def _found(self, task: TrialTask, summary: Summary) -> Done:
        return Done(task, summary, by_another=task.folder not in self._trained)

    def _need(
        self, task: TrialTask, need: TrialTask, tell: Callable[[TrialEvent], bool | None]
    ) -> Generator[Fitting, FitState, Failed | Busy | None]:
        """See to a trial that another one takes weights from; what becomes of that one, where it cannot go on yet.

        Where the training of the first failed, the other finds its record, and fails of it with a record of its own.
        """
        summary = TrialFolder(need.folder).summary()
        if summary is not None and not (need.must_train(summary) or need.lacks_weights(summary)):
            return None
        tell(Note(task, f"{task.title} takes weights from {need.title}, which is trained first"))
        ended = yield from self.steps(need, lambda event: None)  # its epochs are not those of the other
        if isinstance(ended, Failed):
            return Failed(task, f"it takes weights from {need.title}: {ended.message}", ended.user_error)
        return Busy(task) if isinstance(ended, Busy) else None

    def _try(
        self,
        task: TrialTask,
        folder: TrialFolder,
        tell: Callable[[TrialEvent], bool | None],
        before: Summary | None,
    ) -> Generator[Fitting, FitState, Summary]:
        """Train a trial; again where it fails of what may not come back, and never again when its tries are used up.

        Args:
            before: the summary of its last failure, if it has one.
        """
        failures = Failures(folder.path)
        if before is not None and task.retry_failed:
            failures.note(ASKED, before.epochs_run, "trained again, as asked for")
        elif before is None and folder.num_deaths:
            failures.note("killed", len(folder.read_log()), "its process died")
            if not failures.may_try("killed"):
                return folder.park(f"its process died {TRIES['killed']} times before this epoch could end")
        while True:
            summary = yield from self._train(task, folder, tell)
            if summary.state != "failed":
                return summary
            reason = summary.reason or "error"
            failures.note(reason, summary.epochs_run, summary.message or "")
            if not failures.may_try(reason):
                return summary
            if reason == "damaged":
                folder.checkpoint.unlink(missing_ok=True)
            tell(Note(task, f"{task.title} failed ({reason}: {summary.message}) and is tried again"))

    def _train_weights(self, task: TrialTask, folder: TrialFolder) -> Generator[Fitting, FitState, None]:
        """Train a trial once more for the weights that its record has lost; the record stays as it is.

        Raises:
            TrialError: the training gives other weights than the record's (reason `dependency`).
        """
        record, again = folder.record(), TrialFolder(task.folder.parents[1] / AGAIN / task.folder.name)
        assert record is not None
        known = {} if record.provenance is None else record.provenance.files
        yield from self._train(replace(task, folder=again.path), again, lambda event: None, task.folder.parent)
        found = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in again.path.glob("*.safetensors")}
        if not found or any(known.get(path.name) != digest for path, digest in found.items()):
            raise TrialError(
                "dependency",
                f"{task.title}: its weights are not in {folder.path}, and training it again gives others than its "
                f"record tells of (another machine or version?); delete the record {folder.place} to begin anew",
            )
        folder.path.mkdir(parents=True, exist_ok=True)
        for path in (*found, again.path / "adapter.json"):
            if path.exists():
                os.replace(path, folder.path / path.name)
        shutil.rmtree(again.path)

    def _train(
        self,
        task: TrialTask,
        folder: TrialFolder,
        tell: Callable[[TrialEvent], bool | None],
        records: Path | None = None,
    ) -> Generator[Fitting, FitState, Summary]:
        from harness.training.run_trial import trial_steps

        self._check_made_with(task)

        def report(entry: dict[str, Any]) -> bool | None:
            answer = tell(Epoch(task, entry)) and not task.gives  # others wait for its weights, pruned or not
            if not answer and self._stopping():
                raise Pausing
            return answer

        folder.clear()
        if records is None:
            note_start(task.folder, task.run)
        return (
            yield from trial_steps(
                task.config,
                task.run,
                folder,
                self.resources[task.run.is_sealed],
                report,
                self.engines.of(task.execution),
                records,
                task.gives,
            )
        )

    def _check_made_with(self, task: TrialTask) -> None:
        """Refuse to train with another backbone or corpus than whoever sent the task has.

        Raises:
            UserError: one of them is another one here, or missing.
        """
        if task.made_with is None:
            return
        made_with = self.resources[task.run.is_sealed].domains(task.config).made_with
        if differs := made_with.difference(task.made_with):
            raise UserError(
                f"{task.title}: {platform.node()} has another {differs.what} than the machine that sent the trial "
                f"({differs.here[:12]}, there {differs.there[:12]}); copy its files there"
            )


class PackedWorker:
    """A worker with up to `num_slots` trials under way, those that can be packed together.

    Args:
        tell: called with each `Epoch`, whose answer True prunes the trial, and each `Note`.
        stopping, loaded: as for `Worker`; a trial that is left is under way no more, and is not told of.
    """

    def __init__(
        self,
        num_slots: int,
        tell: Callable[[TrialEvent], bool | None],
        stopping: Callable[[], bool] = lambda: False,
        loaded: dict[bool, Resources] | None = None,
    ) -> None:
        self.num_slots, self._tell = num_slots, tell
        self._worker = Worker(stopping, loaded)
        self._driver: PackDriver[Done | Failed | Busy] = self._worker.engines.driver(num_slots, grows=True)
        self._started: TrialTask | None = None
        self._is_alone = False  # what is under way may kill this process
        self._refused: list[Done | Failed | Busy] = []

    def __len__(self) -> int:
        """How many trials are under way."""
        return len(self._driver)

    @property
    def wanted(self) -> int:
        """How many trials it has a use for at once, those under way included: more, while packs are found to pay."""
        return len(self) + self._driver.room

    def start(self, task: TrialTask) -> None:
        """Start a trial in a free slot; one that cannot be packed is trained here, to its end.

        One that may have killed its process is alone in this one: until that can be, or is over, others are `Busy`.
        """
        must_be_alone = Failures(task.folder).must_be_alone()
        if len(self) and (must_be_alone or self._is_alone):
            self._refused.append(Busy(task))
            return
        self._is_alone = must_be_alone
        self._started = task
        watch()
        self._driver.start(task, self._worker.steps(task, self._tell))
        self._rest()

    def run(self) -> list[Done | Failed | Busy]:
        """Take the next step of some trials under way; returns the last event of each trial that has ended.

        Raises:
            Exception: whatever `tell` raised.
        """
        beat()
        finished = self._driver.run()
        self._rest()
        for line in self._driver.scheduler.take_notes():
            assert self._started is not None
            self._tell(Note(self._started, line))
        for done in finished:
            if done.error is not None and not isinstance(done.error, Pausing):
                raise done.error
        refused, self._refused = self._refused, []
        return [*refused, *(done.result for done in finished if done.result is not None)]

    def close(self) -> None:
        """Stop whatever is under way."""
        self._driver.close()
        rest()

    def _rest(self) -> None:
        if not len(self):  # nobody is watched who has nothing to do
            rest()

"""The search phase: all arms' trials over one launcher.

Who trains a trial, and when, is decided here; what is trained, in `mirror.py`. Several processes may work on one search
at once: the storage hands out the numbers, and the lock of a trial's record keeps one training from being done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from optuna.trial import FrozenTrial

from harness.errors import TrialError, UserError
from harness.launch.events import Done, Epoch, Failed, Note, TrialEvent
from harness.launch.launcher import Launcher
from harness.launch.task import RETRIED_REASONS
from harness.records.store import TrialFolder
from harness.search.arm_search import ArmSearch, Flight
from harness.search.declaration import Sweep

MAX_RETRIES = 2  # of a trial whose failure may not come back (out of memory, killed, an error of the machine)
POLL_S = 0.5  # how often the storage is read while another process holds what this one waits for


class Search:
    """All arms' searches, over one launcher.

    Args:
        hear: told every event, for progress.
    """

    def __init__(
        self, sweep: Sweep, arms: Sequence[ArmSearch], results: Path, hear: Callable[[TrialEvent], object]
    ) -> None:
        self.sweep, self.arms, self.results, self.hear = sweep, arms, results, hear
        self.in_flight: dict[str, tuple[ArmSearch, Flight]] = {}
        self.held: list[tuple[ArmSearch, FrozenTrial]] = []  # claimed; other processes' trials must end first

    def run(self, launcher: Launcher) -> None:
        """Search until every arm's budget is used.

        Raises:
            UserError: a trial's settings turned out not to fit.
            TrialError: a record could not be written.
        """
        while True:
            for arm in self.arms:
                arm.refresh()
            while len(self.in_flight) < launcher.capacity and self._submit_next(launcher):
                pass
            if not self.in_flight and all(arm.finished() for arm in self.arms):
                return
            launcher.pump(POLL_S)

    def _submit_next(self, launcher: Launcher) -> bool:
        """Give the launcher one more training; False when there is none to give now.

        First what has been claimed already, then what a dead process has left, and last a new trial.
        """
        for held in [*self.held]:
            if held[0].may_draw(held[1].number):
                self.held.remove(held)
                held[0].start(held[1])
        for arm in self.arms:
            for flight in [*arm.flights.values()]:
                if not flight.submitted and flight.trial_id not in self.in_flight:
                    self._submit(launcher, arm, flight)
                    return True
            for orphan in arm.orphans():
                if orphan.number not in arm.flights and arm.store.take_over(orphan):
                    self.held.append((arm, orphan))
                    return True
            number = arm.next_number()
            if number is None:
                continue  # the next arm need not wait for this one's last trials
            if not arm.may_draw(number):
                continue
            claimed = arm.claim()
            if claimed is not None:
                self.held.append((arm, claimed))
                return True
        return False

    def _submit(self, launcher: Launcher, arm: ArmSearch, flight: Flight) -> None:
        task = arm.task(flight, self.results)
        flight.submitted = True
        self.in_flight[task.run.trial_id] = (arm, flight)
        launcher.submit(task)

    def tell(self, event: TrialEvent) -> bool | None:
        """Take an event of the launcher; returning True prunes the trial."""
        if isinstance(event, Note):  # its trial may have ended
            self.hear(event)
            return None
        arm, flight = self.in_flight[event.task.run.trial_id]
        if isinstance(event, Epoch):
            self.hear(event)
            return arm.report(flight, event.entry)
        if isinstance(event, Done):
            self._take_off(event, flight)
            if event.summary.state == "failed" and self._retry(arm, flight, str(event.summary.reason)):
                return None
            arm.land(flight, event.summary, TrialFolder(event.task.folder))
        elif isinstance(event, Failed):
            self._take_off(event, flight)
            if event.user_error:
                raise UserError(event.message)
            if not event.killed:  # no record could be written: a full disk is no property of the trial
                raise TrialError("error", event.message)
            if not self._retry(arm, flight, "killed"):
                arm.fail(flight, "killed", event.message)
        self.hear(event)
        return None

    def _take_off(self, event: TrialEvent, flight: Flight) -> None:
        del self.in_flight[event.task.run.trial_id]
        flight.submitted = False

    def _retry(self, arm: ArmSearch, flight: Flight, reason: str) -> bool:
        """Whether a failed training is tried again: by its cause, and not for ever."""
        if reason not in RETRIED_REASONS or len(flight.failures) >= MAX_RETRIES:
            return False
        flight.failures.append(reason)
        arm.store.set_user_attrs(flight.stored_id, {"failures": flight.failures})
        return True

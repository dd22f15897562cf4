"""The search phase: all arms' trials over one launcher.

Who trains a trial, and when, is decided here; what is trained, in `mirror.py`. Several processes may work on one search
at once, on several machines: each of them knows from the records which trials are open, and the lease of a trial's
record keeps a training from being done twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import TrialError, UserError
from harness.launch.events import Done, Epoch, Failed, Note, TrialEvent
from harness.launch.launcher import Launcher
from harness.records.leases import holder
from harness.records.trial_folder import TrialFolder
from harness.search.arm_search import ArmSearch, Flight
from harness.search.declaration import Sweep

POLL_S = (0.02, 0.5)  # how often the records are looked at while others train what this process waits for


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

    def run(self, launcher: Launcher) -> None:
        """Search until every arm's budget is used.

        Raises:
            UserError: a trial's settings turned out not to fit.
            TrialError: a record could not be written.
        """
        pause_s = POLL_S[0]
        while True:
            for arm in self.arms:
                arm.refresh()
            while len(self.in_flight) < launcher.capacity and self._submit_next(launcher):
                pass
            if not self.in_flight and all(arm.finished() for arm in self.arms):
                return
            # Who waits for others looks more and more rarely: short trials lose little, long ones cost no reading.
            pause_s = POLL_S[0] if self.in_flight else min(2 * pause_s, POLL_S[1])
            launcher.pump(POLL_S[1] if self.in_flight else pause_s)

    def _submit_next(self, launcher: Launcher) -> bool:
        """Give the launcher one more training; False when there is none to give now.

        Those that another process is training are left out for now. The launcher would find them busy and put them
        aside; so a wrong guess of who lives, by a clock that is off, costs nothing.
        """
        now = time.time()
        for arm in self.arms:
            for flight in arm.due():
                held = None if flight.trial_id in self.in_flight else holder(flight.task.folder)
                if flight.trial_id not in self.in_flight and (held is None or held.is_gone(now)):
                    flight.submitted = True
                    self.in_flight[flight.trial_id] = (arm, flight)
                    launcher.submit(flight.task)
                    return True
        return False

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
            if flight.number not in arm.ended:  # else another process has seen its end already
                arm.land(flight, event.summary, TrialFolder(event.task.folder))
        elif isinstance(event, Failed):
            self._take_off(event, flight)
            if event.user_error:
                raise UserError(event.message)
            raise TrialError("error", event.message)  # it has no record: a full disk is no property of the trial
        self.hear(event)
        return None

    def _take_off(self, event: TrialEvent, flight: Flight) -> None:
        del self.in_flight[event.task.run.trial_id]
        flight.submitted = False

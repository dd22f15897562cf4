"""The launcher that trains in several local processes, which survive each other's death."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal

from harness.backbones.encoder_settings import PretrainedEncoderSettings, SpeechModelSettings
from harness.backbones.recipe import load_recipe
from harness.config.base import Settings
from harness.errors import UserError
from harness.launch.events import Busy, Epoch, Failed, Note
from harness.launch.launcher import Launcher, TaskQueue, Tell, seconds_until
from harness.launch.remote_worker import Place, RemoteWorker, load_ahead
from harness.launch.task import TrialTask
from harness.records.failures import TRIES


class ProcessOptions(Settings):
    """Several processes on this machine, `--jobs` of them."""

    pin: Literal["cores", "gpus", "none"] | None = None
    """What each worker has for itself: its share of the cores that this process may use, one of the GPUs (by turns,
    where there are fewer of them than workers), or none. When left out, `gpus` where the trials' device is `cuda` and
    there is more than one GPU; otherwise none, since other programs may want the same cores."""


class ProcessLauncher(Launcher):
    """Several worker processes, each with one trial at a time, or up to `num_slots` where packs pay.

    A worker that dies (killed, out of memory) costs its trials' current epochs only: a new worker takes the dead one's
    place, and the trials go on from their checkpoints. A trial whose epoch no process survives is parked by its record
    (harness/records/failures.py); one whose processes die before they can begin it is told as failed.

    Processes are started as tasks come, up to `num_workers`.
    """

    options_type = ProcessOptions

    def __init__(self, tell: Tell, num_workers: int = 1, num_slots: int = 1, options: Any = None) -> None:
        super().__init__(tell, num_workers, num_slots, options)
        self._workers: list[RemoteWorker] = []
        self._deaths: Counter[Path] = Counter()  # by record: of processes that trained it, since its last epoch
        self._device = "cpu"  # of the trial for which a worker is started

    @classmethod
    def check(cls, options: Any, num_workers: int) -> None:
        if options.pin == "cores" and not hasattr(os, "sched_setaffinity"):
            raise UserError("launcher processes: pin: this system pins no process to cores; choices: gpus, none")
        if options.pin == "gpus" and not visible_gpus():
            raise UserError("launcher processes: pin: torch finds no GPU on this machine; choices: cores, none")

    @classmethod
    def get_ready(cls, recipes: Iterable[str]) -> None:
        encoders = [load_recipe(recipe).encoder for recipe in recipes]
        load_ahead(any(isinstance(encoder, PretrainedEncoderSettings | SpeechModelSettings) for encoder in encoders))

    def start_worker(self) -> RemoteWorker:
        """Start a worker process, in a place that no other one has."""
        taken = {worker.place.number for worker in self._workers}
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        place = place_of(number, self.num_workers, self.options.pin, self._device)
        return RemoteWorker(self.num_slots, place, forks=self._device == "cpu")

    @property
    def num_running(self) -> int:
        return sum(len(worker.tasks) for worker in self._workers)

    def submit(self, task: TrialTask) -> None:
        super().submit(task)
        self._assign()  # it starts at once if a worker has room, not at the next pump

    def pump(self, timeout_s: float | None = None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._assign()
            training = [worker for worker in self._workers if worker.tasks]
            # A trial that is held elsewhere is tried when a worker has room; until then only events are waited for.
            has_room = len(training) < self.num_workers or self._roomiest() is not None
            pause_s = self.queue.wait_s(deadline) if has_room else seconds_until(deadline)
            if not training:
                if pause_s is None:
                    return  # nothing in flight, and no time given
                time.sleep(pause_s)
            else:
                ready = wait([worker.connection for worker in training], pause_s)
                for worker in training:
                    if worker.connection in ready:
                        self._hear(worker)
                if ready:
                    self._assign()
                    return
            if deadline is not None and time.monotonic() >= deadline:
                return

    def _hear(self, worker: RemoteWorker) -> None:
        """Take one message of a worker, or its death."""
        events = worker.receive()
        if any(isinstance(event, Failed) and event.killed for event in events):
            self._workers.remove(worker)
            worker.stop()
        for event in events:
            if isinstance(event, Busy):
                self.queue.hold(event.task)
                continue
            answer = self.tell(self._mourn(event) if isinstance(event, Failed) and event.killed else event)
            if isinstance(event, Epoch):
                self._deaths.pop(event.task.folder, None)
                worker.answer(bool(answer))

    def _mourn(self, event: Failed) -> Failed | Note:
        """Have the trial of a process that died go on in another one; what to tell of it."""
        task = event.task
        self._deaths[task.folder] += 1
        if self._deaths[task.folder] <= TRIES["killed"]:
            self.queue.pending.append(task)
            return Note(task, f"{task.title}: {event.message}; it goes on from its last epoch")
        times = f"{event.message}, for the {self._deaths[task.folder]}th time before it could begin"
        return replace(event, message=f"{times}; run the same command again to go on from its last epoch")

    def _assign(self) -> None:
        """Give tasks to the workers with the fewest, starting workers where there may be more."""
        while True:
            for dead in [w for w in self._workers if not w.tasks and not w.process.is_alive()]:
                self._workers.remove(dead)  # killed while it had nothing to do
                dead.stop()
            chosen = self._roomiest()
            may_start = len(self._workers) < self.num_workers and (chosen is None or bool(chosen.tasks))
            if not may_start and chosen is None:
                return
            task = self.queue.pop()
            if task is None:
                return
            if may_start or chosen is None:
                self._device = task.config.loop.device
                chosen = self.start_worker()
                self._workers.append(chosen)
            chosen.send(task)

    def _roomiest(self) -> RemoteWorker | None:
        """The worker with the fewest trials that has a use for one more; packs are filled evenly."""
        share = max(1, -(-self.num_in_flight // self.num_workers))
        found = [worker for worker in self._workers if len(worker.tasks) < min(share, worker.wanted)]
        return min(found, key=lambda worker: len(worker.tasks), default=None)

    def close(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers = []
        self.queue = TaskQueue()


def place_of(number: int, num_workers: int, pin: str | None, device: str) -> Place:
    """What a worker has for itself; see `ProcessOptions.pin`."""
    if pin == "cores":
        cores = sorted(os.sched_getaffinity(0))
        share = max(1, len(cores) // num_workers)
        return Place(number, cores=tuple(cores[(number * share + i) % len(cores)] for i in range(share)))
    if pin == "gpus" or (pin is None and device == "cuda"):
        gpus = visible_gpus()
        if pin == "gpus" or len(gpus) > 1:
            return Place(number, gpu=gpus[number % len(gpus)])
    return Place(number)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch  # whoever trains on a GPU has loaded it to check that it is there

    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return named[:count] if named else [str(number) for number in range(count)]

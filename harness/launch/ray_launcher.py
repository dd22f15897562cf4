"""The launcher that trains in actors of a Ray cluster: one that runs already, or one of this machine's own.

Ray places workers and tells when one is lost. What becomes of a trial is decided here and in its record, never by Ray:
a NaN, too little memory or an exception are ends of the trial, and a trial whose worker is lost goes on from its last
checkpoint elsewhere, a few times. So Ray restarts no actor, which would hide how often a trial has killed its worker.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from harness.backbones.recipe import backbone_cache, backbone_directory, load_recipe
from harness.config.base import Settings, content_hash
from harness.errors import TrialError, UserError
from harness.launch.carried import Carried, carried_records, folder_files, store
from harness.launch.events import Busy, Epoch, Failed, Note
from harness.launch.launcher import Launcher, TaskQueue, Tell, seconds_until
from harness.launch.ray_cluster import RayOptions, check_options, lacks, make_actor, resources_text, room_for
from harness.launch.ray_worker import RayWorker, versions_here
from harness.launch.same_folder import mark_of, not_seen
from harness.launch.task import TrialTask
from harness.records.failures import TRIES
from harness.records.made_with import MadeWith
from harness.records.starts import note_start
from harness.records.trial_folder import TrialFolder

MAX_LOSSES = TRIES["killed"]  # of workers, with one trial: then it is given up for this launch
MAX_STILLBORN = 3  # workers that die before they can say what they are, one after another
PATIENCE_S = 30.0  # a worker that has no place for so long is told of, and not counted on


class RayLauncher(Launcher):
    """Workers in actors of a Ray cluster, each with one trial at a time, or up to `num_slots` where packs pay.

    A task goes to a worker that has a place in the cluster, never to one that waits for it.
    """

    options_type: ClassVar[type[Settings]] = RayOptions

    def __init__(self, tell: Tell, num_workers: int = 1, num_slots: int = 1, options: Any = None) -> None:
        super().__init__(tell, num_workers, num_slots, options)
        room = room_for(self.options)
        self._lacking: str | None = None  # told with the first task
        if num_workers > room and not self.options.scales:
            self._lacking = f"the cluster has room for {room} of {num_workers} workers"
            self.num_workers = room
        self._workers: list[RayWorker] = []
        self._losses: Counter[Path] = Counter()
        self._prints: dict[tuple[str, ...], MadeWith] = {}
        self._num_stillborn = 0
        self._kept: dict[tuple[str, float], Any] = {}
        self._has_told_of_waiting = False
        self._folder = Path()  # that of the results; known with the first task

    @classmethod
    def needs(cls) -> str | None:
        return lacks()

    @classmethod
    def check(cls, options: Any, num_workers: int) -> None:
        check_options(options)

    @property
    def num_running(self) -> int:
        return sum(len(worker.tasks) for worker in self._workers)

    def submit(self, task: TrialTask) -> None:
        device = task.config.loop.device
        if device != "cpu" and not self.options.gpus:
            raise UserError(f"{task.title}: loop.device: {device}, but a worker takes no GPU; set launcher.gpus")
        super().submit(task)
        self._folder = task.folder.parents[1]
        self._start_workers()

    def pump(self, timeout_s: float | None = None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if self._assign():
                return  # a trial is held elsewhere
            if not self.num_in_flight and deadline is None:
                return
            # A trial that is held elsewhere is tried when a worker has room; until then only news are waited for.
            pause_s = self.queue.wait_s(deadline) if self._roomiest() else seconds_until(deadline)
            pause_s = PATIENCE_S if pause_s is None else min(pause_s, PATIENCE_S)
            if not self._workers:
                time.sleep(pause_s)
            elif any([self._hear(worker) for worker in self._with_news(pause_s)]):  # a list: all of them are heard
                return
            if deadline is not None and time.monotonic() >= deadline:
                return

    def _with_news(self, timeout_s: float) -> list[RayWorker]:
        """The workers that have something to tell, or have died; waits for the first."""
        import ray

        workers = {worker.news: worker for worker in self._workers}
        ray.wait([*workers], num_returns=1, timeout=timeout_s)
        ready, _ = ray.wait([*workers], num_returns=len(workers), timeout=0)
        return [workers[news] for news in ready]

    def _start_workers(self) -> None:
        """Ask for as many workers as there are tasks for, up to `num_workers`."""
        idle = sum(not worker.tasks for worker in self._workers)
        for _ in range(min(self.num_workers - len(self._workers), len(self.queue) - idle)):
            folder = self._folder.absolute()
            told = (str(folder), mark_of(folder)) if self.options.shared else None
            self._workers.append(RayWorker(make_actor(self.options, self.num_slots), told))

    def _roomiest(self) -> RayWorker | None:
        """The worker with a place in the cluster that a task should go to; None where all have enough."""
        placed = [worker for worker in self._workers if worker.joined]
        # Packs are filled evenly: a worker that is about to come gets its share.
        counted = sum(worker.joined is not None or worker.age_s < PATIENCE_S for worker in self._workers)
        share = max(1, -(-self.num_in_flight // max(1, counted)))
        found = [worker for worker in placed if len(worker.tasks) < min(share, worker.wanted)]
        return min(found, key=lambda worker: len(worker.tasks), default=None)

    def _assign(self) -> bool:
        """Give tasks to workers; returns whether one of them turned out to be held elsewhere."""
        self._start_workers()
        self._tell_of_waiting()
        held = False
        while (worker := self._roomiest()) is not None and (task := self.queue.pop()) is not None:
            if self._lacking is not None:
                note, self._lacking = Note(task, self._lacking), None
                self.tell(note)
            try:
                held = not self._send(worker, task) or held
            except (UserError, TrialError, OSError) as error:
                self.tell(Failed(task, str(error), user_error=isinstance(error, UserError)))
        return held

    def _tell_of_waiting(self) -> None:
        """Say once that no worker has a place in the cluster, and what they wait for."""
        if self._has_told_of_waiting or not self._workers or not self.queue.pending:
            return
        if all(worker.joined is None and worker.age_s >= PATIENCE_S for worker in self._workers):
            self._has_told_of_waiting = True
            what = f"waiting for a place in the cluster; a worker takes {resources_text(self.options.asked)}"
            self.tell(Note(self.queue.pending[0], what))

    def _send(self, worker: RayWorker, task: TrialTask) -> bool:
        """Give a task to a worker; returns False where another process holds it, and puts it aside."""
        with ExitStack() as claims:
            if not self.options.shared and not claim(task, claims):
                self.queue.hold(task)
                return False
            records = None if self.options.shared else carried_records(task)
            sent = self._with_prints(task)
            carried = Carried(sent, records, Path.cwd(), self.options.checkpoint_s, carried_backbone(task, self._kept))
            worker.send(carried, task, claims.pop_all())
        return True

    def _with_prints(self, task: TrialTask) -> TrialTask:
        """The task with the fingerprints of what is here.

        Raises:
            UserError: the corpus or the backbone is not here, or they do not fit.
        """
        data = task.config.data
        key = (task.config.backbone.recipe, data.corpus, content_hash(data.options))
        if key not in self._prints:
            from harness.training.resources import Resources

            self._prints[key] = Resources(sealed=True).domains(task.config).made_with
        needs = tuple(self._with_prints(need) for need in task.needs)
        return replace(task, made_with=self._prints[key], needs=needs)

    def _hear(self, worker: RayWorker) -> bool:
        """Take a worker's news; returns whether there were events."""
        if worker.joined is None:
            self._welcome(worker)
            return False
        news = worker.receive()
        if worker.is_lost:
            self._workers.remove(worker)
        for delivery in news:
            store(delivery)
            event = delivery.event
            if isinstance(event, (Epoch, Note)):
                answer = self.tell(event)
                if isinstance(event, Epoch):
                    worker.answer(bool(answer))
                continue
            worker.drop(event.task)
            if isinstance(event, Busy):
                self.queue.hold(event.task)
            elif isinstance(event, Failed) and event.killed:
                self._lose(event)
            else:
                self.tell(event)
        return bool(news)

    def _welcome(self, worker: RayWorker) -> None:
        """Take a worker that has got a place in the cluster.

        Raises:
            UserError: it is not fit to train trials of this launch.
            TrialError: workers die as soon as they start.
        """
        import ray

        try:
            joined = worker.join()
        except ray.exceptions.RayError as error:
            self._workers.remove(worker)
            self._num_stillborn += 1
            if self._num_stillborn >= MAX_STILLBORN:
                raise TrialError("killed", f"launcher ray: no worker can start: {last_line(error)}") from error
            return
        self._num_stillborn = 0
        here, there = versions_here(), joined.versions
        differing = [
            f"{name} {there.get(name)} (here {here.get(name)})" for name in here if here[name] != there.get(name)
        ]
        if differing:
            raise UserError(f"launcher ray: {joined.host} has {', '.join(differing)}; install the same versions there")
        if not joined.sees_folder:
            text = not_seen(joined.host, self._folder.absolute(), ", or set launcher.shared: false")
            raise UserError(f"launcher ray: {text}")

    def _lose(self, event: Failed) -> None:
        """Have a trial whose worker is lost trained elsewhere, a few times."""
        task = event.task
        self._losses[task.folder] += 1
        if self._losses[task.folder] < MAX_LOSSES:
            self.queue.pending.appendleft(task)
            self.tell(Note(task, f"{task.title}: {event.message}; it goes on from its last checkpoint with another"))
        else:
            times = (
                f"{event.message}, as {MAX_LOSSES - 1} before; run the same command again to go on from its last epoch"
            )
            self.tell(replace(event, message=times))

    def close(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers = []
        self.queue = TaskQueue()


def claim(task: TrialTask, claims: ExitStack) -> bool:
    """Hold a trial, and what is trained for it, for a worker that does not see their folders; False where others do."""
    for one in (*task.needs, task):
        folder = TrialFolder(one.folder)
        if one is not task and not one.must_train(folder.summary()):
            continue
        if not claims.enter_context(folder.lock(wait=False)):
            return False
        if one.must_train(folder.summary()):
            folder.clear()
            note_start(one.folder, one.run)
    return True


def carried_backbone(task: TrialTask, kept: dict[tuple[str, float], Any]) -> tuple[str, Callable[[], Any]] | None:
    """The task's backbone, for nodes whose cache does not have it; None where it comes with an installation.

    Args:
        kept: a launcher's own: what Ray keeps of it knows only the connection that it was given to.
    """
    import ray

    directory = backbone_directory(load_recipe(task.config.backbone.recipe))
    if directory.parent != backbone_cache() / "backbones" or not directory.is_dir():
        return None
    key = str(directory), directory.stat().st_mtime
    if key not in kept:
        kept[key] = ray.put(folder_files(directory))
    return directory.name, partial(ray.get, kept[key])


def last_line(error: BaseException) -> str:
    """Ray puts what was wrong at the end of its message."""
    return str(error).strip().splitlines()[-1].strip()

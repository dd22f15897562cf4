"""Choose which slots take their next step together, and run that step (a launch).

All slots of a worker, of whatever kinds of pack, are in one scheduler. Each launch takes the largest group of slots
whose next batches have one shape; slots that are to be scored, or have waited for long, come first:

    slot 0  train 8 x 12   \
    slot 1  train 8 x 12    > the launch          slot 3  train 8 x 16   waits, PATIENCE launches at most
    slot 2  train 8 x 12   /

The choice changes no slot's numbers. How many slots a pack should have is a number that is given, or one that grows
with what its launches take (growth.py).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from harness.engines.cut.prefixes import Prefixes
from harness.engines.packed import steps
from harness.engines.packed.captured import CapturedSteps, captured_on
from harness.engines.packed.growth import Growth
from harness.engines.packed.items import WIDE_STEPS, ItemSet, ScoreSet, make_item_set, make_score_set, width_of
from harness.engines.packed.launch import PackKind
from harness.engines.packed.pack import Pack
from harness.engines.packed.packable import pack_kind
from harness.engines.packed.slot import Slot, TrainStep
from harness.errors import as_failure, no_exits
from harness.training.engine import Fitting
from harness.training.fit_plan import FitState
from harness.training.free_memory import leaves_room
from harness.training.memory import is_out_of_memory
from harness.training.views import num_views_of

PATIENCE = 24  # launches that a slot waits for others of its shape
SCORE_STEPS = 8192  # padded steps of all slots in a launch that scores


@dataclass(frozen=True)
class Ended:
    """A training that is over: its state, or what stopped it."""

    fitting: Fitting
    outcome: FitState | BaseException


class PackScheduler:
    """Trains what it is given, `size` slots to a launch at most.

    Args:
        size: see above.
        prefixes: those of the process.
        grows: whether packs begin with one slot and grow up to `size` by what their launches take; only on a CPU,
            since elsewhere the size of a pack may change bits.
        make_captured: what runs a pack's steps from static buffers, or None to run them directly; told whether that
            was asked for.

    Attributes:
        size: lowered by half when memory runs out.
        notes: what whoever runs it should tell, once each.
    """

    def __init__(
        self,
        size: int,
        prefixes: Prefixes,
        grows: bool = False,
        make_captured: Callable[[Pack, bool], CapturedSteps | None] = captured_on,
    ) -> None:
        self.size, self.prefixes, self.grows = size, prefixes, grows
        self.make_captured = make_captured
        self.notes: list[str] = []
        self.slots: list[tuple[Pack, Slot]] = []
        self._packs: dict[PackKind, Pack] = {}
        self._last: Pack | None = None  # that a slot was added to
        self._score_sets: dict[Any, ScoreSet] = {}
        self._item_sets: dict[Any, ItemSet] = {}
        self._ended: list[Ended] = []

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def room(self) -> int:
        """How many more trainings it has a use for now."""
        left = self.size - len(self.slots)
        if self.grows and self._last is None:
            return min(1, left)
        counts = Counter(pack for pack, _ in self.slots) or {self._last: 0}
        # Of which kind the next ones are is not known: none is taken that might have to wait for those that are here.
        free = [pack.growth.size - count for pack, count in counts.items() if pack is not None and pack.growth]
        return max(0, min([left, *free]))

    def add(self, fitting: Fitting) -> None:
        """Give a packable training a slot, from its checkpoint if it has one."""
        try:
            pack, items = self._pack(fitting), self._item_set(fitting)
            width = width_of(fitting, items, pack.model.can_unpad)
            slot = Slot(fitting, items, self._score_set(fitting, width.unpads_scoring), width)
            if slot.fit.is_over:
                self._end(slot)
                return
            self._last = pack
            pack.take_row(slot)
            slot.begin_epoch()
        except BaseException as error:  # also an interrupt that its reader raised: the driver passes it on
            self._ended.append(Ended(fitting, as_failure(error)))
            return
        self.slots.append((pack, slot))

    def run(self) -> list[Ended]:
        """One launch, if a slot has anything to run; the trainings that have ended since the last call."""
        if self.slots and not self._ended:
            self._launch(*self._choose())
        ended, self._ended = self._ended, []
        return ended

    def take_notes(self) -> list[str]:
        """The notes since the last call."""
        notes, self.notes = self.notes, []
        for pack in self._packs.values():
            if pack.captured is not None:
                notes += pack.captured.take_notes()
        return notes

    def _pack(self, fitting: Fitting) -> Pack:
        cut = self.prefixes.of(fitting.domains).cut(fitting.config)
        loop, loss = fitting.plan.loop, fitting.task.loss_options
        kind = pack_kind(fitting.model, fitting.domains.fingerprint, loop, cut, loss)
        if kind not in self._packs:
            pack = self._packs[kind] = Pack(kind, fitting)
            pack.captured = self.make_captured(pack, fitting.engine.execution.capture)
            device = torch.device(kind.device)
            if self.grows and device.type == "cpu":
                pack.growth = Growth(self.size, partial(leaves_room, device))
        return self._packs[kind]

    def _item_set(self, fitting: Fitting) -> ItemSet:
        config, prefixes = fitting.config, self.prefixes.of(fitting.domains)
        task = prefixes.task(config, fitting.model, config.data.target, "train", fitting.task)
        key = (id(task.store), tuple(item.key for item in fitting.items))
        if key not in self._item_sets:
            self._item_sets[key] = make_item_set(task, fitting.items, num_views_of(config.loop.augment))
        return self._item_sets[key]

    def _score_set(self, fitting: Fitting, unpadded: bool) -> ScoreSet:
        config, prefixes = fitting.config, self.prefixes.of(fitting.domains)
        stores = [prefixes.store(config, fitting.model, name, "valid") for name in fitting.validation.names]
        key = (*map(id, stores), config.loop.valid_limit, unpadded)
        if key not in self._score_sets:
            self._score_sets[key] = make_score_set(fitting, self.prefixes, unpadded)
        return self._score_sets[key]

    def _choose(self) -> tuple[Pack, list[Slot]]:
        """The largest group of slots that can share a launch; the one that has waited longest, if that is too long."""
        # Slots can share a launch if they are in one pack and train on one padded shape, or score the very same batch.
        groups: dict[Any, list[tuple[Pack, Slot]]] = defaultdict(list)
        for pack, slot in self.slots:
            due = slot.due
            if isinstance(due, TrainStep):
                what: Hashable = (due.shape, slot.width.is_wide, slot.is_unpadded)
            else:
                what = (due.set_id, due.number)
            groups[id(pack), isinstance(due, TrainStep), what].append((pack, slot))
        # Who is to be scored goes first: then the slots of one epoch start the next one together.
        to_score = [group for (_, trains, _), group in groups.items() if not trains]
        chosen = max(to_score or groups.values(), key=len)
        if not to_score:
            late = max(groups.values(), key=lambda group: max(slot.waited for _, slot in group))
            if max(slot.waited for _, slot in late) >= PATIENCE:
                chosen = late
            for _, slot in self.slots:
                slot.waited += 1
        slots = _of_one_variant([slot for _, slot in chosen])
        slots.sort(key=lambda slot: (-slot.waited, slot.row))  # if not all fit, those that have waited longest
        pack = chosen[0][0]
        return pack, sorted(slots[: self._limit(pack, slots[0])], key=lambda slot: slot.row)

    def _limit(self, pack: Pack, slot: Slot) -> int:
        due, size = slot.due, min(self.size, pack.growth.size) if pack.growth else self.size
        if isinstance(due, TrainStep):
            rows, steps = due.shape
            return max(1, min(size, WIDE_STEPS // (rows * steps))) if slot.width.is_wide else size
        batch = slot.score_set.batches[due.number]
        return max(1, min(size, SCORE_STEPS // (len(batch.lengths_B) * batch.num_steps)))

    def _launch(self, pack: Pack, slots: list[Slot]) -> None:
        """Run the slots' next step, in smaller groups if that fails: a step that failed has changed nothing."""
        states = [slot.noise.get_state() for slot in slots]  # a step that is taken again has to draw the same noise
        failed: str | None = None
        torch.set_num_threads(pack.kind.threads)
        began, began_cpu = time.perf_counter(), time.process_time()
        reads_late = pack.captured is not None  # reading a loss would wait for the device
        losses: list[list[float]] = []
        try:
            with no_exits():
                if isinstance(slots[0].due, TrainStep):
                    losses_2K = steps.train_step(pack, slots)
                    if not reads_late or any(slot.position + 1 == slot.num_batches for slot in slots):
                        losses = losses_2K.tolist()  # waits, so that what an epoch took is in the seconds below
                else:
                    scores = steps.score_step(pack, slots)
        except Exception as error:
            if len(slots) == 1:
                self._drop(pack, slots[0], error)
                return
            failed = "memory" if is_out_of_memory(error) else "other"
        if failed is not None:  # not in the handler: the error's traceback holds what the launch had allocated
            for slot, state in zip(slots, states, strict=True):
                slot.noise.set_state(state)
            self._launch_in_parts(pack, slots, failed == "memory")
            return
        seconds = time.perf_counter() - began
        if pack.growth is not None:
            self._take_cost(pack, slots, time.process_time() - began_cpu if pack.kind.threads == 1 else seconds)
        for number, slot in enumerate(slots):
            slot.seconds += seconds / len(slots)
            slot.waited = 0
            try:
                if isinstance(slot.due, TrainStep):
                    slot.num_sharing += len(slots)
                    if reads_late:
                        slot.keep_losses(losses_2K[:, number])
                    else:
                        slot.take_losses(losses[0][number], losses[1][number])
                else:
                    slot.take_scores(slot.due, *scores[number])
                if slot.epoch_is_done:
                    self._finish_epoch(pack, slot)
            except BaseException as error:  # as in `add`
                self._drop(pack, slot, error)

    def _take_cost(self, pack: Pack, slots: list[Slot], seconds: float) -> None:
        assert pack.growth is not None
        due = slots[0].due
        what = due.shape if isinstance(due, TrainStep) else (due.set_id, due.number)
        under_way = sum(other is pack for other, _ in self.slots)
        ends_epoch = any(slot.position + 1 == len(slot.work) for slot in slots)
        pack.growth.took((isinstance(due, TrainStep), what), len(slots), under_way, seconds, ends_epoch)

    def _launch_in_parts(self, pack: Pack, slots: list[Slot], memory_ran_out: bool) -> None:
        """Run the slots' next step half of them at a time; where memory ran out, so are all later ones."""
        half = len(slots) // 2
        if memory_ran_out:
            self.size = half
            for each in self._packs.values():
                if each.growth is not None:
                    each.growth.shrink_to(half)
            if pack.captured is not None:
                pack.captured.release()
            self.notes.append(f"out of memory with {len(slots)} trials in one step; going on with {half} at a time")
        waiting = list(slots)
        while waiting:
            count = min(half, self.size)  # which may go down again meanwhile
            self._launch(pack, waiting[:count])
            waiting = waiting[count:]

    def _finish_epoch(self, pack: Pack, slot: Slot) -> None:
        pack.read_back(slot)
        slot.finish_epoch(None if pack.growth is None else pack.growth.gain)
        if slot.fit.is_over:
            self._remove(pack, slot)
            self._end(slot)
        else:
            slot.begin_epoch()

    def _end(self, slot: Slot) -> None:
        slot.fit.put_best_weights()
        self._ended.append(Ended(slot.fitting, slot.fit.state))

    def _drop(self, pack: Pack, slot: Slot, error: BaseException) -> None:
        self._remove(pack, slot)
        self._ended.append(Ended(slot.fitting, as_failure(error)))

    def _remove(self, pack: Pack, slot: Slot) -> None:
        if (pack, slot) in self.slots:
            self.slots.remove((pack, slot))
            pack.release(slot)


def _of_one_variant(slots: list[Slot]) -> list[Slot]:
    """The slots with the most common variant, or that of one that has waited longest, and those that have none."""
    variants = [slot.variant for slot in slots if slot.variant is not None]
    if len(set(variants)) < 2:
        return slots
    chosen = max(
        dict.fromkeys(variants), key=lambda one: (max(s.waited for s in slots if s.variant == one), variants.count(one))
    )
    return [slot for slot in slots if slot.variant in (chosen, None)]

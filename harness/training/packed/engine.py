"""The pack engine: which slots run together, and the launches.

All slots of a worker, of whatever families, are in one engine. Each launch takes the largest group of slots whose next
batches have one shape; who is to be scored, or has waited for long, comes first. Nothing of that changes a slot's
numbers.

Shape legend: K slots, B rows, T steps, D width, S target symbols, P numbers in a row of weights.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.training.cut_task import CutTask
from harness.training.loop import FitState
from harness.training.memory import is_out_of_memory
from harness.training.packed.layout import Layout, layout_of
from harness.training.packed.model import Launch, PackedModel
from harness.training.packed.optimizer import step_rows
from harness.training.packed.packable import Family, family_of
from harness.training.packed.slot import ItemSet, ScoreSet, ScoreStep, Slot, TrainStep, make_item_set, make_score_set
from harness.training.prefix_cache import VECTOR_STEPS
from harness.training.task import Batch
from harness.training.trial import Fitting
from harness.training.views import num_views_of

PATIENCE = 24  # launches that a slot waits for others of its shape
WIDE_STEPS = 1024  # padded steps of all slots in a launch of a wide model: beyond, its activations leave the caches
SCORE_STEPS = 8192  # padded steps of all slots in a launch that scores


@dataclass(frozen=True)
class Ended:
    """A training that is over: its state, or what stopped it."""

    fitting: Fitting
    outcome: FitState | BaseException


class Pack:
    """A family's model, and the weights and moments of its slots, one row each."""

    def __init__(self, family: Family, fitting: Fitting) -> None:
        self.family = family
        frozen = fitting.trial.domains.frozen_model(fitting.plan.loop)
        self.model = PackedModel(frozen, family)
        self.layout: Layout = layout_of(fitting.adapted.model)
        weight = next(frozen.parameters())
        self.rows_3RP = weight.new_zeros((3, 0, self.layout.num_columns))  # weights, exp_avg, exp_avg_sq
        self.free: list[int] = []

    def take_row(self, slot: Slot) -> None:
        """Give a slot the lowest free row, and put its weights and moments there."""
        if not self.free:
            count = self.rows_3RP.shape[1]
            grown = self.rows_3RP.new_zeros((3, max(4, 2 * count), self.layout.num_columns))
            grown[:, :count] = self.rows_3RP
            self.rows_3RP, self.free = grown, list(range(count, grown.shape[1]))
        slot.row = min(self.free)
        self.free.remove(slot.row)
        fit, layout = slot.fit, self.layout
        weights, first, second = self.rows_3RP[:, slot.row]
        layout.write(weights, fit.weights)
        states = [fit.optimizer.state.get(weight, {}) for weight in fit.weights]
        for row, name in ((first, "exp_avg"), (second, "exp_avg_sq")):
            row.zero_()
            if states[0]:
                layout.write(row, [state[name] for state in states])
        slot.num_optimizer_steps = int(states[0]["step"]) if states[0] else 0

    def read_back(self, slot: Slot) -> None:
        """Copy a slot's weights and moments into its own model and optimizer."""
        fit = slot.fit
        weights, first, second = self.rows_3RP[:, slot.row]
        self.layout.read(weights, fit.weights)
        for weight in fit.weights:
            state = fit.optimizer.state[weight]
            state["step"] = torch.tensor(float(slot.num_optimizer_steps))
            for name in ("exp_avg", "exp_avg_sq"):
                state.setdefault(name, torch.zeros_like(weight))
        for row, name in ((first, "exp_avg"), (second, "exp_avg_sq")):
            self.layout.read(row, [fit.optimizer.state[weight][name] for weight in fit.weights])

    def release(self, slot: Slot) -> None:
        """Take a slot's row back."""
        self.free.append(slot.row)


class PackEngine:
    """Trains what it is given, `size` slots to a launch at most.

    Attributes:
        size: lowered by half when memory runs out.
        notes: what whoever runs it should tell, once each.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.notes: list[str] = []
        self.slots: list[tuple[Pack, Slot]] = []
        self._packs: dict[Family, Pack] = {}
        self._score_sets: dict[Any, ScoreSet] = {}
        self._item_sets: dict[Any, ItemSet] = {}
        self._ended: list[Ended] = []

    def __len__(self) -> int:
        return len(self.slots)

    def add(self, fitting: Fitting) -> None:
        """Give a packable training a slot, from its checkpoint if it has one."""
        try:
            slot = Slot(fitting, self._item_set(fitting), self._sets_to_score(fitting))
            if slot.fit.is_over:
                self._end(slot)
                return
            pack = self._pack(fitting)
            pack.take_row(slot)
            slot.begin_epoch()
        except BaseException as error:  # also an interrupt that its reader raised: the driver passes it on
            self._ended.append(Ended(fitting, error))
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
        return notes

    def _pack(self, fitting: Fitting) -> Pack:
        trial, loop = fitting.trial, fitting.plan.loop
        fingerprint = trial.domains.backbone.fingerprint
        family = family_of(fitting.adapted.model, fingerprint, loop, trial.cut)
        if family not in self._packs:
            self._packs[family] = Pack(family, fitting)
        return self._packs[family]

    def _item_set(self, fitting: Fitting) -> ItemSet:
        trial, model = fitting.trial, fitting.adapted.model
        store = trial.prefix(model, trial.config.data.target, "train")
        key = (id(store), tuple(item.key for item in fitting.items))
        if key not in self._item_sets:
            task, num_views = CutTask(fitting.task, store, model.encoder), num_views_of(fitting.plan.loop.augment)
            self._item_sets[key] = make_item_set(task, fitting.items, num_views)
        return self._item_sets[key]

    def _sets_to_score(self, fitting: Fitting) -> dict[str, ScoreSet]:
        trial, data = fitting.trial, fitting.trial.config.data
        sets = {}
        for domain in (data.target, *data.source):
            store = trial.prefix(fitting.adapted.model, domain, "valid")
            key = (id(store), trial.config.loop.valid_limit)
            if key not in self._score_sets:
                self._score_sets[key] = make_score_set(fitting, domain)
            sets[domain] = self._score_sets[key]
        return sets

    def _choose(self) -> tuple[Pack, list[Slot]]:
        """The largest group of slots that can share a launch; the one that has waited longest, if that is too long."""
        groups: dict[Any, list[tuple[Pack, Slot]]] = defaultdict(list)
        for pack, slot in self.slots:
            due = slot.due
            what = (due.shape, slot.is_wide) if isinstance(due, TrainStep) else (due.set_id, due.number)
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
        slots = _of_one_penalty([slot for _, slot in chosen])
        slots.sort(key=lambda slot: (-slot.waited, slot.row))  # if not all fit, those that have waited longest
        return chosen[0][0], sorted(slots[: self._limit(slots[0])], key=lambda slot: slot.row)

    def _limit(self, slot: Slot) -> int:
        due = slot.due
        if isinstance(due, TrainStep):
            rows, steps = due.shape
            return max(1, min(self.size, WIDE_STEPS // (rows * steps))) if slot.is_wide else self.size
        score_set = slot.score_sets[due.domain]
        indices = score_set.batches[due.number]
        longest = int(score_set.items.lengths_N[indices[-1]])  # in order of length
        return max(1, min(self.size, SCORE_STEPS // (len(indices) * longest)))

    def _launch(self, pack: Pack, slots: list[Slot]) -> None:
        """Run the slots' next step, in smaller groups if that fails: a step that failed has changed nothing."""
        states = [slot.noise.get_state() for slot in slots]
        failed: str | None = None
        torch.set_num_threads(pack.family.threads)
        began = time.perf_counter()
        try:
            if isinstance(slots[0].due, TrainStep):
                losses = train_step(pack, slots)
            else:
                scores = score_step(pack, slots)
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
        share = (time.perf_counter() - began) / len(slots)
        for number, slot in enumerate(slots):
            slot.seconds += share
            slot.waited = 0
            try:
                if isinstance(slot.due, TrainStep):
                    slot.take_losses(*losses[number])
                else:
                    slot.take_scores(slot.due, *scores[number])
                if slot.epoch_is_done:
                    self._finish_epoch(pack, slot)
            except BaseException as error:  # as in `add`
                self._drop(pack, slot, error)

    def _launch_in_parts(self, pack: Pack, slots: list[Slot], is_out_of_memory: bool) -> None:
        """Run the slots' next step half of them at a time; where memory ran out, so are all later ones."""
        half = len(slots) // 2
        if is_out_of_memory:
            self.size = half
            self.notes.append(f"out of memory with {len(slots)} trials in a pack: going on with {half}")
        waiting = list(slots)
        while waiting:
            count = min(half, self.size)  # which may go down again meanwhile
            self._launch(pack, waiting[:count])
            waiting = waiting[count:]

    def _finish_epoch(self, pack: Pack, slot: Slot) -> None:
        pack.read_back(slot)
        slot.finish_epoch()
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
        self._ended.append(Ended(slot.fitting, error))

    def _remove(self, pack: Pack, slot: Slot) -> None:
        if (pack, slot) in self.slots:
            self.slots.remove((pack, slot))
            pack.release(slot)


def _of_one_penalty(slots: list[Slot]) -> list[Slot]:
    """The slots with the most common kind of penalty, and those that have none."""
    kinds = [slot.penalty for slot in slots if slot.penalty is not None]
    if len(set(kinds)) < 2 or not isinstance(slots[0].due, TrainStep):
        return slots
    common = max(
        dict.fromkeys(kinds), key=lambda kind: (max(s.waited for s in slots if s.penalty == kind), kinds.count(kind))
    )
    return [slot for slot in slots if slot.penalty in (common, None)]


def train_step(pack: Pack, slots: Sequence[Slot]) -> list[tuple[float, float]]:
    """One optimizer step of each slot; their task's losses and auxiliary losses."""
    steps = [slot.due for slot in slots if isinstance(slot.due, TrainStep)]
    rows_3KP, put_back = _rows_of(pack, slots)
    launch, x_KBTD, attended_KBT, batch = _gather(slots, steps)
    launch.weights = leaves = pack.layout.leaves(rows_3KP[0])
    scores, valid_BT = pack.model.forward(launch, x_KBTD, attended_KBT)
    losses_KB = slots[0].task.loss_rows(scores, valid_BT, batch).reshape(len(slots), -1)
    real_KB = torch.arange(losses_KB.shape[1], device=losses_KB.device) < launch.num_own_rows_K[:, None]
    losses_K = torch.where(real_KB, losses_KB, 0.0).sum(1) / launch.num_own_rows_K
    auxiliary_K = sum(launch.penalties[1:], launch.penalties[0]) if launch.penalties else None
    total = losses_K.sum() if auxiliary_K is None else (losses_K + auxiliary_K).sum()
    gradients = torch.autograd.grad(total, list(leaves.values()))
    gradients_KP = torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)
    weights_KP, first_KP, second_KP = rows_3KP
    step_rows(weights_KP, first_KP, second_KP, gradients_KP, [slot.row_step() for slot in slots])
    put_back()
    auxiliary = [0.0] * len(slots) if auxiliary_K is None else auxiliary_K.tolist()
    return list(zip(losses_K.tolist(), auxiliary, strict=True))


def _rows_of(pack: Pack, slots: Sequence[Slot]) -> tuple[Tensor, Any]:
    """The slots' rows [3, K, P], and what writes them back: nothing, where they lie side by side."""
    rows = [slot.row for slot in slots]
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return pack.rows_3RP[:, rows[0] : rows[0] + len(rows)], lambda: None
    places = torch.tensor(rows, device=pack.rows_3RP.device)
    taken = pack.rows_3RP.index_select(1, places)
    return taken, lambda: pack.rows_3RP.index_copy_(1, places, taken)


def _gather(slots: Sequence[Slot], steps: Sequence[TrainStep]) -> tuple[Launch, Tensor, Tensor, Batch]:
    """The slots' batches, padded to one shape: the launch, [K, B, T, D], real steps [K, B, T], and the targets."""
    num_rows, num_steps = steps[0].shape
    sets = [slot.items for slot in slots]
    # A padded row repeats the first one; its loss is left out.
    indices = [_repeat_first(step.indices_B, num_rows) for step in steps]
    parts = [
        (items.places_N[i], items.lengths_N[i], items.target_lengths_N[i])
        for items, i in zip(sets, indices, strict=True)
    ]
    places, lengths, target_lengths = (torch.cat(part) for part in zip(*parts, strict=True))
    stores = [items.store for items in sets]
    if all(store is stores[0] for store in stores):
        x = stores[0].gather(places, num_steps)
    else:
        x = torch.cat([s.gather(p, num_steps) for s, p in zip(stores, torch.split(places, num_rows), strict=True)])
    width = max(items.targets_NS.shape[1] for items in sets)
    targets = torch.cat(
        [
            torch.nn.functional.pad(s.targets_NS[i], (0, width - s.targets_NS.shape[1]))
            for s, i in zip(sets, indices, strict=True)
        ]
    )
    shape = (len(slots), num_rows, num_steps)
    attended_KBT = (torch.arange(num_steps, device=x.device) < lengths[:, None]).reshape(shape)
    counts_K = torch.tensor([len(step.indices_B) for step in steps], device=x.device)
    penalty = next((slot.penalty for slot in slots if slot.penalty is not None), None)
    own_KBT, valid_KBT = None, attended_KBT
    if penalty is not None:
        real_KB1 = (torch.arange(num_rows, device=x.device) < counts_K[:, None])[..., None]
        own_steps_K = torch.tensor([step.num_steps for step in steps], device=x.device)
        own_KBT = real_KB1 & (torch.arange(num_steps, device=x.device) < own_steps_K[:, None])[:, None]
        valid_KBT = attended_KBT & real_KB1
    merges = [slot.merge_of(step) for slot, step in zip(slots, steps, strict=True)]
    launch = Launch(len(slots), num_rows, valid_KBT, own_KBT, counts_K, merges, penalty, {})
    batch = Batch(x, lengths, targets, target_lengths)
    return launch, x.reshape(*shape, -1), attended_KBT, batch


def _repeat_first(indices_B: Tensor, num_rows: int) -> Tensor:
    missing = num_rows - len(indices_B)
    return indices_B if not missing else torch.cat([indices_B, indices_B[:1].expand(missing)])


@torch.no_grad()
def score_step(pack: Pack, slots: Sequence[Slot]) -> list[tuple[list[Any], float]]:
    """Score one batch with the weights of each slot: predictions and mean loss."""
    due = slots[0].due
    assert isinstance(due, ScoreStep)
    score_set = slots[0].score_sets[due.domain]
    items, indices = score_set.items, torch.tensor(score_set.batches[due.number])
    lengths_B = items.lengths_N[indices]
    num_steps = -(-int(lengths_B.max()) // VECTOR_STEPS) * VECTOR_STEPS
    if items.store.plan.cut.pooled:
        num_steps = 1
    x_BTD = items.store.gather(items.places_N[indices], num_steps)
    count, num_rows = len(slots), len(indices)
    valid_BT = torch.arange(x_BTD.shape[1], device=x_BTD.device) < lengths_B[:, None]
    rows_3KP, _ = _rows_of(pack, slots)
    valid_KBT = valid_BT.expand(count, -1, -1)
    launch = Launch(count, num_rows, valid_KBT, None, lengths_B.new_full((count,), num_rows), (), None, {})
    launch.weights = pack.layout.leaves(rows_3KP[0])
    scores, valid = pack.model.forward(launch, x_BTD.expand(count, -1, -1, -1), valid_KBT)
    batch = Batch(
        x_BTD,
        lengths_B.repeat(count),
        items.targets_NS[indices].repeat(count, 1),
        items.target_lengths_N[indices].repeat(count),
    )
    task = slots[0].fitting.trial.domains.plain_task
    losses = task.loss_rows(scores, valid, batch).reshape(count, num_rows).mean(1).tolist()
    predictions = task.predict(scores, valid)
    return [(predictions[k * num_rows : (k + 1) * num_rows], losses[k]) for k in range(count)]

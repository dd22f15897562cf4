"""A launch: one optimizer step, or one batch to score, of some slots.

A step has two parts. The host's (`HostStep`, `inputs_of`) chooses what is trained on and draws the noise; the device's
(`take_step`) is a pure function over tensors, whose shapes follow from the step's `StepKind` alone, and asks nothing of
the device: it can be captured as a graph (captured.py).

Shape legend: K slots, B rows, R = K * B, T steps, D width, S target symbols, L layers with adapters, C numbers of a
slot's own, P numbers in a row of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.adapters import functional
from harness.engines.packed.launch import Launch, PackKind
from harness.engines.packed.optimizer import NUM_COEFFICIENTS, step_rows
from harness.engines.packed.pack import Pack
from harness.engines.packed.slot import ScoreStep, Slot, TrainStep
from harness.engines.packed.unpadded import RealSteps
from harness.tasks.task import Batch

# The columns of values_KC, a slot's own numbers:
#     coefficients of AdamW | own rows | own steps | row | options of the strategy ... | keep probability a layer ...
OWN_ROWS, OWN_STEPS, ROW, OPTIONS = range(NUM_COEFFICIENTS, NUM_COEFFICIENTS + 4)


@dataclass(frozen=True)
class StepKind:
    """What fixes the shapes and the operations of a step's device part, within a pack.

    Attributes:
        num_slots: K.
        num_rows: B.
        num_steps: T.
        num_targets: S.
        dtype: of what reaches the cut.
        target_dtype: of the targets.
        variant: of the slots' strategies, or None.
        noise: the smallest unit that any slot drops (functional.DROP_UNITS); None where nothing is dropped.
        clips: whether any slot's gradients are clipped.
        unpadded: whether the layers run on real steps alone, on the host: what they compute follows from lengths.
    """

    num_slots: int
    num_rows: int
    num_steps: int
    num_targets: int
    dtype: torch.dtype
    target_dtype: torch.dtype
    variant: Hashable | None
    noise: str | None
    clips: bool
    unpadded: bool


@dataclass(frozen=True)
class StepInputs:
    """What the device part of a step reads besides weights and moments.

    Attributes:
        x_RTD: what reached the cut.
        lengths_R: its real steps.
        targets_RS: of the rows.
        target_lengths_R: of the rows.
        values_KC: each slot's own numbers; whole ones too, which a float32 holds exactly up to 2**24.
        noise_L: for each layer, [K, 1, 1, 1], [K, B, 1, 1] or [K, B, T, 1]; empty where nothing is dropped.
    """

    x_RTD: Tensor
    lengths_R: Tensor
    targets_RS: Tensor
    target_lengths_R: Tensor
    values_KC: Tensor
    noise_L: Sequence[Tensor]


class HostStep:
    """The next step of some slots, as the host knows it; nothing has been drawn or copied yet."""

    def __init__(self, pack: Pack, slots: Sequence[Slot]) -> None:
        self.slots = slots
        self.steps = [slot.due for slot in slots if isinstance(slot.due, TrainStep)]
        self.keeps_LK = [[slot.keep_probability(depth) for slot in slots] for depth in pack.model.depth_fractions]
        self.drop_units = [slot.drop_unit for slot in slots]
        is_noisy = any(keep != 1.0 for keeps_K in self.keeps_LK for keep in keeps_K)
        self.row_steps = [slot.row_step() for slot in slots]
        num_rows, num_steps = self.steps[0].shape
        self.kind = StepKind(
            num_slots=len(slots),
            num_rows=num_rows,
            num_steps=num_steps,
            num_targets=max(step.targets_BS.shape[1] for step in self.steps),
            dtype=slots[0].items.store.plan.dtype,
            target_dtype=self.steps[0].targets_BS.dtype,
            variant=common_variant(slots),
            noise=functional.smallest_unit(self.drop_units) if is_noisy else None,
            clips=any(step.settings.clip_norm is not None for step in self.row_steps),
            unpadded=slots[0].is_unpadded,
        )

    def values(self) -> list[list[float]]:
        """Each slot's own numbers, [K, C]."""
        return [
            [
                *row_step.coefficients(),
                *(step.num_own_rows, step.num_steps, slot.row),
                *slot.options,
                *(keeps_K[number] for keeps_K in self.keeps_LK),
            ]
            for number, (slot, step, row_step) in enumerate(zip(self.slots, self.steps, self.row_steps, strict=True))
        ]


def common_variant(slots: Sequence[Slot]) -> Hashable | None:
    """The variant of what some slots run next: that of all of them that have one."""
    return next((slot.variant for slot in slots if slot.variant is not None), None)


def train_step(pack: Pack, slots: Sequence[Slot]) -> Tensor:
    """One optimizer step of each slot; their task's losses and auxiliary losses, [2, K], on the device."""
    host = HostStep(pack, slots)
    if pack.captured is not None:
        return pack.captured.run(host)
    rows_3KP, put_back = _rows_of(pack, slots)
    losses_2K = take_step(pack, host.kind, inputs_of(pack, host), rows_3KP)
    put_back()
    return losses_2K


def _rows_of(pack: Pack, slots: Sequence[Slot]) -> tuple[Tensor, Callable[[], Any]]:
    """The slots' rows [3, K, P], and what writes them back: nothing, where they lie side by side."""
    rows = [slot.row for slot in slots]
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return pack.rows_3RP[:, rows[0] : rows[0] + len(rows)], lambda: None
    places = torch.tensor(rows, device=pack.rows_3RP.device)
    taken = pack.rows_3RP.index_select(1, places)
    return taken, lambda: pack.rows_3RP.index_copy_(1, places, taken)


def inputs_of(pack: Pack, host: HostStep, into: StepInputs | None = None) -> StepInputs:
    """The inputs of a step's device part; the noise is drawn here, each slot's from its own generator.

    Args:
        pack: of the slots.
        host: the step.
        into: static buffers to write to; new tensors without.
    """
    kind, stores = host.kind, [slot.items.store for slot in host.slots]
    places = torch.cat([step.places_B for step in host.steps])
    if all(store is stores[0] for store in stores):
        x_RTD = stores[0].gather(places, kind.num_steps, None if into is None else into.x_RTD)
    else:
        parts = [store.gather(step.places_B, kind.num_steps) for store, step in zip(stores, host.steps, strict=True)]
        x_RTD = torch.cat(parts, out=None if into is None else into.x_RTD)
    targets = [
        step.targets_BS
        if step.targets_BS.shape[1] == kind.num_targets
        else F.pad(step.targets_BS, (0, kind.num_targets - step.targets_BS.shape[1]))
        for step in host.steps
    ]
    rows = pack.rows_3RP
    values_KC = torch.tensor(host.values(), dtype=rows.dtype)
    if rows.device.type == "cuda":
        values_KC = values_KC.pin_memory()  # from pinned memory a copy does not wait for the device
    noise_L: list[Tensor] = []
    if kind.noise is not None:
        noise_L = draw_noise(host, rows.dtype, rows.device)
    if into is None:
        return StepInputs(
            x_RTD,
            torch.cat([step.lengths_B for step in host.steps]),
            torch.cat(targets),
            torch.cat([step.target_lengths_B for step in host.steps]),
            values_KC.to(rows.device, non_blocking=True),
            noise_L,
        )
    torch.cat([step.lengths_B for step in host.steps], out=into.lengths_R)
    torch.cat(targets, out=into.targets_RS)
    torch.cat([step.target_lengths_B for step in host.steps], out=into.target_lengths_R)
    into.values_KC.copy_(values_KC, non_blocking=True)
    for buffer, noise in zip(into.noise_L, noise_L, strict=True):
        buffer.copy_(noise)
    return into


def draw_noise(host: HostStep, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """The noise of all layers, lowest first: each slot's from its own generator, in the order of its plain loop.

    Returns:
        for each layer [K, 1, 1, 1], or [K, B, 1, 1] where any slot drops rows, or [K, B, T, 1] where any drops frames.
    """
    num_steps = host.kind.num_steps
    valid_frames = [
        torch.arange(num_steps) < torch.tensor(step.own_lengths)[:, None] if unit == "frame" else None
        for step, unit in zip(host.steps, host.drop_units, strict=True)
    ]
    return [
        functional.draw_packed_noise(
            (len(host.slots), host.kind.num_rows, num_steps, 1),
            keeps_K,
            [slot.noise for slot in host.slots],
            drop=host.drop_units,
            num_rows=[step.num_own_rows for step in host.steps],
            valid_frames=valid_frames,
            dtype=dtype,
            device=device,
        )
        for keeps_K in host.keeps_LK
    ]


def take_step(pack: Pack, kind: StepKind, inputs: StepInputs, rows_3KP: Tensor) -> Tensor:
    """The device part: forward, losses, gradients, clipping and AdamW; losses as `train_step` gives them.

    All memory is taken before the first number is written: where it runs out, weights and moments are as they were.

    Args:
        pack: gives the model, the layout of its weights, and the task.
        kind: of the step.
        inputs: as the kind says.
        rows_3KP: weights and moments of the slots, updated in place.
    """
    launch, attended_KBT = _launch_of(pack.kind, kind, inputs)
    launch.weights = leaves = pack.layout.leaves(rows_3KP[0])
    batch = Batch(inputs.x_RTD, inputs.lengths_R, inputs.targets_RS, inputs.target_lengths_R)
    x_KBTD = inputs.x_RTD.reshape(*attended_KBT.shape, -1)
    with pack.autocast():
        scores, valid_BT = pack.model.forward(launch, x_KBTD, attended_KBT)
        losses_KB = pack.training_task.loss_rows(scores, valid_BT, batch).reshape(kind.num_slots, -1)
    real_KB = torch.arange(kind.num_rows, device=losses_KB.device) < launch.num_own_rows_K[:, None]
    # A padded row repeats the slot's first one, so that nothing in it is NaN that is not NaN there; it must not count.
    losses_K = torch.where(real_KB, losses_KB, 0.0).sum(1) / launch.num_own_rows_K
    auxiliary_K = sum(launch.penalties[1:], launch.penalties[0]) if launch.penalties else None
    total = losses_K.sum() if auxiliary_K is None else (losses_K + auxiliary_K).sum()
    # A slot's weights reach its own loss only: the gradient of the sum is, slot by slot, that of its loss alone.
    gradients = torch.autograd.grad(total, list(leaves.values()))
    gradients_KP = torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)
    losses_2K = torch.stack([losses_K, torch.zeros_like(losses_K) if auxiliary_K is None else auxiliary_K]).detach()
    weights_KP, first_KP, second_KP = rows_3KP
    step_rows(weights_KP, first_KP, second_KP, gradients_KP, inputs.values_KC[:, :NUM_COEFFICIENTS], kind.clips)
    return losses_2K


def _launch_of(pack_kind: PackKind, kind: StepKind, inputs: StepInputs) -> tuple[Launch, Tensor]:
    """The pass of a step, without its weights, and the real steps [K, B, T]."""
    values_KC, device = inputs.values_KC, inputs.values_KC.device
    shape = (kind.num_slots, kind.num_rows, kind.num_steps)
    attended_KBT = (torch.arange(kind.num_steps, device=device) < inputs.lengths_R[:, None]).reshape(shape)
    own_rows_K = values_KC[:, OWN_ROWS].long()
    own_KBT = valid_KBT = None
    if kind.variant is not None:  # else no strategy needs them
        real_KB1 = (torch.arange(kind.num_rows, device=device) < own_rows_K[:, None])[..., None]
        own_steps_K = values_KC[:, OWN_STEPS].long()
        own_KBT = real_KB1 & (torch.arange(kind.num_steps, device=device) < own_steps_K[:, None])[:, None]
        valid_KBT = attended_KBT & real_KB1
    options = pack_kind.options
    launch = Launch(
        num_slots=kind.num_slots,
        num_rows=kind.num_rows,
        num_own_rows_K=own_rows_K,
        training=True,
        valid_KBT=valid_KBT,
        own_KBT=own_KBT,
        variant=kind.variant,
        options=dict(zip(options, values_KC[:, OPTIONS:].unbind(1), strict=False)),
        noise_L=inputs.noise_L,
        keeps_L=values_KC[:, OPTIONS + len(options) :].unbind(1),
        real=RealSteps(attended_KBT) if kind.unpadded else None,
    )
    return launch, attended_KBT


@torch.no_grad()
def score_step(pack: Pack, slots: Sequence[Slot]) -> list[tuple[list[Any], list[float]]]:
    """Score one batch with the weights of each slot: predictions, and the mean loss of each of its parts."""
    due = slots[0].due
    assert isinstance(due, ScoreStep)
    scored = slots[0].score_set.batches[due.number]
    x_BTD, lengths_B = scored.gather(), scored.lengths_B
    count, num_rows = len(slots), len(lengths_B)
    valid_BT = torch.arange(x_BTD.shape[1], device=x_BTD.device) < lengths_B[:, None]
    rows_3KP, _ = _rows_of(pack, slots)
    valid_KBT = valid_BT.expand(count, -1, -1)
    launch = Launch(
        num_slots=count,
        num_rows=num_rows,
        num_own_rows_K=lengths_B.new_full((count,), num_rows),
        training=False,
        valid_KBT=valid_KBT,
        variant=common_variant(slots),
        options=_options(pack, slots),
        weights=pack.layout.leaves(rows_3KP[0]),
        real=RealSteps(valid_KBT) if slots[0].is_unpadded else None,
    )
    scores, valid = pack.model.forward(launch, x_BTD.expand(count, -1, -1, -1), valid_KBT)
    batch = Batch(
        x_BTD,
        lengths_B.repeat(count),
        scored.targets_BS.repeat(count, 1),
        scored.target_lengths_B.repeat(count),
    )
    losses_KB = pack.task.loss_rows(scores, valid, batch).reshape(count, num_rows)
    of_parts = torch.split_with_sizes(losses_KB, [len(part.indices) for part in scored.parts], dim=1)
    losses = torch.stack([losses_Kb.mean(1) for losses_Kb in of_parts], dim=1).tolist()
    predictions = pack.task.predict(scores, valid, batch)
    return [(predictions[k * num_rows : (k + 1) * num_rows], losses[k]) for k in range(count)]


def _options(pack: Pack, slots: Sequence[Slot]) -> dict[str, Tensor]:
    """The numeric options of the slots' strategies, by name, [K]."""
    if not pack.kind.options:
        return {}
    values_KC = pack.rows_3RP.new_tensor([slot.options for slot in slots])
    return dict(zip(pack.kind.options, values_KC.unbind(1), strict=True))

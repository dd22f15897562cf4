"""A pack: the model of one kind of trials behind their cut, and the rows of weights and moments of those in it.

Shape legend: R rows, P numbers in a row of weights.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.engines.packed.growth import Growth
from harness.engines.packed.launch import PackKind
from harness.engines.packed.layout import Layout, layout_of
from harness.engines.packed.model import PackedModel
from harness.engines.packed.slot import Slot
from harness.tasks.task import Task
from harness.training.engine import Fitting
from harness.training.precision import autocast


class StepRunner(Protocol):
    """What takes a pack's steps from static buffers (harness/engines/packed/captured.py)."""

    def run(self, host: Any) -> Tensor:
        """Take a step (harness.engines.packed.steps.HostStep); its losses, [2, K], on the device."""

    def release(self) -> None:
        """Give buffers back; they are made anew when they are needed."""

    def take_notes(self) -> list[str]:
        """Take the messages for the user, so that each is told once."""


class Pack:
    """The model of one kind of trials, and the weights and moments of its slots, one row each.

    Attributes:
        rows_3RP: weights, exp_avg, exp_avg_sq; another tensor when rows were added.
        task: what scores; `training_task` has the loss that the trials of this kind train with.
        captured: what runs the steps from static buffers; None where they run directly (on a CPU).
        growth: how many slots it should have; None where that is fixed.
    """

    captured: StepRunner | None = None
    growth: Growth | None = None

    def __init__(self, kind: PackKind, fitting: Fitting) -> None:
        self.kind = kind
        self.task: Task = fitting.domains.plain_task
        self.training_task = fitting.task
        frozen = fitting.domains.frozen_model(fitting.plan.loop)
        self.layout: Layout = kind.layout
        self.model = PackedModel(frozen, kind, self.layout)
        weight = next(frozen.parameters())
        self.rows_3RP = weight.new_zeros((3, 0, self.layout.num_columns))
        self.free: list[int] = []

    def take_row(self, slot: Slot) -> None:
        """Give a slot the lowest free row, and put its weights and moments there."""
        if not self.free:
            count = self.rows_3RP.shape[1]
            # Twice as many, so that n trials cost few copies; captured steps hold the old rows and are made anew.
            grown = self.rows_3RP.new_zeros((3, max(4, 2 * count), self.layout.num_columns))
            grown[:, :count] = self.rows_3RP
            self.rows_3RP, self.free = grown, list(range(count, grown.shape[1]))
        assert layout_of(slot.fitting.model) == self.layout, "the trials of a pack have rows of one layout"
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
                if name not in state:
                    state[name] = torch.zeros_like(weight)
        for row, name in ((first, "exp_avg"), (second, "exp_avg_sq")):
            self.layout.read(row, [fit.optimizer.state[weight][name] for weight in fit.weights])

    def release(self, slot: Slot) -> None:
        """Take a slot's row back."""
        self.free.append(slot.row)

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a training's forward pass, as in the plain loop."""
        return autocast(self.rows_3RP.device, self.kind.precision, keep_casts=False)

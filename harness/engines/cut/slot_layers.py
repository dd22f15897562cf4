"""Layers that work slot by slot, so that a slot's bits do not depend on how many slots there are.

A slot is a trial of a pack, or an item of a split whose frozen prefix is computed with others. Linear layers multiply
slot by slot (a batched product with one shared weight) instead of all rows at once; convolutions run slot by slot; all
other layers of a backbone work row by row.

Shape legend: K slots, B rows, I and O input and output width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from harness.backbones.copying import copy_model
from harness.backbones.model import TaskModel
from harness.data.batching import round_up

STEPS = 8  # of each slot: whole vectors of the processor, see whole_steps


class Slots(Protocol):
    """What the layers must know of a pass: how many slots, and what they have learnt, by name, [K, ...]."""

    @property
    def num_slots(self) -> int: ...

    @property
    def weights(self) -> Mapping[str, Tensor]: ...


S = TypeVar("S", bound=Slots)


class Current(Generic[S]):
    """Where the modules find the pass under way."""

    launch: S


class SlotLinear(nn.Linear):
    """A linear layer that multiplies slot by slot: frozen weights that all slots share, or learnt ones [K, O, I]."""

    current: Current[Any]
    learnt: str | None = None  # the prefix of its weights' names

    def forward(self, x: Tensor) -> Tensor:
        """[K * B, ..., I] -> [K * B, ..., O]."""
        launch = self.current.launch
        # What is not of the rows, as DeBERTa's table of distances [1, ...], is one product for any number of slots.
        count = launch.num_slots if len(x) % launch.num_slots == 0 else 1
        # One product of all K * B rows may add in another order than that of B rows: the bits would depend on K.
        #     [K * B, I] x [I, O]  ->  K products [B, I] x [I, O], each of them as if its slot were alone
        rows_KRI = x.reshape(count, -1, self.in_features)
        if self.learnt is None:
            weight_KIO = self.weight.t().expand(count, -1, -1)
            bias_K1O = None if self.bias is None else self.bias.expand(count, 1, -1)
        else:
            weight_KIO = launch.weights[f"{self.learnt}.weight"].transpose(1, 2)
            bias_K1O = launch.weights[f"{self.learnt}.bias"].unsqueeze(1)
        product = torch.bmm(rows_KRI, weight_KIO) if bias_K1O is None else torch.baddbmm(bias_K1O, rows_KRI, weight_KIO)
        return product.reshape(*x.shape[:-1], self.out_features)


class SlotConvolution(nn.Module):
    """A frozen convolution, run slot by slot: libraries choose its kernels and order of sums by the number of rows."""

    def __init__(self, inner: nn.Module, current: Current[Any]) -> None:
        super().__init__()
        self.inner, self.current = inner, current
        # What is hooked in front of it sees all rows, as before.
        inner._forward_pre_hooks, self._forward_pre_hooks = self._forward_pre_hooks, inner._forward_pre_hooks

    def __getattr__(self, name: str) -> Any:
        """Its own attributes, or those of the convolution: models read kernel sizes and dtypes."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x: Tensor) -> Tensor:
        """[K * B, channels, ...] -> [K * B, channels, ...]."""
        return torch.cat([self.inner(part) for part in torch.chunk(x, self.current.launch.num_slots)])


def whole_steps(num_steps: int) -> int:
    """Round up to STEPS, so that a slot's numbers fill whole vectors of the processor.

    torch computes the last few numbers of an array, those that fill none, by another exponential than the rest. Which
    numbers these are would depend on how many slots there are.
    """
    return round_up(num_steps, STEPS)


def slotwise(frozen: TaskModel, current: Current[Any]) -> TaskModel:
    """A copy of a model in eval mode whose layers work slot by slot; its weights are shared, not copied."""
    shared: dict[int, Any] = {id(weight): weight for weight in (*frozen.parameters(), *frozen.buffers())}
    model = copy_model(frozen, shared).eval()
    for parent in [*model.modules()]:
        for name, child in [*parent.named_children()]:
            if type(child) is nn.Linear or _is_transposed_linear(child):
                linear: Any = child
                weight_OI = linear.weight if type(child) is nn.Linear else nn.Parameter(linear.weight.t(), False)
                out_features, in_features = weight_OI.shape
                layer = SlotLinear(in_features, out_features, bias=linear.bias is not None, device="meta")
                layer.weight, layer.bias, layer.current = weight_OI, linear.bias, current
                setattr(parent, name, layer)
            elif isinstance(child, (nn.Conv1d, nn.Conv2d)):
                setattr(parent, name, SlotConvolution(child, current))
    # For the bits of a slot alone. The whole model has no such padding, as NeMo's l2 would sum over it, too.
    model.encoder.step_multiple = STEPS
    return model


def _is_transposed_linear(module: nn.Module) -> bool:
    """Whether a module is transformers' `Conv1D`, the linear layer of GPT-2, whose weight is [I, O]."""
    return type(module).__name__ == "Conv1D" and type(module).__module__ == "transformers.pytorch_utils"

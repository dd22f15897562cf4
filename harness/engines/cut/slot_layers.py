"""Layers that work slot by slot, so that a slot's bits do not depend on how many slots there are.

A slot is a trial of a pack, or an item of a split whose frozen prefix is computed with others. Linear layers multiply
slot by slot (a batched product with one shared weight) instead of all rows at once, and so do those in torch's
attention; convolutions run slot by slot; all other layers of a backbone work row by row.

Shape legend: K slots, B rows, I and O input and output width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.backbones.blocks import is_transposed_linear
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


class RealRows(Protocol):
    """Steps of all slots in one row, slot after slot: how many, and how many of each slot."""

    @property
    def count(self) -> int: ...

    @property
    def sizes_K(self) -> list[int]: ...


class Current(Generic[S]):
    """Where the modules find the pass under way; within a layer that runs on real steps alone, `real` tells which."""

    launch: S
    real: RealRows | None = None


class SlotLinear(nn.Linear):
    """A linear layer that multiplies slot by slot: frozen weights that all slots share, or learnt ones [K, O, I]."""

    current: Current[Any]
    learnt: str | None = None  # the prefix of its weights' names

    def forward(self, x: Tensor) -> Tensor:
        """[K * B, ..., I] -> [K * B, ..., O]; [1, N, I] -> [1, N, O] where a layer runs on real steps alone."""
        launch, real = self.current.launch, self.current.real
        if real is not None and x.shape[:-1].numel() == real.count and self.learnt is None:
            parts = torch.split_with_sizes(x.reshape(real.count, self.in_features), real.sizes_K)
            of_slots = [F.linear(x_nI, self.weight, self.bias) for x_nI in parts]
            rows_NO = of_slots[0] if len(of_slots) == 1 else torch.cat(of_slots)
            return rows_NO.view(*x.shape[:-1], self.out_features)
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
        _move_hooks(inner, self)  # what is hooked to it sees all rows, as before

    def __getattr__(self, name: str) -> Any:
        """Its own attributes, or those of the convolution: models read kernel sizes and dtypes."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x: Tensor) -> Tensor:
        """[K * B, channels, ...] -> [K * B, channels, ...]."""
        return torch.cat([self.inner(part) for part in torch.chunk(x, self.current.launch.num_slots)])


class SlotAttention(nn.Module):
    """torch's MultiheadAttention with frozen weights, whose products work slot by slot.

    Args:
        inner: has one width, batches first, and adds nothing to its keys.
        current: tells the pass under way.
    """

    batch_first, in_proj_bias = True, None  # without a bias, torch's encoder layer takes no short cut around `forward`

    def __init__(self, inner: nn.MultiheadAttention, current: Current[Any]) -> None:
        super().__init__()
        self.num_heads = inner.num_heads
        weights = inner.in_proj_weight.chunk(3)
        biases = (None,) * 3 if inner.in_proj_bias is None else inner.in_proj_bias.chunk(3)
        self.query, self.key, self.value = (
            _slot_linear(nn.Parameter(weight, False), None if bias is None else nn.Parameter(bias, False), current)
            for weight, bias in zip(weights, biases, strict=True)
        )
        self.out_proj = _slot_linear(cast(Any, inner.out_proj.weight), cast(Any, inner.out_proj.bias), current)

    @staticmethod
    def can_replace(module: nn.Module) -> bool:
        """Whether a module is attention of this kind."""
        if type(module) is not nn.MultiheadAttention or not module.batch_first or module.add_zero_attn:
            return False
        return module.in_proj_weight is not None and module.bias_k is None and module.bias_v is None

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch's: [K * B, T, D], and the weights [K * B, (heads,) T, S] where they are needed."""
        heads: Any = (self.num_heads, -1)
        q_RHTd, k_RHSd, v_RHSd = (
            layer(x).unflatten(2, heads).transpose(1, 2)
            for layer, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        mask: Tensor | None = None
        if attn_mask is not None:  # [T, S], or of each row and head
            each = attn_mask if attn_mask.ndim == 2 else attn_mask.reshape(-1, self.num_heads, *attn_mask.shape[1:])
            mask = _added(each, query.dtype)
        if key_padding_mask is not None:
            padding = _added(key_padding_mask, query.dtype)[:, None, None]
            mask = padding if mask is None else mask + padding
        if need_weights:
            scores_RHTS = q_RHTd @ k_RHSd.transpose(2, 3) / q_RHTd.shape[-1] ** 0.5
            weights_RHTS = (scores_RHTS if mask is None else scores_RHTS + mask).softmax(-1)
            out_RHTd = weights_RHTS @ v_RHSd
        else:
            out_RHTd = F.scaled_dot_product_attention(q_RHTd, k_RHSd, v_RHSd, mask)
        out = self.out_proj(out_RHTd.transpose(1, 2).flatten(2))
        if not need_weights:
            return out, None
        return out, weights_RHTS.mean(1) if average_attn_weights else weights_RHTS


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as what is added to the scores; a mask of yes and no says what is left out."""
    if mask.dtype is not torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -torch.inf)


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
            if type(child) is nn.Linear or is_transposed_linear(child):
                linear: Any = child
                weight_OI = linear.weight if type(child) is nn.Linear else nn.Parameter(linear.weight.t(), False)
                setattr(parent, name, _slot_linear(weight_OI, linear.bias, current))
                _move_hooks(child, parent.get_submodule(name))
            elif SlotAttention.can_replace(child):
                setattr(parent, name, SlotAttention(cast(nn.MultiheadAttention, child), current))
                _move_hooks(child, parent.get_submodule(name))
            elif isinstance(child, (nn.Conv1d, nn.Conv2d)):
                setattr(parent, name, SlotConvolution(child, current))
    # For the bits of a slot alone. The whole model has no such padding, as NeMo's l2 would sum over it, too.
    model.encoder.step_multiple = STEPS
    return model


def _move_hooks(old: nn.Module, new: nn.Module) -> None:
    """Let what is hooked to a module's passes, as a point behind a layer is, be hooked to the one in its place."""
    for name in [name for name in vars(old) if name.startswith(("_forward_hooks", "_forward_pre_hooks"))]:
        old.__dict__[name], new.__dict__[name] = new.__dict__[name], old.__dict__[name]


def _slot_linear(weight_OI: nn.Parameter, bias_O: nn.Parameter | None, current: Current[Any]) -> SlotLinear:
    # Not by `__init__`, which draws weights first, on the meta device as well: slow, and for nothing.
    layer = SlotLinear.__new__(SlotLinear)
    nn.Module.__init__(layer)
    layer.out_features, layer.in_features = weight_OI.shape
    layer.weight, layer.current = weight_OI, current
    layer.register_parameter("bias", bias_O)
    return layer

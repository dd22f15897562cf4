"""Layers of a wide model run on the real steps alone: in its batches up to half of the steps are padding otherwise.

Between layers the steps stay padded, for whatever is there (adapters, hooks, masks); a layer takes the real ones out:

    [R, T, D]  ->  [1, N, D] -> norms, products, activations on N steps -> [1, N, D]  ->  [R, T, D], zeros elsewhere
                                attention row by row, each on its own steps

The layer's own code runs, as transformers has it. What it does to rows besides attention must be the same for each step
by itself; whether it is, is tried once (`can_unpad`). Each slot's steps are multiplied by themselves, and so a slot's
bits follow from its own batch (cut/slot_layers.py).

Shape legend: K slots, R rows of all slots, T steps, N real steps of all rows, H heads, D width.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones.blocks import valid_steps
from harness.backbones.encoders import Encoder
from harness.backbones.two_parts import handing, hidden_of
from harness.engines.cut.cut import num_block_weights
from harness.engines.cut.slot_layers import Current
from harness.training.memory import is_out_of_memory

VECTOR = 16  # numbers: a step's must fill whole vectors of the processor (see slot_layers.whole_steps)
FEWEST_WEIGHTS = 1e6  # of the layers: steps of smaller models are wide (items.WIDE) from a thousand steps on
TRIED_LENGTHS = (24, 11)  # steps of the rows that a model is tried on


class RealSteps:
    """Which steps of a launch's rows are real.

    Args:
        valid_KBT: of each slot's rows, the real steps, which are the first ones.
    """

    def __init__(self, valid_KBT: Tensor) -> None:
        lengths_KB = valid_KBT.sum(2)
        self.lengths_R: list[int] = lengths_KB.flatten().tolist()
        self.sizes_K: list[int] = lengths_KB.sum(1).tolist()
        self.count, self.shape = sum(self.sizes_K), (len(self.lengths_R), valid_KBT.shape[2])
        self._places_N = valid_KBT.flatten().nonzero()[:, 0]
        self._masks: tuple[Tensor, list[Tensor | None]] | None = None
        self.num_taken = 0  # times

    def take(self, x_RTD: Tensor) -> Tensor:
        """The real steps, [1, N, D]."""
        self.num_taken += 1
        return x_RTD.reshape(-1, x_RTD.shape[2]).index_select(0, self._places_N)[None]

    def put(self, x_1ND: Tensor) -> Tensor:
        """The real steps at their places, [R, T, D]; the others are 0."""
        rows, steps = self.shape
        width = x_1ND.shape[2]
        return x_1ND.new_zeros((rows * steps, width)).index_copy(0, self._places_N, x_1ND[0]).view(rows, steps, width)

    def masks(self, mask: Tensor | None) -> list[Tensor | None]:
        """What each row's real steps may look at, [1, 1 or H, n, n]; None where these are all its real steps.

        Args:
            mask: of all rows, [R, 1 or H, T, T]: yes and no, or numbers to add.
        """
        if mask is None:
            return [None] * len(self.lengths_R)
        if self._masks is None or self._masks[0] is not mask:  # all layers get one mask, or one of a few
            own = [mask[row : row + 1, :, :length, :length] for row, length in enumerate(self.lengths_R)]
            is_whole = [bool(part.all() if part.dtype is torch.bool else (part == 0).all()) for part in own]
            self._masks = mask, [None if whole else part for part, whole in zip(own, is_whole, strict=True)]
        return self._masks[1]


def unpad_layers(encoder: Encoder, current: Current[Any]) -> None:
    """Let each layer of an encoder run on the real steps where the pass under way names them (`current.real`)."""
    for layer in encoder.layers:
        layer.__dict__["forward"] = _unpadded(layer.forward, current)


def _unpadded(body: Callable[..., Any], current: Current[Any]) -> Callable[..., Any]:
    def forward(*args: Any, **options: Any) -> Any:
        real = current.launch.real
        if real is None or tuple(hidden_of(args, options).shape[:2]) != real.shape:
            return body(*args, **options)
        args, options = handing(real.take(hidden_of(args, options)), args, options)
        current.real = real
        try:
            with _attention_by_row(real):
                output = body(*args, **options)
        finally:
            current.real = None
        if isinstance(output, Tensor):
            return real.put(output)
        return (real.put(output[0]), *output[1:])

    return forward


@contextmanager
def _attention_by_row(real: RealSteps) -> Iterator[None]:
    """Let the attention of transformers look at each row's own steps.

    A model that computes attention by itself lets the rows look at one another; `can_unpad` finds that out.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    functions: Any = ALL_ATTENTION_FUNCTIONS
    of_library = functions["sdpa"]

    def by_row(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        lengths, outputs = real.lengths_R, []
        parts = (torch.split_with_sizes(x_1HNd, lengths, 2) for x_1HNd in (query, key, value))
        for q_1Hnd, k_1Hnd, v_1Hnd, own in zip(*parts, real.masks(mask), strict=True):
            # Without a mask the library would take a module for causal that does not say otherwise.
            how = options if mask is None or own is not None else {**options, "is_causal": False}
            outputs.append(of_library(module, q_1Hnd, k_1Hnd, v_1Hnd, own, **how)[0])
        return torch.cat(outputs, dim=1), None

    functions["sdpa"] = by_row  # over the library's own, which is found again when this one is deleted
    try:
        yield
    finally:
        del functions["sdpa"]


@dataclass(frozen=True)
class _Pass:
    """A pass of the frozen layers alone."""

    num_slots: int
    real: RealSteps | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)


@torch.no_grad()
def can_unpad(encoder: Encoder, current: Current[Any], layer: int) -> bool:
    """Let the layers of an encoder run on real steps alone, where that is found to give the same; whether it does.

    Tried on two rows: what follows a layer must be what it is on padded steps, and the shorter row's bits those that it
    has alone.

    Args:
        encoder: works slot by slot, and has no adapters.
        current: tells the pass under way.
        layer: see above; -1 for what reaches the first one.
    """
    widths = [module.out_features for module in encoder.layers.modules() if isinstance(module, nn.Linear)]
    if layer >= encoder.num_layers or any(width % VECTOR for width in (encoder.dim, *widths)):
        return False
    if "transformers" not in sys.modules or num_block_weights(encoder) < FEWEST_WEIGHTS:  # spare others the trial
        return False
    unpad_layers(encoder, current)
    if _gives_the_same(encoder, current, layer):
        return True
    for each in encoder.layers:
        each.__dict__.pop("forward", None)
    return False


def _gives_the_same(encoder: Encoder, current: Current[Any], layer: int) -> bool:
    weight, generator = next(encoder.parameters()), torch.Generator().manual_seed(0)
    num_rows, num_steps, length = len(TRIED_LENGTHS), TRIED_LENGTHS[0], TRIED_LENGTHS[1]
    x_RTD = torch.randn((num_rows, num_steps, encoder.dim), generator=generator).to(weight.dtype)
    valid_RT = valid_steps(torch.tensor(TRIED_LENGTHS), num_steps)
    together, alone = RealSteps(valid_RT[:, None]), RealSteps(valid_RT[1:, None])  # a row a slot

    def run(first: int, real: RealSteps | None) -> Tensor:
        current.launch = _Pass(num_rows - first, real)
        return encoder.forward_from(x_RTD[first:], valid_RT[first:], layer)

    try:
        padded_RTD, found_RTD, alone_1TD = run(0, None), run(0, together), run(1, alone)
    # A model of another library may raise anything when it is run in a way that it was not made for.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return False
    # A model that hands its layers other shapes (steps first, or padded to a window) is left as it is.
    if not together.num_taken or not padded_RTD.shape[:2] == found_RTD.shape[:2] == valid_RT.shape:
        return False
    is_same = torch.allclose(found_RTD[valid_RT], padded_RTD[valid_RT], rtol=1e-4, atol=1e-4)
    return is_same and torch.equal(found_RTD[1, :length], alone_1TD[0, :length])

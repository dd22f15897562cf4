"""Any frozen torch module with a list of layers as an encoder: a user's own, or a model of another library.

The module's own code runs in either part of a pass (two_parts.py), so all that has to be known is how it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters import InsertionPoint, attach_by_hook
from harness.backbones.blocks import is_transposed_linear, valid_steps
from harness.backbones.encoders import LibraryEncoder
from harness.backbones.inspecting import Expected, layers_of, see_layers
from harness.backbones.two_parts import run_from, run_to, whole_masks
from harness.data.batching import pad_sequence_batch
from harness.errors import UserError, first_line

Call = Callable[[Any, Tensor, Tensor], Tensor]
"""(module, inputs [B, T, ...], mask [B, T] of real steps) -> hidden states [B, T, D]."""
BY_ROW = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.MultiheadAttention)
"""Products that packs compute slot by slot (harness/engines/cut/slot_layers.py): of exactly these classes."""


class ModuleEncoder(LibraryEncoder):
    """Around a module, which it changes: hooks are put on its layers.

    Args:
        module: in eval mode; its weights are on a processor, in float32.
        examples: inputs of some items, [T, ...] each.
        call: how the module is run; None: see `usual_call`.
        layers: the name of the list of its layers; None takes the list with the most weights.

    Attributes:
        most_steps: of the examples.

    Raises:
        UserError: it has no list of layers, cannot be run so, or does not give a vector of one width for each step.
    """

    def __init__(
        self, module: nn.Module, examples: Sequence[Tensor], call: Call | None = None, layers: str | None = None
    ) -> None:
        super().__init__()
        _keep_padded(module)
        self.model, self.call = module, call or usual_call(module)
        ordered = sorted(examples, key=len)
        longest = ordered[-1]
        # As many items as there are steps could not be told apart from them.
        self._examples = [longest, ordered[0]] if len(longest) != 2 else [longest, longest, ordered[0]]
        self._like = longest[:1]
        try:
            found = layers_of(module, layers)
        except UserError as error:
            raise UserError(f"module: {error}") from error
        shape = self._try()
        self.dim = shape[2]
        expected = Expected(type(module).__name__, "items", "steps", "these inputs", shape)
        try:
            seen = see_layers(partial(self._run, *self.example()), list(found), expected)
        except UserError as error:
            raise UserError(f"module: {error}") from error
        self.points = nn.ModuleList(InsertionPoint(self.dim) for _ in found)
        for layer, point, one in zip(found, self.points, seen, strict=True):
            assert isinstance(point, InsertionPoint)
            attach_by_hook(layer, point, steps_first=one.steps_first)
        self._seen = seen
        self.repeats_layers = any(one.num_runs > 1 for one in seen)
        self.mixes_rows = True if any(one.steps_first for one in seen) or _multiplies_otherwise(found) else None
        self.find_layers(found)

    def example(self) -> tuple[Tensor, Tensor]:
        return pad_sequence_batch(self._examples)

    @torch.no_grad()
    def reads(self, num_steps: int) -> bool:
        """Whether the module takes items of so many steps; one with a table of positions has a greatest number."""
        try:
            self._run(self._blank(1, num_steps, next(self.parameters())), torch.tensor([num_steps]))
        except Exception:  # whatever it raises: it is tried here, and told by whoever asks
            return False
        return True

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        valid_BT = valid_steps(lengths_B, inputs.shape[1])
        self.tell_valid(valid_BT)
        hidden_BTD: Tensor = self.end(self.call(self.model, inputs, valid_BT))
        return hidden_BTD, valid_BT

    def forward_to(self, inputs: Tensor, lengths_B: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if layer == self.num_layers:
            with whole_masks():
                return self(inputs, lengths_B)
        valid_BT = valid_steps(lengths_B, inputs.shape[1])
        self.tell_valid(valid_BT)
        return run_to(partial(self.call, self.model, inputs, valid_BT), self.layers, self._seen, layer), valid_BT

    def forward_from(self, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
        if layer == self.num_layers:
            return x_BTD
        self.tell_valid(valid_BT)
        # No layer sees these inputs, but the module makes its masks and positions for as many rows and steps.
        run = partial(self.call, self.model, self._blank(len(valid_BT), valid_BT.shape[1], x_BTD), valid_BT)
        hidden: Tensor = self.end(run_from(run, self.layers, self._seen, layer, x_BTD))
        return hidden

    def _run(self, inputs: Tensor, lengths_B: Tensor) -> Tensor:
        inputs = inputs.to(next(self.parameters()).dtype) if inputs.is_floating_point() else inputs
        return self.call(self.model, inputs, valid_steps(lengths_B, inputs.shape[1]))

    def _blank(self, num_rows: int, num_steps: int, like: Tensor) -> Tensor:
        """Zeros of the inputs' kind; floating-point ones in the dtype of some others."""
        dtype = like.dtype if self._like.is_floating_point() else self._like.dtype
        return torch.zeros((num_rows, num_steps, *self._like.shape[1:]), dtype=dtype, device=like.device)

    @torch.no_grad()
    def _try(self) -> tuple[int, int, int]:
        """Run the module on the examples; the shape of what it gives."""
        inputs, lengths_B = self.example()
        kind, what = type(self.model).__name__, f"inputs {list(inputs.shape)} and a mask {list(inputs.shape[:2])}"
        try:
            found = self._run(inputs, lengths_B)
        # Whatever a module raises, it is to be called in another way.
        except Exception as error:
            raise UserError(
                f"module: {kind} fails on {what}: {first_line(error)}; pass `call`, a function of the module, the "
                "inputs and the mask of real steps which returns the hidden states"
            ) from error
        shape = tuple(found.shape) if isinstance(found, Tensor) else None
        if shape is None or len(shape) != 3 or shape[:2] != tuple(inputs.shape[:2]):
            gives = f"a {type(found).__name__}" if shape is None else str(list(shape))
            raise UserError(
                f"module: {kind} gives {gives} for {what}, and a vector for each step is needed, "
                f"[{inputs.shape[0]}, {inputs.shape[1]}, width]; `call` can return another part of its output"
            )
        return shape


def usual_call(module: nn.Module) -> Call:
    """How a module is run where nothing is said: as transformers' text models are, and torch's TransformerEncoder.

    Any other one is called with the inputs and the mask of real steps.
    """
    if getattr(module, "main_input_name", None) == "input_ids" and hasattr(module, "config"):
        return _call_transformers
    if isinstance(module, nn.TransformerEncoder):
        return _call_torch
    return lambda own, inputs, valid_BT: own(inputs, valid_BT)


def _call_transformers(module: Any, inputs: Tensor, valid_BT: Tensor) -> Tensor:
    hidden: Tensor = module(input_ids=inputs, attention_mask=valid_BT.long()).last_hidden_state
    return hidden


def _call_torch(module: Any, inputs: Tensor, valid_BT: Tensor) -> Tensor:
    hidden: Tensor = module(inputs, src_key_padding_mask=~valid_BT)
    return hidden


def _keep_padded(module: nn.Module) -> None:
    """Let torch's TransformerEncoders keep padded tensors: adapters behind their layers could read no others."""
    for part in module.modules():
        if isinstance(part, nn.TransformerEncoder):
            part.use_nested_tensor = False


def _multiplies_otherwise(layers: nn.ModuleList) -> bool:
    """Whether a layer has matrices outside of the modules whose products are computed slot by slot (GRU, einsum)."""
    known = [module for module in layers.modules() if type(module) in BY_ROW or is_transposed_linear(module)]
    inside = {id(part) for module in known for part in module.modules()}
    return any(
        weight.ndim > 1
        for module in layers.modules()
        if id(module) not in inside and not isinstance(module, (nn.Embedding, nn.LayerNorm))
        for weight in module.parameters(recurse=False)
    )

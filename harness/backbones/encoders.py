"""The two small encoders: text (tokens in) and speech (log-mel frames in), both ending in [B, T, D] hidden states.

An encoder names its insertion points in order, lowest layer first, and before each forward pass tells them which
steps are real (`valid_frames`), so that a strategy can average over valid frames. It is built with one behind each
layer; `put_points` gives it others (harness/backbones/points.py).

It can also be run in two parts: `forward_to` a layer's insertion point, and `forward_from` there. What comes before the
first adapter never changes, so its output can be kept (harness/engines/cut/prefix_cache.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.adapters import InsertionPoint
from harness.adapters.peft_bridge import Injected
from harness.backbones.blocks import ConformerBlock, TransformerBlock, valid_steps
from harness.backbones.points import SHARES, LayerShares, Place, find_places, put_points
from harness.backbones.survey import SeenModule, survey
from harness.config.points import BEHIND_LAYER, Points

NUM_STEPS = 12  # of the items that are tried


class Encoder(nn.Module, ABC):
    """What every backbone encoder offers: a width, named insertion points, and a masked forward pass."""

    dim: int
    notes: tuple[str, ...] = ()
    """What a record must tell of it."""
    mixes_rows: bool | None = False
    """Whether it multiplies all rows of a batch at once, so that a row's bits depend on the others; None: try it."""
    why_not_packed: str | None = None
    """Why trials on it cannot be packed, whatever they train; None where they can."""
    step_multiple: int = 1
    """A pass has a multiple of so many steps, where the encoder makes its batches itself; those behind are padding."""
    layers: nn.ModuleList
    """Its blocks, lowest first."""
    repeats_layers: bool = False
    """Whether a pass runs a layer, and so the adapters there, several times, as ALBERT's does."""
    places_taken: tuple[Place, ...] = ()
    """Where its insertion points are."""
    injected: Injected | None = None
    """The adapters that PEFT has put into it; None: it has none of these."""
    starts_elsewhere: bool = False
    """Whether a trial starts it with other weights than the base model's, so that its prefix is another one."""
    _placed: dict[str, InsertionPoint] | None = None

    @property
    def insertion_points(self) -> dict[str, InsertionPoint]:
        """Name -> host of adapters, in the order in which a pass reaches them."""
        return dict(self._layer_points if self._placed is None else self._placed)

    def points_by_layer(self) -> dict[str, InsertionPoint]:
        """The insertion points by the number of their layer, as text; by their names where a layer has several."""
        points = self.insertion_points
        layer_of = {place.name: str(place.layer) for place in self.places_taken}
        labels = [layer_of.get(name, name) for name in points]
        return dict(zip(labels if len(set(labels)) == len(labels) else points, points.values(), strict=True))

    @cached_property
    def _layer_points(self) -> dict[str, InsertionPoint]:
        """The points behind the layers, found once by walking over the modules. A deep copy copies these along."""
        return {name: module for name, module in self.named_modules() if isinstance(module, InsertionPoint)}

    def tell_valid(self, valid_BT: Tensor) -> None:
        """Tell each insertion point which steps are real."""
        for point in self.points_told():
            point.valid_frames = valid_BT

    def points_told(self) -> list[InsertionPoint]:
        """The insertion points whose steps are the encoder's."""
        return [*self._layer_points.values(), *(self._placed or {}).values()]

    @property
    def shares(self) -> LayerShares | None:
        """How much each layer adds on the way to the head; None where no points are there."""
        return getattr(self, SHARES, None)

    @property
    def num_layers(self) -> int:
        """How many blocks it has."""
        return len(self._layer_points)

    @property
    @abstractmethod
    def end(self) -> nn.Module:
        """The module whose output is the encoder's, in `forward` as in `forward_from`."""

    @abstractmethod
    def example(self) -> tuple[Tensor, Tensor]:
        """Inputs of two items (of another number where both have two steps) and their lengths, to try the encoder."""

    @cached_property
    def modules_seen(self) -> tuple[SeenModule, ...]:
        """The modules in its layers, as a pass on the example meets them."""
        weight = next(self.parameters())

        def run() -> int:
            inputs, lengths_B = self.example()
            inputs = inputs.to(weight.device, weight.dtype if inputs.is_floating_point() else None)
            self(inputs, lengths_B.to(weight.device))
            return len(inputs)

        self._layer_points  # noqa: B018 - before there are others
        return survey(self, self.layers, self.dim, run)

    def places(self, points: Points) -> tuple[Place, ...]:
        """The places that a setting names, in all layers, in the order in which a pass reaches them.

        Raises:
            UserError: the encoder does not have them; one line.
        """
        if points == BEHIND_LAYER:  # as fast as without a pass
            return tuple(Place(name, n, "layer", "", self.dim, self.dim) for n, name in enumerate(self._layer_points))
        return find_places(self.modules_seen, [*self._layer_points], self.dim, points)

    def put_points(self, places: Sequence[Place]) -> None:
        """Take insertion points at these places instead of those behind each layer; once, and before any adapter.

        An encoder's own weights and outputs stay what they are, and so do the names of its points behind layers.
        """
        assert self._placed is None, "an encoder takes its points once"
        self.places_taken = self.places(BEHIND_LAYER)
        if any(place.how != "layer" for place in places):
            self.places_taken = tuple(places)
            self._placed = put_points(self, self.end, [*self._layer_points.values()], places)

    def output_lengths(self, lengths_B: Tensor) -> Tensor:
        """Number of output steps for each number of input steps."""
        return lengths_B

    @abstractmethod
    def forward(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states [B, T, D] and the mask [B, T] of real steps; `lengths_B` counts the input steps."""

    @abstractmethod
    def forward_to(self, inputs: Tensor, lengths_B: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """What reaches the insertion point of `layer`, [B, T, D], and the mask [B, T] of real steps.

        Args:
            inputs: as for `forward`.
            lengths_B: as for `forward`.
            layer: from 0; -1 stands for what reaches the first layer, and the number of layers for the end, which
                gives what `forward` gives.
        """

    @abstractmethod
    def forward_from(self, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
        """Run the insertion point of `layer` and all that follows; returns the hidden states [B, T, D].

        Args:
            x_BTD: what `forward_to` gave for the same layer.
            valid_BT: the mask of real steps.
            layer: as for `forward_to`.
        """


def _example_ids(vocab_size: int) -> tuple[Tensor, Tensor]:
    ids_BT = torch.arange(2 * NUM_STEPS).reshape(2, NUM_STEPS) % vocab_size
    return ids_BT, torch.tensor([NUM_STEPS, NUM_STEPS // 2])


class LibraryEncoder(Encoder):
    """Around a model of another library, in which the layers are found by the name of their list."""

    model: Any

    def __init__(self) -> None:
        super().__init__()
        self._end = nn.Identity()  # the model's output comes from no one module

    def find_layers(self, layers: nn.ModuleList) -> None:
        """Keep the list's name, not the list: a second reference would be a second name of every weight."""
        self._layers = next(name for name, module in self.model.named_modules() if module is layers)

    @property
    def layers(self) -> nn.ModuleList:  # type: ignore[override]
        """The layers behind which the insertion points are."""
        return cast(nn.ModuleList, self.model.get_submodule(self._layers))

    @property
    def end(self) -> nn.Module:
        return self._end


class TextEncoder(Encoder):
    """Token embeddings and pre-norm Transformer blocks; inputs are token ids [B, T]."""

    def __init__(
        self, vocab_size: int, dim: int, num_layers: int, num_heads: int, hidden: int, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.dim = dim
        self.embedding = nn.Embedding(vocab_size, dim)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(TransformerBlock(dim, num_heads, hidden, dropout) for _ in range(num_layers))
        self.final_norm = nn.LayerNorm(dim)

    @property
    def end(self) -> nn.Module:
        return self.final_norm

    def example(self) -> tuple[Tensor, Tensor]:
        return _example_ids(self.embedding.num_embeddings)

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        valid_BT = valid_steps(lengths_B, inputs.shape[1])
        self.tell_valid(valid_BT)
        x_BTD = self.drop(self.embedding(inputs))
        for layer in self.layers:
            x_BTD = layer(x_BTD, valid_BT)
        return self.final_norm(x_BTD), valid_BT

    def forward_to(self, inputs: Tensor, lengths_B: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        valid_BT = valid_steps(lengths_B, inputs.shape[1])
        self.tell_valid(valid_BT)
        return _run_to(self.layers, self.final_norm, self.drop(self.embedding(inputs)), valid_BT, layer), valid_BT

    def forward_from(self, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
        self.tell_valid(valid_BT)
        return _run_from(self.layers, self.final_norm, x_BTD, valid_BT, layer)


class SpeechEncoder(Encoder):
    """Two strided convolutions over log-mel frames, then Conformer (or Transformer, kernel 0) blocks.

    Inputs are features [B, frames, mels]; the output has `ceil(ceil(frames / 2) / stride2)` steps.
    """

    def __init__(
        self,
        num_mels: int,
        dim: int,
        num_layers: int,
        num_heads: int,
        hidden: int,
        kernel: int = 15,
        dropout: float = 0.1,
        second_stride: int = 2,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.second_stride = second_stride
        self.first_conv = nn.Conv1d(num_mels, dim, 5, stride=2, padding=2)
        self.second_conv = nn.Conv1d(dim, dim, 5, stride=second_stride, padding=2)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            ConformerBlock(dim, num_heads, hidden, dropout, kernel)
            if kernel
            else TransformerBlock(dim, num_heads, hidden, dropout)
            for _ in range(num_layers)
        )
        self.final_norm = nn.LayerNorm(dim)

    @property
    def end(self) -> nn.Module:
        return self.final_norm

    def example(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        num_frames = 2 * NUM_STEPS * self.second_stride
        inputs = torch.randn((2, num_frames, self.first_conv.in_channels), generator=generator)
        return inputs, torch.tensor([num_frames, num_frames // 2])

    def output_lengths(self, lengths_B: Tensor) -> Tensor:
        """Number of output steps for each number of input frames."""
        halved = (lengths_B + 1) // 2
        return (halved + self.second_stride - 1) // self.second_stride

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        x_BTD, valid_BT = self._subsample(inputs, lengths_B)
        for layer in self.layers:
            x_BTD = layer(x_BTD, valid_BT)
        return self.final_norm(x_BTD), valid_BT

    def forward_to(self, inputs: Tensor, lengths_B: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        x_BTD, valid_BT = self._subsample(inputs, lengths_B)
        return _run_to(self.layers, self.final_norm, x_BTD, valid_BT, layer), valid_BT

    def forward_from(self, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
        self.tell_valid(valid_BT)
        return _run_from(self.layers, self.final_norm, x_BTD, valid_BT, layer)

    def _subsample(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """The two convolutions: [B, frames, mels] -> [B, T, D], and the mask [B, T] of real steps."""
        # Padded frames are zeroed between the convolutions, so that a clip gives the same output in any batch.
        first_BDT = F.silu(self.first_conv(inputs.transpose(1, 2)))
        first_valid = valid_steps((lengths_B + 1) // 2, first_BDT.shape[2])
        first_BDT = first_BDT.masked_fill(~first_valid[:, None, :], 0.0)
        x_BTD = F.silu(self.second_conv(first_BDT)).transpose(1, 2)
        valid_BT = valid_steps(self.output_lengths(lengths_B), x_BTD.shape[1])
        self.tell_valid(valid_BT)
        return self.drop(x_BTD), valid_BT


def _run_to(layers: nn.ModuleList, end: nn.Module, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
    for block in layers[: max(layer, 0)]:
        x_BTD = block(x_BTD, valid_BT)
    if layer < 0:
        return x_BTD
    last: Any = layers[layer] if layer < len(layers) else None
    return end(x_BTD) if last is None else last.body(x_BTD, valid_BT)


def _run_from(layers: nn.ModuleList, end: nn.Module, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
    if layer == len(layers):
        return x_BTD
    if layer >= 0:
        first: Any = layers[layer]
        x_BTD = first.insertion(x_BTD)
    for block in layers[layer + 1 :]:
        x_BTD = block(x_BTD, valid_BT)
    out_BTD: Tensor = end(x_BTD)
    return out_BTD


def masked_mean(hidden_BTD: Tensor, valid_BT: Tensor) -> Tensor:
    """Mean over the real steps: [B, D]."""
    weights_BT1 = valid_BT[..., None].to(hidden_BTD.dtype)
    return torch.where(valid_BT[..., None], hidden_BTD, 0.0).sum(1) / weights_BT1.sum(1).clamp(min=1.0)

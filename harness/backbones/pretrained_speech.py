"""Speech encoders of transformers: each clip goes alone up to the first layer, and all of them together from there on.

What comes before the layers (convolutions over samples, convolutional positions, pooling) normalises over a clip or
looks beyond its end, so that silence behind a clip in its batch would change it. Alone, a clip has none behind it.
The layers then run on the whole batch, with a mask, in the model's own code (harness/backbones/two_parts.py).
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from harness.adapters import InsertionPoint, attach_by_hook
from harness.backbones.blocks import valid_steps
from harness.backbones.encoders import LibraryEncoder
from harness.backbones.inspecting import Expected, layers_of, see_layers
from harness.backbones.points import Place
from harness.backbones.speech_families import SpeechFamily
from harness.backbones.two_parts import INPUT, run_from, run_to
from harness.config.points import TOWARDS_HEAD, Points, items_of
from harness.data.batching import round_up
from harness.errors import UserError

TRIED_STEPS = 25  # of the clip that a model is tried on


class PretrainedSpeechEncoder(LibraryEncoder):
    """Samples [B, samples, 1] or features [B, frames, channels] in, hidden states [B, T, D] out.

    Args:
        model: of transformers, in eval mode; of one with a decoder, the encoder.
        family: how models of its type are run.
        layers_at: the name of its list of layers, where `layers_of` would take another one.
        notes: what a record must tell of the weights.

    Raises:
        UserError: adapters cannot be put behind its layers, or running it in this way does not give what its own code
            gives.
    """

    def __init__(
        self, model: Any, family: SpeechFamily, layers_at: str | None = None, notes: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.model, self.family = model, family
        self.mixes_rows = None
        if getattr(model, "adapter", None) is not None:
            raise UserError(
                f"{type(model).__name__} has layers behind its encoder (add_adapter), which change its steps"
            )
        layers = layers_of(model, layers_at)
        self.find_layers(layers)
        self._fewest = family.fewest_inputs(model)
        clips = self._two_clips()
        run = partial(self._run_alone, clips[0][0])
        with torch.no_grad():
            shape = tuple(run_to(run, layers, (), INPUT).shape)
        self.dim = shape[2]
        kind_of_inputs = "samples" if family.reads_samples else "features"
        expected = Expected(type(model).__name__, "clips", "frames", kind_of_inputs, cast(Any, shape))
        self._seen = see_layers(run, list(layers), expected)
        self.points = nn.ModuleList(InsertionPoint(self.dim) for _ in layers)
        for layer, point in zip(layers, self.points, strict=True):
            attach_by_hook(layer, cast(InsertionPoint, point))
        for block, point in zip(layers, self.points, strict=True):
            family.shield(block, cast(InsertionPoint, point))
        self.notes = notes
        self._refuse_other_outputs(clips)

    def example(self) -> tuple[Tensor, Tensor]:
        return self._two_clips()

    def places(self, points: Points) -> tuple[Place, ...]:
        if TOWARDS_HEAD in items_of(points) and self.family.rate(self.model) != 1:
            raise UserError(
                f"backbone.points: {TOWARDS_HEAD}: the layers of {type(self.model).__name__} have fewer steps than its "
                "output, so theirs cannot be added to it"
            )
        return super().places(points)

    def output_lengths(self, lengths_B: Tensor) -> Tensor:
        return self._layer_lengths(lengths_B) * self.family.rate(self.model)

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        x_BTD, valid_BT = self._before_layers(inputs, lengths_B)
        return self._run_from(x_BTD, valid_BT, INPUT), self._output_valid(valid_BT)

    def forward_to(self, inputs: Tensor, lengths_B: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if layer == self.num_layers:
            return self(inputs, lengths_B)
        if self.family.rate(self.model) != 1:
            raise NotImplementedError("its layers have fewer steps than its output")
        x_BTD, valid_BT = self._before_layers(inputs, lengths_B)
        if layer == INPUT:
            return x_BTD, valid_BT
        run = partial(self.family.run, self.model, torch.zeros_like(x_BTD), valid_BT)
        return run_to(run, self.layers, self._seen, layer, x_BTD), valid_BT

    def forward_from(self, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
        return x_BTD if layer == self.num_layers else self._run_from(x_BTD, valid_BT, layer)

    def _run_from(self, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
        self.tell_valid(valid_BT)
        run = partial(self.family.run, self.model, torch.zeros_like(x_BTD), valid_BT)
        hidden_BTD: Tensor = self.end(run_from(run, self.layers, self._seen, layer, x_BTD))
        return hidden_BTD

    def _before_layers(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """What the first layer is handed for each clip alone, [B, T, D], and the mask [B, T] of real steps."""
        rows = [
            run_to(partial(self._run_alone, row[:length]), self.layers, self._seen, INPUT)[0]
            for row, length in zip(inputs, lengths_B.tolist(), strict=True)
        ]
        # As many steps as the padded inputs have room for: they depend on the batch's shape alone, not on its rows.
        most = round_up(int(self._layer_lengths(torch.tensor(inputs.shape[1]))), self.step_multiple)
        x_BTD = pad_sequence(rows, batch_first=True)
        x_BTD = nn.functional.pad(x_BTD, (0, 0, 0, most - x_BTD.shape[1]))
        valid_BT = valid_steps(self._layer_lengths(lengths_B), most)
        self.tell_valid(valid_BT)
        return x_BTD, valid_BT

    def _run_alone(self, inputs: Tensor) -> Tensor:
        """One clip [samples, 1] or [frames, channels] through the model's own code: [1, T, D]."""
        if len(inputs) < self._fewest:  # too short for a single step
            inputs = nn.functional.pad(inputs, (0, 0, 0, self._fewest - len(inputs)))
        hidden_1TD: Tensor = self.model(
            inputs[None, :, 0] if self.family.reads_samples else inputs[None]
        ).last_hidden_state
        return hidden_1TD

    def _layer_lengths(self, lengths_B: Tensor) -> Tensor:
        return self.family.steps(self.model, lengths_B.clamp(min=self._fewest))

    def _output_valid(self, valid_BT: Tensor) -> Tensor:
        return valid_BT.repeat_interleave(self.family.rate(self.model), 1)

    def _two_clips(self) -> tuple[Tensor, Tensor]:
        """Two clips of noise, one longer than the other, [2, samples or frames, channels], and their lengths."""
        lengths = torch.tensor([self._inputs_for(TRIED_STEPS), self._inputs_for(TRIED_STEPS // 2)])
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(2, int(lengths[0]), self.family.channels(self.model), generator=generator)
        return inputs, lengths

    def _inputs_for(self, num_steps: int) -> int:
        """The fewest inputs that give so many steps."""
        few, many = self._fewest - 1, self._fewest
        while int(self.family.steps(self.model, torch.tensor(many))) < num_steps:
            few, many = many, 2 * many
        while many - few > 1:
            middle = (few + many) // 2
            enough = int(self.family.steps(self.model, torch.tensor(middle))) >= num_steps
            few, many = (few, middle) if enough else (middle, many)
        return many

    @torch.no_grad()
    def _refuse_other_outputs(self, clips: tuple[Tensor, Tensor]) -> None:
        """Compare with what the model's own code gives for each clip alone."""
        inputs, lengths_B = clips
        hidden_BTD, valid_BT = self(inputs, lengths_B)
        for row, length in enumerate(lengths_B.tolist()):
            own_TD = self._run_alone(inputs[row, :length])[0]
            found_TD = hidden_BTD[row][valid_BT[row]]
            own_TD = own_TD[: len(found_TD)]
            if own_TD.shape != found_TD.shape or not torch.allclose(found_TD, own_TD, rtol=1e-3, atol=1e-3):
                raise UserError(
                    f"{type(self.model).__name__} gives other outputs for a clip beside a longer one, so its results "
                    "would depend on its batch"
                )

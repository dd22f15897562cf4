"""How the speech models of transformers are run, one entry a `model_type`: what they read, what is before their layers.

A model's `forward` goes from samples to the last hidden states. To run its layers on hidden states that are there
already, the modules before them are replaced for a while by ones that give zeros of the right shape.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters import InsertionPoint

Run = Callable[[Any, Tensor, Tensor], Tensor]  # (model, zeros [B, T, D], mask [B, T]) -> last hidden states
Count = Callable[[Any, Tensor], Tensor]  # (model, numbers of inputs) -> of steps


@dataclass(frozen=True)
class SpeechFamily:
    """How models of a type are run.

    Attributes:
        run: the layers and what follows, on hidden states that are replaced at the first layer.
        count: steps for numbers of inputs, before they are squeezed.
        reads_samples: rather than features.
        channels_at: the name of the number of channels of its features in the config.
        squeezes: its layers have `config.squeeze_factor` times fewer steps than its output.
        unmasked: the name of convolutions in a layer that would see what lies behind a clip.
    """

    run: Run
    count: Count
    reads_samples: bool = True
    channels_at: str = ""
    squeezes: bool = False
    unmasked: str = ""

    def rate(self, model: Any) -> int:
        """Steps of the output for one at the layers."""
        return int(model.config.squeeze_factor) if self.squeezes else 1

    def steps(self, model: Any, lengths: Tensor) -> Tensor:
        """Steps at the layers for numbers of inputs."""
        return self.count(model, lengths).long() // self.rate(model)

    def channels(self, model: Any) -> int:
        """Channels of the inputs."""
        return 1 if self.reads_samples else int(getattr(model.config, self.channels_at))

    def fewest_inputs(self, model: Any) -> int:
        """The fewest inputs that give a step."""
        number = 1
        while int(self.steps(model, torch.tensor(number))) < 1:
            number += 1
        return number

    def shield(self, layer: nn.Module, point: InsertionPoint) -> None:
        """Hide what lies behind a clip from a layer's convolutions, as the point behind the layer knows it."""
        for name, module in layer.named_modules():
            if self.unmasked and name.endswith(self.unmasked):
                module.register_forward_pre_hook(_HideBehind(point))


class _HideBehind:
    """A hook that puts zeros behind each clip, [B, D, T]; an object, so that a deepcopy of the model has its own."""

    def __init__(self, point: InsertionPoint) -> None:
        self.point = point

    def __call__(self, module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        valid_BT = self.point.valid_frames
        # Without a mask a clip runs alone, up to the first layer or as its own code runs it.
        if valid_BT is None or valid_BT.shape != (args[0].shape[0], args[0].shape[2]):
            return None
        return (args[0].masked_fill(~valid_BT[:, None], 0.0),)


@contextmanager
def _stand_ins(model: nn.Module, replaced: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Give modules (by the names of their `forward`) and methods of a model others for a while."""
    places = [(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in replaced]
    try:
        for (owner, name), other in zip(places, replaced.values(), strict=True):
            owner.__dict__[name] = other
        yield
    finally:
        for owner, name in places:
            owner.__dict__.pop(name, None)


def _run_encoder(model: Any, zeros_BTD: Tensor, valid_BT: Tensor) -> Tensor:
    """wav2vec2 and its kin: the encoder is a module of its own, whose convolutional positions need not be computed."""
    silent = {"encoder.pos_conv_embed.forward": torch.zeros_like} if hasattr(model.encoder, "pos_conv_embed") else {}
    with _stand_ins(model, silent):
        hidden_BTD: Tensor = model.encoder(zeros_BTD, attention_mask=valid_BT).last_hidden_state
    return hidden_BTD


def _run_wavlm(model: Any, zeros_BTD: Tensor, valid_BT: Tensor) -> Tensor:
    with warnings.catch_warnings():  # its own code mixes kinds of masks, which torch deprecates
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask and attn_mask")
        return _run_encoder(model, zeros_BTD, valid_BT)


def _run_squeezed(model: Any, zeros_BTD: Tensor, valid_BT: Tensor) -> Tensor:
    """SEW pools its steps in front of the layers, and repeats them behind."""
    factor = model.config.squeeze_factor
    zeros = zeros_BTD.repeat_interleave(factor, 1)
    hidden_BTD: Tensor = model.encoder(zeros, attention_mask=valid_BT.repeat_interleave(factor, 1)).last_hidden_state
    return hidden_BTD


def _run_subsampled(name: str) -> Run:
    """Parakeet and LASR: one module subsamples the features, and one method the mask."""

    def run(model: Any, zeros_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        replaced = {f"{name}.forward": lambda *args, **options: zeros_BTD}
        with _stand_ins(model, replaced | {"_get_output_attention_mask": lambda mask, target_length: valid_BT}):
            hidden_BTD: Tensor = model(zeros_BTD, attention_mask=valid_BT).last_hidden_state
        return hidden_BTD

    return run


def _run_moonshine(model: Any, zeros_BTD: Tensor, valid_BT: Tensor) -> Tensor:
    """Three convolutions in the encoder itself; the mask takes every 384th of what it is given."""
    zeros_BDT = zeros_BTD.transpose(1, 2)
    replaced = {f"{name}.forward": lambda x: zeros_BDT for name in ("conv1", "groupnorm", "conv2", "conv3")}
    with _stand_ins(model, replaced | {"_get_feat_extract_output_lengths": lambda number: valid_BT.shape[1]}):
        hidden: Tensor = model(zeros_BTD[..., 0], attention_mask=valid_BT.repeat_interleave(384, 1)).last_hidden_state
    return hidden


def _by_convolutions(model: Any, lengths: Tensor) -> Tensor:
    steps: Tensor = model._get_feat_extract_output_lengths(lengths)
    return steps


def _by_convolutions_each(model: Any, lengths: Tensor) -> Tensor:
    """Moonshine's takes one number."""
    counts = [model._get_feat_extract_output_lengths(number) for number in lengths.flatten().tolist()]
    return torch.tensor(counts, device=lengths.device).reshape(lengths.shape)


def _by_subsampling(model: Any, lengths: Tensor) -> Tensor:
    steps: Tensor = model._get_subsampling_output_length(lengths)
    return steps


_WAV2VEC2 = SpeechFamily(_run_encoder, _by_convolutions)
_SEW = SpeechFamily(_run_squeezed, _by_convolutions, squeezes=True)
SPEECH_FAMILIES: dict[str, SpeechFamily] = {
    "data2vec-audio": _WAV2VEC2,
    "hubert": _WAV2VEC2,
    "lasr_ctc": SpeechFamily(
        _run_subsampled("subsampler"), _by_subsampling, reads_samples=False, channels_at="num_mel_bins"
    ),
    "moonshine": SpeechFamily(_run_moonshine, _by_convolutions_each),
    "parakeet_ctc": SpeechFamily(
        _run_subsampled("subsampling"),
        _by_subsampling,
        reads_samples=False,
        channels_at="num_mel_bins",
    ),
    "sew": _SEW,
    "sew-d": _SEW,
    "unispeech": _WAV2VEC2,
    "unispeech-sat": _WAV2VEC2,
    "wav2vec2": _WAV2VEC2,
    "wav2vec2-bert": SpeechFamily(
        _run_encoder, lambda model, lengths: lengths, reads_samples=False, channels_at="feature_projection_input_dim"
    ),
    "wav2vec2-conformer": SpeechFamily(_run_encoder, _by_convolutions, unmasked="conv_module.depthwise_conv"),
    "wavlm": SpeechFamily(_run_wavlm, _by_convolutions),
}
"""`model_type` of a config.json -> how such a model is run."""

"""Pretrained speech encoders through transformers, one class a kind of model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from harness.backbones.encoder_settings import SpeechModelSettings
from harness.backbones.encoders import Encoder
from harness.backbones.fetched import PREFIX, find_model
from harness.backbones.pretrained import build_transformers_model, load_transformers_model, model_type_of
from harness.backbones.whisper import WhisperEncoder
from harness.errors import must_be_in

SPEECH_MODELS: dict[str, Callable[[nn.Module, tuple[str, ...]], Encoder]] = {
    "whisper": WhisperEncoder,
}
"""`model_type` of a config.json -> (the model's encoder, notes) -> the encoder here."""


def speech_encoder(settings: SpeechModelSettings, directory: Path, with_weights: bool) -> Encoder:
    """The speech encoder of a folder.

    Args:
        settings: of the recipe.
        directory: the model's folder.
        with_weights: False gives fresh weights, for a backbone whose own weights are loaded afterwards.

    Raises:
        UserError: transformers cannot load it, or its kind is not known here.
    """
    kind = model_type_of(directory)
    must_be_in(kind, SPEECH_MODELS, f"encoder.path: {directory}: no speech model of type {kind!r}")
    model = load_transformers_model(directory) if with_weights else build_transformers_model(directory)
    return SPEECH_MODELS[kind](model, weights_notes(settings))


def weights_notes(settings: SpeechModelSettings) -> tuple[str, ...]:
    """What every table must say of a model's first weights."""
    if not settings.path.startswith(PREFIX):
        return ()
    return (find_model(settings.path.removeprefix(PREFIX)).note,)

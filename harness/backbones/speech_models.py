"""Pretrained speech encoders through transformers, one class a kind of model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.backbones.encoder_settings import SpeechModelSettings
from harness.backbones.encoders import Encoder
from harness.backbones.fetched import weights_notes
from harness.backbones.hub import hub_note
from harness.backbones.mms import load_language
from harness.backbones.model import CtcHead
from harness.backbones.pretrained import (
    architectures_of,
    build_transformers_model,
    load_transformers_model,
    model_type_of,
)
from harness.backbones.pretrained_speech import PretrainedSpeechEncoder
from harness.backbones.speech_families import SPEECH_FAMILIES
from harness.backbones.whisper import WhisperEncoder, WindowedWhisperEncoder
from harness.backbones.whisper_decoder import WhisperDecoderHead
from harness.disk import read_mapping
from harness.errors import UserError, first_line, must_be_in


def _encoder_of_family(kind: str, model: nn.Module, layers_at: str | None, notes: tuple[str, ...]) -> Encoder:
    return PretrainedSpeechEncoder(model, SPEECH_FAMILIES[kind], layers_at, notes)


Make = Callable[[nn.Module, str | None, tuple[str, ...]], Encoder]
SPEECH_MODELS: dict[str, Make] = {
    **{kind: partial(_encoder_of_family, kind) for kind in SPEECH_FAMILIES},
    "whisper": lambda model, layers_at, notes: WhisperEncoder(model, notes),
}
"""`model_type` of a config.json -> (the model's encoder, name of its layers, notes) -> the encoder here."""


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
    return make_encoder(kind, model, settings, directory)


def make_encoder(kind: str, model: nn.Module, settings: SpeechModelSettings, directory: Path) -> Encoder:
    """The encoder here of one of transformers, of a folder."""
    try:
        return SPEECH_MODELS[kind](model, settings.layers_at, _origin_notes(settings, directory))
    except UserError as error:
        raise UserError(f"encoder.path: {directory}: {error}") from error


def _origin_notes(settings: SpeechModelSettings, directory: Path) -> tuple[str, ...]:
    """What every table must say of where a model's first weights come from."""
    return (*hub_note(directory), *weights_notes(settings.path))


def speech_ctc(settings: SpeechModelSettings, directory: Path, language: str | None = None) -> tuple[Encoder, CtcHead]:
    """The encoder of a folder's CTC model, and its own output layer.

    Args:
        settings: of the recipe.
        directory: the model's folder.
        language: whose adapters and output layer are taken, of a model with one file a language (MMS).

    Raises:
        UserError: transformers cannot load it, its kind is not known here, or it has no such output layer.
    """
    kind, said = model_type_of(directory), architectures_of(directory)
    must_be_in(kind, SPEECH_FAMILIES, f"encoder.path: {directory}: no model of type {kind!r} with a CTC output layer")
    if not any(name.endswith("ForCTC") for name in said):
        raise UserError(
            f"encoder.path: {directory}: train: none needs a model with a CTC output layer of its own, and this is "
            f"{', '.join(said) or 'one without a class'}; choices: train: head, train: full"
        )
    model: Any = load_transformers_model(directory, part="ctc")
    if language is not None and getattr(model.config, "adapter_attn_dim", None) is not None:
        load_language(model, directory, language)
    within = model.get_encoder() if hasattr(model, "encoder") else getattr(model, model.base_model_prefix)
    own = model.ctc_head if hasattr(model, "ctc_head") else model.lm_head
    encoder = make_encoder(kind, within, settings, directory)
    head = CtcHead(encoder.dim, own.weight.shape[0] - 1)
    with torch.no_grad():
        head.output.weight.copy_(own.weight.flatten(1))  # a convolution of width 1 in some
        head.output.bias.copy_(own.bias)
    return encoder, head


def speech_seq2seq(
    settings: SpeechModelSettings, directory: Path, with_weights: bool
) -> tuple[Encoder, WhisperDecoderHead]:
    """The encoder of a folder's Whisper, on whole windows, and its decoder.

    Raises:
        UserError: transformers cannot load it, it is no Whisper, or its settings for decoding are not there.
    """
    kind = model_type_of(directory)
    must_be_in(kind, ("whisper",), f"encoder.path: {directory}: no model with a decoder of type {kind!r}")
    load = load_transformers_model if with_weights else build_transformers_model
    model: Any = load(directory, part="seq2seq")
    notes = _origin_notes(settings, directory)
    encoder = WindowedWhisperEncoder(model.get_encoder(), len(model.get_decoder().layers), notes)
    said = _generation_settings(directory)
    # Prompts of multilingual models name a language and what to do with it: they would be chosen here.
    forced = [token for _, token in sorted(said.get("forced_decoder_ids") or [])]
    head = WhisperDecoderHead(
        model.get_decoder(),
        encoder.decoder_points,
        prompt=(int(said["decoder_start_token_id"]), *forced),
        end=int(said["eos_token_id"]),
        suppressed=tuple(said.get("suppress_tokens") or ()),
        suppressed_first=tuple(said.get("begin_suppress_tokens") or ()),
    )
    return encoder, head


def _generation_settings(directory: Path) -> dict[str, Any]:
    path = directory / "generation_config.json"
    try:
        said = read_mapping(path)
        int(said["decoder_start_token_id"]), int(said["eos_token_id"])
        if any(None in pair for pair in said.get("forced_decoder_ids") or []):
            raise UserError(
                f"encoder.path: {path}: forced_decoder_ids leaves the language open, as a multilingual Whisper's do; "
                "write the language's token there"
            )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"encoder.path: {path}: the decoder's settings cannot be read: {first_line(error)}") from error
    return said

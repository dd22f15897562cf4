"""Backbones on disk: built from a recipe, saved once trained, loaded with their fingerprint checked.

A backbone's folder holds backbone.json (recipe, symbols, fingerprint, scores, versions), weights.safetensors and,
for text, tokenizer.json. An encoder that comes pretrained keeps its own weights where they are; the folder then
holds the output layer alone, and the fingerprint covers both. A pretrained speech encoder that was trained further is
kept whole, with its settings.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from tokenizers import Tokenizer

from harness.backbones.encoder_settings import (
    PretrainedEncoderSettings,
    SpeechEncoderSettings,
    SpeechModelSettings,
    TextEncoderSettings,
)
from harness.backbones.encoders import Encoder, SpeechEncoder, TextEncoder
from harness.backbones.facts import pretrain_command, read_facts, unreadable
from harness.backbones.model import HeadMaker, TaskModel
from harness.backbones.model_files import (
    ENCODER_FILES,
    encoder_files,
    keeps_encoder_files,
    preparation_of,
    setting_files,
)
from harness.backbones.recipe import Recipe, backbone_directory
from harness.config.places import find_path, folder_of
from harness.data.speech_text import LATIN28
from harness.data.symbol_table import SymbolTable, read_symbol_table
from harness.disk import write_atomically, write_json
from harness.disk.temporary import drop_left_over, temporary_beside
from harness.errors import UserError
from harness.tensors import digest


@dataclass(frozen=True)
class Backbone:
    """A trained model, and what its inputs need. `model` is the frozen original: copy it, never train it.

    `preparation` is the fingerprint of what makes its inputs and targets: see `preparation_of`.
    """

    recipe: Recipe
    model: TaskModel
    symbols: tuple[str, ...]
    fingerprint: str
    tokenizer: Any | None
    directory: Path | None
    preparation: str = ""


def build_encoder(recipe: Recipe, vocab_size: int, files: Path | None = None) -> Encoder:
    """The recipe's encoder, with fresh weights (or its own, when it comes pretrained).

    Args:
        recipe: names the encoder.
        vocab_size: of the tokenizer of a text encoder that is trained here.
        files: the settings of a pretrained encoder, kept beside weights that are loaded afterwards.

    Raises:
        UserError: the pretrained encoder is not there, or its sizes do not fit together.
    """
    settings = recipe.encoder
    try:
        if isinstance(settings, TextEncoderSettings):
            return TextEncoder(
                vocab_size, settings.dim, settings.num_layers, settings.num_heads, settings.hidden, settings.dropout
            )
        if isinstance(settings, SpeechEncoderSettings):
            return SpeechEncoder(
                settings.num_mels,
                settings.dim,
                settings.num_layers,
                settings.num_heads,
                settings.hidden,
                settings.kernel,
                settings.dropout,
                settings.second_stride,
            )
    except ValueError as error:
        raise UserError(f"recipe {recipe.name}: encoder: {error}") from error
    from harness.backbones.pretrained import PretrainedTextEncoder, model_directory

    if isinstance(settings, SpeechModelSettings):
        from harness.backbones.speech_models import speech_encoder

        return speech_encoder(settings, files or model_directory(settings.path), with_weights=files is None)
    from harness.backbones.fetched import weights_notes

    return PretrainedTextEncoder(model_directory(settings.path), settings.max_length, weights_notes(settings.path))


def build_model(
    recipe: Recipe,
    make_head: HeadMaker,
    symbols: tuple[str, ...],
    vocab_size: int,
    seed: int,
    files: Path | None = None,
) -> TaskModel:
    """A model with weights drawn from `seed`, leaving torch's global generator as it was.

    Args:
        recipe: names the encoder.
        make_head: of the task; a seq2seq model has a decoder of its own.
        symbols: the outputs.
        vocab_size: of the tokenizer of a text encoder that is trained here.
        seed: of fresh weights.
        files: see `build_encoder`.

    Raises:
        UserError: the pretrained encoder is not there, or its sizes do not fit together.
    """
    if recipe.task_name == "seq2seq" and not isinstance(recipe.encoder, SpeechModelSettings):
        raise UserError(
            f"recipe {recipe.name}: task: seq2seq needs a pretrained model with a decoder, as "
            "encoder: {kind: transformers, family: speech, path: ...}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if recipe.task_name == "seq2seq":
            assert isinstance(recipe.encoder, SpeechModelSettings)
            from harness.backbones.pretrained import model_directory
            from harness.backbones.speech_models import speech_seq2seq

            directory = files or model_directory(recipe.encoder.path)
            encoder, decoder = speech_seq2seq(recipe.encoder, directory, with_weights=files is None)
            return TaskModel(encoder, lambda dim, num_outputs: decoder, len(symbols))
        return TaskModel(build_encoder(recipe, vocab_size, files), make_head, len(symbols))


def pretrained_tokenizer(settings: PretrainedEncoderSettings) -> Tokenizer:
    """The tokenizer that lies beside a pretrained encoder, without padding or truncation of its own.

    Raises:
        UserError: the encoder or its tokenizer is missing, or a file is corrupt.
    """
    from harness.backbones.pretrained import model_directory, older_tokenizer

    directory = model_directory(settings.path)
    try:
        if (directory / "tokenizer.json").is_file():
            tokenizer = _read_tokenizer(directory / "tokenizer.json")
        else:
            tokenizer = older_tokenizer(directory)
    except ValueError as error:
        raise UserError(f"encoder.path: {settings.path}: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(settings.max_length)  # its own way of cutting keeps the closing token
    return tokenizer


def fingerprint_of(model: TaskModel) -> str:
    """SHA-256 of all weights of the model."""
    return digest(model.state_dict())


def own_weights(recipe: Recipe, model: TaskModel) -> dict[str, torch.Tensor]:
    """The weights that the backbone's folder holds (all but a pretrained encoder's that was not trained)."""
    state = model.state_dict()
    if recipe.train == "head":
        return {name: tensor for name, tensor in state.items() if name.startswith("head.")}
    return state


def save_backbone(
    recipe: Recipe, model: TaskModel, symbols: tuple[str, ...], tokenizer: Tokenizer | None, facts: dict[str, Any]
) -> Path:
    """Write a trained backbone to its folder, whole or not at all; returns the folder."""
    directory = backbone_directory(recipe)
    drop_left_over(directory.parent)
    building = temporary_beside(directory)
    dtype = torch.float16 if recipe.weights == "float16" else None
    weights = {name: tensor.to(dtype=dtype).contiguous() for name, tensor in own_weights(recipe, model).items()}
    write_atomically(building / "weights.safetensors", save(weights))
    if keeps_encoder_files(recipe):
        for path in setting_files(recipe):
            write_atomically(building / ENCODER_FILES / path.name, path.read_bytes())
    if tokenizer is not None and recipe.encoder.kind == "text":
        write_atomically(building / "tokenizer.json", tokenizer.to_str().encode())
    facts_of_table = symbols.facts() if isinstance(symbols, SymbolTable) else {}
    is_beside = isinstance(recipe.encoder, PretrainedEncoderSettings | SpeechModelSettings)
    prepared = {"preparation": preparation_of(recipe, symbols)} if is_beside and not keeps_encoder_files(recipe) else {}
    write_json(
        building / "backbone.json",
        {
            "recipe": recipe.model_dump(mode="json", by_alias=True),
            "symbols": symbols,
            **({"symbol_table": facts_of_table} if facts_of_table else {}),
            "fingerprint": fingerprint_of(model),
            **prepared,
            **facts,
        },
    )
    shutil.rmtree(directory, ignore_errors=True)
    building.rename(directory)
    return directory


def load_backbone(recipe: Recipe, make_head: HeadMaker, asked: str | None = None) -> Backbone:
    """Load a trained backbone, in eval mode.

    Args:
        recipe: its recipe.
        make_head: of its task.
        asked: the name or path that the recipe was loaded by, for the command in error messages.

    Raises:
        UserError: it has not been trained yet (the command is named), a file is corrupt, or the weights are not those
            that the folder's fingerprint was taken of.
    """
    directory = backbone_directory(recipe)
    command = pretrain_command(recipe, asked)
    if recipe.train == "none":
        return _load_as_it_is(recipe, make_head)
    facts = read_facts(recipe, asked)
    symbols, expected = facts["symbols"], facts["fingerprint"]
    try:
        weights = load_file(directory / "weights.safetensors")
        tokenizer = _load_tokenizer(recipe, directory)
    except UserError:
        raise  # of a pretrained encoder's own files: training the backbone again would not mend them
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise unreadable(directory, command, error) from error
    vocab_size = tokenizer.get_vocab_size() if tokenizer else 0
    files = encoder_files(recipe) if keeps_encoder_files(recipe) else None
    model = build_model(recipe, make_head, symbols, vocab_size, seed=0, files=files)
    try:
        model.load_state_dict(weights, strict=recipe.train == "full")
    except RuntimeError as error:
        raise unreadable(directory, command, "its weights are not those of the recipe's model") from error
    model.eval()
    found = fingerprint_of(model)
    if found != expected:
        what = f"{directory}: weights have fingerprint {found[:12]}, expected {expected[:12]}"
        if recipe.train == "head" and isinstance(recipe.encoder, PretrainedEncoderSettings):
            changed = f"the encoder in {recipe.encoder.path} is another one than the head was trained on"
            raise UserError(f"{what}: {changed}; to train it anew, run: {command} --overwrite")
        raise UserError(f"{what}; delete the folder and run: {command}")
    preparation = preparation_of(recipe, symbols)
    if facts.get("preparation", preparation) != preparation:
        raise UserError(
            f"{directory}: it was trained with another tokenizer or feature extractor than is there now; to train "
            f"it anew, run: {command} --overwrite"
        )
    return Backbone(recipe, model, symbols, found, tokenizer, directory, preparation)


def _load_as_it_is(recipe: Recipe, make_head: HeadMaker) -> Backbone:
    """A pretrained model with its own output layer or decoder."""
    if recipe.task_name == "ctc" and isinstance(recipe.encoder, SpeechModelSettings):
        return _load_own_ctc(recipe, recipe.encoder)
    if recipe.task_name != "seq2seq":
        raise UserError(
            f"recipe {recipe.name}: train: none needs a model with an output layer of its own, and task "
            f"{recipe.task_name} has none here; choices: train: head, train: full"
        )
    model = build_model(recipe, make_head, (), 0, seed=0).eval()
    tokenizer = decoder_tokenizer(recipe)
    return Backbone(recipe, model, (), fingerprint_of(model), tokenizer, None, preparation_of(recipe, ()))


def _load_own_ctc(recipe: Recipe, settings: SpeechModelSettings) -> Backbone:
    """A CTC model with its own output layer and vocabulary."""
    from harness.backbones.pretrained import model_directory
    from harness.backbones.speech_models import speech_ctc

    text = recipe.text
    if text.alphabet in (LATIN28.name, "characters"):
        raise UserError(
            f"recipe {recipe.name}: train: none keeps the model's output layer, which writes its own symbols; set "
            "text.alphabet to the model's folder or its vocab.json"
        )
    symbols = read_symbol_table(find_path(text.alphabet, folder_of(text.alphabet)), text.language)
    encoder, head = speech_ctc(settings, model_directory(settings.path), text.language)
    num_outputs = head.output.out_features
    if num_outputs != len(symbols) + 1:
        raise UserError(
            f"recipe {recipe.name}: text.alphabet: {text.alphabet} has {len(symbols) + 1} symbols with the blank, and "
            f"the model's output layer {num_outputs}"
        )
    model = TaskModel(encoder, lambda dim, num_symbols: head, len(symbols)).eval()
    return Backbone(recipe, model, symbols, fingerprint_of(model), None, None, preparation_of(recipe, symbols))


def decoder_tokenizer(recipe: Recipe) -> Tokenizer:
    """The tokenizer of a seq2seq model, which lies beside its settings.

    Raises:
        UserError: it is not there, or corrupt.
    """
    path = encoder_files(recipe) / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"encoder.path: {path.parent}: no tokenizer.json there, and a decoder's tokens need one")
    try:
        return _read_tokenizer(path)
    except ValueError as error:
        raise UserError(f"encoder.path: {path.parent}: {error}") from error


def _load_tokenizer(recipe: Recipe, directory: Path) -> Tokenizer | None:
    if isinstance(recipe.encoder, PretrainedEncoderSettings):
        return pretrained_tokenizer(recipe.encoder)
    if recipe.task_name == "seq2seq":
        return decoder_tokenizer(recipe)
    if isinstance(recipe.encoder, TextEncoderSettings):
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise OSError("tokenizer.json is missing")
        return _read_tokenizer(path)
    return None


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{path.name}: {error}") from error

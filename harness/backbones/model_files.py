"""The files beside a backbone's weights: settings of a pretrained encoder, tokenizer, feature extractor."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from harness.backbones.encoder_settings import PretrainedEncoderSettings, SpeechEncoderSettings, SpeechModelSettings
from harness.backbones.recipe import Recipe, backbone_directory
from harness.config.base import content_hash
from harness.data.symbol_table import SymbolTable

ENCODER_FILES = "encoder"  # the folder of a pretrained encoder's settings beside its weights
TOKENIZER = "tokenizer.json"
FEATURES = ("preprocessor_config.json", "processor_config.json")
SETTING_FILES = ("config.json", *FEATURES, "generation_config.json", TOKENIZER)
# What else transformers makes a tokenizer of, beside a vocabulary, where there is no tokenizer.json.
OLDER = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def keeps_encoder_files(recipe: Recipe) -> bool:
    """Whether a backbone's folder has all weights of a pretrained encoder, so that the original is not needed again."""
    return isinstance(recipe.encoder, SpeechModelSettings) and recipe.train == "full"


def encoder_files(recipe: Recipe) -> Path:
    """The folder with the settings of a pretrained speech encoder: beside the backbone's weights, else the model's.

    Raises:
        UserError: the model is not there.
    """
    from harness.backbones.pretrained import model_directory

    kept = backbone_directory(recipe) / ENCODER_FILES
    assert isinstance(recipe.encoder, SpeechModelSettings)
    return kept if kept.is_dir() else model_directory(recipe.encoder.path)


def setting_files(recipe: Recipe) -> list[Path]:
    """Those files of a pretrained speech encoder that a backbone of all its weights keeps."""
    folder = encoder_files(recipe)
    return [folder / name for name in SETTING_FILES if (folder / name).is_file()]


def preparation_of(recipe: Recipe, symbols: Sequence[str]) -> str:
    """Fingerprint of what turns an example into a backbone's inputs and targets, which its weights do not hold.

    A SHA-256 over the files of its tokenizer and feature extractor, and over its symbols.
    What the recipe says itself (lengths, prefixes, mel bands) is part of its id.
    """
    facts = symbols.facts() if isinstance(symbols, SymbolTable) else {}
    found = [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in _files(recipe) if path.is_file()]
    return content_hash([found, list(symbols), facts], 64)


def _files(recipe: Recipe) -> list[Path]:
    from harness.backbones.pretrained import VOCABULARIES, model_directory

    encoder = recipe.encoder
    if isinstance(encoder, SpeechEncoderSettings):
        return []
    if isinstance(encoder, SpeechModelSettings):
        folder = encoder_files(recipe)
        return [folder / name for name in (*FEATURES, *((TOKENIZER,) if recipe.task_name == "seq2seq" else ()))]
    if isinstance(encoder, PretrainedEncoderSettings):
        folder = model_directory(encoder.path)
        older = (*sorted(set().union(*VOCABULARIES)), *OLDER)
        return [folder / name for name in ((TOKENIZER,) if (folder / TOKENIZER).is_file() else older)]
    return [backbone_directory(recipe) / TOKENIZER]

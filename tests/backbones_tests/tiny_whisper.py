"""A Whisper of two layers, made from its configuration: real code, random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import harness.data.audio_backend  # noqa: F401 - transformers imports torchaudio, which may need its stand-in


def tiny_whisper(seed: int = 0, **changes: int) -> Any:
    """A WhisperForConditionalGeneration in eval mode: 16 mels, width 12, 2 + 2 layers, and what `changes` say."""
    import transformers

    library: Any = transformers
    sizes = {"d_model": 12, "vocab_size": 60, "num_mel_bins": 16}
    for half in ("encoder", "decoder"):
        sizes |= {f"{half}_layers": 2, f"{half}_attention_heads": 2, f"{half}_ffn_dim": 24}
    sizes |= changes
    tokens = {"pad_token_id": 50, "bos_token_id": 50, "eos_token_id": 50, "decoder_start_token_id": 51}
    config = library.WhisperConfig(**sizes, **tokens, suppress_tokens=[], begin_suppress_tokens=[])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return library.WhisperForConditionalGeneration(config).eval()


def save_tiny_whisper(folder: Path, seed: int = 0, chunk_length: int = 30, **changes: int) -> None:
    """Write it as transformers does, with its feature extractor and a tokenizer of single letters.

    Args:
        chunk_length: seconds of its window; `changes` has the positions that fit, 50 a second.
    """
    import transformers

    library: Any = transformers
    tiny_whisper(seed, **changes).save_pretrained(folder)
    library.WhisperFeatureExtractor(feature_size=16, chunk_length=chunk_length).save_pretrained(folder)
    letters = {letter: number for number, letter in enumerate(" 'abcdefghijklmnopqrstuvwxyz")}
    tokenizer = Tokenizer(models.WordLevel(letters | {"<|endoftext|>": 50}, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(folder / "tokenizer.json"))

"""Whisper's weights from the file format of CTranslate2, under the names that transformers gives them.

The format (little-endian): version, name of the model's kind, its revision, then each weight as name, shape, type and
bytes, then aliases. Names are translated one by one; a weight without a place, or a place without a weight, is refused.
"""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

import harness.data.audio_backend  # noqa: F401 - transformers imports torchaudio, which may need its stand-in
from harness.errors import UserError

TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)  # by their number in the file
MOST_WEIGHTS = 100_000  # far beyond any model: a damaged count ends here


class Reader:
    """Reads a file of little-endian numbers; to read behind its end is a ValueError or a struct.error."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def number(self, form: str) -> int:
        """The next whole number: `B`, `H`, `I` or `Q` of 1, 2, 4 or 8 bytes, `i` with a sign."""
        (value,) = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(form)
        return int(value)

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise ValueError("it ends too soon")
        self.at += size
        return self.data[self.at - size : self.at]

    def text(self) -> str:
        return self.take(self.number("H")).rstrip(b"\0").decode()


def read_ctranslate2(path: Path) -> dict[str, Tensor]:
    """The weights of a `model.bin`, by CTranslate2's names.

    Raises:
        UserError: it is no such file, or damaged.
    """
    reader = Reader(path.read_bytes())
    try:
        version = reader.number("I")
        if version != 6:
            raise ValueError(f"version {version}; expected 6")
        reader.text(), reader.number("I")
        count = reader.number("I")
        if count > MOST_WEIGHTS:
            raise ValueError(f"{count} weights")
        found = {}
        for _ in range(count):
            name = reader.text()
            shape = [reader.number("I") for _ in range(reader.number("B"))]
            kind = np.dtype(TYPES[reader.number("B")]).newbyteorder("<")
            values = np.frombuffer(reader.take(reader.number("I")), kind).reshape(shape)
            found[name] = torch.from_numpy(values.astype(kind.newbyteorder("=")))
    except (struct.error, ValueError, IndexError) as error:
        raise UserError(f"{path}: cannot be read as a CTranslate2 model: {error}") from error
    return found


def whisper_weights(source: dict[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """The state of `WhisperForConditionalGeneration` from CTranslate2's weights (encoder and decoder of `num_layers`).

    Raises:
        UserError: a weight is missing, or has no place.
    """
    left = dict(source)

    def take(name: str) -> Tensor:
        if name not in left:
            raise UserError(f"the Whisper model has no weight {name!r}")
        return left.pop(name)

    state: dict[str, Tensor] = {}

    def put(there: str, here: str, names: tuple[str, str] = ("weight", "bias")) -> None:
        for mine, theirs in zip(("weight", "bias"), names, strict=True):
            state[f"{there}.{mine}"] = take(f"{here}/{theirs}")

    def put_parts(there: str, here: str, parts: str) -> None:
        """Take apart what the file has as one matrix: queries, keys and values, one below the other."""
        weights, biases = take(f"{here}/weight").chunk(len(parts)), take(f"{here}/bias").chunk(len(parts))
        for part, weight, bias in zip(parts, weights, biases, strict=True):
            state[f"{there}.{part}_proj.weight"] = weight.clone()
            if part != "k":  # Whisper's keys have no bias, and the file has zeros
                state[f"{there}.{part}_proj.bias"] = bias.clone()
            elif bias.any():
                raise UserError(f"the Whisper model has a bias of keys ({here}), which Whisper has not")

    norm = ("gamma", "beta")
    for number in (1, 2):
        put(f"model.encoder.conv{number}", f"encoder/conv{number}")
    for half in ("encoder", "decoder"):
        state[f"model.{half}.embed_positions.weight"] = take(f"{half}/position_encodings/encodings")
        put(f"model.{half}.layer_norm", f"{half}/layer_norm", norm)
        for number in range(num_layers):
            there, here = f"model.{half}.layers.{number}", f"{half}/layer_{number}"
            put(f"{there}.self_attn_layer_norm", f"{here}/self_attention/layer_norm", norm)
            put_parts(f"{there}.self_attn", f"{here}/self_attention/linear_0", "qkv")
            put(f"{there}.self_attn.out_proj", f"{here}/self_attention/linear_1")
            if half == "decoder":
                put(f"{there}.encoder_attn_layer_norm", f"{here}/attention/layer_norm", norm)
                put_parts(f"{there}.encoder_attn", f"{here}/attention/linear_0", "q")
                put_parts(f"{there}.encoder_attn", f"{here}/attention/linear_1", "kv")
                put(f"{there}.encoder_attn.out_proj", f"{here}/attention/linear_2")
            put(f"{there}.final_layer_norm", f"{here}/ffn/layer_norm", norm)
            put(f"{there}.fc1", f"{here}/ffn/linear_0")
            put(f"{there}.fc2", f"{here}/ffn/linear_1")
    state["model.decoder.embed_tokens.weight"] = take("decoder/embeddings/weight")
    if unused := sorted(name for name in left if left[name].ndim > 0):  # numbers alone are settings of CTranslate2
        raise UserError(f"the Whisper model has {len(unused)} weights without a place, for example {unused[0]!r}")
    return state


def write_whisper_tiny_en(source: Path, folder: Path) -> None:
    """Write Whisper tiny.en as transformers has it, from the model folder of the package that ships it.

    The weights stay in float16, as they are in the package.

    Raises:
        UserError: the model is damaged.
    """
    import transformers

    library: Any = transformers
    said = json.loads((source / "config.json").read_text(encoding="utf-8"))
    sizes = {"d_model": 384, "vocab_size": 51864}
    for half in ("encoder", "decoder"):
        sizes |= {f"{half}_layers": 4, f"{half}_attention_heads": 6, f"{half}_ffn_dim": 1536}
    config = library.WhisperConfig(**sizes, architectures=["WhisperForConditionalGeneration"], dtype="float16")
    config.save_pretrained(folder)
    library.GenerationConfig(
        decoder_start_token_id=50257,
        eos_token_id=50256,
        pad_token_id=50256,
        forced_decoder_ids=[[1, 50362]],  # no timestamps
        suppress_tokens=said["suppress_ids"],
        begin_suppress_tokens=said["suppress_ids_begin"],
        max_length=448,
    ).save_pretrained(folder)
    library.WhisperFeatureExtractor().save_pretrained(folder)
    weights = whisper_weights(read_ctranslate2(source / "model.bin"), num_layers=4)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(source / "tokenizer.json", folder)

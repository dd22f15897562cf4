"""Symbol tables: indices as transformers has them, what is unwritable, and files as people have them."""

from __future__ import annotations

import copy
import json
import pickle
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Wav2Vec2CTCTokenizer

from harness.data.errors import DataError
from harness.data.symbol_table import SymbolTable, read_symbol_table

# As wav2vec2-base-960h has it, as fine-tuning scripts write it (sorted letters, the blank last), and with a digraph.
UPPER = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "E": 5, "H": 6, "L": 7, "O": 8, "'": 9}
LOWER = {"a": 1, "b": 2, "é": 3, "ж": 4, "|": 0, "[UNK]": 5, "[PAD]": 6}
DIGRAPH = {"<pad>": 0, "|": 1, "c": 2, "h": 3, "ch": 4, "<unk>": 5}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def of_transformers(path: Path, vocabulary: dict[str, int]) -> Wav2Vec2CTCTokenizer:
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]"} if "[PAD]" in vocabulary else {}
    make: Any = Wav2Vec2CTCTokenizer  # untyped
    return make(str(path), **names)


@pytest.mark.parametrize("vocabulary, texts", [
    (UPPER, ("HELLO", "HE'LL  OLE", "HEXLO", "O")),
    (LOWER, ("abé ж", "b", "a?b", "éé жж")),
    (DIGRAPH, ("chc", "hchcc c", "cxh")),  # theirs loses a space beside a token of two letters
])  # fmt: skip
def test_indices_are_those_of_transformers(vocabulary: dict[str, int], texts: tuple[str, ...], tmp_path: Path) -> None:
    path = write(tmp_path / "vocab.json", vocabulary)
    table, theirs = read_symbol_table(path), of_transformers(path, vocabulary)
    assert table.blank == theirs.pad_token_id and len(table) == len(vocabulary) - 1
    for text in texts:
        ids = theirs(" ".join(text.split())).input_ids
        assert table.write(" ".join(text.split())) == ids
        path_of_steps = [step for number in ids for step in (number, number, theirs.pad_token_id)]
        merged = [number for number, _ in groupby(path_of_steps) if number != table.blank]
        assert table.read(merged) == " ".join(theirs.decode(path_of_steps).replace(str(theirs.unk_token), "").split())


def test_what_is_unwritable_is_unknown_or_left_out(tmp_path: Path) -> None:
    table = read_symbol_table(write(tmp_path / "vocab.json", UPPER))
    assert table.write("hé") == [6, 3] and table.lacking("hé|ò") == ["é", "|", "ò"]
    assert table.read([1, 6, 3, 5, 4, 4, 2]) == "HE"  # special symbols are read as nothing
    plain = SymbolTable(("a", " "))
    assert plain.write("aé a") == [1, 2, 1] and plain.lacking("aéé") == ["é", "é"] and plain.facts() == {}


def test_the_other_case_serves_where_an_alphabet_has_only_that() -> None:
    turkish = SymbolTable(("I", "İ", "S", "é"))
    assert turkish.write("ısi") == [1, 3, 2] and turkish.write("É") == [4]


def test_a_letter_and_its_accent_may_be_two_symbols_and_are_read_as_one() -> None:
    table = SymbolTable(("e", "\u0301", "n\u0303"))
    assert table.write("\u00e9\u00f1") == [1, 2, 3] and table.read([1, 2, 3]) == "\u00e9\u00f1"


def test_a_vocabulary_of_many_languages(tmp_path: Path) -> None:
    path = write(tmp_path / "vocab.json", {"eng": UPPER, "rus": {"<pad>": 0, "|": 1, "ж": 2}})
    assert read_symbol_table(path, "rus") == ("|", "ж")
    with pytest.raises(DataError, match=r"vocab\.json: .* text\.language is None; choices: eng, rus$"):
        read_symbol_table(path)
    write(tmp_path / "tokenizer_config.json", {"target_lang": "eng"})
    assert "H" in read_symbol_table(tmp_path)
    with pytest.raises(DataError, match=r"vocab\.json: it has one vocabulary for all languages; leave out .* 'rus'$"):
        read_symbol_table(write(path, UPPER), "rus")


def test_a_head_may_have_more_outputs_than_there_are_tokens(tmp_path: Path) -> None:
    vocabulary = {"|": 0, "a": 1, "b": 3}
    write(tmp_path / "vocab.json", vocabulary)
    added = {"4": {"content": "[PAD]"}, "5": {"content": "<s>"}}  # as newer versions write tokens added later
    write(tmp_path / "tokenizer_config.json", {"pad_token": {"content": "[PAD]"}, "added_tokens_decoder": added})
    table = read_symbol_table(tmp_path)  # <s> is no output: without a model nothing says that there is one
    assert list(table) == ["|", "a", "<unused 2>", "b"] and table.blank == 4 and table.special == {"<unused 2>"}
    write(tmp_path / "config.json", {"architectures": ["Wav2Vec2ForCTC"], "vocab_size": 7, "pad_token_id": 4})
    table = read_symbol_table(tmp_path)
    assert list(table) == ["|", "a", "<unused 2>", "b", "<s>", "<unused 6>"] and table.indices["<s>"] == 5
    assert table.write("ab") == [1, 3] and table.lacking("<s>") == ["<", "s", ">"]
    write(tmp_path / "config.json", {"architectures": ["Wav2Vec2Model"], "vocab_size": 2})  # of no head
    assert len(read_symbol_table(tmp_path)) == 4


@pytest.mark.parametrize("files, message", [
    ({}, r"vocab\.json: cannot be read: No such file"),
    ({"vocab.json": []}, r"vocab\.json: expected a mapping, got list"),
    ({"vocab.json": {}}, r"vocab\.json: expected a mapping of tokens to indices, or a tokenizer\.json; it is empty"),
    ({"vocab.json": {"a": 0}}, r"no token is the blank; name it as pad_token .*; usual names: <pad>, \[PAD\], "),
    ({"vocab.json": {"a": "0"}}, r"the token 'a' has the index '0', which is no whole number"),
    ({"vocab.json": {"a": True}}, r"the token 'a' has the index True"),
    ({"vocab.json": {"<pad>": 0, "a": 1, "b": 1}}, r"the tokens 'a' and 'b' have the same index, 1"),
    ({"vocab.json": {"<pad>": 0, "a": 9}, "config.json": {"architectures": ["HubertForCTC"], "vocab_size": 4}},
     r"the index 9 of 'a' is beyond the 4 outputs of the model"),
    ({"vocab.json": {"<pad>": 0, "a": 1}, "config.json": {"architectures": ["HubertForCTC"], "pad_token_id": 1}},
     r"the blank '<pad>' has the index 0, but config\.json has pad_token_id 1"),
    ({"tokenizer.json": {"model": {"type": "Nonsense"}}}, r"tokenizer\.json: no tokenizer that can be read: "),
])  # fmt: skip
def test_files_that_are_no_tables_are_refused_in_one_line(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    for name, content in files.items():
        write(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as told:
        read_symbol_table(tmp_path)
    assert "\n" not in str(told.value)


def learn(path: Path, model: Any, trainer: Any, decoder: Any, pre_tokenizer: Any) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoder
    tokenizer.train_from_iterator(["привет мир", "мир и привет вам", "вам привет"] * 5, trainer)
    tokenizer.save(str(path))
    return tokenizer


@pytest.mark.parametrize("has_pad", [False, True])
@pytest.mark.parametrize("kind", ["unigram", "bpe", "bytes"])
def test_pieces_of_a_tokenizer_are_symbols(kind: str, has_pad: bool, tmp_path: Path) -> None:
    special = ["<unk>", *(["<pad>"] if has_pad else [])]
    space, bytes_ = pre_tokenizers.Metaspace(), pre_tokenizers.ByteLevel(add_prefix_space=False)
    show: dict[str, Any] = {
        "vocab_size": 300 if kind == "bytes" else 40,
        "special_tokens": special,
        "show_progress": False,
    }
    model, trainer, decoder, splitter = {
        "unigram": (models.Unigram(), trainers.UnigramTrainer(unk_token="<unk>", **show), decoders.Metaspace(), space),
        "bpe": (models.BPE(unk_token="<unk>"), trainers.BpeTrainer(**show), decoders.Metaspace(), space),
        "bytes": (
            models.BPE(),
            trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **show),
            decoders.ByteLevel(),
            bytes_,
        ),
    }[kind]
    theirs = learn(tmp_path / "tokenizer.json", model, trainer, decoder, splitter)
    table = read_symbol_table(tmp_path / "tokenizer.json")
    size = theirs.get_vocab_size()
    assert (table.blank, len(table)) == ((theirs.token_to_id("<pad>"), size - 1) if has_pad else (size, size))
    for text in ("привет", "мир вам и привет"):
        assert table.write(text) == theirs.encode(text).ids and table.read(table.write(text)) == text
        assert table.lacking(text) == []
        assert all(table.indices[str(theirs.id_to_token(number))] == number for number in table.write(text))
    assert table.lacking("мир, щ") == ([] if kind == "bytes" else [",", "щ"])
    kept = json.loads(json.dumps(table.facts()))
    for other in (SymbolTable(list(table), **kept), copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        assert other == table and other.facts() == table.facts() and other.write("мир") == table.write("мир")

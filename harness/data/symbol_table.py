"""The outputs of a CTC head: which text each of them stands for, and how a transcript is written with them and read.

A table is one of three kinds: single characters behind a blank at index 0 (what is trained here), the vocab.json of a
CTC model of transformers, whose indices it keeps so that the model's own head fits, or the pieces of a tokenizer.json.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from harness.data.errors import DataError

VOCAB, TOKENIZER = "vocab.json", "tokenizer.json"
BLANKS = ("<pad>", "[PAD]", "<blank>", "<blk>", "[BLANK]")
SPECIAL = ("pad_token", "unk_token", "bos_token", "eos_token", "cls_token", "sep_token", "mask_token")
USUAL_SPECIAL = ("<s>", "</s>", "<unk>", "<pad>", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[BOS]", "[EOS]", "[MASK]")
UNUSED = "<unused "  # outputs of a head that no token has
SHOWN = 8  # so many languages are named in a message
OTHER_CASE = {"i": "İ", "ı": "I"}  # of an upper-case alphabet for Turkish; elsewhere the capital of i is I


class SymbolTable(tuple[str, ...]):
    """The symbols of a CTC head in the order of their indices, without the blank. For everybody else it is that tuple.

    Attributes:
        blank: the index of the blank; symbols behind it have one index more than their place in the tuple.
        delimiter: the symbol that parts words; it is read as a space.
        unknown: the symbol that stands for a character without one of its own; None: such a character is not written.
        special: symbols that are never written for themselves, and are read as nothing (`<s>`, `<unk>`, unused ones).
        tokenizer: content of the tokenizer.json whose pieces the symbols are; None for tables of characters.
    """

    blank: int
    delimiter: str
    unknown: str | None
    special: frozenset[str]
    tokenizer: str | None

    def __new__(
        cls,
        symbols: Sequence[str],
        *,
        blank: int = 0,
        delimiter: str = " ",
        unknown: str | None = None,
        special: Sequence[str] = (),
        tokenizer: str | None = None,
    ) -> Self:
        self = super().__new__(cls, symbols)
        self.blank, self.delimiter, self.unknown = blank, delimiter, unknown
        self.special, self.tokenizer = frozenset(special), tokenizer
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (tuple(self),), self.facts()

    def facts(self) -> dict[str, Any]:
        """What must be kept beside the symbols to make the table again; empty for characters behind a blank at 0."""
        facts = {
            "blank": self.blank,
            "delimiter": self.delimiter,
            "unknown": self.unknown,
            "special": sorted(self.special),
            "tokenizer": self.tokenizer,
        }
        usual = {"blank": 0, "delimiter": " ", "unknown": None, "special": [], "tokenizer": None}
        return {name: value for name, value in facts.items() if value != usual[name]}

    @cached_property
    def indices(self) -> dict[str, int]:
        """Symbol -> index in the scores."""
        return {symbol: place + (place >= self.blank) for place, symbol in enumerate(self)}

    @cached_property
    def _writable(self) -> dict[str, int]:
        """Text -> index, of what can be written for itself; the space is written as the delimiter."""
        named = {
            unicodedata.normalize("NFC", text): number
            for text, number in self.indices.items()
            if text not in self.special
        }
        if self.delimiter in named:
            named[" "] = named.pop(self.delimiter)  # the sign itself is read as a space, so it cannot be written
        return named

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._writable), default=1)

    @cached_property
    def _pieces(self) -> Any:
        from tokenizers import Tokenizer  # here: most tables need none

        assert self.tokenizer is not None
        found = Tokenizer.from_str(self.tokenizer)
        found.no_padding()
        found.no_truncation()
        return found

    def write(self, text: str) -> list[int]:
        """Return the indices of `text`; characters without a symbol are `unknown`, or else left out."""
        if self.tokenizer is not None:
            return list(self._pieces.encode(text, add_special_tokens=False).ids)
        spare = None if self.unknown is None else self.indices[self.unknown]
        return [number for number in (spare if n is None else n for n, _ in self._parts(text)) if number is not None]

    def lacking(self, text: str) -> list[str]:
        """Return the characters of `text` that have no symbol, each as often as it occurs."""
        if self.tokenizer is None:
            return [part for number, part in self._parts(text) if number is None]
        encoding = self._pieces.encode(text, add_special_tokens=False)
        spare = self.indices.get(self.unknown or "")
        covered = {
            place
            for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if number != spare
            for place in range(start, end)
        }
        return [c for place, c in enumerate(text) if place not in covered and not c.isspace()]

    def _parts(self, text: str) -> list[tuple[int | None, str]]:
        """`text` from left to right in the longest pieces that there are, each with its index (None: it has none)."""
        parts: list[tuple[int | None, str]] = []
        place = 0
        while place < len(text):
            lengths = range(min(self._longest, len(text) - place), 0, -1)
            length = next((n for n in lengths if text[place : place + n] in self._writable), 0)
            part = text[place : place + max(1, length)]
            parts.extend([(self._writable[part], part)] if length else self._otherwise(part))
            place += len(part)
        return parts

    def _otherwise(self, character: str) -> list[tuple[int | None, str]]:
        """A character without a symbol: in its other case, where the alphabet has only that, or letter and accent."""
        for other in (OTHER_CASE.get(character, ""), character.upper(), character.lower()):
            if other in self._writable:
                return [(self._writable[other], character)]
        apart = unicodedata.normalize("NFD", character)
        if len(apart) > 1 and all(part in self._writable for part in apart):
            return [(self._writable[part], part) for part in apart]
        return [(None, character)]

    def read(self, indices: Sequence[int]) -> str:
        """Return the text of indices without repeats and blanks: composed (NFC), with single spaces."""
        if self.tokenizer is not None:
            kept = [n for n in indices if self[n - (n > self.blank)] not in self.special]
            text = str(self._pieces.decode(kept, skip_special_tokens=True))
        else:
            symbols = (self[n - (n > self.blank)] for n in indices)
            text = "".join(" " if s == self.delimiter else s for s in symbols if s not in self.special)
        return " ".join(unicodedata.normalize("NFC", text).split())


def read_symbol_table(path: Path, language: str | None = None) -> SymbolTable:
    """Read the table of a vocab.json, a tokenizer.json, or a folder with one of them.

    What the files beside it say is heeded: which tokens are the blank (`pad_token`), unknown and special, and how many
    outputs the head of a CTC model has (`vocab_size`).

    Args:
        path: the file or folder.
        language: of a vocab.json with one vocabulary a language (MMS); None: the `target_lang` of the tokenizer.

    Raises:
        DataError: a file is missing or no such table, has no blank, or two tokens with one index.
    """
    file = path
    if path.is_dir():
        file = next((path / name for name in (VOCAB, TOKENIZER) if (path / name).is_file()), path / VOCAB)
    content = _json_object(file)
    if not content:
        raise DataError(f"{file}: expected a mapping of tokens to indices, or a tokenizer.json; it is empty")
    beside = _Beside(file)
    is_tokenizer = isinstance(content.get("model"), dict)
    is_nested = not is_tokenizer and any(isinstance(value, dict) for value in content.values())
    if language is not None and not is_nested:
        raise DataError(f"{file}: it has one vocabulary for all languages; leave out text.language, {language!r}")
    if is_tokenizer:
        return _of_tokenizer(file, content, beside)
    if is_nested:
        beside.outputs = None  # each language has an output layer of its own size
    found = _of_language(file, content, language or beside.language) if is_nested else content
    return _of_vocabulary(file, found, beside, {} if is_nested else beside.added)


class _Beside:
    """What the files beside a table say of it; everything is empty where they are missing."""

    def __init__(self, file: Path) -> None:
        names = ("special_tokens_map.json", "added_tokens.json", "tokenizer_config.json", "config.json")
        tokens, added, tokenizer, model = (
            _json_object(file.with_name(name)) if file.with_name(name).is_file() else {} for name in names
        )
        self.names = {key: _token(tokenizer.get(key)) or _token(tokens.get(key)) for key in SPECIAL}
        self.delimiter = _token(tokenizer.get("word_delimiter_token")) or "|"
        self.language: str | None = tokenizer.get("target_lang")
        later = tokenizer.get("added_tokens_decoder") or {}
        self.added = {_token(token): int(number) for number, token in later.items() if number.isdecimal()} | added
        has_head = any(str(name).endswith("ForCTC") for name in model.get("architectures") or ())
        self.outputs = model.get("vocab_size") if has_head else None
        self.blank = model.get("pad_token_id") if has_head else None

    def blank_of(self, file: Path, vocabulary: Mapping[str, int]) -> int | None:
        """The index of the blank: the pad token that is named, or one that is usually called so, or the model's."""
        named = self.names["pad_token"]
        name = named if named in vocabulary else next((name for name in BLANKS if name in vocabulary), None)
        if name is not None and self.blank not in (None, vocabulary[name]):
            raise DataError(
                f"{file}: the blank {name!r} has the index {vocabulary[name]}, but config.json has pad_token_id "
                f"{self.blank}"
            )
        return self.blank if name is None else vocabulary[name]


def _of_vocabulary(file: Path, vocabulary: Mapping[str, Any], beside: _Beside, added: Mapping[str, int]) -> SymbolTable:
    needed = (*BLANKS, beside.names["pad_token"], beside.names["unk_token"])
    more = {
        token: number
        for token, number in added.items()
        if token not in vocabulary and (token in needed if beside.outputs is None else number < beside.outputs)
    }
    tokens: dict[int, str] = {}
    for token, number in {**vocabulary, **more}.items():
        if type(number) is not int or number < 0:
            raise DataError(f"{file}: the token {token!r} has the index {number!r}, which is no whole number from 0 up")
        if number in tokens:
            raise DataError(f"{file}: the tokens {tokens[number]!r} and {token!r} have the same index, {number}")
        tokens[number] = token
    blank = beside.blank_of(file, {token: number for number, token in tokens.items()})
    if blank is None:
        raise DataError(
            f"{file}: no token is the blank; name it as pad_token in tokenizer_config.json beside it; usual names: "
            f"{', '.join(BLANKS)}"
        )
    symbols = _in_order(file, tokens, blank, beside)
    special = {*USUAL_SPECIAL, *beside.names.values()}
    unknown = beside.names["unk_token"] or next((name for name in ("<unk>", "[UNK]") if name in symbols), "")
    return SymbolTable(
        symbols,
        blank=blank,
        delimiter=beside.delimiter if beside.delimiter in symbols else " ",
        unknown=unknown if unknown in symbols else None,
        special=[symbol for symbol in symbols if symbol in special or symbol.startswith(UNUSED)],
    )


def _of_tokenizer(file: Path, content: Mapping[str, Any], beside: _Beside) -> SymbolTable:
    from tokenizers import Tokenizer  # here: reading other tables needs none

    text = json.dumps(content, ensure_ascii=False)
    try:
        vocabulary = Tokenizer.from_str(text).get_vocab()
    except Exception as error:  # the library raises nothing narrower
        raise DataError(f"{file}: no tokenizer that can be read: {error}") from error
    tokens = {number: token for token, number in vocabulary.items()}
    blank = beside.blank_of(file, vocabulary)
    if blank is None:
        blank = max(tokens) + 1  # behind the pieces, as NeMo has it
    model, added = content["model"], content.get("added_tokens") or ()
    unknown = tokens.get(model["unk_id"]) if model.get("unk_id") is not None else model.get("unk_token")
    special = {unknown, *beside.names.values(), *(item["content"] for item in added if item.get("special"))}
    symbols = _in_order(file, tokens, blank, beside)
    return SymbolTable(
        symbols,
        blank=blank,
        unknown=unknown,
        special=[symbol for symbol in symbols if symbol in special or symbol.startswith(UNUSED)],
        tokenizer=text,
    )


def _in_order(file: Path, tokens: Mapping[int, str], blank: int, beside: _Beside) -> list[str]:
    """The symbols of all outputs but the blank; outputs without a token are unused.

    Raises:
        DataError: the model's head has fewer outputs than there are tokens.
    """
    last = max(*tokens, blank)
    if beside.outputs is not None and last >= beside.outputs:
        raise DataError(
            f"{file}: the index {last} of {tokens.get(last, 'the blank')!r} is beyond the {beside.outputs} outputs of "
            "the model (vocab_size in config.json)"
        )
    outputs = last + 1 if beside.outputs is None else beside.outputs
    return [tokens.get(number, f"{UNUSED}{number}>") for number in range(outputs) if number != blank]


def _of_language(file: Path, content: Mapping[str, Any], language: str | None) -> dict[str, Any]:
    """The vocabulary of one language."""
    found = content.get(language or "")
    if isinstance(found, dict):
        return found
    names = [name for name, value in content.items() if isinstance(value, dict)]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    raise DataError(
        f"{file}: it has one vocabulary a language, and text.language is {language!r}; choices: "
        f"{', '.join(names[:SHOWN])}{more}"
    )


def _token(value: Any) -> str:
    """The text of a token, which is kept as a text or as a mapping with its content."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


def _json_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{file}: expected a mapping, got {type(content).__name__}")
    return content

"""A corpus of the user's own: rows with domain, and text and label, or path and transcript.

Optional columns: `group` (what must not straddle a split; default: copies of the same text), `split` (train,
valid or test for every row; default: by hash of the group) and `key`. docs/reference/data.md shows the formats.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.data.audio_files import audio_seconds
from harness.data.cache import sha256_file
from harness.data.corpora.local_rows import Row, read_rows
from harness.data.corpus import (
    SPLITS,
    Corpus,
    Example,
    Modality,
    SpeechExample,
    Split,
    TextExample,
    fingerprint_rows,
    fingerprint_texts,
)
from harness.data.errors import DataError
from harness.data.speech_text import SPEECH_ALPHABET, normalise_transcript, rejection
from harness.data.text_cleaning import clean_text, copy_key
from harness.errors import must_be_in

TEXT_COLUMNS, SPEECH_COLUMNS = ("domain", "text", "label"), ("domain", "path", "transcript")
LONGEST_S = 20.0


def load_manifest(path: Path, *, labels: Sequence[str] | None = None, longest_s: float = LONGEST_S) -> Corpus:
    """Read the manifest file or folder `path`.

    `labels` names the classes of a text corpus in order (default: those found, sorted). Speech clips above
    `longest_s` seconds are left out and counted. Raises DataError, with file and line, for missing columns,
    unknown labels or splits, a group in two splits, and audio that cannot be read.
    """
    rows = read_rows(path)
    columns = TEXT_COLUMNS if "text" in rows[0].columns else SPEECH_COLUMNS
    for row in rows:
        for column in columns:
            if not row.columns.get(column, "").strip():
                raise DataError(f"{row.place}: column {column!r} is missing or empty; needed: {', '.join(columns)}")
    splits = _fixed_splits(rows)
    name = f"manifest:{path.stem}"
    if columns == TEXT_COLUMNS:
        return _text_corpus(name, rows, labels, splits)
    return _speech_corpus(name, rows, splits, longest_s)


def _group(row: Row) -> str:
    """Return the group of a row; the same for all domains, so that a shared group is held out in each of them."""
    if group := row.columns.get("group", "").strip():
        return group
    return copy_key(row.columns.get("text") or row.columns["transcript"])


def _fixed_splits(rows: Sequence[Row]) -> dict[str, Split] | None:
    """Return group -> split when the rows have a split column, else None."""
    if not any("split" in row.columns for row in rows):
        return None
    splits: dict[str, Split] = {}
    for row in rows:
        split = next((s for s in SPLITS if s == row.columns.get("split")), None)
        if split is None:
            raise DataError(f"{row.place}: split is {row.columns.get('split')!r}; choices: {', '.join(SPLITS)}")
        if splits.setdefault(_group(row), split) != split:
            raise DataError(f"{row.place}: group {_group(row)!r} is in {split} and in {splits[_group(row)]}")
    return splits


def _key(row: Row, number: int) -> str:
    return f"{row.columns['domain']}/{row.columns.get('key') or number}"


def _text_corpus(
    name: str, rows: Sequence[Row], labels: Sequence[str] | None, splits: Mapping[str, Split] | None
) -> Corpus:
    symbols = tuple(labels) if labels else tuple(sorted({row.columns["label"].strip() for row in rows}))
    domains: dict[str, list[TextExample]] = defaultdict(list)
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    seen: set[tuple[str, str]] = set()
    for number, row in enumerate(rows, start=1):
        domain, text, label = row.columns["domain"], clean_text(row.columns["text"]), row.columns["label"].strip()
        must_be_in(label, symbols, f"{row.place}: unknown label {label!r}", DataError)
        if (domain, text.casefold()) in seen:
            left_out[domain]["same text twice"] += 1
            continue
        seen.add((domain, text.casefold()))
        domains[domain].append(
            TextExample(key=_key(row, number), group=_group(row), domain=domain, text=text, label=symbols.index(label))
        )
    fingerprint = fingerprint_texts(e for examples in domains.values() for e in examples)
    return _corpus(name, "text", domains, symbols, fingerprint, splits, left_out)


def _speech_corpus(name: str, rows: Sequence[Row], splits: Mapping[str, Split] | None, longest_s: float) -> Corpus:
    domains: dict[str, list[SpeechExample]] = defaultdict(list)
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    for number, row in enumerate(rows, start=1):
        domain, raw = row.columns["domain"], row.columns["transcript"]
        path = row.base / row.columns["path"]
        seconds = audio_seconds(path)
        if reason := rejection(raw, seconds, longest_s=longest_s):
            left_out[domain][reason] += 1
            continue
        domains[domain].append(
            SpeechExample(
                key=_key(row, number),
                group=_group(row),
                domain=domain,
                path=path,
                seconds=seconds,
                transcript=normalise_transcript(raw),
            )
        )
    examples = [e for members in domains.values() for e in members]
    fingerprint = fingerprint_rows((e.key, e.group, e.transcript, sha256_file(e.path)) for e in examples)
    return _corpus(name, "speech", domains, SPEECH_ALPHABET, fingerprint, splits, left_out)


def _corpus(
    name: str,
    modality: Modality,
    domains: Mapping[str, Sequence[Example]],
    symbols: tuple[str, ...],
    fingerprint: str,
    splits: Mapping[str, Split] | None,
    left_out: Mapping[str, Counter[str]],
) -> Corpus:
    if splits is not None:
        fingerprint = fingerprint_rows([("contents", fingerprint), *splits.items()])
    return Corpus(
        name=name,
        modality=modality,
        domains={domain: tuple(domains[domain]) for domain in sorted(domains)},
        symbols=symbols,
        fingerprint=fingerprint,
        fixed_splits=splits,
        left_out=left_out,
    )

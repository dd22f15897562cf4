"""A corpus of the user's own: rows with domain, and text and label, or path and transcript.

Optional columns: `group` (what must not straddle a split; default: copies of the same text), `split` (train,
valid or test for every row; default: by hash of the group) and `key`. What others write is read by `layouts.py`;
docs/reference/data.md shows all formats.
"""

import difflib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.data.audio_files import audio_seconds
from harness.data.cache import sha256_file
from harness.data.corpora.class_names import check_classes, given_classes, notes_on_classes, notes_on_twins
from harness.data.corpora.columns import name_columns
from harness.data.corpora.layouts import read_layout
from harness.data.corpora.local_rows import Row
from harness.data.corpora.split_rows import fixed_splits, group_of, official_splits
from harness.data.corpus import (
    Corpus,
    LeftOut,
    SpeechExample,
    Split,
    TextExample,
    fingerprint_rows,
    fingerprint_texts,
)
from harness.data.errors import DataError
from harness.data.speech_text import LATIN28, MIN_CLIP_S, OTHER_LETTERS, Normaliser, rejection, unwritable
from harness.data.text_cleaning import LOST, clean_name, clean_text, copy_key
from harness.errors import must_be_in

TEXT_COLUMNS, SPEECH_COLUMNS = ("domain", "text", "label"), ("domain", "path", "transcript")
LONGEST_S = 20.0
SAME_LENGTH_S = 0.05  # a stated duration this close to the file's is the whole file: manifests round
WORDS_OF_A_TEXT = 3


def load_manifest(
    path: Path,
    *,
    labels: Sequence[str] | None = None,
    shortest_s: float = MIN_CLIP_S,
    longest_s: float = LONGEST_S,
    normaliser: Normaliser = LATIN28,
    columns: Mapping[str, str] | None = None,
    domain: str | None = None,
) -> Corpus:
    """Read the manifest file or folder `path`.

    `labels` names the classes of a text corpus in order (default: those found, sorted). Speech clips below
    `shortest_s` and above `longest_s` seconds are left out and counted. `columns` says which of the file's columns is
    meant by one of this project, and `domain` names the domain of rows that have no column of it. Raises DataError,
    with file and line, for missing columns, unknown labels or splits, labels that are no classes, a group in two
    splits, and audio that cannot be read.
    """
    for option, seconds in (("shortest_s", shortest_s), ("longest_s", longest_s)):
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise DataError(f"{path}: option {option} must be a number of seconds, got {seconds!r}")
    found = name_columns(read_layout(path), columns, domain)
    rows, notes = found.rows, found.notes
    is_text = "text" in rows[0].columns and not {"path", "transcript"} <= rows[0].columns.keys()
    needed = TEXT_COLUMNS if is_text else SPEECH_COLUMNS
    for row in rows:
        for column in needed:
            if not row.columns.get(column, "").strip():
                have = ", ".join(filter(None, row.columns)) or "none"
                raise DataError(
                    f"{row.place}: column {column!r} is missing or empty; needed: {', '.join(needed)}; found: {have}"
                )
    found = official_splits(replace(found, rows=[_with_clean_names(row) for row in rows]))
    rows, notes = found.rows, found.notes
    splits = fixed_splits(rows)
    name = f"manifest:{path.stem}"
    limits = (float(shortest_s), float(longest_s))
    corpus = _text_corpus(name, rows, labels, path) if is_text else _speech_corpus(name, rows, normaliser, limits)
    noticed = (*notes, *corpus.noticed, *notes_on_twins("domains", sorted({row.columns["domain"] for row in rows})))
    fingerprint = corpus.fingerprint
    if splits is not None:
        fingerprint = fingerprint_rows([("contents", fingerprint), *splits.items()])
    corpus = replace(corpus, fingerprint=fingerprint, fixed_splits=splits)
    noticed = (*noticed, *_notes_on_columns(rows, needed), *_notes_on_copies(corpus))
    return replace(corpus, noticed=noticed)


def _with_clean_names(row: Row) -> Row:
    """Return a row whose names (domain, class, group, key) are as a reader sees them: `films ` is `films`."""
    names = {name: clean_name(row.columns[name]) for name in ("domain", "label", "group", "key") if name in row.columns}
    for name in ("domain", "label"):
        if name in names and not names[name]:
            raise DataError(f"{row.place}: column {name!r} holds invisible characters alone")
    return replace(row, columns=row.columns | names)


def _key(row: Row, number: int) -> str:
    return f"{row.columns['domain']}/{row.columns.get('key') or number}"


def _text_corpus(name: str, rows: Sequence[Row], labels: Sequence[str] | None, path: Path) -> Corpus:
    found = [row.columns["label"] for row in rows]
    if labels is None:
        check_classes([row.columns["text"] for row in rows], found, str(path))
    symbols = tuple(sorted(set(found))) if labels is None else given_classes(labels, found)
    domains: dict[str, list[TextExample]] = defaultdict(list)
    left_out = LeftOut()
    seen: dict[tuple[str, str], str] = {}
    for number, row in enumerate(rows, start=1):
        domain, text, label = row.columns["domain"], clean_text(row.columns["text"]), row.columns["label"]
        must_be_in(label, symbols, f"{row.place}: unknown label {label!r}", DataError)
        same = (domain, text.casefold())
        if not text:
            left_out.add(domain, "no text", row.place)
        elif same in seen:
            other = "" if seen[same] == label else ", with another label"
            left_out.add(domain, f"same text twice{other}", row.place)
        else:
            seen[same] = label
            domains[domain].append(
                TextExample(
                    key=_key(row, number), group=group_of(row), domain=domain, text=text, label=symbols.index(label)
                )
            )
    lost = [row.place for row in rows if LOST.search(row.columns["text"])]
    notes = notes_on_classes(symbols, found)
    if lost:
        where = Path(lost[0]).name
        notes.append(f"texts with lost characters (U+FFFD, half an emoji): {len(lost)}, first in {where}")
    return Corpus(
        name=name,
        modality="text",
        domains={domain: tuple(domains[domain]) for domain in sorted(domains)},
        symbols=symbols,
        fingerprint=fingerprint_texts(e for examples in domains.values() for e in examples),
        left_out=left_out.counts,
        first_left_out=left_out.firsts,
        noticed=tuple(notes),
    )


def _speech_corpus(name: str, rows: Sequence[Row], normaliser: Normaliser, limits_s: tuple[float, float]) -> Corpus:
    domains: dict[str, list[SpeechExample]] = defaultdict(list)
    left_out = LeftOut()
    for number, row in enumerate(rows, start=1):
        domain, raw = row.columns["domain"], row.columns["transcript"]
        path, seconds, segment = _recording(row)
        if reason := rejection(raw, seconds, shortest_s=limits_s[0], longest_s=limits_s[1], normaliser=normaliser):
            letters = f" ({unwritable(raw)[:8]})" if reason == OTHER_LETTERS else ""
            left_out.add(domain, reason, f"{row.place}{letters}")
            continue
        domains[domain].append(
            SpeechExample(
                key=_key(row, number),
                group=group_of(row),
                domain=domain,
                path=path,
                seconds=seconds,
                transcript=normaliser.normalise(raw),
                segment=segment,
                raw=raw,
            )
        )
    examples = [e for members in domains.values() for e in members]
    digests = {path: sha256_file(path) for path in {e.path for e in examples}}
    return Corpus(
        name=name,
        modality="speech",
        domains={domain: tuple(domains[domain]) for domain in sorted(domains)},
        symbols=normaliser.alphabet(e.transcript for e in examples),
        fingerprint=fingerprint_rows(
            (e.key, e.group, e.transcript, digests[e.path], *map(str, e.segment or ())) for e in examples
        ),
        left_out=left_out.counts,
        first_left_out=left_out.firsts,
    )


def _recording(row: Row) -> tuple[Path, float, tuple[float, float] | None]:
    """Return a row's file, the seconds of it that are used, and the segment where that is not all of it.

    Raises DataError when the file cannot be read, or the row's offset and duration do not lie in it.
    """
    try:
        path = row.base / Path(row.columns["path"].strip()).expanduser()
        whole_s = audio_seconds(path)
    except (DataError, RuntimeError) as error:  # RuntimeError: the home of an unknown user
        raise DataError(f"{row.place}: {error}{_in_a_tar(row)}") from error
    offset_s, duration_s = _seconds(row, "offset", 0.0), _seconds(row, "duration", None)
    assert offset_s is not None
    rest_s = whole_s - offset_s
    if not 0 <= offset_s < whole_s or (duration_s is not None and not 0 < duration_s <= rest_s + SAME_LENGTH_S):
        lasts = "" if duration_s is None else f", duration {duration_s:g}"
        raise DataError(f"{row.place}: offset {offset_s:g}{lasts} does not lie in {path}, which lasts {whole_s:.3f} s")
    if offset_s == 0 and (duration_s is None or rest_s - duration_s <= SAME_LENGTH_S):
        return path, whole_s, None
    seconds = rest_s if duration_s is None else min(duration_s, rest_s)
    return path, seconds, (offset_s, seconds)


def _in_a_tar(row: Row) -> str:
    """Say so where a row is one of NeMo's for audio in tar files, which have the number of the tar."""
    if "shard_id" not in row.columns:
        return ""
    return "; the manifest is one for tar files (shard_id): unpack them into a folder beside it, or take the other one"


def _seconds(row: Row, column: str, missing: float | None) -> float | None:
    written = row.columns.get(column, "").strip()
    try:
        return float(written) if written else missing
    except ValueError as error:
        raise DataError(f"{row.place}: {column} must be a number of seconds, got {written!r}") from error


def _notes_on_columns(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Return notes on the columns that are not read: further texts, misspelt names, and all others."""
    optional = ("group", "split", "key", *(("offset", "duration") if columns == SPEECH_COLUMNS else ()))
    names = dict.fromkeys(name for row in rows for name in row.columns if name)
    unread = [name for name in names if name not in (*columns, *optional)]
    notes = []
    for name in unread:
        if near := difflib.get_close_matches(name.casefold(), optional, 1, 0.8):
            notes.append(f"the column {name!r} is not read; if it is the {near[0]}, call it {near[0]}")
        elif _holds_texts([row.columns.get(name, "") for row in rows]):
            read = "text" if columns == TEXT_COLUMNS else "transcript"
            notes.append(f"the column {name!r} holds texts too, and is not read: an example is its {read} alone")
    others = [name[:40] for name in unread if not any(f"column {name!r}" in note for note in notes)]
    if others:
        more = f" and {len(others) - 8} more" if len(others) > 8 else ""
        notes.append(f"columns that are not read: {', '.join(others[:8])}{more}")
    return notes


def _holds_texts(values: Sequence[str]) -> bool:
    """Whether most rows have another text of several words."""
    texts = {value for value in values if len(value.split()) >= WORDS_OF_A_TEXT}
    return 2 * len(texts) > len(values)


def _notes_on_copies(corpus: Corpus) -> list[str]:
    """Return a note when test texts are copies of training texts, as groups or splits that were given may have it."""
    texts: dict[Split, list[str]] = {
        split: [copy_key(e.text) for domain in corpus.domains for e in corpus.text(domain, split)]
        for split in ("train", "test")
        if corpus.modality == "text"
    }
    known = set(texts.get("train", ()))
    copies = [key for key in texts.get("test", ()) if key in known]
    return [f"{len(copies)} of {len(texts['test'])} test texts are copies of training texts"] if copies else []

"""A corpus of the user's own: rows with domain, and text and label, or path and transcript.

Optional columns: `group` (what must not straddle a split; default: copies of the same text), `split` (train,
valid or test for every row; default: by hash of the group) and `key`. What others write is read by `layouts.py`;
docs/reference/data.md shows all formats.
"""

import difflib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.data.audio_files import audio_seconds
from harness.data.cache import sha256_file
from harness.data.corpora.answers import Layout, completed, layout_of, read_tags, read_value
from harness.data.corpora.class_names import check_classes, given_classes, notes_on_classes, notes_on_twins
from harness.data.corpora.columns import name_columns
from harness.data.corpora.layouts import FoundRows, read_layout
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

LONGEST_S = 20.0
SAME_LENGTH_S = 0.05  # a stated duration this close to the file's is the whole file: manifests round
WORDS_OF_A_TEXT = 3
OTHER_WORDS = {"value": "number"}
CONTENTS = {"text", "tokens", "path"}
LONE_CLIPS = (
    "there is no column group, so each recording is a group of its own, and a speaker may be in training and in test"
)


def load_manifest(
    path: Path,
    *,
    labels: Sequence[str] | None = None,
    shortest_s: float = MIN_CLIP_S,
    longest_s: float = LONGEST_S,
    normaliser: Normaliser = LATIN28,
    columns: Mapping[str, str] | None = None,
    domain: str | None = None,
    answer: str | None = None,
) -> Corpus:
    """Read the manifest file or folder `path`.

    `labels` names the classes (or tags) in order (default: those found, sorted). Speech clips below `shortest_s` and
    above `longest_s` seconds are left out and counted. `columns` says which of the file's columns is meant by one of
    this project, and `domain` names the domain of rows that have no column of it. `answer` chooses between several
    columns of answers (harness/data/corpora/answers.py). Raises DataError, with file and line, for missing columns,
    unknown labels or splits, labels that are no classes, a group in two splits, and audio that cannot be read.
    """
    for option, seconds in (("shortest_s", shortest_s), ("longest_s", longest_s)):
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise DataError(f"{path}: option {option} must be a number of seconds, got {seconds!r}")
    found = name_columns(read_layout(path), columns, domain, answer)
    rows = found.rows
    names = [name for name in rows[0].columns if name and not (found.official and name == "split")]
    if names and answer is None and not CONTENTS & {*names}:
        raise DataError(
            f"{rows[0].place}: no column of texts (text, tokens) or recordings (path); found: {', '.join(names)}; say "
            "in data.options which is meant, as columns: {text: NAME, label: NAME}"
        )
    layout = layout_of(rows[0].columns, answer, rows[0].place)
    for row in rows:
        for column in layout.columns:
            if not row.columns.get(column, "").strip():
                have = ", ".join(filter(None, row.columns)) or "none"
                needed = f"needed: {', '.join(layout.columns)}; found: {have}"
                raise DataError(f"{row.place}: column {column!r} is missing or empty; {needed}")
    has_groups = any(row.columns.get("group") for row in rows)
    found = official_splits(replace(found, rows=[completed(_with_clean_names(row), layout) for row in rows]))
    rows, notes = found.rows, found.notes
    splits = fixed_splits(rows)
    name = f"manifest:{path.stem}"
    if layout.modality == "text":
        corpus = _text_corpus(name, found, layout, labels, path)
    else:
        classes, of_classes = _symbols(rows, layout, labels, path) if layout.answer == "label" else (None, [])
        corpus = _speech_corpus(name, rows, normaliser, (float(shortest_s), float(longest_s)), classes)
        corpus = replace(corpus, noticed=tuple(of_classes))
    noticed = (*notes, *corpus.noticed, *notes_on_twins("domains", sorted({row.columns["domain"] for row in rows})))
    fingerprint = corpus.fingerprint
    if splits is not None:
        fingerprint = fingerprint_rows([("contents", fingerprint), *splits.items()])
    corpus = replace(corpus, fingerprint=fingerprint, fixed_splits=splits)
    noticed = (*noticed, *_notes_on_columns(rows, layout), *_notes_on_copies(corpus))
    if layout.modality == "speech" and layout.answer == "label" and not has_groups:
        noticed = (*noticed, LONE_CLIPS)
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


def _text_corpus(name: str, found: FoundRows, layout: Layout, labels: Sequence[str] | None, path: Path) -> Corpus:
    """The corpus of texts; of copies of one the first stays, and of those in several official splits one in each."""
    rows = found.rows
    symbols, notes = _symbols(rows, layout, labels, path)
    domains: dict[str, list[TextExample]] = defaultdict(list)
    left_out = LeftOut()
    seen: dict[tuple[str, ...], Any] = {}
    for number, row in enumerate(rows, start=1):
        example = _text_example(row, number, layout, symbols, labels)
        domain, contents = example.domain, [text.casefold() for text in (example.text, example.second or "")]
        said = (example.label, example.value, example.tags)
        same = (domain, row.columns.get("split", "") if found.official else "", *contents)
        if not example.text or example.second == "":
            left_out.add(domain, "no text", row.place)
        elif same in seen:
            other = "" if seen[same] == said else f", with another {OTHER_WORDS.get(layout.answer, layout.answer)}"
            left_out.add(domain, f"same text twice{other}", row.place)
        else:
            seen[same] = said
            domains[domain].append(example)
    lost = [row.place for row in rows if LOST.search(row.columns["text"])]
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


def _symbols(
    rows: Sequence[Row], layout: Layout, labels: Sequence[str] | None, path: Path
) -> tuple[tuple[str, ...], list[str]]:
    """What a model of these rows can answer, and what a reader must know of it: classes or tags, none for numbers."""
    if layout.answer == "value":
        if labels is not None:
            raise DataError(f"{path}: labels names classes, but the answers of these rows are numbers; leave it out")
        return (), []
    if layout.answer == "tags":
        found = [tag for row in rows for tag in read_tags(row, labels)[1]]
    else:
        found = [row.columns["label"] for row in rows]
        if labels is None:
            check_classes([row.columns.get("text", "") for row in rows], found, str(path))
    symbols = tuple(sorted(set(found))) if labels is None else given_classes(labels, found)
    return symbols, notes_on_classes(symbols, found) if layout.answer == "label" else []


def _text_example(
    row: Row, number: int, layout: Layout, symbols: Sequence[str], labels: Sequence[str] | None
) -> TextExample:
    """A row's example; raises DataError for an answer that it cannot have."""
    columns, domain = row.columns, row.columns["domain"]
    example = TextExample(key=_key(row, number), group=group_of(row), domain=domain, text=clean_text(columns["text"]))
    if layout.is_pair:
        example = replace(example, second=clean_text(columns["text_2"]))
    if layout.answer == "value":
        return replace(example, value=read_value(row, layout))
    if layout.answer == "label":
        must_be_in(columns["label"], symbols, f"{row.place}: unknown label {columns['label']!r}", DataError)
        return replace(example, label=symbols.index(columns["label"]))
    words, tags = read_tags(row, labels)
    for tag in tags:
        must_be_in(tag, symbols, f"{row.place}: unknown tag {tag!r}", DataError)
    return replace(example, text=" ".join(words) if any(words) else "", words=words, tags=tags)


def _speech_corpus(
    name: str,
    rows: Sequence[Row],
    normaliser: Normaliser,
    limits_s: tuple[float, float],
    classes: Sequence[str] | None = None,
) -> Corpus:
    """The corpus of recordings; their classes, where there are some, are what is learnt of them."""
    domains: dict[str, list[SpeechExample]] = defaultdict(list)
    left_out = LeftOut()
    for number, row in enumerate(rows, start=1):
        found = _clip(row, number, normaliser, limits_s, classes)
        if isinstance(found, SpeechExample):
            domains[found.domain].append(found)
        else:
            letters = f" ({unwritable(row.columns['transcript'])[:8]})" if found == OTHER_LETTERS else ""
            left_out.add(row.columns["domain"], found, f"{row.place}{letters}")
    examples = [e for members in domains.values() for e in members]
    digests = {path: sha256_file(path) for path in {e.path for e in examples}}
    return Corpus(
        name=name,
        modality="speech",
        domains={domain: tuple(domains[domain]) for domain in sorted(domains)},
        symbols=() if classes else normaliser.alphabet(e.transcript for e in examples),
        fingerprint=fingerprint_rows(
            (e.key, e.group, *_said(e, classes), digests[e.path], *map(str, e.segment or ())) for e in examples
        ),
        clip_classes=tuple(classes or ()),
        left_out=left_out.counts,
        first_left_out=left_out.firsts,
    )


def _clip(
    row: Row, number: int, normaliser: Normaliser, limits_s: tuple[float, float], classes: Sequence[str] | None
) -> SpeechExample | str:
    """A row's example, or why it is left out; raises DataError for what cannot be read."""
    raw = row.columns.get("transcript", "")
    path, seconds, segment = _recording(row)
    shortest_s, longest_s = limits_s
    if classes is None:
        reason = rejection(raw, seconds, shortest_s=shortest_s, longest_s=longest_s, normaliser=normaliser)
    else:  # whatever a transcript beside the class holds, it is not learnt
        reason = "too short" if seconds < shortest_s else "too long" if seconds > longest_s else None
    if reason:
        return reason
    example = SpeechExample(
        key=_key(row, number),
        group=group_of(row),
        domain=row.columns["domain"],
        path=path,
        seconds=seconds,
        transcript=normaliser.normalise(raw) if classes is None else clean_text(raw),
        segment=segment,
        raw=raw,
    )
    if classes is None:
        return example
    label = row.columns["label"]
    must_be_in(label, classes, f"{row.place}: unknown label {label!r}", DataError)
    return replace(example, label=classes.index(label))


def _said(example: SpeechExample, classes: Sequence[str] | None) -> tuple[str, ...]:
    return (example.transcript,) if example.label is None or not classes else ("label", classes[example.label])


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


def _notes_on_columns(rows: Sequence[Row], layout: Layout) -> list[str]:
    """Return notes on the columns that are not read: other answers, further texts, misspelt names, and all others."""
    optional = ("group", "split", "key", *(("offset", "duration") if layout.modality == "speech" else ()))
    made = {"tags": ("text",), "label": ("transcript",) if layout.modality == "speech" else ()}.get(layout.answer, ())
    names = dict.fromkeys(name for row in rows for name in row.columns if name)
    unread = [name for name in names if name not in (*layout.columns, *optional, *made)]
    notes = []
    for name in unread:
        if _is_answer(name, names, layout):
            notes.append(f"the column {name!r} is not read; data.options.answer: {name} would take it for the answers")
            continue
        if near := difflib.get_close_matches(name.casefold(), optional, 1, 0.8):
            notes.append(f"the column {name!r} is not read; if it is the {near[0]}, call it {near[0]}")
        elif _holds_texts([row.columns.get(name, "") for row in rows]):
            read = "text" if layout.modality == "text" else "transcript"
            notes.append(f"the column {name!r} holds texts too, and is not read: an example is its {read} alone")
    others = [name[:40] for name in unread if not any(f"column {name!r}" in note for note in notes)]
    if others:
        more = f" and {len(others) - 8} more" if len(others) > 8 else ""
        notes.append(f"columns that are not read: {', '.join(others[:8])}{more}")
    return notes


def _is_answer(name: str, names: Collection[str], layout: Layout) -> bool:
    """Whether a column that is not read holds other answers to the same texts or recordings."""
    if layout.modality == "speech":
        return name in ("label", "transcript")
    return name in ("label", "value") or (name == "tags" and "tokens" in names)


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

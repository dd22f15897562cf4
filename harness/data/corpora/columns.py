"""The columns of a user's rows by their names: those of this project, those that others use, and those that are given.

A file with the columns that are needed is read by them alone. Otherwise the usual names of others are recognised, and
what was read as what is said.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.data.corpora.layouts import FoundRows
from harness.data.corpora.local_rows import COLUMNS, Row
from harness.data.errors import DataError
from harness.errors import must_be_in

# In the order in which they are looked for. NeMo, Hugging Face, Common Voice, lhotse and Kaldi's reader write these.
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "path": ("audio_filepath", "audio", "file_name", "audio_path"),
    "transcript": ("transcription", "text", "sentence", "normalized_text"),
    "text": ("sentence", "content", "review", "utterance", "tweet"),
    "label": ("labels", "class", "category", "sentiment", "intent", "emotion", "command"),
    "value": ("score", "rating"),
    "domain": ("locale", "language", "lang"),
    "group": ("speaker", "speaker_id", "client_id"),
}
OWN = tuple(sorted(COLUMNS - {"audio_filepath"}))


# What others call the two texts of a pair, and the lists of words and tags: read so where no column is called text.
PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("sentence_a", "sentence_b"),
)
TAGGED = ({"words": "tokens"}, {"ner_tags": "tags"}, {"pos_tags": "tags"})


def name_columns(found: FoundRows, columns: object, domain: object, answer: object = None) -> FoundRows:
    """Return the rows with this project's columns.

    Args:
        columns: column of this project -> the column of the file that is meant; None for the usual names.
        domain: the domain of all rows, where they have no column of it; None: the name of the file or folder.
        answer: the column of answers that is asked for (answers.py); None: the first of those that are there.

    Raises:
        DataError: an option is wrong, or names what the file does not have.
    """
    rows, notes = found.rows, list(found.notes)
    if columns is not None:
        rows = _given(rows, columns)
    lists = _pairs_and_tags(_names(rows))
    rows = [replace(row, columns=_renamed(row.columns, lists)) for row in rows]
    taken, is_foreign = _usual_names(rows, found.foreign or domain is not None, answer)
    rows = [replace(row, columns=_renamed(row.columns, taken)) for row in rows]
    told = [f"{ours} is {theirs!r}" for theirs, ours in {**lists, **taken}.items() if theirs != "audio_filepath"]
    if told:
        notes.append(f"columns by the names of others: {', '.join(told)}")
    rows = _with_domain(rows, found.domain, domain, notes)
    if is_foreign:
        rows = _without_gaps(rows, notes)
    return replace(found, rows=rows, notes=notes, foreign=is_foreign)


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.columns))


def _given(rows: list[Row], columns: object) -> list[Row]:
    """Rename the columns that the option says."""
    if not isinstance(columns, Mapping) or not all(isinstance(name, str) for name in [*columns, *columns.values()]):
        raise DataError(f"columns must say the file's column for one of this project, as {{text: body}}; got {columns}")
    names = _names(rows)
    for ours, theirs in columns.items():
        must_be_in(ours, OWN, f"columns: unknown column {ours!r}", DataError)
        must_be_in(theirs, names, f"columns: {ours}: {rows[0].place} has no column {theirs!r}", DataError)
    renamed = {theirs: ours for ours, theirs in columns.items()}
    # The file's own column of that name stays under another one, so that it is among those that are not read.
    put_by = {ours: f"{ours} (of the file)" for ours in columns if ours not in renamed}
    return [replace(row, columns=_renamed(row.columns, renamed | put_by)) for row in rows]


def _renamed(columns: Mapping[str, str], new_names: Mapping[str, str]) -> dict[str, str]:
    return {new_names.get(name, name): value for name, value in columns.items()}


def _pairs_and_tags(names: Sequence[str]) -> dict[str, str]:
    """Their name -> ours, of a pair of texts or of words with tags; nothing where a column is called text."""
    if "text" in names:
        return {}
    known = {name.casefold(): name for name in reversed(names)}
    for first, second in PAIRS:
        if {first, second} <= known.keys():
            return {known[first]: "text", known[second]: "text_2"}
    found: dict[str, str] = {}
    for pair in TAGGED:
        for theirs, ours in pair.items():
            if theirs in known and ours not in (*names, *found.values()):
                found[known[theirs]] = ours
    return found if {*names, *found.values()} >= {"tokens", "tags"} else {}


def _usual_names(rows: Sequence[Row], is_foreign: bool, answer: object) -> tuple[dict[str, str], bool]:
    """Their name -> ours, of the columns that are needed and are not there; and whether the rows are foreign."""
    names = _names(rows)
    taken: dict[str, str] = {}

    def look_for(ours: str) -> bool:
        if ours in names and ours not in taken:
            return True
        theirs = next((name for name in USUAL_NAMES[ours] if name in names and name not in taken), None)
        if theirs is not None:
            taken[theirs] = ours
        return theirs is not None

    def is_there(ours: str) -> bool:
        return ours in names or any(name in names for name in USUAL_NAMES[ours])

    is_nemo = "audio_filepath" in names
    asked = (str(answer),) if answer in USUAL_NAMES else ()
    if {"tokens", "tags"} <= set(names) and (answer == "tags" or "text" not in names):
        needed: tuple[str, ...] = ()
    elif {"domain", "text", "label"} <= set(names) and not is_nemo:
        needed = asked
    elif look_for("path"):
        is_said = is_there("transcript") or not is_there("label")
        needed = asked or (("transcript",) if is_said and ("label" not in names or is_nemo) else ())
        needed = ("transcript",) if "transcript" in names and not asked else needed or ("label",)
    else:
        needed = ("text", *(asked or (("value",) if "value" in names and "label" not in names else ("label",))))
    for ours in needed:
        look_for(ours)
    # NeMo's own names have always been read, and rows that lack no column are read by this project's names alone.
    is_foreign = is_foreign or "domain" not in names or bool(taken.keys() - {"audio_filepath", "text"})
    if is_foreign:
        for ours in ("domain", "group"):
            if ours not in names:
                look_for(ours)
    return taken, is_foreign


def _with_domain(rows: list[Row], usual: str, given: object, notes: list[str]) -> list[Row]:
    """Return the rows with a domain, if none of them has any: the one that is given, or the file's or folder's name."""
    names = _names(rows)
    if given is not None and "domain" in names:
        raise DataError(f"{rows[0].place}: the rows have a column of domains; leave out data.options.domain")
    if given is not None and not (isinstance(given, str) and given.strip()):
        raise DataError(f"domain must be the name of a domain, got {given!r}")
    wholes = (("path", "transcript"), ("text", "label"), ("path", "label"), ("text", "value"), ("tokens", "tags"))
    if "domain" in names or not (given or any(set(whole) <= set(names) for whole in wholes)):
        return rows
    if given is None and (near := difflib.get_close_matches("domain", [name.casefold() for name in names], 1, 0.8)):
        raise DataError(f"{rows[0].place}: column 'domain' is missing; if it is {near[0]!r}, call it domain")
    domain = str(given or usual)
    if given is None:
        notes.append(f"there is no column 'domain', so all rows are of one domain: {domain}")
    return [replace(row, columns={"domain": domain, **row.columns}) for row in rows]


def _without_gaps(rows: list[Row], notes: list[str]) -> list[Row]:
    """Leave out the rows without a value in a column that others have: tests whose labels are kept secret, say."""
    kept = rows
    for column in ("path", "transcript", "text", "text_2", "label", "value", "tags"):
        gaps = [row for row in kept if not row.columns.get(column, "").strip()]
        if gaps and len(gaps) < len(kept):
            notes.append(f"rows without a {column}, which are left out: {len(gaps)}, first {gaps[0].place}")
            kept = [row for row in kept if row.columns.get(column, "").strip()]
    return kept

"""The rows of a corpus of the user's own: from a CSV, TSV, JSON or JSONL manifest, or from a folder.

Every row is a dict of strings, with the place it came from for error messages; `manifest.py` makes a corpus of them.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.corpora.delimited import lines_of, read_file, read_table
from harness.data.errors import DataError
from harness.data.text_cleaning import clean_name

TRANSCRIPTS = "transcripts.tsv"
FOLDER_HELP = f"DOMAIN/LABEL.txt, DOMAIN/LABEL/*.txt, or DOMAIN/{TRANSCRIPTS} (FILE<tab>TRANSCRIPT)"
FILE_HELP = "a .csv, .tsv, .jsonl or .json file, or a folder"
COLUMNS = frozenset(
    {"domain", "text", "label", "path", "transcript", "group", "split", "key", "audio_filepath", "offset", "duration"}
)
"""The columns that are read. Their names may differ in case, and have blanks around them."""


@dataclass(frozen=True)
class Row:
    """One item as it was written: its columns, and "FILE, line N" for messages."""

    place: str
    columns: dict[str, str]
    base: Path
    """The folder that a relative audio path starts from."""


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """Return the rows of a manifest file or of a folder, and notes on how they were read.

    Raises DataError when it is neither, cannot be read, or has no rows.
    """
    notes: list[str] = []
    if path.is_dir():
        rows = list(_read_folder(path, notes))
    elif path.suffix.lower() in (".csv", ".tsv"):
        rows = _read_table(path, notes)
    elif path.suffix.lower() in (".jsonl", ".json", ".ndjson"):
        rows = [_json_row(place, item, path) for place, item in read_json_objects(path)]
    else:
        raise DataError(f"{path}: not a manifest; expected {FILE_HELP}")
    if not rows:
        expected = f"; expected {FOLDER_HELP}" if path.is_dir() else ""
        raise DataError(f"{path}: holds no rows{expected}")
    return rows, notes


def _names(place: str, written: Iterable[str]) -> list[str]:
    """Return the names of columns; raises DataError for one that occurs twice (nameless ones, of an index, may)."""
    cleaned = [clean_name(name) for name in written]
    names = [name.casefold() if name.casefold() in COLUMNS else name for name in cleaned]
    for name, times in Counter(filter(None, names)).items():
        if times > 1:
            raise DataError(f"{place}: the column {name!r} occurs {times} times")
    return names


def _read_table(path: Path, notes: list[str]) -> list[Row]:
    header, rows, found = read_table(path)
    notes.extend(found)
    names = _names(f"{path}, line 1", header)
    return [
        Row(f"{path}, line {row.first_line}", dict(zip(names, row.fields, strict=True)), path.parent) for row in rows
    ]


def read_json_objects(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield place and content of each object: of a file with one a line, or (`.json` only) with one array of them.

    Raises DataError for what is no JSON; whether an item is an object is the caller's to check.
    """
    text = read_file(path)
    if path.suffix.lower() == ".json" and text.lstrip().startswith("["):
        for number, item in enumerate(_parse_json(str(path), text), start=1):
            yield f"{path}, object {number}", item
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            yield place, _parse_json(place, line)


def _parse_json(place: str, text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = _names(place, [name for name, _ in pairs])
        return dict(zip(names, (value for _, value in pairs), strict=True))

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not JSON: {error.msg}") from error
    except DataError:
        raise
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets in brackets
        raise DataError(f"{place}: cannot be read as JSON: {error}") from error


def _json_row(place: str, item: Any, path: Path) -> Row:
    if not isinstance(item, dict):
        raise DataError(f"{place}: expected an object with columns, got {json.dumps(item)[:40]!r}")
    for name in COLUMNS & item.keys():
        if isinstance(item[name], (list, dict)):
            raise DataError(f"{place}: column {name!r} must be a text or a number, got {json.dumps(item[name])[:60]}")
    # A missing value is null; Python and pandas also write NaN, which is none of JSON's.
    values = {name: value for name, value in item.items() if value is not None and not _is_nan(value)}
    return Row(place, {name: str(value) for name, value in values.items()}, path.parent)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _read_folder(root: Path, notes: list[str]) -> Iterator[Row]:
    unread: list[Path] = []
    for domain in sorted(path for path in root.iterdir() if not path.name.startswith(".")):
        if not domain.is_dir():
            unread.append(domain)
        elif (domain / TRANSCRIPTS).is_file():
            yield from _read_transcripts(domain)
        else:
            for entry in sorted(path for path in domain.iterdir() if not path.name.startswith(".")):
                yield from _read_label(domain, entry, unread)
    if unread:
        first = unread[0].relative_to(root)
        notes.append(f"{root.name}: files of the folder that are not read: {len(unread)}, first {first}")


def _read_label(domain: Path, entry: Path, unread: list[Path]) -> Iterator[Row]:
    """Yield the texts of one class: a file with one a line, or a folder with one a file."""
    if entry.is_dir():
        for path in sorted(entry.iterdir()):
            if path.is_file() and path.suffix.lower() == ".txt":
                columns = {"domain": domain.name, "label": entry.name, "text": read_file(path)}
                yield Row(str(path), columns, domain)
            elif not path.name.startswith("."):
                unread.append(path)
    elif entry.suffix.lower() == ".txt":
        for number, line in enumerate(lines_of(read_file(entry)), start=1):
            if line.strip():
                columns = {"domain": domain.name, "label": entry.stem, "text": line}
                yield Row(f"{entry}, line {number}", columns, domain)
    else:
        unread.append(entry)


def _read_transcripts(domain: Path) -> Iterator[Row]:
    for number, line in enumerate(lines_of(read_file(domain / TRANSCRIPTS)), start=1):
        if not line.strip():
            continue
        place = f"{domain / TRANSCRIPTS}, line {number}"
        file, *others = line.split("\t")
        if len(others) != 1:
            raise DataError(f"{place}: expected FILE<tab>TRANSCRIPT, got {line[:60]!r}")
        yield Row(place, {"domain": domain.name, "path": file, "transcript": others[0]}, domain)

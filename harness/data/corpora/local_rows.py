"""The rows of a corpus of the user's own: from a CSV, TSV, JSON or JSONL file, or from a folder of our own layout.

Every row is a dict of strings, with the place it came from for error messages. `layouts.py` says which file or folder
is read by what, and `manifest.py` makes a corpus of the rows.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.corpora.delimited import lines_of, read_file, read_table
from harness.data.corpora.lhotse_cuts import columns_of_cut, is_of_lhotse
from harness.data.errors import DataError
from harness.data.text_cleaning import clean_name

TRANSCRIPTS = "transcripts.tsv"
CLASS_LISTS = ("validation_list.txt", "testing_list.txt")  # of Speech Commands; they hold no texts
FOLDER_HELP = f"DOMAIN/LABEL.txt, DOMAIN/LABEL/*.txt, or DOMAIN/{TRANSCRIPTS} (FILE<tab>TRANSCRIPT)"
LISTS = frozenset({"tokens", "tags"})
"""The columns that hold a list, which is kept as JSON."""
COLUMNS = LISTS | {
    "domain", "text", "text_2", "label", "value", "path", "transcript", "group", "split", "key", "audio_filepath",
    "offset", "duration",
}  # fmt: skip
"""The columns that are read. Their names may differ in case, and have blanks around them."""


@dataclass(frozen=True)
class Row:
    """One item as it was written: its columns, and "FILE, line N" for messages."""

    place: str
    columns: dict[str, str]
    base: Path
    """The folder that a relative audio path starts from."""


def _names(place: str, written: Iterable[str]) -> list[str]:
    """Return the names of columns; raises DataError for one that occurs twice (nameless ones, of an index, may)."""
    cleaned = [clean_name(name) for name in written]
    names = [name.casefold() if name.casefold() in COLUMNS else name for name in cleaned]
    for name, times in Counter(filter(None, names)).items():
        if times > 1:
            raise DataError(f"{place}: the column {name!r} occurs {times} times")
    return names


def read_table_rows(path: Path, notes: list[str]) -> list[Row]:
    """Return the rows of a CSV or TSV file; raises DataError as `read_table`, and for a column that occurs twice."""
    header, rows, found = read_table(path)
    notes.extend(found)
    names = _names(f"{path}, line 1", header)
    # Common Voice names the clips of its tables as seen from the folder that they lie in.
    base = path.parent / "clips" if {"client_id", "path"} <= set(names) else path.parent
    return [Row(f"{path}, line {row.first_line}", dict(zip(names, row.fields, strict=True)), base) for row in rows]


def read_json_rows(path: Path, notes: list[str]) -> list[Row]:
    """Return the rows of a JSON or JSONL file, of lhotse's cuts too; raises DataError for what is none."""
    return [_json_row(place, item, path) for place, item in read_json_objects(path)]


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
    if is_of_lhotse(item):
        item = columns_of_cut(place, item)
    for name in (COLUMNS - LISTS) & item.keys():
        if isinstance(item[name], (list, dict)):
            raise DataError(f"{place}: column {name!r} must be a text or a number, got {json.dumps(item[name])[:60]}")
    # A missing value is null; Python and pandas also write NaN, which is none of JSON's.
    values = {name: value for name, value in item.items() if value is not None and not _is_nan(value)}
    return Row(place, {name: _as_text(value) for name, value in values.items()}, path.parent)


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def is_own_folder(root: Path) -> bool:
    """Whether a folder has this project's layout: `FOLDER_HELP`, but for classes of recordings (class_folders.py)."""
    domains = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return any(
        (domain / TRANSCRIPTS).is_file()
        or any(path.suffix.lower() == ".txt" and path.name not in CLASS_LISTS for path in domain.rglob("*"))
        for domain in domains
    )


def read_folder(root: Path, notes: list[str]) -> Iterator[Row]:
    """Yield the rows of a folder of this project's layout; raises DataError for a file that cannot be read."""
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

"""The rows of a corpus of the user's own: from a CSV, TSV or JSONL manifest, or from a folder.

Every row is a dict of strings, with the place it came from for error messages; `manifest.py` makes a corpus of them.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.data.errors import DataError

TRANSCRIPTS = "transcripts.tsv"
FOLDER_HELP = f"DOMAIN/LABEL.txt, DOMAIN/LABEL/*.txt, or DOMAIN/{TRANSCRIPTS} (FILE<tab>TRANSCRIPT)"


@dataclass(frozen=True)
class Row:
    """One item as it was written: its columns, and "FILE, line N" for messages."""

    place: str
    columns: dict[str, str]
    base: Path
    """The folder that a relative audio path starts from."""


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a manifest file or of a folder; raises DataError when it is neither, or has none."""
    if path.is_dir():
        rows = list(_read_folder(path))
    elif path.suffix in (".csv", ".tsv"):
        rows = list(_read_table(path, "," if path.suffix == ".csv" else "\t"))
    elif path.suffix == ".jsonl":
        rows = list(_read_jsonl(path))
    else:
        raise DataError(f"{path}: not a manifest; expected a .csv, .tsv or .jsonl file, or a folder")
    if not rows:
        expected = f"; expected {FOLDER_HELP}" if path.is_dir() else ""
        raise DataError(f"{path}: holds no rows{expected}")
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error


def _read_table(path: Path, delimiter: str) -> Iterator[Row]:
    reader = csv.DictReader(_text(path).splitlines(keepends=True), delimiter=delimiter)
    for columns in reader:
        place = f"{path}, line {reader.line_num}"
        if None in columns or None in columns.values():
            raise DataError(f"{place}: expected {len(reader.fieldnames or ())} columns, as in the first line")
        yield Row(place=place, columns=dict(columns), base=path.parent)


def _read_jsonl(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            columns = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{place}: not JSON: {error.msg}") from error
        if not isinstance(columns, dict):
            raise DataError(f"{place}: expected an object with columns, got {line[:40]!r}")
        yield Row(place, {key: str(value) for key, value in columns.items() if value is not None}, path.parent)


def _read_folder(root: Path) -> Iterator[Row]:
    for domain in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if (domain / TRANSCRIPTS).is_file():
            yield from _read_transcripts(domain)
            continue
        for entry in sorted(domain.iterdir()):
            if entry.is_dir():
                for path in sorted(entry.glob("*.txt")):
                    yield Row(str(path), {"domain": domain.name, "label": entry.name, "text": _text(path)}, domain)
            elif entry.suffix == ".txt":
                for number, line in enumerate(_text(entry).split("\n"), start=1):
                    if line.strip():
                        columns = {"domain": domain.name, "label": entry.stem, "text": line}
                        yield Row(f"{entry}, line {number}", columns, domain)


def _read_transcripts(domain: Path) -> Iterator[Row]:
    for number, line in enumerate(_text(domain / TRANSCRIPTS).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{domain / TRANSCRIPTS}, line {number}"
        file, separator, transcript = line.rstrip("\r").partition("\t")
        if not separator:
            raise DataError(f"{place}: expected FILE<tab>TRANSCRIPT, got {line[:60]!r}")
        yield Row(place, {"domain": domain.name, "path": file, "transcript": transcript}, domain)

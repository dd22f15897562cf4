"""Tables of a user's own in text files (CSV and TSV): their encoding, delimiter and quotation marks, by stated rules.

CSV is read by RFC 4180: a field in quotation marks may hold the delimiter, line breaks and quotation marks, each
written twice. TSV has no quoting (IANA, text/tab-separated-values), but Excel and pandas write it with CSV's:
`_is_quoted` says when it is read so. Whatever is read another way than a user may think comes with a note.
"""

import codecs
import csv
import gzip
import io
import re
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.data.errors import DataError

# Longest first: UTF-32's mark in Intel's order begins with UTF-16's.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
DELIMITERS = (",", ";", "\t")  # Excel writes `;` where the comma is the decimal point
QUOTED_FIELD = re.compile(r'("[^"]*+(?:""[^"]*+)*+"|[^\t\r\n"]*+)(\t|\r\n|\n|\r|\Z)')


@dataclass(frozen=True)
class TableRow:
    """A row of a table, with the number of its first line and of its last."""

    first_line: int
    last_line: int
    fields: list[str]


def read_file(path: Path) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, line ends as they are.

    What a name in `.gz` says is unpacked. Raises DataError where it cannot be read or decoded, or holds NUL, which no
    text does.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: cannot be unpacked: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    mark, encoding = next((pair for pair in BYTE_ORDER_MARKS.items() if data.startswith(pair[0])), (b"", "utf-8"))
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, len(mark) + error.start) + 1
        raise DataError(
            f"{path}: not {encoding.upper()}: {error.reason} at byte {len(mark) + error.start}, in line {line}; "
            "save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}, line {line}: holds a NUL byte, so it is no text in UTF-8; save the file as UTF-8")
    return text


def lines_of(text: str) -> list[str]:
    """Return the lines: they end with a line feed, behind a carriage return or not, or all with a carriage return."""
    if "\n" not in text:
        return text.split("\r")
    return [line.removesuffix("\r") for line in text.split("\n")]


def read_table(path: Path) -> tuple[list[str], list[TableRow], list[str]]:
    """Return the columns of a CSV or TSV file, its rows, and notes on how it was read. Blank lines are no rows.

    Raises DataError, with the line, for quotation marks that do not match, and for a row with too many or few fields.
    """
    text, notes = read_file(path), []
    first_line = next(filter(str.strip, lines_of(text)), "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(DELIMITERS, key=first_line.count)
    if delimiter == "\t" and not _is_quoted(text):
        rows = [TableRow(number, number, line.split("\t")) for number, line in enumerate(lines_of(text), start=1)]
        notes = _note_on_quotes(path, rows)
    else:
        rows = _parse(path, text, delimiter)
    rows = [row for row in rows if any(field.strip() for field in row.fields)]
    if not rows:
        return [], [], notes
    header = rows.pop(0).fields
    for row in rows:
        if len(row.fields) != len(header):
            raise DataError(
                f"{path}, line {row.first_line}: expected {len(header)} columns, as in the first line, "
                f"got {len(row.fields)}"
            )
    _refuse_swallowed_rows(path, text, header, rows, delimiter)
    return header, rows, notes


def _parse(path: Path, text: str, delimiter: str) -> list[TableRow]:
    """Return the rows of a table whose quotation marks are those of CSV."""
    limit = csv.field_size_limit(sys.maxsize)  # the usual one of 131,072 characters is below a long document
    rows, line = [], 1
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
        for fields in reader:
            rows.append(TableRow(line, reader.line_num, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: the quotation marks of a field do not match ({error}); a field that begins with one "
            "must end with one, and those inside it are written twice"
        ) from None
    finally:
        csv.field_size_limit(limit)
    return rows


def _is_quoted(text: str) -> bool:
    """Whether the quotation marks of a TSV file are a writer's rather than the text's.

    They are if every one of them stands as CSV has it, every row so read has as many fields as the first, and: some
    line, read by its tabs alone, has another number of fields (a quoted field holds a tab or a line break); or no two
    lines become one row, and the first line's fields are quoted or some field holds a mark that is written twice.
    """
    if '"' not in text:
        return False
    rows: list[list[str]] = [[]]
    place = 0
    while place < len(text):
        match = QUOTED_FIELD.match(text, place)
        if match is None:
            return False
        rows[-1].append(match[1])
        if match[2] not in ("\t", ""):
            rows.append([])
        place = match.end()
    rows = [row for row in rows if any(field.strip() for field in row)]
    lines = [line.split("\t") for line in lines_of(text) if line.strip()]
    if any(len(row) != len(rows[0]) for row in rows):
        return False
    if any(len(line) != len(lines[0]) for line in lines):
        return True
    written_twice = any('""' in field[1:-1] for row in rows for field in row)
    return len(rows) == len(lines) and (rows[0][0].startswith('"') or written_twice)


def _note_on_quotes(path: Path, rows: Sequence[TableRow]) -> list[str]:
    num_quoted = sum(len(field) > 1 and field[0] == field[-1] == '"' for row in rows for field in row.fields)
    what = "fields of a TSV file that begin and end with a quotation mark, which is read as part of the text"
    return [f"{path.name}: {what}: {num_quoted}"] if num_quoted else []


def _refuse_swallowed_rows(
    path: Path, text: str, header: Sequence[str], rows: Sequence[TableRow], delimiter: str
) -> None:
    """Raise DataError where a field of several lines holds what looks like a row: its end mark was forgotten."""
    names = [name.strip().casefold() for name in header]
    if "domain" not in names:
        return
    column = names.index("domain")
    domains = {row.fields[column].strip() for row in rows if row.first_line == row.last_line}
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # as csv.reader counts them
    for row in rows:
        for number in range(row.first_line + 1, row.last_line + 1):
            fields = lines[number - 1].split(delimiter)
            if len(fields) == len(header) and fields[column].strip() in domains:
                raise DataError(
                    f"{path}, line {row.first_line}: a quotation mark is opened and not closed before line {number}, "
                    "which looks like a row of its own"
                )

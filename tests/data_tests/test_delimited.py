"""Tables in text files: encodings, delimiters, quotation marks, and every way in which they do not match."""

import csv
import io
import sys
from pathlib import Path

import pytest

from harness.data.corpora.delimited import read_table
from harness.data.errors import DataError

HEADER = ["domain", "text", "label"]


def rows_of(path: Path, contents: str | bytes) -> list[list[str]]:
    """The rows of a file with these contents, after checking its header."""
    path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    header, rows, _ = read_table(path)
    assert header == HEADER
    return [row.fields for row in rows]


def written(rows: list[list[str]], **how: object) -> str:
    """The rows as Python's own writer has them, header first."""
    text = io.StringIO(newline="")
    csv.writer(text, **how).writerows([HEADER, *rows])  # type: ignore[arg-type]
    return text.getvalue()


NASTY = [
    ["films", 'He said "no", and left', "bad"],
    ["films", '"Never again" she said', "bad"],
    ["films", "two\nlines, three\twords", "good"],
    ["films", 'films,"a",b', "good"],
    ["films", "", "good"],
]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_a_csv_writer_writes_is_read_back(tmp_path: Path, delimiter: str, end: str, quoting: int) -> None:
    nasty = [[field.replace("\n", end) for field in row] for row in NASTY]
    contents = written(nasty, delimiter=delimiter, lineterminator=end, quoting=quoting)
    assert rows_of(tmp_path / "x.csv", contents) == nasty
    if delimiter == "\t":  # Excel and pandas write TSV with the quotation marks of CSV
        assert rows_of(tmp_path / "x.tsv", contents) == nasty


def test_quotation_marks_of_a_tsv_are_text(tmp_path: Path) -> None:
    rows = [
        ["films", '"Warm and funny', "good"],
        ["films", "A slow start", "fair"],
        ["films", '"Never again" she said', "bad"],
        ["films", 'The end is 5" too long', "fair"],
        ["films", 'closed here"', "good"],
    ]
    lines = ["\t".join(row) for row in [HEADER, *rows]]
    assert rows_of(tmp_path / "x.tsv", "\n".join(lines)) == rows
    assert rows_of(tmp_path / "x.tsv", "\r\n".join(lines) + "\r\n") == rows


def test_two_marks_that_could_join_two_rows_do_not(tmp_path: Path) -> None:
    rows = [["films", '"Warm and funny', "good"], ["films", 'and long"', "bad"]]
    contents = "\n".join("\t".join(row) for row in [HEADER, *rows])
    assert rows_of(tmp_path / "x.tsv", contents) == rows


def test_marks_around_a_whole_field_of_a_tsv_are_text_and_said(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text('domain\ttext\tlabel\nfilms\t"A fine film"\tgood\n')
    _, rows, notes = read_table(path)
    assert rows[0].fields == ["films", '"A fine film"', "good"]
    assert notes == [
        "x.tsv: fields of a TSV file that begin and end with a quotation mark, which is read as part of the text: 1"
    ]


def test_lines_are_numbered_as_an_editor_does(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('domain,text,label\n\nfilms,"one\ntwo",good\nfilms,three,bad\n')
    _, rows, _ = read_table(path)
    assert [(row.first_line, row.last_line) for row in rows] == [(3, 4), (5, 5)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_encodings_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    contents = "domain\ttext\tlabel\r\nfilms\tcafé 你好 😀\tgood\r\n".encode(encoding)
    assert rows_of(tmp_path / "x.tsv", contents) == [["films", "café 你好 😀", "good"]]


def test_a_long_text_is_read_and_the_limit_of_others_is_left_alone(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    long = "word " * 40_000
    assert rows_of(tmp_path / "x.csv", f"domain,text,label\nbooks,{long},bad\n") == [["books", long, "bad"]]
    assert csv.field_size_limit() == limit < sys.maxsize


@pytest.mark.parametrize("blank", ["", "   ", ",,", " , ,"])
def test_blank_lines_are_no_rows(tmp_path: Path, blank: str) -> None:
    contents = f"{blank}\ndomain,text,label\n{blank}\nfilms,a,good\n{blank}\n{blank}\n"
    assert rows_of(tmp_path / "x.csv", contents) == [["films", "a", "good"]]


@pytest.mark.parametrize("odd", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_other_breaks_within_a_text_end_no_row(tmp_path: Path, odd: str) -> None:
    assert rows_of(tmp_path / "x.csv", f"domain,text,label\nfilms,a{odd}b,good\n") == [["films", f"a{odd}b", "good"]]


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("x.csv", 'domain,text,label\nbooks,"never closed,good\n' + "books,plain,bad\n" * 9000, "line 2: the quot"),
        ("x.csv", 'domain,text,label\nbooks,"a" b,good\n', r"line 2: the quotation marks of a field do not match"),
        ("x.csv", 'domain,text,label\nbooks,"a \\"b\\" c",good\n', r"line 2: .* those inside it are written twice"),
        ("x.csv", 'domain,text,label\nbooks,fine,bad\nbooks,"open,good\nbooks,five inches ",bad\n',
         "line 3: a quotation mark is opened and not closed before line 4, which looks like a row of its own"),
        ("x.csv", "domain,text,label\nbooks,a,b,c\n", "line 2: expected 3 columns, as in the first line, got 4"),
        ("x.csv", 'domain,text,label\n"a\nb",x,y\nbooks,a\n', "line 4: expected 3 columns, as in the first line"),
        ("x.tsv", 'domain\ttext\tlabel\nbooks\t"a\n', "line 2: expected 3 columns, as in the first line, got 2"),
        ("x.tsv", "domain\ttext\tlabel\nbooks\ta\n", "line 2: expected 3 columns, as in the first line, got 2"),
        ("x.csv", b"domain,text,label\nbooks,caf\xe9,x\n", r"x\.csv: not UTF-8: .* at byte 27, in line 2; save the"),
        ("x.csv", "domain,text,label\nbooks,a,x\n".encode("utf-16-le"), r"line 1: holds a NUL byte, so it is no text"),
        ("x.csv", b"\xff\xfed\x00o", r"x\.csv: not UTF-16-LE: truncated data at byte 4, in line 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line_with_its_place(
    tmp_path: Path, name: str, contents: str | bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    with pytest.raises(DataError, match=message) as told:
        read_table(path)
    assert "\n" not in str(told.value) and str(path) in str(told.value)

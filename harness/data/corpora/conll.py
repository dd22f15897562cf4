"""Column files of tagged words (CoNLL): a word a line, its tag in the last column, blank lines between sentences.

-DOCSTART- -X- -X- O        begins a document, whose sentences are one group

EU NNP B-NP B-ORG           the first column is the word, the last one its tag
rejects VBZ B-VP O
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from harness.data.corpora.delimited import lines_of, read_file
from harness.data.corpora.local_rows import Row
from harness.data.errors import DataError

DOCUMENT = "-DOCSTART-"
UNIVERSAL_COLUMNS = 10  # of CoNLL-U, whose last column is no tag


def read_column_rows(path: Path, notes: list[str]) -> Iterator[Row]:
    """Yield a row for each sentence, with `tokens`, `tags` and, where the file has documents, its document as `group`.

    A line that begins with `#` is a comment where it has another number of columns than the words, or `KEY =` follows.

    Raises DataError, with the line, for a word without a tag, and for CoNLL-U.
    """
    lines = [_columns(line) for line in lines_of(read_file(path))]
    widths = Counter(len(fields) for fields in lines if fields and fields[0] != DOCUMENT and fields[0][:1] != "#")
    width = widths.most_common(1)[0][0] if widths else 0
    if width == UNIVERSAL_COLUMNS and all(f[0][:1].isdigit() for f in lines if len(f) == width):
        raise DataError(f"{path}: has the ten columns of CoNLL-U; write two, the word and the tag that is to be learnt")
    document, first = 0, 0
    tokens: list[str] = []
    tags: list[str] = []
    for number, fields in enumerate([*lines, []], start=1):
        if fields and fields[0] != DOCUMENT:
            if _is_comment(fields, width):
                continue
            if len(fields) < 2 or not fields[0]:
                raise DataError(f"{path}, line {number}: the word {fields[0]!r} has no tag; expected WORD ... TAG")
            first = first or number
            tokens.append(fields[0])
            tags.append(fields[-1])
            continue
        if tokens:
            columns = {"tokens": json.dumps(tokens), "tags": json.dumps(tags)}
            if document:
                columns["group"] = f"{path.stem}/{document}"
            yield Row(f"{path}, line {first}", columns, path.parent)
            first, tokens, tags = 0, [], []
        document += bool(fields)


def _is_comment(fields: list[str], width: int) -> bool:
    """Whether a line is one: `# id 7`, `# text = a b`. In a file of four columns, `# # O O` is a word."""
    return fields[0].startswith("#") and (len(fields) != width or fields[2:3] == ["="])


def _columns(line: str) -> list[str]:
    """The columns of a line: parted by tabs, where it has any (a word may hold a space there), else by blanks."""
    return [field.strip() for field in line.split("\t")] if "\t" in line.strip() else line.split()

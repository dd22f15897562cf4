"""What a user's rows answer: which of their columns an example is made of, and how an answer is read.

    domain, text, label              a class of a text            domain, path, transcript     what is said
    domain, text, text_2, label      a class of two texts         domain, path, label          a class of a recording
    domain, text[, text_2], value    a number                     domain, tokens, tags         a tag for each word

Where rows have several answers, `data.options.answer` chooses; without it, a transcript comes before a label, and a
label before a number.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from harness.data.corpora.local_rows import Row
from harness.data.errors import DataError
from harness.data.examples import Modality
from harness.data.text_cleaning import clean_text
from harness.errors import must_be_in

Answer = Literal["label", "value", "tags", "transcript"]
ANSWERS: tuple[Answer, ...] = get_args(Answer)


@dataclass(frozen=True)
class Layout:
    """What the examples of a file are made of: `columns` are needed in every row."""

    modality: Modality
    answer: Answer
    columns: tuple[str, ...]

    @property
    def is_pair(self) -> bool:
        """Whether an example is two texts."""
        return "text_2" in self.columns


def layout_of(columns: Mapping[str, str], answer: object, place: str) -> Layout:
    """Return the layout of a file by the columns of its first row, and by the option `answer`, which may be None.

    Raises DataError for an answer that there is not, or that a row of such columns cannot have.
    """
    if answer is not None:
        must_be_in(str(answer), ANSWERS, f"answer: {answer!r} is no kind of answer", DataError)
    chosen = next((name for name in ANSWERS if name == answer), None)
    is_text = {"text", "tokens"} & columns.keys() and not {"path", "transcript"} <= columns.keys()
    if chosen == "transcript" or not is_text:
        found: Answer = chosen or ("label" if "label" in columns and "transcript" not in columns else "transcript")
        if found in ("value", "tags"):
            raise DataError(f"{place}: answer: {found} is for texts, and these rows are recordings; choices: label, "
                            "transcript")  # fmt: skip
        return Layout("speech", found, ("domain", "path", found))
    if chosen == "tags" or (chosen is None and "tokens" in columns and "text" not in columns):
        return Layout("text", "tags", ("domain", "tokens", "tags"))
    found = chosen or ("value" if "value" in columns and "label" not in columns else "label")
    texts = ("text", "text_2") if "text_2" in columns else ("text",)
    # A score is often called a label (STS-B): read so where numbers are asked for and no column has their name.
    column = "label" if found == "value" and "value" not in columns else found
    return Layout("text", found, ("domain", *texts, column))


def read_value(row: Row, layout: Layout) -> float:
    """Return a row's number; raises DataError where it is none, or not finite."""
    column = layout.columns[-1]
    written = row.columns[column].strip()
    try:
        value = float(written)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{row.place}: {column} must be a finite number, got {written!r}")
    return value


def completed(row: Row, layout: Layout) -> Row:
    """Return a row with what follows from its other columns.

    Words make a text, by which copies are found. Clips with a class are groups by their file, where the user names no
    group: those of one class say the same, and held out together the class would be gone from training.
    """
    if layout.answer == "tags":
        return replace(row, columns={**row.columns, "text": " ".join(_list_of(row, "tokens"))})
    if layout.modality == "speech" and layout.answer == "label" and not row.columns.get("group"):
        return replace(row, columns={**row.columns, "group": row.columns["path"]})
    return row


def read_tags(row: Row, names: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a row's words and their tags.

    Args:
        names: of the tags, by their numbers, where the file has those instead.

    Raises DataError where there are not as many of one as of the other, and for a tag without a name.
    """
    words = tuple(clean_text(word) for word in _list_of(row, "tokens"))
    tags = _list_of(row, "tags")
    if len(words) != len(tags):
        raise DataError(f"{row.place}: {len(words)} tokens and {len(tags)} tags; each token needs one")
    if names is not None and all(tag.isdecimal() for tag in tags) and not set(tags) <= set(names):
        strange = [tag for tag in tags if int(tag) >= len(names)]
        if strange:
            raise DataError(f"{row.place}: tag {strange[0]} is none of the {len(names)} that labels lists, from 0")
        tags = [names[int(tag)] for tag in tags]
    for tag in tags:
        if not tag or tag.split() != [tag]:
            raise DataError(f"{row.place}: the tag {tag!r} is empty or holds a space")
    return words, tuple(tags)


def _list_of(row: Row, column: str) -> list[str]:
    """The list in a column: of JSON, or written as JSON in a field of a table."""
    written = row.columns.get(column, "")
    try:
        found = json.loads(written)
    except ValueError:
        found = None
    if not isinstance(found, list) or not found or any(isinstance(item, (list, dict, bool)) for item in found):
        raise DataError(f'{row.place}: {column} must be a list of words, as ["a", "b"], got {written[:60]!r}')
    return ["" if item is None else str(item) for item in found]

"""A note: something that a reader of a record or a table must know. Its kind is for code, its text is only printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer

NoteKind = Literal[
    "seeds",
    "interval",
    "test",
    "selection",
    "budget",
    "missing",
    "uneven",
    "data",
    "engine",
    "unmoved",
    "mixed",
    "reference",
    "method",
]


@dataclass(frozen=True)
class Note:
    """A note of a record or a manifest.

    Attributes:
        kind: what it is about: `data` the corpus, `engine` how the trial was trained, `unmoved` that its training
            changed nothing, `budget` how much each arm was
            tuned, `selection` how its winner was chosen.
        old: it was read from a file in which notes were texts alone, and is written as one again: a record's digests
            are those of the file that was read.
    """

    kind: NoteKind
    text: str
    old: bool = field(default=False, compare=False)


def note_of_old_text(text: str, usual: NoteKind) -> Note:
    """A note that was written before notes had kinds: of a kind that its file usually has, or by how it starts."""
    is_budget = usual == "selection" and text.startswith(("unequal", "each searched arm"))
    return Note("budget" if is_budget else usual, text, old=True)


def _reader(usual: NoteKind) -> Callable[[Any], Any]:
    return lambda value: note_of_old_text(value, usual) if isinstance(value, str) else value


def _content(note: Note) -> Any:
    return note.text if note.old else {"kind": note.kind, "text": note.text}


_WRITTEN = PlainSerializer(_content)
RecordNote = Annotated[Note, BeforeValidator(_reader("data")), _WRITTEN]
ManifestNote = Annotated[Note, BeforeValidator(_reader("selection")), _WRITTEN]

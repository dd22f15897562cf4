"""What one item of a corpus is: a text or a recording, and what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Modality = Literal["text", "speech"]  # what the examples of a corpus are, and what an encoder reads


@dataclass(frozen=True)
class Example:
    """One item of a corpus. `key` is unique in its corpus, `group` never straddles a split."""

    key: str
    group: str
    domain: str

    @property
    def shown(self) -> str:
        """What a person reads of it."""
        raise NotImplementedError


@dataclass(frozen=True)
class TextExample(Example):
    """A text and what is to be said of it: a class, a number, or a tag for each of its words."""

    text: str
    label: int | None = None
    """The class: an index of the corpus' `symbols`."""
    second: str | None = None
    """The other text of a pair."""
    value: float | None = None
    words: tuple[str, ...] = ()
    """The words that have tags; `text` is these, joined by spaces."""
    tags: tuple[str, ...] = ()
    """The tags of the words, all of them among the corpus' `symbols`."""

    @property
    def shown(self) -> str:
        return self.text if self.second is None else f"{self.text} / {self.second}"


@dataclass(frozen=True)
class SpeechExample(Example):
    """A recording: its audio file, length in seconds, and transcript in the corpus' `symbols`, or class."""

    path: Path
    seconds: float
    transcript: str
    segment: tuple[float, float] | None = None
    """Where in the file it begins and how long it is, in seconds; None: it is the whole file."""
    raw: str = ""
    """The transcript as its source has it, before it was normalised."""
    label: int | None = None
    """The class: an index of the corpus' `clip_classes`."""

    @property
    def shown(self) -> str:
        return self.transcript or self.path.name


def class_of(example: Example) -> int:
    """The class that samples are stratified by; transcripts, numbers and tags have but one."""
    return label_of(example) or 0


def label_of(example: Example) -> int | None:
    """The class of an example; None where it has none."""
    return example.label if isinstance(example, (TextExample, SpeechExample)) else None

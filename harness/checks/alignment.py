"""Where a transcript differs from its reference: insertions, deletions and substitutions, by minimal edit distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.metrics.metric import Unit

Kind = Literal["equal", "substitute", "insert", "delete"]
KINDS: dict[str, Kind] = {"equal": "equal", "substitute": "substitute", "insert": "insert", "delete": "delete"}


@dataclass(frozen=True)
class Piece:
    """A run of the alignment; `reference` is empty for an insertion, `hypothesis` for a deletion."""

    kind: Kind
    reference: str
    hypothesis: str


def align(reference: str, hypothesis: str, unit: Unit = "character") -> tuple[Piece, ...]:
    """Align a transcript with its reference.

    Joined, the pieces' references give the reference and their hypotheses the hypothesis (with one space between words
    when aligned by word).
    """
    texts = (reference.strip(), hypothesis.strip())
    one, other = (list(text) if unit == "character" else text.split() for text in texts)
    glue = "" if unit == "character" else " "
    if not one or not other:
        kind: Kind = "delete" if one else "insert"
        return (Piece(kind, glue.join(one), glue.join(other)),) if one or other else ()
    from jiwer import process_characters, process_words

    process = process_characters if unit == "character" else process_words
    chunks = process(glue.join(one), glue.join(other)).alignments[0]
    return tuple(
        Piece(
            KINDS[chunk.type],
            glue.join(one[chunk.ref_start_idx : chunk.ref_end_idx]),
            glue.join(other[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in chunks
    )

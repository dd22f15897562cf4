"""What a training is made with beside its settings, by fingerprints: so a record and a machine can be compared."""

from __future__ import annotations

from typing import NamedTuple

WORDS = ("backbone", "corpus", "tokenizer or feature extractor")  # for the parts of MadeWith


class Difference(NamedTuple):
    """What differs between two trainings, in words, and its two fingerprints."""

    what: str
    here: str
    there: str


class MadeWith(NamedTuple):
    """Fingerprints.

    Attributes:
        backbone: of the weights.
        corpus: of the examples.
        preparation: of what turns an example into the backbone's inputs and targets; None: not known, as in older
            records.
    """

    backbone: str
    corpus: str
    preparation: str | None = None

    def difference(self, other: MadeWith) -> Difference | None:
        """The first part that is known to be another one there; None where all that is known is the same."""
        for word, here, there in zip(WORDS, self, other, strict=True):
            if here is not None and there is not None and here != there:
                return Difference(word, here, there)
        return None

"""Corpora by what trials say of them, each read once."""

from __future__ import annotations

from harness.config.base import content_hash
from harness.config.places import folder_of
from harness.config.trial import DataSettings
from harness.data.corpora.registry import load_corpus
from harness.data.corpus import Corpus
from harness.data.samples import sealed_corpus


class LoadedCorpora:
    """Reads each corpus once.

    Args:
        sealed: for the search: corpora come without their test examples.
    """

    def __init__(self, sealed: bool = False) -> None:
        self.sealed = sealed
        self._corpora: dict[str, Corpus] = {}

    def corpus(self, data: DataSettings, normaliser: str) -> Corpus:
        """The corpus of some trials, with normalised transcripts; sealed, without all that is test data for them.

        Raises:
            DataError: it is not there, or cannot be used.
        """
        more = (data.target, data.pool_size) if self.sealed and data.test != "split" else ()
        key = content_hash([data.corpus, data.options, str(folder_of(data.corpus)), normaliser, *more])
        if key not in self._corpora:
            corpus = load_corpus(data.corpus, normaliser=normaliser, **data.options)
            self._corpora[key] = sealed_corpus(corpus, data) if self.sealed else corpus
        return self._corpora[key]

"""Corpora, features and batches: everything between a dataset's name and the tensors of a batch.

`registry` has the corpora by name; `corpus` says what one is. Modules that import torch (`audio_backend`,
`features`, `spec_augment`, `batching`) are not imported here, so that reading a corpus does not need it.
"""

from harness.data.corpora.registry import CORPORA, CorpusSource, fetch_corpus, is_fetched, load_corpus
from harness.data.corpus import Corpus, Example, SpeechExample, Split, TextExample, limit_train, limit_valid
from harness.data.errors import DataError

__all__ = [
    "CORPORA",
    "Corpus",
    "CorpusSource",
    "DataError",
    "Example",
    "SpeechExample",
    "Split",
    "TextExample",
    "fetch_corpus",
    "is_fetched",
    "limit_train",
    "limit_valid",
    "load_corpus",
]

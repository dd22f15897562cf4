"""The references of a test set, from the corpus if it is on this machine: what predictions are scored against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from harness.config.base import content_hash
from harness.config.places import folder_of
from harness.config.trial import DataSettings
from harness.data.corpora.registry import load_corpus
from harness.data.corpus import Corpus
from harness.data.samples import test_examples
from harness.data.speech_text import LATIN28
from harness.errors import UserError
from harness.metrics import METRICS, Answer
from harness.tasks.task import WholeTask


@dataclass(frozen=True)
class TestItem:
    """One test example: its key, what a person reads (text or transcript), its reference, and its group.

    Items of a group (a document, copies of a tweet) are not independent observations.
    """

    key: str
    shown: str
    reference: Answer
    group: str

    __test__ = False  # no test class, whatever its name says to pytest


class References:
    """Test examples by domain, of one corpus, as a task asks for them; `data` says which they are."""

    def __init__(self, corpus: Corpus, task: type[WholeTask], data: DataSettings) -> None:
        self.corpus, self.task, self.data = corpus, task, data
        self.outputs = task.outputs(corpus)
        self._items: dict[str, tuple[TestItem, ...]] = {}

    def items(self, domain: str) -> tuple[TestItem, ...]:
        """The domain's test examples, in corpus order.

        Raises:
            UserError: there is no such domain, or not as many training examples as the pool has.
        """
        if domain not in self._items:
            self._items[domain] = tuple(
                TestItem(example.key, example.shown, self.task.reference(example, self.outputs), example.group)
                for example in test_examples(self.corpus, self.data, domain)
            )
        return self._items[domain]

    def score(self, metric: str, domain: str, predictions: Mapping[str, Answer]) -> float:
        """A metric of predictions (by key) on a domain's test examples.

        Raises:
            KeyError: a test example has no prediction, or there is no such metric.
        """
        items, known = self.items(domain), self.task.arguments(self.outputs)
        answers = [predictions[item.key] for item in items]
        return METRICS[metric].score([item.reference for item in items], answers, known)

    def answer_text(self, answer: Answer) -> str:
        """A prediction or reference as a person reads it."""
        return self.task.answer_text(answer, self.outputs)


class ReferenceShelf:
    """The references of several corpora, each read once; for a corpus that cannot be read, the reason."""

    def __init__(self) -> None:
        self._corpora: dict[str, Corpus | str] = {}
        self._found: dict[tuple[str, type[WholeTask]], References] = {}

    def find(
        self, data: Mapping[str, Any], fingerprint: str | None, task: type[WholeTask], normaliser: str | None = None
    ) -> References | str:
        """The references for a trial's `data` settings.

        Args:
            fingerprint: of the corpus that the trial was made with.
            task: of the trial.
            normaliser: of the trial's transcripts; None: latin28.

        Returns:
            the references, or why there are none: the corpus is not here, or another version of it is.
        """
        try:
            settings = DataSettings.model_validate(data)
        except ValidationError as error:
            return f"the records' data settings are not those of this version: {error.errors()[0]['msg']}"
        name = settings.corpus
        corpus = self._corpus(name, settings.options, normaliser or LATIN28.name)
        if isinstance(corpus, str):
            return corpus
        if fingerprint is not None and corpus.fingerprint != fingerprint:
            return (
                f"corpus {name} here has fingerprint {corpus.fingerprint[:12]}, "
                f"but the records were made with {fingerprint[:12]}"
            )
        key = content_hash([settings.model_dump(mode="json"), str(folder_of(name)), normaliser]), task
        if key not in self._found:
            self._found[key] = References(corpus, task, settings)
        return self._found[key]

    def _corpus(self, name: str, options: dict[str, Any], normaliser: str) -> Corpus | str:
        key = content_hash([name, options, str(folder_of(name)), normaliser])
        if key not in self._corpora:
            try:
                self._corpora[key] = load_corpus(name, normaliser=normaliser, **options)
            except UserError as error:
                self._corpora[key] = str(error)
        return self._corpora[key]

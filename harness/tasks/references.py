"""The references of a test set, from the corpus if it is on this machine: what predictions are scored against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.base import content_hash
from harness.config.places import folder_of
from harness.data.corpora.registry import load_corpus
from harness.data.corpus import Corpus
from harness.errors import UserError
from harness.metrics import METRICS
from harness.tasks.task import WholeTask


@dataclass(frozen=True)
class TestItem:
    """One test example: its key, what a person reads (text or transcript), its reference, and its group.

    Items of a group (a document, copies of a tweet) are not independent observations.
    """

    key: str
    shown: str
    reference: int | str
    group: str

    __test__ = False  # no test class, whatever its name says to pytest


class References:
    """Test examples by domain, of one corpus, as a task asks for them."""

    def __init__(self, corpus: Corpus, task: type[WholeTask]) -> None:
        self.corpus, self.task = corpus, task
        self.outputs = task.outputs(corpus)
        self._items: dict[str, tuple[TestItem, ...]] = {}

    def items(self, domain: str) -> tuple[TestItem, ...]:
        """The domain's test examples, in corpus order.

        Raises:
            UserError: there is no such domain.
        """
        if domain not in self._items:
            self._items[domain] = tuple(
                TestItem(example.key, example.shown, self.task.reference(example, self.outputs), example.group)
                for example in self.corpus.split(domain, "test")
            )
        return self._items[domain]

    def score(self, metric: str, domain: str, predictions: Mapping[str, int | str]) -> float:
        """A metric of predictions (by key) on a domain's test examples.

        Raises:
            KeyError: a test example has no prediction, or there is no such metric.
        """
        items, known = self.items(domain), self.task.arguments(self.outputs)
        answers = [predictions[item.key] for item in items]
        return METRICS[metric].score([item.reference for item in items], answers, known)

    def answer_text(self, answer: int | str) -> str:
        """A prediction or reference as a person reads it."""
        return self.task.answer_text(answer, self.outputs)


class ReferenceShelf:
    """The references of several corpora, each read once; for a corpus that cannot be read, the reason."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, type[WholeTask]], References | str] = {}

    def find(self, data: Mapping[str, Any], fingerprint: str | None, task: type[WholeTask]) -> References | str:
        """The references for a trial's `data` settings.

        Args:
            fingerprint: of the corpus that the trial was made with.
            task: of the trial.

        Returns:
            the references, or why there are none: the corpus is not here, or another version of it is.
        """
        name, options = data["corpus"], dict(data.get("options") or {})
        key = content_hash([name, options, str(folder_of(name))]), task
        if key not in self._found:
            self._found[key] = _load(name, options, task)
        found = self._found[key]
        if isinstance(found, str):
            return found
        if fingerprint is not None and found.corpus.fingerprint != fingerprint:
            return (
                f"corpus {name} here has fingerprint {found.corpus.fingerprint[:12]}, "
                f"but the records were made with {fingerprint[:12]}"
            )
        return found


def _load(name: str, options: dict[str, Any], task: type[WholeTask]) -> References | str:
    try:
        return References(load_corpus(name, **options), task)
    except UserError as error:
        return str(error)

"""The references of a test set, from the corpus if it is on this machine: what predictions are scored against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.base import content_hash
from harness.data.corpora.registry import load_corpus
from harness.data.corpus import Corpus, Example, SpeechExample, TextExample
from harness.errors import UserError
from harness.metrics import SCORERS


@dataclass(frozen=True)
class TestItem:
    """One test example: its key, what a person reads (text or transcript), its reference, and its group.

    Items of a group (a document, copies of a tweet) are no independent observations.
    """

    key: str
    shown: str
    reference: int | str
    group: str

    __test__ = False  # no test class, whatever its name says to pytest


class References:
    """Test examples by domain, of one corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self._items: dict[str, tuple[TestItem, ...]] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; () for a speech corpus."""
        return self.corpus.symbols if self.corpus.family == "text" else ()

    def items(self, domain: str) -> tuple[TestItem, ...]:
        """The domain's test examples, in corpus order.

        Raises:
            UserError: there is no such domain.
        """
        if domain not in self._items:
            self._items[domain] = tuple(_item(example) for example in self.corpus.split(domain, "test"))
        return self._items[domain]

    def score(self, metric: str, domain: str, predictions: Mapping[str, int | str]) -> float:
        """A metric of predictions (by key) on a domain's test examples.

        Raises:
            KeyError: a test example has no prediction, or there is no such metric.
        """
        items = self.items(domain)
        more = {"num_classes": len(self.classes)} if metric == "macro_f1" else {}
        return SCORERS[metric]([item.reference for item in items], [predictions[item.key] for item in items], **more)


def _item(example: Example) -> TestItem:
    if isinstance(example, TextExample):
        return TestItem(example.key, example.text, example.label, example.group)
    assert isinstance(example, SpeechExample)
    return TestItem(example.key, example.transcript, example.transcript, example.group)


class ReferenceShelf:
    """The references of several corpora, each read once; where one cannot be had, the reason."""

    def __init__(self) -> None:
        self._found: dict[str, References | str] = {}

    def find(self, data: Mapping[str, Any], fingerprint: str | None) -> References | str:
        """The references for a trial's `data` settings.

        Args:
            fingerprint: of the corpus that the trial was made with.

        Returns:
            the references, or why there are none: the corpus is not here, or another version of it is.
        """
        name, options = str(data["corpus"]), dict(data.get("options") or {})
        key = content_hash([name, options])
        if key not in self._found:
            self._found[key] = _load(name, options)
        found = self._found[key]
        if isinstance(found, str):
            return found
        if fingerprint is not None and found.corpus.fingerprint != fingerprint:
            return (
                f"corpus {name} here has fingerprint {found.corpus.fingerprint[:12]}, "
                f"but the records were made with {fingerprint[:12]}"
            )
        return found


def _load(name: str, options: dict[str, Any]) -> References | str:
    try:
        return References(load_corpus(name, **options))
    except UserError as error:
        return str(error)

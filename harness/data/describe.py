"""What a corpus holds, in a line a domain: said when a launch begins, and written into new recipes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.config.base import content_hash
from harness.config.training import MetaSettings
from harness.config.trial import DataSettings
from harness.data.corpus import SPLITS, Corpus
from harness.data.examples import Example, SpeechExample, TextExample, label_of

NAMED = 6  # so many classes are counted by name
WORDS = {"train": "training", "valid": "validation", "test": "test"}


@dataclass
class ToldOfData:
    """What a launch says of its data before it begins, each line once.

    Attributes:
        described: what each domain holds, which may be left unsaid.
        remarks: what was left out or noticed in a file of the user's own, which may not.
    """

    described: dict[str, None] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def add_trials(self, corpus: Corpus, data: DataSettings, meta: MetaSettings | None, remarks: Iterable[str]) -> None:
        """Take what there is to say of some trials' data; what the same data hold is not counted again."""
        told = content_hash([id(corpus), *(part and part.model_dump(mode="json") for part in (data, meta))])
        self.add(() if told in self._told else describe_data(corpus, data, meta), remarks)
        self._told.add(told)

    def add(self, described: Iterable[str], remarks: Iterable[str]) -> None:
        """Take some more lines."""
        self.described |= dict.fromkeys(described)
        self.remarks |= dict.fromkeys(remarks)

    def lines(self, quiet: bool = False) -> tuple[str, ...]:
        """All that is said, or what must be."""
        return (*(() if quiet else self.described), *self.remarks)


def describe_data(corpus: Corpus, data: DataSettings, meta: MetaSettings | None = None) -> list[str]:
    """A line for the target and for each source domain of some trials, and for each that they are meta-trained on."""
    target = f"{data.target} (target): {describe_domain(corpus, data.target)}{_drawn(data.train_limit)}"
    told = [target, *describe_domains(corpus, data.source)]
    if meta is None:
        return told
    drawn = _drawn(meta.limit)
    return told + [f"{name} (meta-training): {describe_domain(corpus, name)}{drawn}" for name in meta.over]


def _drawn(limit: int | None) -> str:
    return "" if limit is None else f"; each seed trains on {limit}"


def describe_domains(corpus: Corpus, domains: Iterable[str]) -> list[str]:
    """A line for each source domain; raises DataError where there is no such domain."""
    return [f"{name} (source): {describe_domain(corpus, name)}" for name in domains]


def describe_domain(corpus: Corpus, domain: str) -> str:
    """How many examples of each split a domain has, how long its recordings are, and its classes in training.

    Raises:
        DataError: there is no such domain.
    """
    examples = corpus.examples(domain)
    splits = Counter(corpus.split_of(example.group) for example in examples)
    told = [split for split in SPLITS if not (split == "test" and corpus.is_sealed)]
    parts = ", ".join(f"{splits[split]} {WORDS[split]}" for split in told)
    parts += " examples (test examples are not loaded)" if corpus.is_sealed else " examples"
    train = [example for example in examples if corpus.split_of(example.group) == "train"]
    return "; ".join(filter(None, [f"{parts}{_length(examples)}", _answers(corpus, train)]))


def _length(examples: Sequence[Example]) -> str:
    """How long some recordings are together; nothing for texts."""
    seconds = sum(example.seconds for example in examples if isinstance(example, SpeechExample))
    if not seconds:
        return ""
    return f", {seconds / 3600:.1f} h" if seconds >= 3600 else f", {seconds / 60:.1f} min"


def _answers(corpus: Corpus, examples: Sequence[Example]) -> str:
    """How often each class occurs, or how many there are where they are many; of numbers, between which they lie."""
    values = [e.value for e in examples if isinstance(e, TextExample) and e.value is not None]
    if values:
        return f"in training from {min(values):g} to {max(values):g}"
    counts = Counter(label_of(example) for example in examples)
    if not corpus.classes or not examples:
        return ""
    if len(corpus.classes) > NAMED:
        return f"{len(counts)} of {len(corpus.classes)} classes in training"
    return "in training " + ", ".join(f"{name} {counts[label]}" for label, name in enumerate(corpus.classes))

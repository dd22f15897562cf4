"""Which examples of a corpus a trial learns from, is validated on and is tested on, by its `data` settings.

target, training split:  | pool: every seed draws its few-shot sample here | the rest: unused, or test data |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.config.trial import DataSettings
from harness.data.corpus import Corpus, Example, class_of, limit_train, limit_valid
from harness.data.errors import DataError
from harness.errors import TrialError
from harness.seeding import derive_seed

NAMED = 5  # so many classes are named in a note
POOL_SEED = derive_seed(0, "pool")  # one pool for all seeds of all experiments


def training_pool(corpus: Corpus, data: DataSettings) -> tuple[Example, ...]:
    """The training examples of the target from which every seed draws: all, or the fixed pool.

    The pool has the classes in their proportions, as far as whole groups allow, and all of its groups but the last one,
    in which it is full, are whole. It depends on the set of training examples and on its size alone. In a sealed corpus
    nothing else is left.

    Raises:
        DataError: there are fewer training examples than the pool shall have.
    """
    examples, size = corpus.split(data.target, "train"), data.pool_size
    if size is None or size == len(examples):
        return examples
    if size > len(examples):
        default = "" if data.pool is not None else " (half as many again as train_limit)"
        raise DataError(
            f"data.pool of {size}{default}, but {data.target!r} of corpus {corpus.name} has {len(examples)} training "
            "examples"
        )
    return corpus.once(("pool", data.target, size), lambda: _draw_groups(examples, size))


def _draw_groups(examples: Sequence[Example], size: int) -> tuple[Example, ...]:
    """`size` of the examples, in their order: by turns one of the class that is lacked most, with its whole group."""
    members: dict[str, list[Example]] = {}
    waiting: dict[int, list[Example]] = {}
    drawn = {example.key: derive_seed(POOL_SEED, example.key) for example in examples}
    for example in sorted(examples, key=lambda example: (drawn[example.key], example.key), reverse=True):
        members.setdefault(example.group, []).append(example)
        waiting.setdefault(class_of(example), []).append(example)  # the next one is the last
    shares = {label: len(queue) / len(examples) for label, queue in waiting.items()}
    pool: list[Example] = []
    have = dict.fromkeys(waiting, 0)
    while len(pool) < size:
        lacks = {label: shares[label] * (len(pool) + 1) - have[label] for label, queue in waiting.items() if queue}
        example = waiting[max(lacks, key=lambda label: (lacks[label], -label))].pop()
        for other in members.pop(example.group, ()):
            pool.append(other)
            have[class_of(other)] += 1
    chosen = {example.key for example in pool[:size]}
    return tuple(example for example in examples if example.key in chosen)


def train_sample(corpus: Corpus, data: DataSettings, seed: int) -> tuple[Example, ...]:
    """The few-shot sample of a seed, drawn from the pool; raises DataError where there are too few examples."""
    return limit_train(training_pool(corpus, data), data.train_limit, seed)


def unused_examples(corpus: Corpus, data: DataSettings) -> tuple[Example, ...]:
    """The training examples of the target that are test data under `test: all_unused`, in corpus order.

    No seed trains on any of their groups.

    Raises:
        DataError: the pool leaves none.
        TrialError: the corpus is sealed (`sealed`).
    """
    if corpus.is_sealed:
        raise TrialError("sealed", f"corpus {corpus.name}: a search never sees test data; the confirm phase does")
    pool = training_pool(corpus, data)
    groups = {example.group for example in pool}
    examples = corpus.split(data.target, "train")
    found = tuple(example for example in examples if example.group not in groups)
    if not found:
        raise DataError(
            f"data.test: all_unused: a pool of {len(pool)} leaves none of the {len(examples)} training examples of "
            f"{data.target!r} unused; choose a smaller data.pool, or data.test: split"
        )
    return found


def test_examples(corpus: Corpus, data: DataSettings, domain: str) -> tuple[Example, ...]:
    """The examples that a domain is tested on: its test split and, of the target, what the settings add to it.

    Raises as `unused_examples`, and TrialError (`sealed`) of every sealed corpus.
    """
    examples = corpus.split(domain, "test")
    if domain == data.target and data.test == "all_unused":
        examples += unused_examples(corpus, data)
    return examples


test_examples.__test__ = False  # type: ignore[attr-defined]  # no test function, whatever its name says to pytest


def sealed_corpus(corpus: Corpus, data: DataSettings) -> Corpus:
    """The corpus of a search: without the test split and, where it is test data, without what is not in the pool."""
    if data.test == "split":
        return corpus.sealed()
    pool = {example.key for example in training_pool(corpus, data)}
    unused_examples(corpus, data)  # raises where there are none
    return corpus.sealed({e.key for e in corpus.split(data.target, "train") if e.key not in pool})


def data_notes(corpus: Corpus, data: DataSettings, valid_limit: int | None) -> list[str]:
    """What a table must say of the data: the corpus's own notes, a pool, further test data, classes without examples.

    A sealed corpus has no test examples, so nothing is said of them.
    """
    notes = [*corpus.notes, *corpus.remarks((data.target, *data.source))]
    if data.pool_size is not None:
        notes.append(f"every seed draws its training examples from one fixed pool of {data.pool_size} of {data.target}")
    if data.test == "all_unused" and not corpus.is_sealed:
        num_test, unused = len(corpus.split(data.target, "test")), unused_examples(corpus, data)
        notes.append(
            f"{data.target} is tested on its test split ({num_test} examples) and on the {len(unused)} training "
            "examples that no seed trains on"
        )
        # A group is in the training split of every domain: the backbone may have learnt the same prompt in English.
        learnt = {example.group for domain in data.source for example in corpus.split(domain, "train")}
        if shared := sum(example.group in learnt for example in unused):
            notes.append(f"{shared} of these {len(unused)} are of groups that are in the backbone's training domains")
    return notes + class_notes(corpus, data, valid_limit)


def class_notes(corpus: Corpus, data: DataSettings, valid_limit: int | None) -> list[str]:
    """A sentence for each domain and its classes without examples."""
    notes = []
    for domain in (data.target, *data.source):
        parts: dict[str, Sequence[Example]] = {"validation": limit_valid(corpus.split(domain, "valid"), valid_limit)}
        if domain == data.target:
            parts = {"training": training_pool(corpus, data), **parts}
        if not corpus.is_sealed:
            parts["test"] = test_examples(corpus, data, domain)
        notes += _sentences(domain, {part: corpus.absent_classes(examples) for part, examples in parts.items()})
    return notes


def _sentences(domain: str, absent: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each set of classes that one part or several lack."""
    parts_of: dict[tuple[str, ...], list[str]] = {}
    for part, classes in absent.items():
        if classes:
            parts_of.setdefault(tuple(classes), []).append(part)
    sentences = []
    for classes, parts in parts_of.items():
        named = ", ".join(classes[:NAMED]) + (f" and {len(classes) - NAMED} more" if len(classes) > NAMED else "")
        which = "class" if len(classes) == 1 else "classes"
        scored = "" if parts == ["training"] else ", so a mean over classes is over the others and what is predicted"
        sentences.append(f"{domain} has no {' or '.join(parts)} example of the {which} {named}{scored}")
    return sentences

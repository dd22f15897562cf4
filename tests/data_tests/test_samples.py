"""Which examples a trial is scored on, and what a table says of classes that have none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from data_tests.test_corpus import text_corpus
from harness.config.trial import DataSettings
from harness.data import Corpus, DataError, Split, TextExample
from harness.data.samples import (
    class_notes,
    data_notes,
    sealed_corpus,
    test_examples,
    train_sample,
    training_pool,
    unused_examples,
)
from harness.errors import TrialError

SCORED = ", so a mean over classes is over the others and what is predicted"
DATA = DataSettings(corpus="made", source=("home",), target="away")


def corpus_with(classes: dict[str, dict[Split, str]], num: int = 4) -> Corpus:
    """Domain -> split -> its classes, as digits; every example is a group of its own."""
    domains: dict[str, tuple[TextExample, ...]] = {}
    splits: dict[str, Split] = {}
    for domain, of_domain in classes.items():
        examples = [
            TextExample(f"{domain}/{split}/{label}/{n}", f"{domain} {split} {label} {n}", domain, "text", int(label))
            for split, labels in of_domain.items()
            for label in labels
            for n in range(num)
        ]
        splits |= {example.group: split_in(example.key) for example in examples}
        domains[domain] = tuple(examples)
    return replace(text_corpus(**domains), symbols=("bad", "fair", "good"), fixed_splits=splits)


def split_in(key: str) -> Split:
    split = key.split("/")[1]
    assert split in ("train", "valid", "test")
    return split  # type: ignore[return-value]


def test_a_class_without_examples_is_named_with_its_domain_and_its_parts() -> None:
    corpus = corpus_with(
        {
            "away": {"train": "02", "valid": "0", "test": "02"},
            "home": {"train": "0", "valid": "012", "test": "012"},  # nothing trains on a source
        }
    )
    assert class_notes(corpus, DATA, None) == [
        "away has no training or test example of the class fair" + SCORED,
        "away has no validation example of the classes fair, good" + SCORED,
    ]
    assert class_notes(corpus.sealed(), DATA, None) == [
        "away has no training example of the class fair",
        "away has no validation example of the classes fair, good" + SCORED,
    ]
    whole = corpus_with({domain: {"train": "012", "valid": "012", "test": "012"} for domain in ("away", "home")})
    assert class_notes(whole, DATA, None) == class_notes(whole, DATA, 3) == []
    assert class_notes(whole, DATA, 2) == [  # fewer than there are classes
        "away has no validation example of the class good" + SCORED,
        "home has no validation example of the class good" + SCORED,
    ]


def test_a_note_names_a_few_of_many_classes() -> None:
    names = tuple(f"c{n}" for n in range(12))
    corpus = replace(corpus_with({"away": {"train": "0", "valid": "0", "test": "0"}}), symbols=names)
    data = DATA.model_copy(update={"source": ()})
    assert class_notes(corpus, data, 3) == [
        "away has no training or validation or test example of the classes c1, c2, c3, c4, c5 and 6 more" + SCORED
    ]


# --- the pool and what is left of the training split ------------------------------------------------------------------


def grouped_corpus() -> Corpus:
    """40 training groups of 3 and 40 of 1 on `away`, the first class three times as frequent; small other splits."""
    examples = [
        TextExample(f"a/{group}/{n}", f"g{group}", "away", "text", int(group % 4 == 0))
        for group in range(80)
        for n in range(3 if group < 40 else 1)
    ]
    splits: dict[str, Split] = {f"g{group}": "train" for group in range(80)}
    for split in ("valid", "test"):
        examples += [TextExample(f"a/{split}/{n}", f"{split}{n}", "away", "text", n % 2) for n in range(10)]
        splits |= {f"{split}{n}": split for n in range(10)}
    home = [TextExample(f"h/{n}", f"g{n}" if n < 5 else f"test{n}", "home", "text", n % 2) for n in range(10)]
    home += [TextExample(f"h/valid/{n}", f"valid{n}", "home", "text", n % 2) for n in range(4)]
    return replace(text_corpus(away=tuple(examples), home=tuple(home)), fixed_splits=splits)


def settings(limit: int = 20, pool: int | None = 40, **changes: str) -> DataSettings:
    return DataSettings.model_validate(
        {**DATA.model_dump(), "train_limit": limit, "pool": pool, "test": "all_unused", **changes}
    )


@pytest.mark.parametrize("size", [20, 40, 41, 100])
def test_every_seed_draws_from_one_pool_and_none_trains_on_what_is_tested(size: int) -> None:
    corpus, data = grouped_corpus(), settings(pool=size)
    pool, tested = training_pool(corpus, data), test_examples(corpus, data, "away")
    assert len(pool) == len(set(pool)) == size
    for seed in range(30):
        assert set(train_sample(corpus, data, seed)) <= set(pool)
    assert len({example for seed in range(30) for example in train_sample(corpus, data, seed)}) > min(size - 1, 35)
    trained_or_valid = {example.group for example in (*pool, *corpus.split("away", "valid"))}
    assert not trained_or_valid & {example.group for example in tested}
    left = [e for e in corpus.split("away", "train") if e.group not in {p.group for p in pool}]
    assert list(tested) == [*corpus.split("away", "test"), *left]
    assert 160 - size - len(left) <= 2  # of one group at most, which the full pool has cut in two
    assert test_examples(corpus, data, "home") == corpus.split("home", "test")


def test_the_pool_is_stratified_and_depends_on_the_set_alone() -> None:
    corpus, data = grouped_corpus(), settings(pool=80)
    share = sum(example.label for example in training_pool(corpus, data)) / 80  # type: ignore[attr-defined]
    assert share == pytest.approx(0.25, abs=0.05)
    turned = replace(corpus, domains={name: examples[::-1] for name, examples in corpus.domains.items()})
    assert set(training_pool(turned, data)) == set(training_pool(corpus, data))
    assert set(training_pool(corpus, settings(limit=5, pool=80))) == set(training_pool(corpus, data))


def test_the_default_pool_is_half_as_large_again_as_the_sample() -> None:
    assert settings(limit=33, pool=None).pool_size == 50
    assert len(training_pool(grouped_corpus(), settings(limit=33, pool=None))) == 50
    plain = settings(limit=33, pool=None, test="split")
    assert plain.pool_size is None and len(training_pool(grouped_corpus(), plain)) == 160


def test_a_search_sees_the_pool_and_nothing_else_of_the_training_split() -> None:
    corpus, data = grouped_corpus(), settings(pool=41)
    sealed = sealed_corpus(corpus, data)
    assert set(sealed.split("away", "train")) == set(training_pool(corpus, data)) == set(training_pool(sealed, data))
    for seed in range(5):
        assert train_sample(sealed, data, seed) == train_sample(corpus, data, seed)
    assert not {e.key for e in sealed.examples("away")} & {e.key for e in test_examples(corpus, data, "away")}
    assert sealed.hidden and sealed.hidden != sealed_corpus(corpus, settings(pool=42)).hidden
    assert sealed.split("home", "train") == corpus.split("home", "train")
    for ask in (unused_examples, lambda corpus, data: test_examples(corpus, data, "away")):
        with pytest.raises(TrialError, match="a search never sees test data"):
            ask(sealed, data)
    split = sealed_corpus(corpus, settings(test="split"))
    assert split == corpus.sealed() and not split.hidden


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (settings(pool=161), r"data\.pool of 161, but 'away' of corpus made has 160 training examples"),
        (settings(limit=140, pool=None), r"data\.pool of 210 \(half as many again as train_limit\), but 'away'"),
        (
            settings(pool=160),
            r"a pool of 160 leaves none of the 160 training examples of 'away' unused; choose a smaller",
        ),
    ],
)
def test_impossible_pools_are_one_line(data: DataSettings, message: str) -> None:
    for ask in (lambda: test_examples(grouped_corpus(), data, "away"), lambda: sealed_corpus(grouped_corpus(), data)):
        with pytest.raises(DataError, match=message):
            ask()


def test_a_table_says_what_the_test_set_is() -> None:
    corpus, data = grouped_corpus(), settings(pool=41)
    num_unused = len(unused_examples(corpus, data))
    pool_note = "every seed draws its training examples from one fixed pool of 41 of away"
    notes = data_notes(corpus, data, None)
    assert notes[:2] == [
        pool_note,
        f"away is tested on its test split (10 examples) and on the {num_unused} training examples that no seed trains "
        "on",
    ]
    assert notes[2].endswith("are of groups that are in the backbone's training domains")  # g0 to g4
    assert data_notes(sealed_corpus(corpus, data), data, None)[0] == pool_note
    assert data_notes(corpus, settings(pool=None, test="split"), None) == class_notes(corpus, DATA, None)

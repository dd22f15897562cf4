"""Splits, few-shot samples and fingerprints, on made-up corpora and on every fetched one."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from harness.data import Corpus, DataError, SpeechExample, TextExample, limit_train, limit_valid
from harness.data.corpus import (
    SPLIT_FRACTIONS,
    SPLITS,
    check_corpus,
    fingerprint_rows,
    fingerprint_texts,
    notes_on_transcripts,
    split_of_group,
)
from harness.errors import TrialError

PINNED_SPLITS = {
    "vm-goodbye": "train",
    "queue-minute": "test",
    "agent-pass": "train",
    "product/5": "valid",
    "news/1": "valid",
    "news/3": "test",
}


def text_examples(num: int, domain: str = "a") -> tuple[TextExample, ...]:
    """`num` examples: one of class 0 for every three of class 1, two to a group."""
    return tuple(
        TextExample(key=f"{domain}/{i}", group=f"g{i // 2}", domain=domain, text=f"text {i}", label=int(i % 4 > 0))
        for i in range(num)
    )


def text_corpus(**domains: tuple[TextExample, ...]) -> Corpus:
    return Corpus(name="made", modality="text", domains=domains, symbols=("no", "yes"), fingerprint="f")


def test_split_is_a_partition_by_group() -> None:
    corpus = text_corpus(a=text_examples(400))
    parts = {split: corpus.split("a", split) for split in SPLITS}
    assert sorted(e.key for part in parts.values() for e in part) == sorted(e.key for e in corpus.domains["a"])
    groups = [{e.group for e in part} for part in parts.values()]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


@pytest.mark.parametrize("fixed", [False, True], ids=["hashed", "fixed"])
def test_a_sealed_corpus_has_no_test_example(fixed: bool) -> None:
    """By whatever way it is reached; the rest is as it was, and so is the whole corpus."""
    splits = {f"g{i}": SPLITS[i % 3] for i in range(200)} if fixed else None
    whole = replace(text_corpus(a=text_examples(400), b=text_examples(100, "b")), notes=("noted",), fixed_splits=splits)
    sealed = whole.sealed()
    for domain in ("a", "b"):
        test_keys = {e.key for e in whole.split(domain, "test")}
        assert test_keys and len(sealed.examples(domain)) == len(whole.examples(domain)) - len(test_keys)
        assert not test_keys & {e.key for e in (*sealed.examples(domain), *sealed.domains[domain])}
        assert sealed.split(domain, "train") == whole.split(domain, "train") == sealed.text(domain, "train")
        assert sealed.split(domain, "valid") == whole.split(domain, "valid") != ()
        for ask in (sealed.split, sealed.text, sealed.speech, sealed.sealed().split):
            with pytest.raises(TrialError, match=r"^corpus made: .* confirm phase") as caught:
                ask(domain, "test")
            assert caught.value.reason == "sealed"
    assert replace(sealed, domains=whole.domains, is_sealed=False) == whole and not whole.is_sealed
    assert sealed.untested == ()


def test_a_sealed_corpus_says_which_domains_have_no_test_example() -> None:
    whole = text_corpus(a=text_examples(100), b=text_examples(100, "b"))
    without = replace(whole, domains={**whole.domains, "b": whole.sealed().examples("b")})
    assert without.sealed().untested == without.sealed().sealed().untested == ("b",)


def test_split_fractions_hold_for_many_groups() -> None:
    counts = Counter(split_of_group(f"group {i}") for i in range(20000))
    for split, fraction in zip(SPLITS, SPLIT_FRACTIONS, strict=True):
        assert counts[split] / 20000 == pytest.approx(fraction, abs=0.01)


def test_split_of_a_group_is_pinned() -> None:
    """Tables depend on these: a change here moves every example of every corpus."""
    assert {group: split_of_group(group) for group in PINNED_SPLITS} == PINNED_SPLITS


def test_split_does_not_depend_on_other_domains() -> None:
    both = text_corpus(a=text_examples(50), b=text_examples(60, "b"))
    alone = text_corpus(a=text_examples(50))
    assert both.split("a", "test") == alone.split("a", "test")


def test_fixed_splits_win() -> None:
    examples = text_examples(6)
    corpus = Corpus(
        "made", "text", {"a": examples}, ("no", "yes"), "f", (), {"g0": "test", "g1": "train", "g2": "test"}
    )
    assert [e.key for e in corpus.split("a", "test")] == ["a/0", "a/1", "a/4", "a/5"]
    assert corpus.split("a", "valid") == ()


def test_unknown_domain_and_split_name_the_choices() -> None:
    corpus = text_corpus(a=text_examples(4), b=text_examples(4, "b"))
    with pytest.raises(DataError, match=r"corpus made has no domain 'c'; choices: a, b"):
        corpus.split("c", "train")
    with pytest.raises(DataError, match=r"unknown split 'dev'; choices: train, valid, test"):
        corpus.split("a", "dev")  # type: ignore[arg-type]


def test_typed_access_refuses_examples_of_another_kind() -> None:
    corpus = text_corpus(a=text_examples(40))
    assert corpus.text("a", "train") == corpus.split("a", "train")
    with pytest.raises(DataError, match="made is a text corpus, not one of SpeechExample"):
        corpus.speech("a", "train")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_limits_are_nested(seed: int) -> None:
    examples = text_examples(100)
    samples = [limit_train(examples, limit, seed) for limit in (1, 10, 37, 50, 100)]
    for smaller, larger in pairwise(samples):
        assert larger[: len(smaller)] == smaller
    assert set(samples[-1]) == set(examples)


def test_limits_are_stratified() -> None:
    examples = text_examples(200)
    for limit in (8, 20, 40, 100):
        counts = Counter(e.label for e in limit_train(examples, limit, seed=5))
        assert counts[0] == pytest.approx(limit / 4, abs=1)


def test_limit_depends_on_the_seed_and_not_on_the_order() -> None:
    examples = text_examples(100)
    assert limit_train(examples[::-1], 20, seed=1) == limit_train(examples, 20, seed=1)
    assert set(limit_train(examples, 20, seed=1)) != set(limit_train(examples, 20, seed=2))


def test_no_limit_keeps_order() -> None:
    examples = text_examples(10)
    assert limit_train(examples, None, seed=0) == examples


@pytest.mark.parametrize("limit", [0, -3, 11])
def test_impossible_limit_names_both_numbers(limit: int) -> None:
    with pytest.raises(DataError, match=rf"limit of {limit} training examples, outside 1\.\.10"):
        limit_train(text_examples(10), limit, seed=0)


def test_limit_of_speech_examples() -> None:
    clips = tuple(SpeechExample(f"k{i}", f"g{i}", "it", Path(f"{i}.wav"), 1.0, "ciao") for i in range(30))
    assert limit_train(clips, 10, 0) == limit_train(clips, 20, 0)[:10]


# --- limited validation sets ------------------------------------------------------------------------------------------


def labelled(sizes: Mapping[str, Sequence[int]]) -> tuple[TextExample, ...]:
    """Examples in the order of their classes; `sizes` has a group's number of examples, class by class."""
    return tuple(
        TextExample(f"{group}/{label}/{n}", group, "a", "text", label)
        for label in range(len(next(iter(sizes.values()))))
        for group, of_classes in sizes.items()
        for n in range(of_classes[label])
    )


def test_a_validation_sample_has_the_classes_in_their_proportions() -> None:
    """Of a file that is sorted by class, 2,500 rows of each: the first 300 would be one class."""
    examples = labelled({f"g{n}": (n < 2500, 2500 <= n < 5000, 5000 <= n < 10000) for n in range(10_000)})
    counts = Counter(e.label for e in limit_valid(examples, 300))
    assert counts == {0: 75, 1: 75, 2: 150}
    assert Counter(e.label for e in examples[:300]) == {0: 300}


@pytest.mark.parametrize("limit", [3, 4, 10, 50])
def test_no_class_is_left_out_of_a_validation_sample(limit: int) -> None:
    examples = labelled({f"g{n}": (1, 0, 0) for n in range(1000)} | {"rare": (0, 1, 0), "other": (0, 0, 1)})
    assert {e.label for e in limit_valid(examples, limit)} == {0, 1, 2}
    assert {e.label for e in limit_valid(examples, 1)} == {0}  # the most frequent


def test_a_validation_sample_is_spread_over_groups() -> None:
    """No group gives a second example before every other has given one, be it of another class."""
    sizes = {"long": (500, 500), **{f"g{n}": (2, 2) for n in range(49)}}
    for limit, most in ((10, 1), (50, 1), (60, 2), (100, 2), (120, 3)):
        given = Counter(e.group for e in limit_valid(labelled(sizes), limit))
        assert max(given.values()) == most and len(given) == min(limit, 50), limit
    clips = tuple(SpeechExample(f"k{i}", f"g{max(0, i - 90)}", "it", Path("a"), 1.0, "ciao") for i in range(100))
    assert len({e.group for e in limit_valid(clips, 10)}) == 10


def test_a_validation_sample_is_nested_and_depends_on_the_set_alone() -> None:
    examples = text_examples(200)
    samples = [limit_valid(examples, limit) for limit in (1, 2, 17, 50, 199)]
    for smaller, larger in pairwise(samples):
        assert larger[: len(smaller)] == smaller
    assert limit_valid(examples[::-1], 50) == samples[3]
    assert len(set(samples[-1])) == 199 and set(samples[-1]) < set(examples)
    for limit in (None, 200, 1000):
        assert limit_valid(examples, limit) == examples


def test_the_hash_decides_and_not_the_key() -> None:
    """Drawn once and for all: another version of this function would give other validation sets."""
    assert [e.key for e in limit_valid(text_examples(40), 6)] == ["a/14", "a/12", "a/5", "a/21", "a/3", "a/36"]


def test_a_large_validation_set_with_one_group_is_drawn_in_time() -> None:
    examples = labelled({"one": (10_000, 10_000)})
    began = time.process_time()
    assert len(limit_valid(examples, 19_999)) == 19_999
    assert time.process_time() - began < 5


def test_absent_classes_are_named() -> None:
    corpus = text_corpus(a=text_examples(40))
    assert corpus.absent_classes(corpus.examples("a")) == ()
    assert corpus.absent_classes(e for e in corpus.text("a", "train") if e.label) == ("no",)
    assert replace(corpus, modality="speech").absent_classes(()) == ()


def test_fingerprint_depends_on_contents_alone() -> None:
    examples = text_examples(10)
    assert fingerprint_texts(examples) == fingerprint_texts(reversed(examples))
    changed = (*examples[:-1], TextExample("a/9", "g4", "a", "other text", 1))
    assert fingerprint_texts(changed) != fingerprint_texts(examples)
    assert fingerprint_rows([("ab", "c")]) != fingerprint_rows([("a", "bc")])
    assert fingerprint_rows([("a",), ("b",)]) != fingerprint_rows([("a", "b")])


def test_check_corpus_finds_what_is_wrong() -> None:
    with pytest.raises(DataError, match="has no domains"):
        check_corpus(text_corpus())
    with pytest.raises(DataError, match="domain 'a' has no usable example"):
        check_corpus(text_corpus(a=()))
    with pytest.raises(DataError, match="key 'a/0' occurs twice"):
        check_corpus(text_corpus(a=text_examples(2), b=text_examples(1)))


def test_what_scores_of_another_alphabet_mean_is_said() -> None:
    def clips(*texts: str) -> tuple[SpeechExample, ...]:
        return tuple(SpeechExample(text, text, "zh", Path("a.wav"), 2.0, text) for text in texts)

    training, test = "今天天气很好" * 4, "明天天气很好"
    splits = {training: "train", test: "test"}
    letters = tuple(sorted({*training, *test}))
    corpus = Corpus("own", "speech", {"zh": clips(training, test)}, letters, "f", fixed_splits=splits)  # type: ignore[arg-type]
    spaces = (
        "transcripts of zh have no spaces, so the word error rate counts each as one word: read the character error"
    )
    unseen = "zh: 1 of the 5 letters of its test transcripts are in no training transcript; the alphabet has 6"
    assert notes_on_transcripts(corpus, ("zh",)) == (f"{spaces} rate", unseen)
    assert notes_on_transcripts(corpus.sealed(), ("zh",)) == (f"{spaces} rate",)
    latin = replace(corpus, symbols=("a", "b"), domains={"zh": clips("a" * 30)}, fixed_splits={"a" * 30: "test"})
    assert notes_on_transcripts(latin, ("zh",)) == ()

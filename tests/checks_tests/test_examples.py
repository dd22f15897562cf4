"""Which items changed, which way, and that a mean over seeds decides."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_records import NASTY, make_experiment, write_sentences

from harness.checks.examples import find_changes, item_error
from harness.metrics import Answer
from harness.report.example_texts import find_examples
from harness.report.sources import load_sources
from harness.tasks.references import References, ReferenceShelf, TestItem
from harness.tasks.registry import TASKS


@pytest.fixture
def references(tmp_path: Path) -> References:
    write_sentences(tmp_path / "sentences.jsonl")
    data = {"corpus": f"manifest:{tmp_path / 'sentences.jsonl'}", "source": ["home"], "target": "away"}
    found = ReferenceShelf().find(data, None, TASKS["text_classification"])
    assert isinstance(found, References)
    return found


def right(references: References) -> dict[str, Answer]:
    return {item.key: item.reference for item in references.items("away")}


def test_mended_and_broken_items(references: References) -> None:
    answers = right(references)
    first, second, third, *_ = answers
    wrong = {key: (int(answers[key]) + 1) % 3 for key in (first, second, third)}
    before = {0: {"away": answers | {first: wrong[first]}}, 1: {"away": answers | {first: wrong[first]}}}
    after = {
        0: {"away": answers | {second: wrong[second], third: wrong[third]}},
        1: {"away": answers | {second: wrong[second]}},
    }
    changes = find_changes(references, "away", ("arm", after), ("base", before))
    assert changes is not None
    assert (changes.num_better, changes.num_worse, changes.seeds) == (1, 2, (0, 1))
    assert [example.key for example in changes.better] == [first]
    assert [example.key for example in changes.worse] == [second, third]  # two seeds before one
    half = changes.worse[1]
    assert (half.before.error, half.after.error) == (0.0, 0.5)
    assert sum(half.after.answers.values()) == 2


def test_only_shared_seeds_count(references: References) -> None:
    answers = right(references)
    assert find_changes(references, "away", ("a", {0: {"away": answers}}), ("b", {1: {"away": answers}})) is None


def test_errors_of_items() -> None:
    speech = TestItem("k", "casa", "casa", "g")
    assert item_error(speech, "cas", "cer") == 0.25
    assert item_error(speech, "cas", "wer") == 1.0
    assert item_error(TestItem("k", "a text", 2, "g"), 2, "accuracy") == 0.0


def test_no_corpus_no_sentences(tmp_path: Path) -> None:
    write_sentences(tmp_path / "sentences.jsonl")
    make_experiment(tmp_path / "results", tmp_path / "sentences.jsonl")
    sources = load_sources(tmp_path / "results", "made")
    assert find_examples(sources).changes
    (tmp_path / "sentences.jsonl").unlink()
    without = find_examples(sources)
    assert without.changes == ()
    assert without.reason.startswith("The sentences are not shown: ")


def test_another_version_of_the_corpus_shows_nothing(tmp_path: Path) -> None:
    write_sentences(tmp_path / "sentences.jsonl")
    make_experiment(tmp_path / "results", tmp_path / "sentences.jsonl")
    write_sentences(tmp_path / "sentences.jsonl", extra=(NASTY, "one more"))
    found = find_examples(load_sources(tmp_path / "results", "made"))
    assert found.changes == ()
    assert "has fingerprint" in found.reason

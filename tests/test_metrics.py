"""Metrics against values worked out by hand."""

from __future__ import annotations

import random

import pytest

from harness.metrics import (
    KAPPA,
    METRICS,
    SCORERS,
    accuracy,
    as_error,
    character_error_rate,
    constrained_score,
    forgetting,
    macro_f1,
    validation_metrics,
    word_error_rate,
)


def test_accuracy() -> None:
    assert accuracy([0, 1, 2, 1], [0, 1, 1, 1]) == 0.75
    assert accuracy([0], [1]) == 0.0


def test_macro_f1() -> None:
    # class 0: 2 right, 3 references, 2 predictions: 4/5; class 1: 1 right, 1 and 2: 2/3; class 2: 0 right: 0
    assert macro_f1([0, 0, 0, 1, 2], [0, 0, 1, 1, 3], 3) == pytest.approx((4 / 5 + 2 / 3 + 0) / 3, abs=1e-15)
    assert macro_f1([0, 1], [0, 1], 2) == 1.0
    assert macro_f1([0, 1], [0, 1], 4) == 0.5  # two classes that never occur count as 0


def test_macro_f1_is_the_mean_of_precision_and_recall_harmonics() -> None:
    """The textbook formula, on random predictions."""
    draw = random.Random(0)
    references = [draw.randrange(4) for _ in range(200)]
    predictions = [draw.randrange(4) for _ in range(200)]
    scores = []
    for label in range(4):
        pairs = [(r == label, p == label) for r, p in zip(references, predictions, strict=True)]
        true = pairs.count((True, True))
        precision = true / (true + pairs.count((False, True)))
        recall = true / (true + pairs.count((True, False)))
        scores.append(2 * precision * recall / (precision + recall))
    assert macro_f1(references, predictions, 4) == pytest.approx(sum(scores) / 4, abs=1e-12)


@pytest.mark.parametrize(
    ("references", "predictions", "rate"),
    [
        (["abcd"], ["abxd"], 1 / 4),  # a substitution
        (["abcd"], ["abd"], 1 / 4),  # a deletion
        (["abcd"], ["abcde"], 1 / 4),  # an insertion
        (["abcd"], [""], 1.0),
        (["a"], ["abc"], 2.0),  # more errors than characters
        (["abcd", "ab"], ["abcd", ""], 2 / 6),  # pooled over all characters, not a mean of rates
        (["ab cd"], ["abcd"], 1 / 5),  # the space is a character
    ],
)
def test_character_error_rate(references: list[str], predictions: list[str], rate: float) -> None:
    assert character_error_rate(references, predictions) == pytest.approx(rate, abs=1e-15)


@pytest.mark.parametrize(
    ("references", "predictions", "rate"),
    [
        (["press one now"], ["press two now"], 1 / 3),
        (["press one now"], ["press one"], 1 / 3),
        (["press one"], ["please press one"], 1 / 2),
        (["one"], [""], 1.0),
        (["one two three", "four"], ["one two three", "five"], 1 / 4),
    ],
)
def test_word_error_rate(references: list[str], predictions: list[str], rate: float) -> None:
    assert word_error_rate(references, predictions) == pytest.approx(rate, abs=1e-15)


def edit_distance(reference: str, prediction: str) -> int:
    """Levenshtein's recursion, row by row."""
    row = list(range(len(prediction) + 1))
    for i, expected in enumerate(reference, start=1):
        above, row[0] = row[:], i
        for j, found in enumerate(prediction, start=1):
            row[j] = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (expected != found))
    return row[-1]


def test_character_error_rate_against_a_plain_edit_distance() -> None:
    draw = random.Random(1)
    texts = ["".join(draw.choices("abc", k=draw.randint(1, 9))) for _ in range(60)]
    references, predictions = texts[:30], texts[30:]
    edits = sum(edit_distance(r, p) for r, p in zip(references, predictions, strict=True))
    expected = edits / sum(map(len, references))
    assert character_error_rate(references, predictions) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", SCORERS)
def test_unequal_or_empty_lists_are_refused(name: str) -> None:
    extra = {"num_classes": 2} if name == "macro_f1" else {}
    item = 0 if name in ("accuracy", "macro_f1") else "a"
    with pytest.raises(ValueError, match="2 references and 1 predictions cannot be scored"):
        SCORERS[name]([item, item], [item], **extra)
    with pytest.raises(ValueError, match="0 references and 0 predictions cannot be scored"):
        SCORERS[name]([], [], **extra)


def test_direction() -> None:
    assert METRICS["accuracy"].better(0.9, 0.8)
    assert not METRICS["accuracy"].better(0.8, 0.8)
    assert METRICS["cer"].better(0.1, 0.2)
    assert not METRICS["cer"].better(0.2, 0.1)
    assert as_error("accuracy", 0.75) == 0.25
    assert as_error("cer", 0.75) == 0.75


@pytest.mark.parametrize("name", SCORERS)
def test_target_and_source_metrics_have_the_direction_of_their_metric(name: str) -> None:
    for prefix in ("target_", "source_"):
        assert METRICS[prefix + name].direction == METRICS[name].direction
        assert METRICS[prefix + name].unit == METRICS[name].unit == "%"


@pytest.mark.parametrize(
    ("name", "before", "after", "lost"),
    [
        ("accuracy", 0.8, 0.7, 0.1),
        ("accuracy", 0.7, 0.8, -0.1),
        ("cer", 0.2, 0.3, 0.1),
        ("cer", 0.3, 0.2, -0.1),
        ("source_macro_f1", 0.5, 0.5, 0.0),
    ],
)
def test_forgetting_is_positive_when_the_source_gets_worse(name: str, before: float, after: float, lost: float) -> None:
    assert forgetting(name, before, after) == pytest.approx(lost, abs=1e-15)


@pytest.mark.parametrize(
    ("name", "base_target", "target", "base_sources", "sources", "score"),
    [
        # the error on the target falls from 0.5 to 0.2: 0.6 gained, and nothing lost on the source
        ("cer", 0.5, 0.2, [0.1], [0.1], 0.6),
        # the source loses 0.01 of the tolerated 0.03: two thirds are kept
        ("cer", 0.5, 0.2, [0.1], [0.11], 0.6 * 2 / 3),
        # an improved source is worth no more than an unharmed one
        ("cer", 0.5, 0.2, [0.1], [0.05], 0.6),
        # at kappa and beyond nothing is left
        ("cer", 0.5, 0.2, [0.1], [0.13], 0.0),
        ("cer", 0.5, 0.2, [0.1], [0.4], 0.0),
        # a target that got worse scores 0, not less
        ("cer", 0.5, 0.6, [0.1], [0.1], 0.0),
        # a mean over sources: one unharmed, one lost
        ("cer", 0.5, 0.2, [0.1, 0.1], [0.1, 0.2], 0.3),
        # an improved source does not make up for a harmed one
        ("cer", 0.5, 0.2, [0.1, 0.1], [0.0, 0.13], 0.3),
        # an error rate may exceed 1
        ("wer", 1.5, 0.75, [0.1], [0.1], 0.5),
        # accuracies count as one minus themselves: the error falls from 0.4 to 0.3
        ("accuracy", 0.6, 0.7, [0.9], [0.9], 0.25),
        ("accuracy", 0.6, 0.7, [0.9], [0.885], 0.125),
        ("accuracy", 0.6, 0.7, [0.9], [0.95], 0.25),
        # a base that makes no error leaves nothing to gain
        ("accuracy", 1.0, 1.0, [0.9], [0.9], 0.0),
        ("cer", 0.0, 0.0, [0.1], [0.1], 0.0),
    ],
)  # fmt: skip
def test_constrained_score(
    name: str, base_target: float, target: float, base_sources: list[float], sources: list[float], score: float
) -> None:
    found = constrained_score(name, base_target, target, base_sources, sources)
    assert found == pytest.approx(score, abs=1e-12)
    assert 0.0 <= found <= 1.0


def test_kappa() -> None:
    assert KAPPA == 0.03
    assert constrained_score("cer", 0.5, 0.2, [0.1], [0.15], kappa=0.1) == pytest.approx(0.3, abs=1e-12)


def test_sources_have_to_be_paired() -> None:
    with pytest.raises(ValueError, match="zip"):
        constrained_score("cer", 0.5, 0.2, [0.1, 0.1], [0.1])


def test_validation_metrics_and_their_directions() -> None:
    """That real records have these, and no others, is tested in training_tests/test_search_phase.py."""
    both = {"valid_target/loss": "lower", "valid_forgetting": "lower", "valid_constrained_score": "higher"}
    assert validation_metrics("text") == both | {
        f"valid_{domain}/{name}": "higher" for domain in ("target", "source") for name in ("macro_f1", "accuracy")
    }
    assert validation_metrics("speech") == both | {
        f"valid_{domain}/{name}": "lower" for domain in ("target", "source") for name in ("cer", "wer")
    }

"""Every metric of the registry against its own small cases and what it says of itself; then what is worked out."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

import jiwer
import numpy as np
import pytest
from scipy import stats

from harness.metrics import (
    DERIVED_METRICS,
    KAPPA,
    METRICS,
    PRIMARY_METRICS,
    as_error,
    constrained_score,
    describe_metric,
    forgetting,
    metric_words,
    relative_gain,
    scored_metric,
    validation_metrics,
)
from harness.metrics.spans import spans_of

ROLES = ("target", "source")


@pytest.mark.parametrize("name", METRICS)
def test_small_cases_scored_by_hand(name: str) -> None:
    assert METRICS[name].cases
    for case in METRICS[name].cases:
        found = METRICS[name].score(case.references, case.predictions, case.arguments)
        assert found == pytest.approx(case.value, abs=1e-15), case


@pytest.mark.parametrize("name", METRICS)
def test_answers_that_are_all_right_have_no_error(name: str) -> None:
    """In one case at least; in another some classes never occur, which count as 0 in a mean over classes."""
    for case in METRICS[name].cases:
        right = METRICS[name].score(case.references, case.references, case.arguments)
        assert not METRICS[name].better(case.value, right)
    assert min(as_error(name, METRICS[name].score(c.references, c.references, c.arguments))
               for c in METRICS[name].cases) == pytest.approx(0.0, abs=1e-15)  # fmt: skip


@pytest.mark.parametrize("name", METRICS)
def test_one_wrong_answer_is_worse_than_none(name: str) -> None:
    assert any(METRICS[name].better(METRICS[name].score(c.references, c.references, c.arguments), c.value)
               for c in METRICS[name].cases)  # fmt: skip


@pytest.mark.parametrize("name", METRICS)
def test_the_sum_over_items_is_the_metric(name: str) -> None:
    """Where a metric says that it is one: errors of all items, by the sum of their lengths."""
    counted = METRICS[name].items
    for case in METRICS[name].cases if counted is not None else ():
        assert counted is not None
        pairs = list(zip(case.references, case.predictions, strict=True))
        errors, lengths = sum(counted.errors(*pair) for pair in pairs), sum(map(counted.length, case.references))
        assert errors / lengths == pytest.approx(as_error(name, case.value), abs=1e-15)
        assert counted.rate(*pairs[0]) == pytest.approx(counted.errors(*pairs[0]) / counted.length(pairs[0][0]))


@pytest.mark.parametrize("name", METRICS)
def test_unequal_or_empty_lists_are_refused(name: str) -> None:
    metric, case = METRICS[name], METRICS[name].cases[0]
    item = case.references[0]
    with pytest.raises(ValueError, match="2 references and 1 predictions cannot be scored"):
        metric.score([item, item], [item], case.arguments)
    with pytest.raises(ValueError, match="0 references and 0 predictions cannot be scored"):
        metric.score([], [], case.arguments)


@pytest.mark.parametrize("name", METRICS)
def test_what_is_said_of_a_metric(name: str) -> None:
    metric = METRICS[name]
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name), "a name is part of others: target_NAME, DOMAIN/NAME"
    assert metric.direction in ("higher", "lower") and metric.label.strip() and metric.meaning.strip()
    assert all(set(case.arguments) == set(metric.arguments) for case in metric.cases)
    if metric.arguments:
        with pytest.raises(KeyError, match=metric.arguments[0]):
            metric.score(metric.cases[0].references, metric.cases[0].predictions, {})


@pytest.mark.parametrize("name", METRICS)
def test_the_numbers_of_a_metric_read_as_the_metric(name: str) -> None:
    for number, words in {f"target_{name}": "target", f"source_{name}": "source", f"es/{name}": "es",
                          f"valid_target/{name}": "validation target"}.items():  # fmt: skip
        known = scored_metric(number)
        assert known is METRICS[name]
        assert metric_words(number) == f"{words} {METRICS[name].label}"
        if "valid" not in number:
            described = describe_metric(number)
            assert described is not None
            assert (described.direction, described.unit) == (known.direction, known.unit)
    assert set(validation_metrics([name])) >= {f"valid_{role}/{name}" for role in ROLES}


def test_other_numbers_are_no_metric_of_predictions() -> None:
    for name in (*DERIVED_METRICS, *PRIMARY_METRICS, "forgetting", "seconds", "valid_target/loss", "es/nothing"):
        assert scored_metric(name) is None
    assert describe_metric("es/nothing") is describe_metric("nothing") is None
    assert [metric_words(name) for name in ("peak_memory_mb", "valid_forgetting", "valid_target/loss")] == [
        "peak memory", "validation forgetting", "validation target loss",
    ]  # fmt: skip


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
    assert METRICS["macro_f1"].score(references, predictions, {"num_classes": 4}) == pytest.approx(
        sum(scores) / 4, abs=1e-12
    )


def test_macro_f1_is_over_the_classes_that_occur() -> None:
    """As scikit-learn's f1_score(average="macro") without labels: a faultless model has 1 on any domain."""
    score = METRICS["macro_f1"].score
    assert score([0, 2, 0], [0, 2, 0], {"num_classes": 3}) == 1.0
    half = score([0, 2, 0, 2], [0, 2, 2, 0], {"num_classes": 3})
    assert (half, relative_gain("macro_f1", half, 1.0)) == (0.5, 1.0)
    assert score([0, 0], [0, 2], {"num_classes": 9}) == pytest.approx((2 / 3 + 0) / 2)  # what is predicted occurs
    with pytest.raises(ValueError, match="class 3: expected 0 to 2"):
        score([0, 3], [0, 0], {"num_classes": 3})


def edit_distance(reference: Sequence[str], prediction: Sequence[str]) -> int:
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
    assert METRICS["cer"].score(references, predictions) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("letters", ["abc", "абвё", "漢字日", "नमस्ते", "éàñ", "שלוםָ"])
def test_word_error_rate_is_a_ratio_of_sums_in_every_script(letters: str) -> None:
    """Over the whole test set, as jiwer has it, and as the sum over items has it; so is that of characters."""
    draw = random.Random(2)
    texts = [" ".join("".join(draw.choices(letters, k=2)) for _ in range(draw.randint(1, 6))) for _ in range(40)]
    references, predictions = texts[:20], [*texts[20:39], ""]
    pairs = list(zip(references, predictions, strict=True))
    for name, split in (("wer", str.split), ("cer", list)):
        edits, lengths = [edit_distance(split(r), split(p)) for r, p in pairs], [len(split(r)) for r in references]
        expected = sum(edits) / sum(lengths)
        assert expected != pytest.approx(sum(e / n for e, n in zip(edits, lengths, strict=True)) / 20)
        assert METRICS[name].score(references, predictions) == pytest.approx(expected, abs=1e-12)
        assert {"wer": jiwer.wer, "cer": jiwer.cer}[name](references, predictions) == pytest.approx(expected, abs=1e-12)
        items = METRICS[name].items
        assert items is not None and [items.errors(r, p) for r, p in pairs] == edits
        assert [items.length(r) for r in references] == lengths


def test_direction() -> None:
    assert METRICS["accuracy"].better(0.9, 0.8)
    assert not METRICS["accuracy"].better(0.8, 0.8)
    assert METRICS["cer"].better(0.1, 0.2)
    assert not METRICS["cer"].better(0.2, 0.1)
    assert as_error("accuracy", 0.75) == 0.25
    assert as_error("cer", 0.75) == 0.75


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
    assert validation_metrics(("accuracy", "cer")) == {
        "valid_target/accuracy": "higher",
        "valid_target/cer": "lower",
        "valid_source/accuracy": "higher",
        "valid_source/cer": "lower",
        "valid_target/loss": "lower",
        "valid_forgetting": "lower",
        "valid_constrained_score": "higher",
    }


def spans_by_seqeval(tags: list[str]) -> set[tuple[str, int, int]]:
    """`get_entities` of seqeval 1.2.2 in its default mode, rule by rule (B, I, E, S and O)."""
    spans, begin, before, kind_before = set(), 0, "O", ""
    for number, written in enumerate([*tags, "O"]):
        tag, kind = written[0], written[1:].split("-", maxsplit=1)[-1] or "_"
        ends = before in "ES" or (before in "BI" and tag in "BSO") or (before != "O" and kind_before != kind)
        starts = tag in "BS" or (before in "ESO" and tag in "EI") or (tag != "O" and kind_before != kind)
        if before != "O" and ends:
            spans.add((kind_before, begin, number - 1))
        if starts:
            begin = number
        before, kind_before = tag, kind
    return spans


def test_spans_are_those_of_seqeval() -> None:
    """On random sentences of all tags: what seqeval's rules find, and the F1 of the pooled counts."""
    draw = random.Random(0)
    tags = ["O", *(f"{position}-{kind}" for position in "BIES" for kind in ("A", "B-C"))]
    sentences = [[draw.choice(tags) for _ in range(draw.randrange(1, 9))] for _ in range(3000)]
    assert all(spans_of(sentence) == spans_by_seqeval(sentence) for sentence in sentences)
    answers = [[tag if draw.random() < 0.7 else draw.choice(tags) for tag in sentence] for sentence in sentences]
    pairs = [(spans_by_seqeval(one), spans_by_seqeval(other)) for one, other in zip(sentences, answers, strict=True)]
    true, wanted, given = (sum(map(len, found)) for found in zip(*((a & b, a, b) for a, b in pairs), strict=True))
    precision, recall = true / given, true / wanted
    found = METRICS["span_f1"].score([" ".join(s) for s in sentences], [" ".join(a) for a in answers])
    assert found == pytest.approx(2 * precision * recall / (precision + recall), rel=1e-12)


def test_correlations_are_those_of_scipy() -> None:
    """With many equal values, and whatever the unit of the numbers."""
    draw = np.random.default_rng(0)
    for size, scale in ((3, 1.0), (50, 1e-200), (50, 1e150)):
        x = draw.integers(-3, 4, size).astype(float)
        y = x + draw.integers(-2, 3, size)
        assert METRICS["pearson"].score([*(x * scale)], [*y]) == pytest.approx(
            stats.pearsonr(x, y).statistic, abs=1e-12
        )
        found = METRICS["spearman"].score([*(x * scale)], [*y])
        assert found == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("name", ["pearson", "spearman", "mae", "span_f1", "tag_accuracy"])
def test_influences_are_what_an_item_more_changes(name: str) -> None:
    """Each item once more, in a test set of so many copies that one more is a small change."""
    draw, copies = np.random.default_rng(1), 500
    if METRICS[name].answers == "number":
        references: list[Any] = [*draw.integers(-3, 4, 12).astype(float)]
        predictions: list[Any] = [reference + draw.integers(-2, 3) for reference in references]
    else:
        tags = np.array(["O", "B-A", "I-A", "B-B"])
        references, predictions = ([" ".join(draw.choice(tags, 4)) for _ in range(12)] for _ in range(2))
    found = METRICS[name].influences(references, predictions)
    assert found is not None
    score = METRICS[name].score(references, predictions)
    for number in range(12):
        truth, answers = references * copies + [references[number]], predictions * copies + [predictions[number]]
        assert (METRICS[name].score(truth, answers) - score) * copies == pytest.approx(found[number], abs=2e-4)

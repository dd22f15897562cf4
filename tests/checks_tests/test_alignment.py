"""Alignments give the reference and the transcript back, and count the edits that the metric counts."""

from __future__ import annotations

import random

import pytest

from harness.checks.alignment import align
from harness.metrics import METRICS
from harness.metrics.metric import Unit


def test_by_hand() -> None:
    kinds = [(piece.kind, piece.reference, piece.hypothesis) for piece in align("casa", "cassa")]
    assert [kind for kind, _, _ in kinds].count("insert") == 1
    assert align("a b c", "a x c", "word")[1] == align("b", "x", "word")[0]
    assert [piece.kind for piece in align("same", "same")] == ["equal"]


@pytest.mark.parametrize(("reference", "hypothesis"), [("", ""), ("", "ab"), ("ab", ""), ("  ", "a b")])
def test_empty_texts(reference: str, hypothesis: str) -> None:
    pieces = align(reference, hypothesis)
    assert "".join(piece.reference for piece in pieces) == reference.strip()
    assert "".join(piece.hypothesis for piece in pieces) == hypothesis.strip()


@pytest.mark.parametrize("unit", ["character", "word"])
def test_random_texts_give_their_own_error_rate(unit: Unit) -> None:
    stream = random.Random(0)
    metric = METRICS["cer" if unit == "character" else "wer"]
    for _ in range(200):
        reference, hypothesis = (
            " ".join("".join(stream.choices("abc", k=stream.randint(1, 4))) for _ in range(stream.randint(1, 4)))
            for _ in range(2)
        )
        pieces = align(reference, hypothesis, unit)
        glue = "" if unit == "character" else " "
        assert glue.join(p.reference for p in pieces if p.reference) == reference
        assert glue.join(p.hypothesis for p in pieces if p.hypothesis) == hypothesis
        length = len(reference) if unit == "character" else len(reference.split())
        wrong = [(p.reference, p.hypothesis) for p in pieces if p.kind != "equal"]
        edits = sum(max(len(t) if unit == "character" else len(t.split()) for t in pair) for pair in wrong)
        assert edits / length == pytest.approx(metric.score([reference], [hypothesis]))

"""The F1 of tagged spans (names in a sentence), and the share of words with the right tag.

A sentence's answer is its tags, parted by spaces: `B-PER I-PER O B-LOC`. Spans are read as seqeval 1.2 and conlleval
read them: `B-` and `S-` begin one, `I-` and `E-` go on with one of the same kind or begin one where there is none, and
`E-` and `S-` end it. So IOB1, IOB2 and IOBES are all read. `L-` and `U-` (BILOU) are `E-` and `S-`. A tag of no such
form other than `O` is a span of its own: of parts of speech, the F1 is the share of right words.

Source: Tjong Kim Sang and De Meulder (2003), CoNLL shared task; Ramshaw and Marcus (1995).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.metrics.metric import ItemErrors, ScoredMetric, case

OUTSIDE = "O"
POSITIONS = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S"}
Span = tuple[str, int, int]
"""Kind, first word, last word."""


def read_tag(tag: str) -> tuple[str, str]:
    """A tag as its position in a span (B, I, E, S; O outside of all), and the span's kind."""
    position, dash, kind = tag.partition("-")
    if tag == OUTSIDE:
        return OUTSIDE, ""
    if position in POSITIONS and (dash or not kind):
        return POSITIONS[position], kind
    return "S", tag


def spans_of(tags: Sequence[str]) -> set[Span]:
    """The spans of a sentence."""
    spans: set[Span] = set()
    first, open_kind = 0, None  # of the span that is open, if any
    for number, tag in enumerate([*tags, OUTSIDE]):
        position, kind = read_tag(tag)
        goes_on = position in ("I", "E") and kind == open_kind
        if open_kind is not None and not goes_on:
            spans.add((open_kind, first, number - 1))
            open_kind = None
        if position != OUTSIDE and open_kind is None:
            first, open_kind = number, kind
        if position in ("E", "S") and open_kind is not None:
            spans.add((open_kind, first, number))
            open_kind = None
    return spans


def _counts(references: Sequence[str], predictions: Sequence[str]) -> NDArray[np.float64]:
    """Of each sentence: spans that are right, and spans of the reference and of the prediction together; [items, 2]."""
    pairs = [
        (spans_of(truth.split()), spans_of(answer.split()))
        for truth, answer in zip(references, predictions, strict=True)
    ]
    return np.array([[len(truth & answer), len(truth) + len(answer)] for truth, answer in pairs], np.float64)


def span_f1(references: Sequence[str], predictions: Sequence[str]) -> float:
    """F1 of the spans of all sentences: 2 TP / (spans of the references + spans predicted); 1 where there are none."""
    true, size = _counts(references, predictions).sum(0)
    return float(2.0 * true / size) if size else 1.0


def span_f1_influences(references: Sequence[str], predictions: Sequence[str]) -> NDArray[np.float64]:
    """By how much each sentence moves the F1: (2 t D - 2 TP d) / D^2, with its own t and d; shape [items]."""
    counts = _counts(references, predictions)
    true, size = counts.sum(0)
    if not size:
        return np.zeros(len(references))
    return np.asarray((2.0 * counts[:, 0] * size - 2.0 * true * counts[:, 1]) / size**2)


def num_wrong_tags(reference: str, prediction: str) -> float:
    """Words with another tag; a word without an answer is one."""
    truth, answer = reference.split(), prediction.split()
    return float(len(truth) - sum(one == other for one, other in zip(truth, answer, strict=False)))


def tag_accuracy(references: Sequence[str], predictions: Sequence[str]) -> float:
    """The share of all words with the right tag."""
    total = sum(len(reference.split()) for reference in references)
    wrong = sum(num_wrong_tags(r, p) for r, p in zip(references, predictions, strict=True))
    return 1.0 - wrong / total


SPAN_F1 = ScoredMetric(
    direction="higher",
    unit="%",
    meaning="F1 of tagged spans",
    label="span F1",
    scorer=span_f1,
    cases=(
        case(["B-PER I-PER O B-LOC"], ["B-PER I-PER O B-LOC"], 1.0),
        case(["B-PER I-PER O B-LOC"], ["B-PER O O B-LOC"], 0.5),  # 1 right of 2 and 2
        case(["B-PER I-PER O", "O O"], ["O O O", "O B-LOC"], 0.0),
        case(["B-A I-A B-A", "B-B"], ["B-A I-A I-A", "B-B"], 2 * 1 / (3 + 2)),
        case(["O I-A I-A I-B"], ["O B-A I-A B-B"], 1.0),  # IOB1 says the same as IOB2
        case(["B-A E-A S-B"], ["B-A L-A U-B"], 1.0),
        case(["NOUN VERB"], ["NOUN NOUN"], 0.5),
        case(["O O"], ["O O"], 1.0),
    ),
    linearised=span_f1_influences,
    answers="text",
)

TAG_ACCURACY = ScoredMetric(
    direction="higher",
    unit="%",
    meaning="share of words with the right tag",
    label="tag accuracy",
    scorer=tag_accuracy,
    cases=(
        case(["B-PER I-PER O B-LOC", "O"], ["B-PER O O B-LOC", "O"], 4 / 5),
        case(["O O"], ["O"], 1 / 2),  # a word that is not answered
        case(["O"], ["B-A"], 0.0),
        case(["O B-A"], ["O B-A"], 1.0),
    ),
    items=ItemErrors(num_wrong_tags, lambda reference: len(reference.split())),
    answers="text",
)

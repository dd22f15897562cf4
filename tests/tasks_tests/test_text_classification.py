"""Text classification: tokens, loss, predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from harness.data.corpus import TextExample
from harness.tasks.inputs import TextInputs
from harness.tasks.task import Batch
from harness.tasks.text_classification import ClassificationTask


@dataclass
class Encoding:
    ids: list[int]


class Letters:
    """A tokenizer of letters: a is 1."""

    def encode(self, text: str) -> Encoding:
        return Encoding([ord(letter) - ord("a") + 1 for letter in text])


def make_task(max_length: int = 4) -> ClassificationTask:
    return ClassificationTask(("bad", "fair", "good"), TextInputs(Letters(), max_length))


def example(text: str, label: int = 0) -> TextExample:
    return TextExample(f"k{text}", "g", "d", text=text, label=label)


def test_a_prefix_stands_before_each_text_and_its_words_keep_their_places() -> None:
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(["[U]", "q", ":", "a", "b", "c", "[S]"])})
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[S] $A", pair="[S] $A [S] $B:1", special_tokens=[("[S]", 6)]
    )
    inputs = TextInputs(tokenizer, 7, has_kinds=True, prefix="q: ")
    pair = TextExample("k", "g", "d", text="a b", second="c", words=("a", "b"))
    (found,) = inputs.prepare([pair])
    assert found.T.tolist() == [[6, 1, 2, 3, 4, 6, 1], [0, 0, 0, 0, 0, 0, 1]]  # cut at 7, the prefix counted
    assert inputs.cut == {"k"}
    assert inputs.word_places(pair) == [3, 4]
    assert TextInputs(tokenizer, 7).word_places(pair) == [1, 2]


def test_texts_are_cut_and_an_empty_one_is_one_token() -> None:
    task = make_task()
    items = task.encode([example("abc", 2), example("abcdefg", 1), example(""), example("abcd")])
    assert task.inputs.cut == {"kabcdefg"}
    items = items[:3]
    assert [item.inputs.tolist() for item in items] == [[1, 2, 3], [1, 2, 3, 4], [0]]
    assert [(item.key, int(item.target), item.reference) for item in items[:2]] == [("kabc", 2, 2), ("kabcdefg", 1, 1)]


def test_a_batch_is_padded_and_knows_its_lengths() -> None:
    task = make_task()
    batch = task.collate(task.encode([example("a", 2), example("abc", 1)]), None)
    assert batch.inputs.tolist() == [[1, 0, 0], [1, 2, 3]] and batch.lengths.tolist() == [1, 3]
    assert batch.targets.tolist() == [[2], [1]]
    moved = batch.to(torch.device("cpu"), torch.float64)
    assert moved.inputs.dtype == batch.inputs.dtype  # token ids stay whole numbers


def test_loss_is_the_mean_cross_entropy() -> None:
    scores_BC = torch.tensor([[0.0, math.log(2), 0.0], [math.log(3), 0.0, 0.0]], dtype=torch.float64)
    batch = Batch(torch.zeros(2, 1), torch.ones(2), torch.tensor([[1], [2]]), torch.ones(2))
    expected = (-math.log(2 / 4) - math.log(1 / 5)) / 2
    assert float(make_task().loss(scores_BC, torch.ones(2, 1), batch)) == pytest.approx(expected, rel=1e-12)
    half = make_task().loss(scores_BC.bfloat16(), torch.ones(2, 1), batch)
    assert half.dtype == torch.float32 and float(half) == pytest.approx(expected, rel=1e-2)


def test_the_highest_score_is_predicted() -> None:
    scores_BC, batch = (
        torch.tensor([[0.1, 0.3, 0.2], [2.0, 1.0, 0.0]]),
        make_task().collate(make_task().encode([example("a")] * 2), None),
    )
    assert make_task().predict(scores_BC, torch.ones(2, 1), batch) == [1, 0]


def test_scores() -> None:
    task = make_task()
    # Class 2 is neither there nor predicted: the macro mean is over the other two.
    assert task.score([0, 1, 1, 0], [0, 1, 0, 0]) == {
        "accuracy": 0.75,
        "macro_f1": pytest.approx((4 / 5 + 2 / 3) / 2),
    }

"""What the tasks share whose answer is a transcript: where it comes from, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from harness.data.corpus import Example, SpeechExample
from harness.data.speech_text import LATIN28, NORMALISERS, Normaliser
from harness.metrics import Answer
from harness.tasks.task import WholeTask

if TYPE_CHECKING:
    from harness.backbones.recipe import Recipe
    from harness.tasks.inputs import Inputs


class TranscriptTask(WholeTask):
    """Answers and transcripts are written as the recipe's normaliser writes them."""

    reads = "speech"
    needs = ("transcript",)

    def __init__(self, symbols: Sequence[str], inputs: Inputs, normaliser: Normaliser = LATIN28) -> None:
        super().__init__(symbols, inputs)
        self.normaliser = normaliser

    @classmethod
    def make(cls, recipe: Recipe, symbols: Sequence[str], inputs: Inputs) -> Self:
        return cls(symbols, inputs, NORMALISERS[recipe.text.normaliser_name])

    @staticmethod
    def reference(example: Example, outputs: Sequence[str]) -> Answer:
        assert isinstance(example, SpeechExample)
        return example.transcript

    @staticmethod
    def answer_text(answer: Answer, outputs: Sequence[str]) -> str:
        return str(answer)

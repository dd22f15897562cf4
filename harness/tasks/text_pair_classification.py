"""Text-pair classification: two texts in, one class out (does the first imply the second, do both ask the same)."""

from __future__ import annotations

from harness.tasks.classes import ClassTask


class PairClassificationTask(ClassTask):
    """One class of two texts, which the encoder reads together, as its tokenizer joins them."""

    reads = "text"
    needs = ("label", "second")

"""Text classification: a text in, one class out."""

from __future__ import annotations

from harness.tasks.classes import ClassTask


class ClassificationTask(ClassTask):
    """One class of one text; two texts are another task's (text_pair_classification)."""

    reads = "text"
    lacks = ("second",)

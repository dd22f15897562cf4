"""Speech classification: a recording in, one class out (a command, an emotion, a language)."""

from __future__ import annotations

from harness.tasks.classes import ClassTask


class SpeechClassificationTask(ClassTask):
    """One class of a whole recording."""

    reads = "speech"

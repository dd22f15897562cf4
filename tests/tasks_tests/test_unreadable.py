"""Texts that a backbone's tokenizer does not know: told, or refused, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_text import corpus_rows, write_corpus
from trial_configs import MakeConfig

from harness.config.trial import TrialConfig
from harness.errors import UserError
from harness.training.resources import Resources
from harness.training.trial import Trial

CYRILLIC = str.maketrans("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопярстувцьыз")


@pytest.fixture
def with_target(make_config: MakeConfig, tmp_path: Path) -> Callable[[Callable[[int, str], str]], TrialConfig]:
    """A trial whose target's texts are changed by their numbers."""

    def make(change: Callable[[int, str], str]) -> TrialConfig:
        rows = corpus_rows()
        for number, row in enumerate(rows):
            if row["domain"] == "away":
                row["text"] = change(number, row["text"])
        write_corpus(tmp_path / "sentences.jsonl", rows)
        return make_config(data={"corpus": f"manifest:{tmp_path / 'sentences.jsonl'}"})

    return make


def test_another_alphabet_is_refused(with_target: Callable[[Callable[[int, str], str]], TrialConfig]) -> None:
    config = with_target(lambda number, text: text.translate(CYRILLIC))
    with pytest.raises(
        UserError, match=r"% of the words and pieces of the training texts of away \(first: '"
    ) as caught:
        Trial(config, Resources()).check()
    assert "\n" not in str(caught.value) and "trained on this language" in str(caught.value)


def test_some_foreign_words_are_told(with_target: Callable[[Callable[[int, str], str]], TrialConfig]) -> None:
    config = with_target(lambda number, text: text.translate(CYRILLIC) if number % 5 == 0 else text)
    Trial(config, Resources()).check()
    notes = Resources().domains(config).notes(config.data, None)
    (note,) = (note for note in notes if "unknown to the tokenizer" in note)
    assert note.startswith("away: ") and 5 <= int(note.split()[1].rstrip("%")) <= 25


def test_its_own_language_needs_no_word(make_config: MakeConfig, resources: Resources) -> None:
    config = make_config()
    assert not [note for note in resources.domains(config).notes(config.data, None) if "unknown" in note]

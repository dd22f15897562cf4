"""What a launch says of its data: counts of examples, classes and hours, compared with a count by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.config.training import MetaSettings
from harness.config.trial import DataSettings
from harness.data import Corpus, DataError, SpeechExample, TextExample
from harness.data.describe import ToldOfData, describe_data, describe_domain

SPLITS: Any = {"1": "train", "2": "train", "3": "valid", "4": "test"}


def text_corpus(num_classes: int = 2) -> Corpus:
    examples = [
        TextExample(key=f"{domain}/{group}", group=group, domain=domain, text=group, label=int(group) % num_classes)
        for domain in "ab"
        for group in SPLITS
    ]
    return Corpus(
        name="mine",
        modality="text",
        domains={domain: tuple(e for e in examples if e.domain == domain) for domain in "ab"},
        symbols=tuple(f"c{number}" for number in range(num_classes)),
        fingerprint="",
        fixed_splits=SPLITS,
    )


def test_texts() -> None:
    corpus, data = text_corpus(), DataSettings(corpus="manifest:x", source=("b",), target="a", train_limit=1)
    counts = "2 training, 1 validation, 1 test examples; in training c0 1, c1 1"
    plain = [f"a (target): {counts}; each seed trains on 1", f"b (source): {counts}"]
    assert describe_data(corpus, data) == plain
    meta = MetaSettings(over=("b",), limit=1)
    assert describe_data(corpus, data, meta) == [*plain, f"b (meta-training): {counts}; each seed trains on 1"]
    sealed = "2 training, 1 validation examples (test examples are not loaded); in training c0 1, c1 1"
    assert describe_domain(corpus.sealed(), "a") == sealed
    assert describe_domain(text_corpus(7), "a").endswith("; 2 of 7 classes in training")
    with pytest.raises(DataError, match="corpus mine has no domain 'c'; choices: a, b"):
        describe_domain(corpus, "c")


def test_numbers_and_classes_of_clips() -> None:
    corpus = text_corpus()
    numbers = tuple(replace(e, label=None, value=float(e.group)) for e in corpus.text("a", "train"))
    ratings = replace(corpus, domains={"a": numbers}, symbols=())
    assert describe_domain(ratings, "a") == "2 training, 0 validation, 0 test examples; in training from 1 to 2"
    clips = tuple(
        SpeechExample(g, g, "a", Path("x.wav"), seconds=60.0, transcript="", label=int(g) % 2) for g in SPLITS
    )
    spoken = Corpus("mine", "speech", {"a": clips}, (), "", fixed_splits=SPLITS, clip_classes=("no", "yes"))
    assert describe_domain(spoken, "a").endswith(" examples, 4.0 min; in training no 1, yes 1")


@pytest.mark.parametrize(("seconds", "length"), [(3.0, "0.2 min"), (1800.0, "2.0 h")])
def test_recordings(seconds: float, length: str) -> None:
    clips = tuple(
        SpeechExample(group, group, "a", Path("x.wav"), seconds=seconds, transcript="yes") for group in SPLITS
    )
    corpus = Corpus("mine", "speech", {"a": clips}, ("e", "s", "y"), "", fixed_splits=SPLITS)
    assert describe_domain(corpus, "a") == f"2 training, 1 validation, 1 test examples, {length}"


def test_each_line_is_said_once_and_remarks_always() -> None:
    told = ToldOfData()
    told.add(["a: 2"], ["left out of a: 1"])
    told.add(["a: 2", "b: 3"], ["left out of a: 1"])
    assert told.lines() == ("a: 2", "b: 3", "left out of a: 1")
    assert told.lines(quiet=True) == ("left out of a: 1",)

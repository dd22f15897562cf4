"""Whether corpora fit backbones: which targets a row of a table may have, and a trial that only gives weights."""

from __future__ import annotations

from typing import Any

import pytest

from harness.backbones.facts import read_facts
from harness.backbones.recipe import load_recipe
from harness.config.trial import TrialConfig
from harness.data import Corpus, TextExample
from harness.errors import UserError
from harness.tasks.fitting import check_fits

LEARNT = ("movie", "product")  # by text_small


class OneCorpus:
    """Corpora of which there is one, with what text_small answers."""

    def corpus(self, data: Any, normaliser: Any) -> Corpus:
        symbols = tuple(read_facts(load_recipe("text_small"), "text_small")["symbols"])
        splits = {"0": "train", "1": "valid", "2": "test"}
        examples = {
            domain: tuple(TextExample(f"{domain}/{n}", n, domain, "a text", int(n)) for n in splits)
            for domain in (*LEARNT, "tweets")
        }
        return Corpus("mine", "text", examples, symbols, "", fixed_splits=splits)  # type: ignore[arg-type]


def config(target: str, *source: str) -> TrialConfig:
    linear = {"_target_": "harness.adapters.LinearAdapter", "dim": 2}
    return TrialConfig.model_validate(
        {
            "data": {"corpus": "vader", "source": source, "target": target},
            "backbone": {"recipe": "text_small"},
            "train": "adapters",
            "adapter": linear,
            "seed": 0,
        }
    )


def test_only_what_gives_weights_may_have_a_target_that_the_backbone_learnt() -> None:
    row, giver, corpora = config("tweets", *LEARNT), config("movie", "product"), OneCorpus()
    named: Any = [("row", row), ("giver", giver)]
    check_fits(named, "x.yaml", corpora, {giver.trial_id})  # type: ignore[arg-type]
    message = r"^x\.yaml: arm giver: data\.target: backbone text_small was already trained on 'movie'; name another\."
    for parts in ((), {row.trial_id}):
        with pytest.raises(UserError, match=message):
            check_fits(named, "x.yaml", corpora, parts)  # type: ignore[arg-type]
    foreign: Any = [("giver", config("movie", "tweets"))]
    with pytest.raises(UserError, match=r"data\.source: backbone text_small was not trained on 'tweets'"):
        check_fits(foreign, "x.yaml", corpora, {foreign[0][1].trial_id})  # type: ignore[arg-type]

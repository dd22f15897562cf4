"""Rows of frozen layers are found again for the very inputs that they were computed of, and for no others."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tiny_text import corpus_rows, write_corpus
from trial_configs import MakeConfig

from harness.backbones.store import Backbone
from harness.config.execution import execution_of
from harness.config.trial import TrialConfig
from harness.engines.registry import Engines
from harness.training.resources import Domains, Resources
from harness.training.trial import Trial

BRIEF: dict[str, Any] = {"backbone": {"layers": {"from": 1}}, "loop": {"precision": "float64", "epochs": 2}}


def scores(config: TrialConfig, engine: str) -> dict[str, float]:
    """Of the best epoch, by a process of its own as it were."""
    return Trial(config, Resources(), engine=Engines().of(execution_of(engine, None, False))).run().valid


def test_a_corpus_whose_lines_are_put_in_another_order(make_config: MakeConfig, tmp_path: Path) -> None:
    """Its keys, its fingerprint and its samples stay; the places of its rows do not."""
    rows = [{**row, "key": str(number)} for number, row in enumerate(corpus_rows())]
    path = tmp_path / "sentences.jsonl"
    write_corpus(path, rows)
    config = make_config(**BRIEF, data={"corpus": f"manifest:{path}"})
    first = scores(config, "plain")
    assert scores(config, "cut") == pytest.approx(first, rel=1e-12)
    fingerprint = Resources().domains(config).corpus.fingerprint
    random.Random(1).shuffle(rows)
    write_corpus(path, rows)
    assert Resources().domains(config).corpus.fingerprint == fingerprint
    again = scores(config, "plain")
    for engine in ("cut", "packed"):
        assert scores(config, engine) == pytest.approx(again, rel=1e-12)


def test_another_tokenizer_has_rows_of_its_own(make_config: MakeConfig, resources: Resources) -> None:
    domains = resources.domains(make_config())
    backbone = domains.backbone
    assert len(backbone.preparation) == 64 and backbone.preparation in domains.made_of
    changed = Backbone(**{**vars(backbone), "preparation": "0" * 64})
    assert Domains(changed, domains.corpus).made_of != domains.made_of

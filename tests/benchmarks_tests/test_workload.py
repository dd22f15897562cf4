"""The fixed list of trials: what the peers train must be what our own trials train."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sweep_memory import ARM, write_sweep
from workload import DECAY, LR, draw_settings

from benchmarks_tests.lists import small_workload, trial_of
from harness.search.sweep_files import load_sweep


def test_a_longer_list_begins_with_the_shorter_one() -> None:
    assert draw_settings(8, 0)[:3] == draw_settings(3, 0)
    assert draw_settings(3, 0) != draw_settings(3, 1)


def test_settings_differ_and_lie_in_the_sweeps_ranges() -> None:
    drawn = draw_settings(16, 0)
    assert len({setting["lr"] for setting in drawn}) == 16
    assert all(LR[0] <= s["lr"] <= LR[1] and DECAY[0] <= s["weight_decay"] <= DECAY[1] for s in drawn)


@pytest.mark.slow
def test_the_description_holds_what_the_trials_train_on() -> None:
    workload = small_workload()
    content = workload.content
    assert content["layers"] == [2, 3] and content["target"] == "tweets"
    for config, told in zip(workload.trials, content["trials"], strict=True):
        assert told["config"]["optim"]["lr"] == told["lr"] == config.optim.lr
        assert told["weight_decay"] == config.optim.weight_decay
        trial = trial_of(config)
        items = trial.train_items()
        assert [row[0] for row in content["train"]] == [item.inputs.tolist() for item in items]
        assert [row[1] for row in content["train"]] == [item.reference for item in items]
        for domain, rows in content["valid"].items():
            assert [row[0] for row in rows] == [item.inputs.tolist() for item in trial.validation.items(domain)]
        head = trial.base.head.output
        assert torch.equal(torch.tensor(content["head"]["weight"]), head.weight)


def test_the_sweep_whose_memory_is_measured_trains_every_trial_to_its_end(tmp_path: Path) -> None:
    """One arm of the shipped one with all of its space: no pruner, no race, one confirmation."""
    sweep = load_sweep(write_sweep(200, 3, tmp_path))
    (arm,) = sweep.arms
    assert arm.name == ARM and arm.settings["backbone"] == {"recipe": "speech_whisper", "layers": {"from": 2}}
    assert arm.settings["loop"]["epochs"] == 3 and arm.settings["loop"]["augment"]["views"] == 4
    assert sweep.config.budget.trials == 200 and sweep.config.pruner.name == "none" and len(sweep.config.space) == 3
    assert sweep.config.race.seeds == () and sweep.config.confirm.seeds == (0,)

"""The fixed list of trials: what the peers train must be what our own trials train."""

from __future__ import annotations

import pytest
import torch
from workload import DECAY, LR, draw_settings

from benchmarks_tests.lists import small_workload, trial_of


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

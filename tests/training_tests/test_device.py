"""A device that is not there is the user's mistake, found before anything is trained."""

from __future__ import annotations

import pytest
import torch
from trial_configs import MakeConfig

from harness.errors import UserError
from harness.training.device import check_device
from harness.training.resources import Resources
from harness.training.trial import Trial


def test_a_cpu_is_always_there() -> None:
    check_device("cpu")


@pytest.mark.parametrize(("count", "there"), [(0, "cpu"), (2, "cpu, cuda:0, cuda:1")])
def test_a_gpu_that_is_not_there(count: int, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    name = f"cuda:{count}"
    with pytest.raises(UserError, match=rf"^loop\.device: .*'{name}'.*; choices: {there}$"):
        check_device(name)
    if count:
        check_device("cuda")
        check_device("cuda:1")


def test_no_device_at_all() -> None:
    with pytest.raises(UserError, match=r"^loop\.device: 'cuda:x' .*; choices: cpu, cuda, cuda:N, mps$"):
        check_device("cuda:x")


def test_a_trial_is_checked(make_config: MakeConfig, resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    trial = Trial(make_config(loop={"device": "cuda"}), resources)
    with pytest.raises(UserError, match=r"^loop\.device: .*'cuda'"):
        trial.check()

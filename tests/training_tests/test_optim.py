"""The learning-rate schedule, and AdamW against its formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from harness.config.trial import OptimSettings
from harness.errors import UserError
from harness.training.optim import check_optim, lr_at, lr_scale, make_optimizer, set_lr


@pytest.mark.parametrize(
    "progress, warmup, decay, expected",
    [
        (0.0, 0.1, "linear", 0.0),
        (0.05, 0.1, "linear", 0.5),
        (0.1, 0.1, "linear", 1.0),
        (0.55, 0.1, "linear", 0.5),
        (1.0, 0.1, "linear", 0.0),
        (0.0, 0.0, "linear", 1.0),
        (0.25, 0.0, "linear", 0.75),
        (0.05, 0.1, "cosine", 0.5),
        (0.1, 0.1, "cosine", 1.0),
        (0.4, 0.1, "cosine", 0.75),  # a third of the way: (1 + cos 60°) / 2
        (0.55, 0.1, "cosine", 0.5),
        (1.0, 0.1, "cosine", 0.0),
        (0.05, 0.1, "none", 0.5),
        (0.1, 0.1, "none", 1.0),
        (1.0, 0.1, "none", 1.0),
        (0.5, 1.0, "linear", 0.5),
        (0.999, 1.0, "cosine", 0.999),
    ],
)
def test_schedule(progress: float, warmup: float, decay: str, expected: float) -> None:
    assert lr_scale(progress, warmup, decay) == pytest.approx(expected, abs=1e-12)


def test_adamw_is_its_formula() -> None:
    """Three steps by hand (Loshchilov & Hutter 2019, algorithm 2), decay included, on every kind of weight."""
    settings = OptimSettings(lr=0.1, weight_decay=0.2, betas=(0.8, 0.95), eps=1e-3)
    norm = nn.LayerNorm(3).double()  # a weight and a bias: both decay
    optimizer = make_optimizer(list(norm.named_parameters()), settings)
    expected = [parameter.detach().clone() for parameter in norm.parameters()]
    first = [torch.zeros(3, dtype=torch.float64) for _ in expected]
    second = [torch.zeros(3, dtype=torch.float64) for _ in expected]
    for step, lr in enumerate((0.1, 0.05, 0.2), start=1):
        set_lr(optimizer, lr)
        for number, parameter in enumerate(norm.parameters()):
            gradient = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) * (step + number)
            parameter.grad = gradient
            first[number] = 0.8 * first[number] + 0.2 * gradient
            second[number] = 0.95 * second[number] + 0.05 * gradient**2
            mean, spread = first[number] / (1 - 0.8**step), second[number] / (1 - 0.95**step)
            expected[number] = expected[number] * (1 - lr * 0.2) - lr * mean / (spread.sqrt() + 1e-3)
        optimizer.step()
    for parameter, value in zip(norm.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=1e-12, atol=0)


def test_setting_the_rate_reaches_every_group() -> None:
    groups: list[dict[str, Any]] = [
        {"params": [nn.Parameter(torch.zeros(1))]},
        {"params": [nn.Parameter(torch.zeros(1))], "lr": 5.0},
    ]
    optimizer = torch.optim.AdamW(groups)
    set_lr(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


@pytest.mark.parametrize(
    "settings, cause",
    [
        ({"lr": 1e39}, "overflow"),
        ({"weight_decay": 1e300}, "in torch.float32 they give weights that are not finite"),
        ({"eps": 1e-60}, "in torch.float32 they give weights that are not finite"),  # 0 / 0 for a weight at rest
    ],
)
def test_what_adamw_cannot_do_is_found_before_training(settings: dict[str, float], cause: str) -> None:
    with pytest.raises(UserError, match=f"^optim: AdamW cannot train with lr .*: .*{cause}"):
        check_optim(OptimSettings.model_validate(settings), torch.float32)


@pytest.mark.parametrize("settings", [{}, {"lr": 1e30}, {"betas": (0.0, 0.0)}, {"eps": 1e30}, {"weight_decay": 0.0}])
def test_what_adamw_can_do_passes(settings: dict[str, Any]) -> None:
    """A rate that is much too high is a result (the trial ends as `nan`), and no mistake in the file."""
    check_optim(OptimSettings.model_validate(settings), torch.float32)
    check_optim(OptimSettings(lr=1e39, eps=1e-60), torch.float64)


@pytest.mark.parametrize(
    ("num_steps", "warmup", "factors"),
    [
        (1, 0.1, [1.0]),  # the only step of a training teaches, whatever the warm-up
        (1, 1.0, [1.0]),
        (4, 0.1, [1.0, 0.75, 0.5, 0.25]),  # 0.4 steps of warm-up are none
        (4, 0.5, [0.0, 0.5, 1.0, 0.5]),
        (10, 0.1, [0.0, 1.0]),  # from one step of warm-up on, it is what it always was
    ],
)
def test_a_warm_up_that_is_shorter_than_a_step_is_none(num_steps: int, warmup: float, factors: list[float]) -> None:
    settings = OptimSettings(lr=0.5, warmup=warmup)
    found = [lr_at(settings, number / num_steps, num_steps) for number in range(len(factors))]
    assert found == pytest.approx([0.5 * factor for factor in factors], abs=1e-12)

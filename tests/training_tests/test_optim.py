"""The learning-rate schedule, and AdamW against its formula."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch
from torch import nn

from harness.config.trial import OptimSettings
from harness.errors import UserError
from harness.training.optim import check_optim, in_order, lr_at, lr_scale, make_optimizer, set_lr


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


def weights_of(*names: str) -> list[tuple[str, nn.Parameter]]:
    return [(name, nn.Parameter(torch.ones(2))) for name in names]


def test_groups_have_their_own_rate_and_decay_at_any_time() -> None:
    """Adapters stand before the head, wherever the model has them; what no group names has the common settings."""
    adapter = "encoder.layers.0.insertion.adapter_layer.adapted.module.0.weight"
    settings = OptimSettings.model_validate(
        {"lr": 0.2, "weight_decay": 0.1, "groups": {"head": {"lr": 0.05}, "adapters": {"weight_decay": 0.3}}}
    )
    weights = weights_of("head.output.weight", adapter, "encoder.final_norm.weight")
    adapters = {id(dict(weights)[adapter])}
    named = in_order(weights, settings, adapters)
    assert [name for name, _ in named] == ["encoder.final_norm.weight", adapter, "head.output.weight"]
    optimizer = make_optimizer(named, settings, adapters)
    set_lr(optimizer, 0.1)
    found = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert found == [(0.1, 0.1), (0.1, 0.3), (pytest.approx(0.025), 0.1)]
    assert [group["params"][0] for group in optimizer.param_groups] == [weight for _, weight in named]
    with pytest.raises(UserError, match=r"^optim\.groups: adapters: no weight of it is trained here; trained: head$"):
        make_optimizer(weights_of("head.output.weight"), settings)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_its_formula(momentum: float) -> None:
    settings = OptimSettings(name="sgd", lr=0.1, weight_decay=0.2, momentum=momentum)
    (named,) = weights_of("head.output.weight")
    optimizer, expected, velocity = make_optimizer([named], settings), torch.ones(2), torch.zeros(2)
    for step in (1.0, 2.0, 3.0):
        named[1].grad = torch.tensor([step, -step])
        velocity = momentum * velocity + named[1].grad + 0.2 * expected
        expected = expected - 0.1 * velocity
        optimizer.step()
    torch.testing.assert_close(named[1].detach(), expected)


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


@pytest.mark.slow
def test_torchs_compiler_is_left_out() -> None:
    """Its import would take longer than all else at a worker's start."""
    code = """
        import sys, torch
        from harness.config.trial import OptimSettings
        from harness.training.optim import CLASSES, check_optim, make_optimizer
        for name in CLASSES:
            check_optim(OptimSettings(name=name), torch.float32)
            made = make_optimizer([("x", torch.nn.Parameter(torch.zeros(2)))], OptimSettings(name=name))
            made.zero_grad()
            made.load_state_dict(made.state_dict())
        print("torch._dynamo" in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"

"""Our strategies and LinearAdapter against vectors made by running NeMo 3.0.0 (tests/golden/README.md)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.adapters import STRATEGIES, LinearAdapter, functional
from harness.instantiate import instantiate

from .tiny_models import Host

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "nemo_public.json").read_text())
TENSORS = load_file(GOLDEN / "nemo_public.safetensors")


def run(case: dict[str, Any], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Compute what the golden file stores for a case."""
    i, (*_, dim) = case["index"], case["shape"]
    options = {key: case[key] for key in ("activation", "norm_position", "dropout")}
    adapter = LinearAdapter(dim, case["bottleneck"], **options)
    prefix = f"{i}.param."
    adapter.load_state_dict({k.removeprefix(prefix): v for k, v in TENSORS.items() if k.startswith(prefix)})
    adapter.to(dtype)
    config: dict[str, Any] = {"_target_": STRATEGIES[case["strategy"]]()._target_}
    if case["strategy"] == "residual_add":
        config |= {key: case[key] for key in ("stochastic_depth", "l2_lambda")}
    strategy = instantiate(config)
    x = TENSORS[f"{i}.input"].to(dtype, copy=True).requires_grad_()
    torch.manual_seed(case["seed"])
    output = strategy(x, adapter, module=Host(case["training"]))
    loss = (output * torch.linspace(-1, 1, output.numel()).reshape(output.shape)).sum()
    result = {"output": output.detach()}
    registered = getattr(adapter, "_registry", {}).get("adapter_loss", [])
    if registered:
        (auxiliary,) = registered
        result["adapter_loss"] = auxiliary.detach().reshape(1)
        loss = loss + auxiliary
    torch.autograd.backward(loss)
    assert x.grad is not None
    result["grad.input"] = x.grad
    for name, parameter in adapter.named_parameters():
        result[f"grad.{name}"] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return result


def run_in_float64(case: dict[str, Any]) -> dict[str, Tensor]:
    """The same with the float32 draw of the noise, but everything else in float64."""
    draw = functional.draw_noise
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "draw_noise", lambda s, k, **o: draw(s, k, **{**o, "dtype": torch.float32}).double())
        return run(case, torch.float64)


def mismatches(case: dict[str, Any]) -> list[str]:
    """What differs from NeMo by more than 1e-6, relative to the largest value of the tensor.

    A layer norm of nearly constant features amplifies float32 rounding, which depends on the processor, so
    8 times the rounding that float64 reveals on this one is allowed on top (it matters in two cases).
    """
    prefix = f"{case['index']}."
    inputs = (f"{prefix}param.", f"{prefix}input")
    expected = {
        k.removeprefix(prefix): v for k, v in TENSORS.items() if k.startswith(prefix) and not k.startswith(inputs)
    }
    found, precise = run(case), run_in_float64(case)
    wrong = [] if case["registers_adapter_loss"] == ("adapter_loss" in found) else ["registered"]
    for key in expected.keys() | found.keys():
        if key not in expected:
            if bool(found[key].any()):  # NeMo left no gradient; ours must be absent or zero
                wrong.append(key)
        elif key not in found or found[key].shape != expected[key].shape:
            wrong.append(key)
        else:
            rounding = (found[key] - precise[key]).abs().max()
            allowed = 1e-6 * expected[key].abs().max() + 8 * rounding
            if not (found[key] - expected[key]).abs().max() <= allowed:
                wrong.append(key)
    return wrong


def test_golden_file_is_valid() -> None:
    assert len(CASES) == 40
    assert {c["strategy"] for c in CASES} == set(STRATEGIES) & {"residual_add", "return_result"}
    assert any(c["stochastic_depth"] == 1.0 for c in CASES) and any(not c["training"] for c in CASES)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in TENSORS.values())


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["index"]))
def test_matches_nemo(case: dict[str, Any]) -> None:
    assert mismatches(case) == []


def noisy_cases() -> list[dict[str, Any]]:
    return [c for c in CASES if c["training"] and c["strategy"] == "residual_add" and 0 < c["stochastic_depth"] < 1]


def test_check_fails_on_another_noise_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    def altered(shape: Sequence[int], drop: str = "batch") -> list[int]:
        return [1] * (len(shape) - 1) + [shape[-1]]

    monkeypatch.setattr(functional, "noise_shape", altered)
    assert sum(bool(mismatches(case)) for case in noisy_cases()) > len(noisy_cases()) // 2


def test_check_fails_on_a_wrong_scale_or_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        original = functional.stochastic_depth
        patch.setattr(functional, "stochastic_depth", lambda o, n, k: original(o, n, k) * (1 + 1e-5))
        assert any(mismatches(case) for case in noisy_cases())
    with monkeypatch.context() as patch:
        penalty = functional.l2_penalty
        patch.setattr(functional, "l2_penalty", lambda *a, **k: penalty(*a, **k) * (1 + 1e-5))
        assert any(mismatches(case) for case in CASES if case["registers_adapter_loss"])


def test_check_fails_on_keep_probability_taken_for_drop_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = functional.draw_noise
    monkeypatch.setattr(functional, "draw_noise", lambda shape, keep, **k: draw(shape, 1 - keep, **k))
    assert any(mismatches(case) for case in noisy_cases())

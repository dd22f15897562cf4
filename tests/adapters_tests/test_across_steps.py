"""TinyAttention and Convolution: each against a computation by hand, and the mask that their host tells them."""

from __future__ import annotations

import copy
import importlib
import sys
import types
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.adapters import Convolution, InsertionPoint, TinyAttention

from .registered import host, seeded
from .tiny_models import DIM, randomize

LENGTHS = [5, 3, 1]
VALID_BT = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
KINDS: dict[str, dict[str, Any]] = {
    "attention": {"_target_": "harness.adapters.TinyAttention", "dim": 2, "num_heads": 3},
    "convolution": {"_target_": "harness.adapters.Convolution", "dim": 4, "kernel": 3},
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def batch(seed: int = 0) -> Tensor:
    return torch.randn(3, 5, DIM, generator=seeded(seed), dtype=torch.float64)


def filled(kind: str, **strategy: Any) -> InsertionPoint:
    """A point in float64 that was told of the batch, with an adapter of random weights."""
    point = host(training=False, valid_frames=VALID_BT)
    residual = {"_target_": "harness.adapters.ResidualAddAdapterStrategy", **strategy}
    point.add_adapter("one", {**KINDS[kind], "adapter_strategy": residual})
    randomize(point.double())
    return point


def adapter_of(point: InsertionPoint) -> Any:
    return point.get_adapter_module("one")


def norm(x: np.ndarray, module: Any) -> np.ndarray:
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + module.eps)
    return np.asarray(scaled * numpy_of(module.weight) + numpy_of(module.bias))


def numpy_of(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def test_attention_by_hand() -> None:
    """Each head is a softmax over the real steps of its row, by loops in numpy."""
    point, x = filled("attention"), batch()
    adapter, found = adapter_of(point), numpy_of(point(batch()))
    assert sum(weight.numel() for weight in adapter.parameters()) == 4 * DIM * 6 + 2 * 6 + 3 * DIM
    linears = (adapter.linear_q, adapter.linear_k, adapter.linear_v, adapter.linear_out)
    (wq, wk, wv, wo), bq, bv, bo = (
        [numpy_of(linear.weight) for linear in linears],
        *(numpy_of(linear.bias) for linear in (linears[0], *linears[2:])),
    )
    for row, length in enumerate(LENGTHS):
        steps = numpy_of(x[row, :length])
        normed = norm(steps, adapter.pre_norm)
        q, k, v = normed @ wq.T + bq, normed @ wk.T, normed @ wv.T + bv
        heads = []
        for head in range(3):
            part = slice(2 * head, 2 * head + 2)
            scores = np.exp(q[:, part] @ k[:, part].T / np.sqrt(2))
            heads.append(scores / scores.sum(1, keepdims=True) @ v[:, part])
        expected = steps + np.concatenate(heads, axis=1) @ wo.T + bo
        np.testing.assert_allclose(found[row, :length], expected, rtol=1e-12, atol=1e-12)


def test_convolution_by_hand() -> None:
    """Hidden feature h of step t is the sum over three steps of a weight times that feature, zeros outside."""
    point, x = filled("convolution"), batch()
    adapter, found = adapter_of(point), numpy_of(point(batch()))
    assert sum(weight.numel() for weight in adapter.parameters()) == 2 * DIM * 4 + 2 * DIM + 4 * 3
    kernel_HW = numpy_of(adapter.depthwise.weight)[:, 0, 0]
    for row, length in enumerate(LENGTHS):
        steps = numpy_of(x[row, :length])
        hidden = np.pad(norm(steps, adapter.norm) @ numpy_of(adapter.down.weight).T, ((1, 1), (0, 0)))
        mixed = sum(hidden[shift : shift + length] * kernel_HW[:, shift] for shift in range(3))
        expected = steps + mixed / (1 + np.exp(-mixed)) @ numpy_of(adapter.up.weight).T
        np.testing.assert_allclose(found[row, :length], expected, rtol=1e-12, atol=1e-12)


@each_kind
def test_an_item_gives_the_same_alone_and_whatever_pads_it(kind: str) -> None:
    point, x, other = filled(kind), batch(), batch(seed=1)
    x = torch.where(VALID_BT[..., None], x, torch.nan)
    found = point(torch.where(VALID_BT[..., None], x, other))
    assert torch.equal(found[VALID_BT], point(torch.where(VALID_BT[..., None], x, 1e6))[VALID_BT])
    for row, length in enumerate(LENGTHS):
        point.valid_frames = None  # all steps are real
        alone = point(x[row : row + 1, :length])
        torch.testing.assert_close(found[row, :length], alone[0], rtol=1e-12, atol=1e-12)


@each_kind
def test_neighbouring_steps_are_read(kind: str) -> None:
    point, x = filled(kind), batch()
    changed = x.clone()
    changed[0, 1] += torch.randn(DIM, generator=seeded(2), dtype=torch.float64)
    moved = (point(changed) - point(x)).abs().amax(-1)[0]
    assert moved[0] > 1e-3 and moved[2] > 1e-3
    assert (moved[3:] > 1e-3).all() if kind == "attention" else moved[3:].max() == 0


@each_kind
def test_the_mask_is_told_for_one_pass_alone(kind: str) -> None:
    """A copy or a file of the adapter holds nothing of a batch; a pass that fails leaves nothing either."""
    point = filled(kind)
    point(batch())
    assert adapter_of(point).valid_frames is None
    seen: list[Any] = []
    adapter_of(copy.deepcopy(point)).register_forward_pre_hook(lambda *_: seen.append(1))
    adapter_of(point).register_forward_pre_hook(lambda adapter, _: seen.append(adapter.valid_frames))
    point(batch())
    assert len(seen) == 1 and torch.equal(seen[0], VALID_BT)
    with pytest.raises(ValueError, match=r"a whole batch of \[3, 5\] steps, \[B, T, D\], but it is \[2, 5, 6\]"):
        point(batch()[:2])
    assert adapter_of(point).valid_frames is None


@each_kind
def test_an_adapter_in_another_one_is_told_too(kind: str) -> None:
    class Around(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner, self.adapter_strategy = inner, inner.adapter_strategy

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.inner(x)
            return result

    point, plain = filled(kind), filled(kind)
    point.adapter_layer["one"] = Around(adapter_of(point))
    assert torch.equal(point(batch()), plain(batch()))


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (TinyAttention, {"num_heads": 0}, "num_heads has to be a whole number of at least 1"),
        (TinyAttention, {"dropout": 1.5}, "dropout has to be between 0 and 1, but got 1.5"),
        (
            Convolution,
            {"kernel": 4},
            "kernel has to be odd, so that a step is in the middle of what it reads, but got 4",
        ),
        (Convolution, {"activation": "tanh"}, "activation has to be one of identity, .* but got 'tanh'"),
    ],
)
def test_bad_values(cls: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**{"in_features": DIM, "dim": 2, **options})


@pytest.mark.nemo
def test_attention_is_nemos_on_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the bias of NeMo's keys is, which ours has not."""
    nemo: Any = pytest.importorskip("nemo", reason="nemo-toolkit is not installed")
    for name in ("", ".parts", ".parts.submodules", ".parts.submodules.adapters"):
        name = f"collections.asr{name}"
        package = types.ModuleType(f"nemo.{name}")  # whose own code would import what the adapter does not need
        package.__path__ = [f"{nemo.__path__[0]}/{name.replace('.', '/')}"]
        monkeypatch.setitem(sys.modules, package.__name__, package)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NeMo's own imports warn
        path = "nemo.collections.asr.parts.submodules.adapters.multi_head_attention_adapter_module"
        module: Any = importlib.import_module(path)
    theirs = module.MultiHeadAttentionAdapter(n_head=3, n_feat=DIM, dropout_rate=0.0, proj_dim=6)
    theirs = randomize(theirs, seed=1).double().eval()
    ours = adapter_of(filled("attention"))
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert (missing, unexpected) == ([], ["linear_k.bias"])
    ours.valid_frames, x = VALID_BT, batch()
    expected = theirs(x, x, x, ~VALID_BT[:, None, :].expand(3, 5, 5))
    torch.testing.assert_close(ours(x)[VALID_BT], expected[VALID_BT], rtol=1e-12, atol=1e-12)

"""Merging several adapters: the papers' equations in numpy, their losses, padding, files, and what is refused."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import hydra.utils
import numpy as np
import pytest
import torch
from torch import Tensor

from harness.adapters import (
    FUSIONS,
    AdapterFileError,
    AverageStrategy,
    BesidePoint,
    FusionStrategy,
    InsertionPoint,
    LinearAdapter,
    collect_adapter_losses,
    freeze_backbone,
    merging,
    watched_attention,
)
from harness.adapters.packed import reads_padding
from harness.adapters.registry import unregistered_targets
from harness.instantiate import InstantiationError, to_plain

from .registered import class_of, losses_of
from .tiny_models import DIM, LINEAR, TinyModel, random_adapter, randomize

MEMBERS = ("en", "fr", "target")
FUSION: dict[str, Any] = {"_target_": "harness.adapters.AdapterFusion", "over": list(MEMBERS)}
SIM: dict[str, Any] = {"_target_": "harness.adapters.SimAdapter", "over": list(MEMBERS)}
VALID_BT = torch.arange(5) < torch.tensor([[5], [2]])


def fused(config: dict[str, Any], point: InsertionPoint | None = None, seed: int = 0) -> InsertionPoint:
    """A host in training with three members, disabled, and a fusion over them, all with random weights, float64."""
    point = InsertionPoint(DIM) if point is None else point
    for name in MEMBERS:
        point.add_adapter(name, LINEAR)
        point.set_enabled_adapters(name, False)
    point.add_adapter("fusion", config)
    return randomize(point, seed).double().train()  # type: ignore[return-value]


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def inputs(seed: int = 1) -> Tensor:
    return torch.randn(2, 5, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def transcribed(point: InsertionPoint, x: np.ndarray, members: np.ndarray, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """softmax((x Q) . (a_i K) / tau) and its sum of a_i V, term by term as the papers have it: members [B, T, N, D]."""
    fusion: Any = point.adapter_layer["fusion"]
    query = np.einsum("btd,ed->bte", x, array(fusion.query.weight)) + array(fusion.query.bias)
    keys = np.einsum("btnd,ed->btne", members, array(fusion.key.weight)) + array(fusion.key.bias)
    values = np.einsum("btnd,ed->btne", members, array(fusion.value.weight))
    attention = softmax(np.einsum("bte,btne->btn", query, keys) / tau)
    return np.einsum("btn,btne->bte", attention, values), attention


def outputs_of(point: InsertionPoint, x: Tensor) -> np.ndarray:
    """What each member gives, without a residual: [B, T, N, D]."""
    return np.stack([array(point.adapter_layer[name](x)) for name in MEMBERS], axis=2)


def close(one: Any, other: Any, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=0, atol=tolerance)


# --- the papers' equations --------------------------------------------------------------------------------------------


def test_adapter_fusion_is_the_papers() -> None:
    """arXiv 2005.00247: s = softmax((h Q) . (z_n K)), o = s^T [z_n V], and the residual is added after."""
    point, x = fused(FUSION), inputs()
    with watched_attention({"point": point}) as seen:
        result = point(x)
    merged, attention = transcribed(point, array(x), outputs_of(point, x), tau=1.0)
    close(array(result), array(x) + merged)
    close(seen["point"].mean, attention.mean(axis=(0, 1)))
    assert seen["point"].names == MEMBERS


@pytest.mark.parametrize("with_self", [False, True])
def test_sim_adapter_is_the_papers(with_self: bool) -> None:
    """arXiv 2105.11905: sum_i softmax((z W_Q)(a_i W_K)^T / tau) (a_i W_V), a_i with residual, self being z itself."""
    point, x = fused(SIM | {"tau": 2.5, "with_self": with_self}), inputs()
    members = array(x)[:, :, None] + outputs_of(point, x)
    if with_self:
        members = np.concatenate([members, array(x)[:, :, None]], axis=2)
    with watched_attention({"point": point}) as seen:
        result = point(x)
    merged, attention = transcribed(point, array(x), members, tau=2.5)
    close(array(result), merged)
    close(seen["point"].mean, attention.mean(axis=(0, 1)))
    assert seen["point"].names == (*MEMBERS, *(["self"] if with_self else []))


def test_average_is_the_weighted_mean_of_the_outputs() -> None:
    x, outputs = inputs(), outputs_of(fused(FUSION), inputs())  # en, fr, target
    for weights, shares in ((None, [1 / 3] * 3), ([2, 1, 1], [0.25, 0.25, 0.5])):
        point = fused(FUSION)
        point.set_enabled_adapters("fusion", False)
        point.set_enabled_adapters("target", True)
        adapter: Any = point.adapter_layer["target"]
        adapter.adapter_strategy = AverageStrategy(over=["en", "fr"], weights=weights)
        close(array(point(x)), array(x) + np.einsum("btnd,n->btd", outputs, shares))


@pytest.mark.parametrize("config", [FUSION, SIM | {"guide": "fr", "with_self": True}], ids=["fusion", "sim"])
def test_gradients_of_result_and_losses(config: dict[str, Any]) -> None:
    """By finite differences: of the weights of the fusion, of a member and of the input."""
    point, x = fused(config), inputs()[:, :2].requires_grad_()
    point.valid_frames = VALID_BT[:, :2]
    fusion, member = point.adapter_layer["fusion"], point.adapter_layer["en"]
    weights = [*fusion.parameters(), *member.parameters()]

    def run(*changed: Tensor) -> tuple[Tensor, Tensor]:
        result, loss = point(changed[0]), collect_adapter_losses(point)
        assert loss is not None
        return result, loss

    assert torch.autograd.gradcheck(run, (x, *weights), fast_mode=True)


def test_first_weights_are_the_papers() -> None:
    for config in (FUSION, SIM):
        torch.manual_seed(0)
        point = InsertionPoint(64)
        point.add_adapter("fusion", config)
        fusion: Any = point.adapter_layer["fusion"]
        assert fusion.key.bias is not None and fusion.value.bias is None
        expected = np.full((64, 64), 1e-6, dtype=np.float32)
        np.fill_diagonal(expected, 1.0)
        assert np.array_equal(array(fusion.value.weight), expected)
        # N(0, 0.02), or torch's uniform in +-1/8, whose standard deviation is 1 / 8 / sqrt(3)
        deviation = 0.02 if config is FUSION else 0.125 / 3**0.5
        assert abs(array(fusion.query.weight).std() - deviation) < 0.05 * deviation
        assert bool(fusion.query.bias.any()) == (config is SIM)
        assert sum(weight.numel() for weight in fusion.parameters()) == 3 * 64**2 + 2 * 64


# --- losses -----------------------------------------------------------------------------------------------------------


def expected_guide(point: InsertionPoint, x: Tensor, index: int) -> float:
    """-log of the share of exp(exp(p_index)), p being the mean attention over valid frames."""
    _, attention = transcribed(point, array(x), array(x)[:, :, None] + outputs_of(point, x), tau=1.0)
    logits = np.exp(attention[array(VALID_BT)].mean(axis=0))
    return float(-np.log(np.exp(logits[index]) / np.exp(logits).sum()))


@pytest.mark.parametrize(
    ("options", "share"),
    [({}, 0.0), ({"guide": "target"}, 0.1), ({"guide": "target", "guide_schedule": "linear"}, 0.1 * 0.75)],
    ids=["pull", "guide", "decay"],
)
def test_value_of_the_losses(options: dict[str, Any], share: float) -> None:
    """0.01 * sum (I - V)^2, plus the guide's weight times its cross-entropy, a quarter into the training."""
    point, x = fused(SIM | options), inputs()
    point.valid_frames, point.training_progress = VALID_BT, 0.25
    fusion: Any = point.adapter_layer["fusion"]
    point(x)
    pull = 0.01 * ((np.eye(DIM) - array(fusion.value.weight)) ** 2).sum()
    loss = collect_adapter_losses(point)
    assert loss is not None
    close(array(loss), pull + share * expected_guide(point, x, index=2))
    assert collect_adapter_losses(point) is None  # nothing is left for the next step


def test_a_guide_that_falls_asks_how_much_of_the_training_is_done() -> None:
    """A loop that does not say it would train without the guide, in silence."""
    point = fused(SIM | {"guide": "target", "guide_schedule": "linear"})
    point.valid_frames = VALID_BT
    with pytest.raises(ValueError, match=r"^guide_schedule='linear' needs `training_progress` in \[0, 1\] on the host"):
        point(inputs())
    point.eval()(inputs())
    without = fused(SIM | {"guide_schedule": "linear"})
    without(inputs())
    assert collect_adapter_losses(without) is not None


def test_guide_reads_the_name_and_not_the_order() -> None:
    """A guide that the attention follows already costs less than another."""
    point, x = fused(SIM), inputs()
    point.valid_frames = VALID_BT
    assert len({round(expected_guide(point, x, index), 6) for index in range(3)}) == 3


def test_losses_are_counted_once() -> None:
    """V is held once a pass, also where a layer runs twice in it (ALBERT); not in scoring, not of a frozen fusion."""
    point, x = fused(FUSION), inputs()
    point(point(x))
    twice = collect_adapter_losses(point)
    point(x)
    once = collect_adapter_losses(point)
    assert once is not None and twice is not None and torch.equal(once, twice)
    point.eval()(x)
    assert collect_adapter_losses(point) is None
    point.train().adapter_layer["fusion"].requires_grad_(False)
    point(x)
    assert collect_adapter_losses(point) is None


def test_members_register_no_loss_and_draw_no_noise() -> None:
    """A member's own strategy is left out: only its output counts, in training as in scoring."""
    strategy = {"_target_": "harness.adapters.ResidualAddAdapterStrategy", "stochastic_depth": 0.5, "l2_lambda": 1.0}
    plain, noisy = fused(FUSION | {"pull_weight": 0.0}), fused(FUSION | {"pull_weight": 0.0})
    for name in MEMBERS:
        other = LinearAdapter(DIM, 3, adapter_strategy=strategy)
        adapter: Any = noisy.adapter_layer[name]
        adapter.adapter_strategy = other.adapter_strategy
    assert torch.equal(plain(inputs()), noisy(inputs()))
    assert collect_adapter_losses(noisy) is None and not losses_of(noisy.adapter_layer["en"])


# --- padding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [FUSION, SIM | {"guide": "fr"}], ids=["fusion", "sim"])
def test_padding_changes_nothing(config: dict[str, Any]) -> None:
    """Neither real frames nor the losses nor the mean attention, whatever is padded, infinities too."""
    point = fused(config)
    point.valid_frames = VALID_BT
    found = []
    for padding in (0.0, 7.0, float("inf")):
        x = torch.where(VALID_BT[..., None], inputs(), padding)
        with watched_attention({"point": point}) as seen:
            result = point(x)[VALID_BT]
        loss = collect_adapter_losses(point)
        assert loss is not None and bool(torch.isfinite(loss))
        found.append((result, loss, torch.tensor(seen["point"].mean)))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))
    assert not reads_padding(point.adapter_layer["fusion"], training=True)


def test_attention_of_nothing_is_no_number() -> None:
    with watched_attention({"point": fused(FUSION)}) as seen:
        pass
    assert np.isnan(seen["point"].mean).all()


# --- files and hosts --------------------------------------------------------------------------------------------------


@pytest.fixture
def model() -> TinyModel:
    model = TinyModel()
    for name in MEMBERS:
        model.add_adapter(name, LINEAR)
        model.set_enabled_adapters(name, False)
    model.add_adapter("a_fusion", SIM | {"guide": "fr", "tau": 2.0})  # in a folder it comes before its members
    freeze_backbone(model)
    randomize(model)
    return model.eval()


@pytest.mark.parametrize("place", ["all", "folder"])
def test_round_trip_through_files(model: TinyModel, tmp_path: Path, x: Tensor, place: str) -> None:
    path = tmp_path if place == "folder" else tmp_path / "all"
    model.save_adapters(path)
    fresh = TinyModel()
    fresh.load_state_dict({key: value for key, value in model.state_dict().items() if "adapter_layer" not in key})
    assert sorted(fresh.load_adapters(path)) == ["a_fusion", *MEMBERS]
    assert fresh.get_enabled_adapters() == ["a_fusion"]
    assert torch.equal(fresh.eval()(x), model(x))


def test_fusion_without_its_members_is_not_loaded(model: TinyModel, tmp_path: Path) -> None:
    model.save_adapters(tmp_path)
    for name in ("a_fusion", *MEMBERS):
        model.remove_adapter(name)
    with pytest.raises(ValueError, match="over: no adapter `en` at this insertion point; there are: a_fusion"):
        model.load_adapters(tmp_path, "a_fusion")
    assert not model.is_adapter_available()


def test_probe_notices_another_tau(model: TinyModel, tmp_path: Path) -> None:
    """The stored output is that of the fusion with its members."""
    path = tmp_path / "all"
    model.save_adapters(path)
    for name in ("a_fusion", *MEMBERS):
        model.remove_adapter(name)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(AdapterFileError, match="no longer computes"):
        patch.setattr(merging, "attend", lambda *args, tau, **options: (args[1].mean(dim=-2), args[1][..., 0]))
        model.load_adapters(path)


def test_beside_a_module_members_read_its_input() -> None:
    """result = y + sum_n s_n z_n V, where the module gave y for what the members read; also when it is probed."""
    point, y = fused(FUSION, BesidePoint(DIM, DIM)), inputs(2)
    result = point(y, inputs(), None)
    merged, _ = transcribed(point, array(y), outputs_of(point, inputs()), tau=1.0)
    close(array(result), array(y) + merged)
    fusion: Any = point.adapter_layer["fusion"]
    probed = point.forward_single_enabled_adapter_(
        inputs(), fusion, adapter_name="fusion", adapter_strategy=fusion.adapter_strategy
    )
    merged, _ = transcribed(point, np.zeros_like(array(y)), outputs_of(point, inputs()), tau=1.0)
    close(array(probed), merged)


@pytest.mark.parametrize("name", FUSIONS)
def test_config_is_that_of_its_class(name: str) -> None:
    """Builds with hydra, has the class's arguments and defaults, and files may name it with its own strategy."""
    config = FUSIONS[name](in_features=DIM, over=list(MEMBERS))
    built: Any = hydra.utils.instantiate(config)
    strategy = built.adapter_strategy
    assert type(built) is class_of(FUSIONS[name])
    fields = {f.name: f.default for f in dataclasses.fields(config) if f.name != "_target_"}
    parameters = inspect.signature(type(built)).parameters
    assert list(fields) == list(parameters)
    told = {key: p.default for key, p in parameters.items() if p.default not in (inspect.Parameter.empty, None)}
    assert told == {key: fields[key] for key in told}
    cls: Any = class_of(FUSIONS[name])
    default: Any = cls(DIM, MEMBERS).adapter_strategy
    assert vars(strategy) == vars(default)
    assert not list(unregistered_targets(to_plain(config)))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (FUSION | {"over": ["en"]}, "over has to be a list of at least 2 distinct names of adapters, but got"),
        (FUSION | {"over": ["en", "en"]}, "distinct names"),
        (FUSION | {"over": "en"}, "distinct names of adapters, but got 'en'"),
        (FUSION | {"pull_weight": -1}, "pull_weight has to be a finite number and at least 0, but got -1"),
        (SIM | {"tau": 0}, "tau has to be above 0"),
        (SIM | {"guide": "de"}, "guide has to be one of en, fr, target, but got 'de'"),
        (SIM | {"guide": "self"}, "guide has to be one of"),
        (SIM | {"guide_weight": float("nan")}, "guide_weight"),
        (SIM | {"guide_schedule": "cosine"}, "guide_schedule has to be one of constant, linear, but got 'cosine'"),
        (SIM | {"over": ["self"], "with_self": True}, "an adapter cannot be called `self`"),
        (FUSION | {"adapter_strategy": {"_target_": "harness.adapters.FusionStrategy", "residual": "no"}}, "residual"),
    ],
)
def test_options_out_of_range(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InstantiationError, match=message):
        InsertionPoint(DIM).add_adapter("fusion", config)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (["en", "de"], "no adapter `de` at this insertion point; there are: en, fr, fusion, target"),
        (["en", "fusion"], "`fusion` is the adapter itself"),
    ],
)
def test_members_that_cannot_be(over: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fused(FUSION | {"over": over})(inputs())


def test_fusion_of_fusions_and_of_other_adapters_is_refused() -> None:
    point = fused(FUSION)
    point.set_enabled_adapters("fusion", False)
    point.add_adapter("second", FUSION | {"over": ["en", "fusion"]})
    with pytest.raises(ValueError, match="`fusion` merges other adapters itself"):
        point.double()(inputs())
    with pytest.raises(ValueError, match="FusionStrategy: LinearAdapter merges no adapters"):
        FusionStrategy()(inputs(), random_adapter(), module=point)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, float("inf")], [1.0, True]])
def test_average_refuses_weights(weights: list[Any]) -> None:
    with pytest.raises(ValueError, match="a positive number for each of: the adapter's own, en; but got"):
        AverageStrategy(over=["en"], weights=weights)

"""The cut: where it lies, what it gains on paper, and an encoder in two parts against the whole."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from trial_configs import MakeConfig

from harness.backbones.model import TaskModel
from harness.config.execution import Execution
from harness.engines.cut.cut import Cut, find_cut, num_block_weights, run_prefix, why_no_cut, why_not_resumed
from harness.engines.cut.slot_layers import Current, SlotAttention
from harness.engines.registry import Engines
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun
from harness.training.resources import Resources
from harness.training.run_trial import run_trial
from harness.training.trial import Trial


@pytest.mark.parametrize(
    ("layer", "num_layers", "phi", "limit"),
    [
        (0, 12, 1 / 12, 1.045),
        (0, 8, 1 / 8, 1.07),
        (0, 4, 1 / 4, 1.17),
        (2, 6, 1 / 2, 1.5),
        (2, 4, 3 / 4, 2.5),
        (6, 8, 7 / 8, 4.5),
    ],
)
def test_the_predicted_gain(layer: int, num_layers: int, phi: float, limit: float) -> None:
    """The work model's own table; with learnt weights the gain is below the limit, and the head alone P / 3a."""
    cut = Cut(layer, num_layers)
    assert cut.phi == pytest.approx(phi)
    assert cut.gain(10**9, 0) == pytest.approx(limit, abs=0.005)
    assert cut.gain(10**6, 10**4) < cut.gain(10**9, 0)
    assert Cut(num_layers, num_layers).gain(3 * 10**6, 1000) == pytest.approx(1001, rel=1e-6)


def test_where_the_cut_lies(make_config: MakeConfig, resources: Resources) -> None:
    model = resources.domains(make_config()).backbone.model
    assert find_cut(make_config(), model) == Cut(0, 2)
    assert find_cut(make_config(backbone={"layers": [1]}), model) == Cut(1, 2)
    assert find_cut(make_config("head_only"), model) == Cut(2, 2, pooled=True)
    layers: dict[str, Any] = {"train": "layers_and_head", "adapter": None}
    assert find_cut(make_config(**layers, backbone={"layers": [1]}), model) == Cut(0, 2)
    assert find_cut(make_config(**layers), model) == Cut(-1, 2)
    # A block: attention (4 D^2 + 4 D), feed-forward (2 D F + F + D), three norms; D 16, F 32, two blocks.
    block = 4 * 16 * 16 + 4 * 16 + 2 * 16 * 32 + 32 + 16 + 2 * 2 * 16
    assert num_block_weights(model.encoder) == 2 * block


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"train": "none", "adapter": None}, "nothing is trained"),
        ({"train": "full", "adapter": None}, "train: full "),
        ({"loop": {"precision": "bfloat16"}}, None),
        ({"loop": {"augment": {}}}, "loop.augment.views: N "),
        ({"loop": {"augment": {"views": 2}}}, None),
        ({}, None),
    ],
)
def test_why_there_is_no_cut(changes: dict[str, Any], reason: str | None, make_config: MakeConfig) -> None:
    why = why_no_cut(make_config(**changes))
    assert why is None if reason is None else why is not None and reason in why


@pytest.mark.parametrize("family", ["text", "speech"])
def test_two_parts_are_the_whole(
    family: str, make_config: MakeConfig, make_speech_config: MakeConfig, resources: Resources
) -> None:
    """At every layer, in float64, padded steps too: a prefix computed alone and padded equals the batch's."""
    config = (make_config if family == "text" else make_speech_config)()
    domains = resources.domains(config)
    model = copy.deepcopy(domains.backbone.model).double().eval()
    items = domains.items(config.data.target, "valid")[:3]
    batch = domains.plain_task.collate(items, None).to(torch.device("cpu"), torch.float64)
    with torch.no_grad():
        whole, valid_BT = model.encoder(batch.inputs, batch.lengths)
        for layer in range(model.encoder.num_layers + 1):
            x_BTD, _ = model.encoder.forward_to(batch.inputs, batch.lengths, layer)
            assert torch.equal(model.encoder.forward_from(x_BTD, valid_BT, layer), whole)
            one = run_prefix(model, Cut(layer, model.encoder.num_layers), batch.inputs[:1], batch.lengths[:1])
            torch.testing.assert_close(one[0], x_BTD[0], rtol=1e-12, atol=1e-12)


def test_an_encoder_that_does_not_resume_is_found(make_config: MakeConfig, resources: Resources) -> None:
    config = make_config()
    domains = resources.domains(config)
    model: TaskModel = copy.deepcopy(domains.backbone.model).eval()
    batch = domains.plain_task.collate(domains.items("away", "valid")[:2], None)
    assert why_not_resumed(model, batch.inputs, batch.lengths, Cut(0, 2)) is None
    model.encoder.forward_from = lambda x_BTD, valid_BT, layer: x_BTD  # type: ignore[method-assign]
    why = why_not_resumed(model, batch.inputs, batch.lengths, Cut(0, 2))
    assert why == "the encoder gives other outputs when it is run in two parts"


MASKS: dict[str, Any] = {
    "none": {},
    "padding": {"key_padding_mask": torch.arange(5) >= torch.tensor([[5], [3], [2], [4]])},
    "causal": {"attn_mask": nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)},
    "of each head": {"attn_mask": torch.triu(torch.ones(8, 5, 5), 3) > 0},
}


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("bias", [True, False])
def test_attention_slot_by_slot_is_torch_s(masks: str, bias: bool) -> None:
    """Two slots of two rows, in float64: outputs, and weights as a mean or by heads, for each kind of mask."""
    inner = nn.MultiheadAttention(6, 2, bias=bias, batch_first=True, dtype=torch.float64).eval().requires_grad_(False)
    current: Current[Any] = Current()
    current.launch = SimpleNamespace(num_slots=2, weights={})
    x, y = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    for needed in ({"need_weights": False}, {}, {"average_attn_weights": False}):
        found, expected = (one(x, y, y, **MASKS[masks], **needed) for one in (SlotAttention(inner, current), inner))
        torch.testing.assert_close(found[0], expected[0], rtol=1e-12, atol=1e-12)
        assert (found[1] is None) == (expected[1] is None)
        if expected[1] is not None:
            torch.testing.assert_close(found[1], expected[1], rtol=1e-12, atol=1e-12)


def test_only_attention_of_this_kind_is_replaced() -> None:
    kinds: dict[str, Any] = {"": {}, "keys of another width": {"kdim": 4}, "steps first": {"batch_first": False}}
    kinds |= {"zeros": {"add_zero_attn": True}, "bias of keys": {"add_bias_kv": True}}
    for name, options in kinds.items():
        module = nn.MultiheadAttention(6, 2, **{"batch_first": True, **options})
        assert SlotAttention.can_replace(module) == (name == "")


@pytest.mark.parametrize(
    "adapter", [None, {"_target_": "peft.LoraConfig", "r": 2, "target_modules": ["feed_forward.1"]}]
)
def test_a_trial_that_starts_with_the_base_encoder_has_its_prefix(
    adapter: dict[str, Any] | None, make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """PEFT gives the weights of the modules in which it is other names."""
    if adapter is not None:
        pytest.importorskip("peft")
    changes: dict[str, dict[str, Any]] = {
        "head_only": {},
        "layers": {"train": "layers_and_head", "backbone": {"layers": [1]}},
    }
    for name, settings in changes.items():
        first = make_config("head_only", loop={"epochs": 1}, **settings)
        run = TrialRun(first.trial_id, "cut", name, first.seed, "confirm")
        assert run_trial(first, run, TrialFolder(tmp_path / first.trial_id), resources).state == "complete"
        later = make_config(loop={"epochs": 1}, start={"trial": first.trial_id})
        later = later if adapter is None else later.model_copy(update={"adapter": adapter})
        engine = Engines().of(Execution(engine="cut"))
        model = Trial(later, resources, records=tmp_path).adapted().model
        chosen, why = engine.choose(later, resources.domains(later), model)
        if name == "head_only":
            assert (chosen.execution.engine, why) == ("cut", None)
        else:
            assert chosen.execution.engine == "plain" and why is not None
            assert why.startswith("start: the trial that it starts from changed the encoder")

"""What every registered adapter with every registered strategy has to do in a model: a new entry needs no line here.

On small encoders of our own and of transformers, for text and for speech. What an entry does by itself, and that its
packed form is its plain form, is tested in tests/adapters_tests and tests/engines_tests/test_packed_oracle.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters_tests.registered import class_of, settings_of
from backbones_tests.tiny_whisper import tiny_whisper
from pretrained_kinds import write_encoder
from safetensors.torch import load_file
from torch import Tensor

from harness.adapters import ADAPTERS, FUSIONS, STRATEGIES, AbstractAdapterStrategy
from harness.adapters.packed import reads_padding
from harness.backbones.encoders import Encoder, SpeechEncoder, TextEncoder
from harness.backbones.model import ClassifierHead, CtcHead, TaskModel
from harness.backbones.pretrained import PretrainedTextEncoder
from harness.backbones.whisper import WhisperEncoder
from harness.config.trial import TrialConfig
from harness.data.batching import pad_sequence_batch
from harness.engines.cut.cut import CutModel, enabled_adapters, find_cut, run_prefix
from harness.instantiate import target_of
from harness.training.adapting import Adapted, adapt, chosen_places
from harness.training.precision import autocast

DIM, LENGTHS = 16, [11, 30, 6]
SIZES: dict[str, Any] = {"dim": DIM, "num_layers": 2, "num_heads": 2, "hidden": 24, "dropout": 0.3}
KINDS: dict[str, Callable[[Path], Encoder]] = {
    "text": lambda _: TextEncoder(100, **SIZES),
    "speech": lambda _: SpeechEncoder(6, kernel=5, **SIZES),
    "bert": lambda folder: PretrainedTextEncoder(write_encoder("bert", folder), 30),
    "whisper": lambda _: WhisperEncoder(tiny_whisper(d_model=DIM, num_mel_bins=6).get_encoder()),
}


class OwnStrategy(AbstractAdapterStrategy):
    """A user's own, which declares nothing."""

    def forward(self, input: Tensor, adapter: Any, *, module: Any) -> Tensor:
        return input + 0.5 * adapter(input)


OWN = {"_target_": f"{__name__}.OwnStrategy"}
EVERYWHERE = [
    *((adapter, "residual_add", kind) for adapter in ADAPTERS for kind in KINDS),
    *(("linear", strategy, kind) for strategy in sorted({*STRATEGIES, "own"} - {"residual_add"}) for kind in KINDS),
    *((fusion, "its own", kind) for fusion in FUSIONS for kind in KINDS),
]
PAIRS = [
    *((adapter, strategy, "text") for adapter in ADAPTERS for strategy in (*STRATEGIES, "own")),
    *((adapter, "residual_add", "whisper") for adapter in ADAPTERS),
]
CASE = ("adapter", "strategy", "kind")


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], TaskModel]]:
    """A kind's model in float64; whoever changes it changes a copy."""
    folder = tmp_path_factory.mktemp("encoders")

    @cache
    def made(kind: str) -> TaskModel:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            encoder = KINDS[kind](folder)
            model = TaskModel(encoder, CtcHead if kind in ("speech", "whisper") else ClassifierHead, 3)
            for weight in encoder.parameters():  # not close to nothing
                weight.add_(0.1 * torch.randn(weight.shape))
        return model.double().eval()

    yield lambda kind: copy.deepcopy(made(kind))


def config_of(adapter: str, strategy: str, precision: str = "float64", **backbone: Any) -> TrialConfig:
    if adapter in FUSIONS:
        linear = settings_of(ADAPTERS["linear"])
        fusion = {"_target_": target_of(class_of(FUSIONS[adapter])), "over": ["one", "two"]}
        adapters: dict[str, Any] = {"adapters": {"one": linear, "two": linear}, "fusion": fusion}
    else:
        merged_by = OWN if strategy == "own" else {"_target_": target_of(class_of(STRATEGIES[strategy]))}
        adapters = {"adapter": {**settings_of(ADAPTERS[adapter]), "adapter_strategy": merged_by}}
    return TrialConfig.model_validate(
        {
            "data": {"corpus": "none", "source": ["a"], "target": "b"},
            "backbone": {"recipe": "none", **backbone},
            "train": "adapters",
            **adapters,
            "loop": {"precision": precision},
            "seed": 0,
        }
    )


def items(model: TaskModel, seed: int = 0, num: int = len(LENGTHS)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    if isinstance(model.encoder, (TextEncoder, PretrainedTextEncoder)):
        return [torch.randint(5, 60, (length,), generator=generator) for length in LENGTHS[:num]]
    return [torch.randn(length, 6, generator=generator, dtype=torch.float64) for length in LENGTHS[:num]]


def adapters_of(adapted: Adapted) -> list[Any]:
    return enabled_adapters(adapted.model)


@torch.no_grad()
def train_by_hand(adapted: Adapted) -> None:
    """Give the adapters some weights, those that a fusion merges as well."""
    generator = torch.Generator().manual_seed(2)
    points = adapted.model.encoder.insertion_points.values()
    for adapter in [one for point in points if point.is_adapter_available() for one in point.adapter_layer.values()]:
        for weight in adapter.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))


def starts_as_identity(strategy: Any) -> bool:
    """Whether a strategy makes the identity of an adapter that gives nothing: all but those that replace the input."""
    x = torch.ones(1, 2, DIM)
    return torch.equal(strategy(x, torch.zeros_like, module=torch.nn.Module().eval()), x)


@pytest.mark.parametrize(CASE, PAIRS)
def test_only_its_own_weights_learn_and_they_are_kept(
    adapter: str, strategy: str, kind: str, base_of: Callable[[str], TaskModel], tmp_path: Path
) -> None:
    base = base_of(kind)
    config = config_of(adapter, strategy)
    adapted = adapt(copy.deepcopy(base), config)
    model, inputs = adapted.model, pad_sequence_batch(items(base))
    expected = base(*inputs)[0].detach()
    is_identity = starts_as_identity(adapters_of(adapted)[0].adapter_strategy)
    assert torch.equal(model.eval()(*inputs)[0], expected) == is_identity
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=0.05)
    for _ in range(3):
        model.train()
        optimizer.zero_grad()
        torch.autograd.backward(model(*inputs)[0].square().sum() + (model.collect_adapter_losses() or 0.0))
        optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    ours = {name for name, _ in model.named_parameters() if ".adapter_layer." in name}
    assert moved and (moved == ours if is_identity else moved <= ours)  # behind zeros in place of x, some learn later
    # As many as are declared: those that learn, those in the trial's own list, and those in the file.
    assert adapted.num_trainable == sum(adapted.adapters.values()) == sum(weight.numel() for weight in learning)
    with adapted.switched_off():
        assert torch.equal(model.eval()(*inputs)[0], expected)
    adapted.save(tmp_path, "base")
    stored = {key: value for key, value in load_file(tmp_path / "adapter.safetensors").items() if "probe/" not in key}
    assert sum(value.numel() for value in stored.values()) == adapted.num_trainable
    assert not (tmp_path / "weights.safetensors").exists()
    fresh = copy.deepcopy(base)
    fresh.encoder.put_points(chosen_places(fresh.encoder, config))
    fresh.load_adapters(tmp_path / "adapter", base_fingerprint="base", allow=[OwnStrategy])
    found = fresh(*inputs)[0]
    assert torch.equal(found, model(*inputs)[0]) and not torch.equal(found, expected)


@pytest.mark.parametrize(CASE, EVERYWHERE)
@torch.no_grad()
def test_padding_and_the_cut_change_nothing(
    adapter: str, strategy: str, kind: str, base_of: Callable[[str], TaskModel]
) -> None:
    """An item alone, beside others, beside other padding; and behind what is kept of the frozen layers."""
    base, config = base_of(kind), config_of(adapter, strategy, layers={"from": 1})
    adapted = adapt(copy.deepcopy(base), config)
    train_by_hand(adapted)
    model = adapted.model.eval()
    inputs, lengths_B = pad_sequence_batch(items(model))
    hidden_BTD, valid_BT = model.hidden(inputs, lengths_B)
    assert not torch.allclose(hidden_BTD, base.hidden(inputs, lengths_B)[0], atol=1e-4)
    for row, item in enumerate(items(model)):
        alone_TD = model.hidden(item[None], lengths_B[row : row + 1])[0][0]
        torch.testing.assert_close(hidden_BTD[row][valid_BT[row]], alone_TD, rtol=1e-12, atol=1e-12)
    cut = find_cut(config, model)
    assert cut.layer == 1
    prefix_BTD = run_prefix(base, cut, inputs, lengths_B)
    behind_BTD, _ = CutModel(model, cut).hidden(prefix_BTD, valid_BT.sum(1))
    assert torch.equal(behind_BTD[valid_BT], hidden_BTD[valid_BT])
    noise_BTD = torch.randn(prefix_BTD.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    padded_BTD = torch.where(valid_BT[..., None], prefix_BTD, noise_BTD)
    noisy_BTD, _ = CutModel(model, cut).hidden(padded_BTD, valid_BT.sum(1))
    torch.testing.assert_close(noisy_BTD[valid_BT], hidden_BTD[valid_BT], rtol=1e-12, atol=1e-12)
    # What says that it reads padding is computed with all of it; the registered ones need not be.
    declares = strategy != "own"
    assert reads_padding(adapters_of(adapted)[0], training=False) != declares


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("kind", ["text", "speech"])
@pytest.mark.parametrize("adapter", [*ADAPTERS, *FUSIONS])
def test_it_learns_in_every_precision(
    adapter: str, kind: str, precision: str, base_of: Callable[[str], TaskModel]
) -> None:
    """Finite gradients of the weights' own type; bfloat16 is torch's autocast over weights in float32."""
    dtype = torch.float64 if precision == "float64" else torch.float32
    adapted = adapt(base_of(kind).to(dtype), config_of(adapter, "residual_add", precision))
    train_by_hand(adapted)
    inputs, lengths_B = pad_sequence_batch(items(adapted.model))
    inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
    with autocast(torch.device("cpu"), precision):
        scores = adapted.model.train()(inputs, lengths_B)[0]
    torch.autograd.backward(scores.float().square().sum())
    for module in adapters_of(adapted):
        for name, weight in module.named_parameters():
            assert weight.dtype == dtype and weight.grad is not None
            # The bias of a fusion's keys is the same for all members, so the softmax leaves nothing of it.
            assert weight.grad.isfinite().all() and (weight.grad.any() or (adapter in FUSIONS and name == "key.bias"))

"""Layers that run on real steps alone: the numbers of the padded ones, and the bits of a trial alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pretrained_kinds import CONFIGS, SPEECH, write_encoder, write_speech_encoder
from tiny_text import TinyText, recipe_settings
from torch import Tensor
from trial_configs import MakeConfig

from harness.backbones.blocks import valid_steps
from harness.backbones.encoder_settings import SpeechModelSettings
from harness.backbones.encoders import Encoder
from harness.backbones.model import CtcHead, TaskModel
from harness.backbones.pretrained import PretrainedTextEncoder
from harness.backbones.speech_models import speech_encoder
from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.engines.cut.slot_layers import Current, slotwise
from harness.engines.packed import items, steps, unpadded
from harness.engines.packed.launch import Launch
from harness.engines.packed.unpadded import RealSteps, can_unpad, unpad_layers
from harness.training.resources import Resources

from .packs import assert_same_bits, largest_difference, pretrained_with, run_all, strategy

pytestmark = pytest.mark.slow

# Those whose attention is torch's own, called by transformers, and that hand their layers nothing else of the padded
# batch: no tables of rotations or distances.
TEXT = {"albert", "bart", "bert", "blenderbot", "camembert", "data2vec-text", "distilbert", "electra", "gpt2", "opt",
        "roberta", "xlm-roberta"}  # fmt: skip
# wav2vec2_layer has matrices of its own, 4 wide: those fill no whole vectors.
SPOKEN = {"data2vec-audio", "hubert", "hubert_layer", "unispeech", "unispeech-sat", "wav2vec2", "whisper"}
NO_ENCODERS = {"funnel", "opt_narrow", "squeezebert", "wav2vec2"}  # of text
LENGTHS = [[30, 17, 9, 22], [12, 30, 1, 5]]  # of the rows of two slots


def launch_of(num_slots: int, real: RealSteps | None) -> Launch:
    num_rows = len(LENGTHS[0])
    return Launch(num_slots, num_rows, torch.full((num_slots,), num_rows), training=False, real=real)


def valid_of(lengths_KB: list[list[int]]) -> Tensor:
    """The real steps of slots' rows, [K, B, 32]."""
    return torch.stack([valid_steps(torch.tensor(lengths_B), 32) for lengths_B in lengths_KB])


def encoder_of(kind: str, folder: Path, is_speech: bool) -> tuple[Encoder, Current[Any]]:
    """A random encoder of a kind, in the form that works slot by slot."""
    if is_speech:
        path = write_speech_encoder(kind, folder)
        content = {"kind": "transformers", "family": "speech", "path": str(path), "tail_s": 0}
        encoder = speech_encoder(SpeechModelSettings.model_validate(content), path, with_weights=True)
    else:
        encoder = PretrainedTextEncoder(write_encoder(kind, folder), 30)
    current: Current[Any] = Current()
    current.launch = launch_of(1, None)
    return slotwise(TaskModel(encoder.eval(), CtcHead, 4).eval(), current).encoder, current


@pytest.fixture(autouse=True)
def small_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, "WIDE", 0.0)
    monkeypatch.setattr(unpadded, "FEWEST_WEIGHTS", 0.0)


def test_small_models_and_those_of_ones_own_are_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their search should begin at once, and transformers takes seconds to import."""

    encoder, current = encoder_of("bert", tmp_path, False)
    monkeypatch.setattr(encoder, "forward_from", lambda *_: pytest.fail("a pass was made"))
    with monkeypatch.context() as patch:
        patch.setattr(unpadded, "FEWEST_WEIGHTS", 1e5)
        assert not can_unpad(encoder, current, 0)
    monkeypatch.delitem(sys.modules, "transformers")
    assert not can_unpad(encoder, current, 0)


def test_the_kinds_that_can_are_known(tmp_path: Path) -> None:
    """All others run padded, as they do alone: with rotary tables, convolutions, or attention of their own."""
    found = {}
    for kind in CONFIGS.keys() - NO_ENCODERS:
        encoder, current = encoder_of(kind, tmp_path / "text", False)
        found[kind] = can_unpad(encoder, current, 0)
    assert {kind for kind, can in found.items() if can} == TEXT
    found = {}
    for kind in SPEECH:
        encoder, current = encoder_of(kind, tmp_path / "speech", True)
        found[kind] = can_unpad(encoder, current, 0)
    assert {kind for kind, can in found.items() if can} == SPOKEN


@pytest.mark.parametrize("kind", ["bert", "gpt2", "albert", "bart", "wav2vec2", "hubert_layer", "whisper"])
def test_real_steps_have_the_outputs_and_gradients_of_padded_ones(kind: str, tmp_path: Path) -> None:
    """float64, two slots with other padding; GPT-2's steps look at earlier ones alone."""
    encoder, current = encoder_of(kind, tmp_path, kind in SPEECH)
    encoder.double()
    unpad_layers(encoder, current)
    valid_KBT = valid_of(LENGTHS)
    valid_RT = valid_KBT.flatten(0, 1)
    x_RTD = torch.randn(*valid_RT.shape, encoder.dim, dtype=torch.float64)

    def run(real: RealSteps | None) -> tuple[Tensor, Tensor]:
        current.launch = launch_of(2, real)
        leaf = x_RTD.clone().requires_grad_()
        hidden = encoder.forward_from(leaf, valid_RT, 0)[valid_RT]
        (gradient,) = torch.autograd.grad(hidden.square().sum(), leaf)
        return hidden.detach(), gradient

    real = RealSteps(valid_KBT)
    torch.testing.assert_close(run(real), run(None), rtol=1e-12, atol=1e-12)
    assert real.num_taken


@pytest.mark.parametrize("kind", ["bert", "wav2vec2", "whisper"])
def test_a_slot_has_its_own_bits(kind: str, tmp_path: Path) -> None:
    """float32, outputs and gradients: beside a slot of other lengths, before it and behind it, and alone."""
    encoder, current = encoder_of(kind, tmp_path, kind in SPEECH)
    unpad_layers(encoder, current)
    x_KBTD = torch.randn(2, len(LENGTHS[0]), 32, encoder.dim)

    def run(order: list[int]) -> list[tuple[Tensor, Tensor]]:
        valid_KBT = valid_of([LENGTHS[number] for number in order])
        valid_RT = valid_KBT.flatten(0, 1)
        current.launch = launch_of(len(order), RealSteps(valid_KBT))
        leaf = x_KBTD[order].flatten(0, 1).requires_grad_()
        hidden = encoder.forward_from(leaf, valid_RT, 0)
        (gradient,) = torch.autograd.grad(hidden[valid_RT].square().sum(), leaf)
        return list(zip(hidden.detach().chunk(len(order)), gradient.chunk(len(order)), strict=True))

    alone = run([0])[0]
    for found in (run([0, 1])[0], run([1, 0])[1]):
        assert all(map(torch.equal, found, alone))


def test_masks_that_hide_nothing_are_left_out() -> None:
    valid_RT = valid_steps(torch.tensor([3, 2]), 4)
    real = RealSteps(valid_RT[None])
    whole = valid_RT[:, None, None].expand(-1, 1, 4, -1)
    assert real.masks(whole) == [None, None] == real.masks(None)
    assert real.masks(torch.zeros(2, 1, 4, 4).masked_fill(~whole, -torch.inf)) == [None, None]
    causal = whole & torch.ones(4, 4, dtype=torch.bool).tril()
    kept = real.masks(causal)
    assert [None if mask is None else mask[0, 0].tolist() for mask in kept] == [
        [[True, False, False], [True, True, False], [True, True, True]],
        [[True, False], [True, True]],
    ]


@pytest.fixture(scope="module")
def recipe(tiny_text_files: TinyText, data_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with a head trained on the tiny sentences."""
    folder = tmp_path_factory.mktemp("bert")
    encoder = {"kind": "transformers", "path": str(write_encoder("bert", folder)), "max_length": 16}
    loop = {"epochs": 1, "batch_size": 16, "valid_limit": 8}
    content = {**recipe_settings(tiny_text_files.corpus), "name": "bert", "encoder": encoder, "train": "head"}
    path = folder / "bert.yaml"
    path.write_text(yaml.safe_dump(content | {"loop": loop}), encoding="utf-8")
    return pretrained_with(data_cache, path)


def test_a_wide_models_trials_are_the_plain_loop_and_their_own(
    make_config: MakeConfig,
    recipe: Path,
    resources: Resources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1e-12 in float64, each bit alone in float32; a trial with NeMo's l2, which counts padded frames, keeps them."""
    made: list[tuple[int, bool]] = []  # slots of each launch on real steps, and whether it trained

    class Counted(RealSteps):
        def __init__(self, valid_KBT: Tensor) -> None:
            super().__init__(valid_KBT)
            made.append((len(valid_KBT), torch.is_grad_enabled()))

    monkeypatch.setattr(steps, "RealSteps", Counted)

    def trials(precision: str) -> list[TrialConfig]:
        loop = {"epochs": 2, "batch_size": 5, "valid_limit": 6, "precision": precision}
        settings: dict[str, Any] = {
            "backbone": {"recipe": str(recipe), "layers": {"from": 1}},
            "data": {"train_limit": 12},
        }
        adapters = [
            {"dim": 8, **strategy(stochastic_depth=0.4, l2_lambda=0.0)},
            {"dim": 8, **strategy(stochastic_depth=0.2, l2_lambda=0.01, l2_reduction="valid_frame_mean")},
            {"dim": 8, **strategy(stochastic_depth=0.3, l2_lambda=0.01)},
            {"dim": 5, **strategy(drop="frame", stochastic_depth=0.3, l2_lambda=0.0)},
        ]
        optim = {"lr": 0.01, "eps": 1e-4}
        return [make_config(seed=0, adapter=one, loop=loop, optim=optim, **settings) for one in adapters]

    configs = trials("float64")
    plain = run_all(configs, resources, tmp_path / "plain", Execution(), size=1)
    assert not made
    packed = run_all(configs, resources, tmp_path / "packed")
    assert any(count > 1 and trains for count, trains in made) and any(not trains for _, trains in made)
    for found, expected in zip(packed, plain, strict=True):
        assert largest_difference(found, expected) < 1e-12
    configs = trials("float32")
    together = run_all(configs, resources, tmp_path / "together")
    for number, found in enumerate(together):
        made.clear()
        (alone,) = run_all([configs[number]], resources, tmp_path / f"alone_{number}")
        assert_same_bits(found, alone)
        assert any(trains for _, trains in made) == (number != 2)

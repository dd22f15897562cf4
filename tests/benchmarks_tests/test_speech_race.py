"""The speech race: the peers run the same encoder on the same clips, and are scored by the same error rates."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import jiwer
import pytest
import torch
from houlsby_loop import Bottleneck, batches_of
from peer_task import Examples
from speech_task import NONE, TASK, CtcRecogniser, ShortClips
from torch import nn
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder as TheirEncoder

from harness.backbones.whisper import WhisperEncoder
from harness.data.symbol_table import SymbolTable
from harness.tasks.ctc import CtcTask
from harness.tasks.inputs import SpeechInputs
from harness.tasks.task import Batch

LENGTHS = torch.tensor([37, 20])
HEAD = {"weight": torch.linspace(-1, 1, 5 * 16).reshape(5, 16).tolist(), "bias": [0.0] * 5}
ROWS = [
    {"features": torch.linspace(-1, 1, length * 8).reshape(length, 8).sin(), "labels": labels, "length": length}
    for length, labels in ((37, [1, 2, 2, 3]), (20, [4, 1]))
]  # fmt: skip


def tiny_encoder() -> Any:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"d_model": 16, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    encoder: Any = TheirEncoder(WhisperConfig(num_mel_bins=8, max_source_positions=40, **shape))
    return encoder.eval()


def test_the_peers_encoder_and_loss_are_ours() -> None:
    """In float64, on clips of unlike length: hidden states at real steps, the mask, and the CTC loss of a batch."""
    encoder = tiny_encoder().double()
    batch = TASK.collate(ROWS)
    features = batch["features"].double()
    own, own_valid = WhisperEncoder(encoder)(features, LENGTHS)
    theirs, valid = ShortClips(encoder)(features, LENGTHS)
    assert torch.equal(valid, own_valid) and valid.sum(1).tolist() == [19, 10]
    torch.testing.assert_close(theirs[valid], own[valid], rtol=1e-12, atol=1e-12)

    model = CtcRecogniser(ShortClips(encoder), HEAD).double().train()
    found = model(features, batch["lengths"], batch["labels"])
    task = CtcTask(SymbolTable("abcd"), SpeechInputs(lambda clips: []))
    targets, sizes = batch["labels"].clamp(min=0), torch.tensor([4, 2])
    expected = task.loss(model.head(own), own_valid, Batch(features, LENGTHS, targets, sizes))
    torch.testing.assert_close(found["loss"], expected, rtol=1e-12, atol=1e-12)
    assert (model.padded_tokens, model.real_tokens) == (2 * 19, 19 + 10)
    assert found["logits"].argmax(-1)[1, 10:].eq(0).all()  # behind a clip there is nothing to read


def test_error_rates_are_read_from_padded_batches() -> None:
    workload = {"symbols": ["", " ", "a", "b"]}
    labels = torch.tensor([[2, 1, 3, 3, NONE], [3, NONE, NONE, NONE, NONE]])
    heard = torch.tensor([[2, 2, 0, 1, 3, 0, 3], [0, 2, 0, 0, NONE, NONE, NONE]])  # "a bb", "a"
    assert TASK.scores_of(workload, heard, labels) == {"cer": 1 / 5, "wer": 1 / 3}
    assert jiwer.cer(["a bb", "b"], ["a bb", "a"]) == 1 / 5


def test_a_bottleneck_starts_as_the_identity_and_has_the_size_of_ours() -> None:
    adapter, x = Bottleneck(16, 4), torch.randn(2, 3, 16)
    assert torch.equal(adapter(x), x)
    assert sum(weight.numel() for weight in adapter.parameters()) == 2 * 16 * 4 + 2 * 16
    nn.init.ones_(adapter.up.weight)
    normed = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-5)
    inner = normed @ adapter.down.weight.T
    torch.testing.assert_close(adapter(x), x + (inner * torch.sigmoid(inner)).sum(-1, keepdim=True))


@pytest.mark.parametrize("grouped", [False, True])
def test_the_loops_batches_hold_every_example_once(grouped: bool) -> None:
    rows = Examples([{"length": length} for length in range(32)])
    batches = batches_of(rows, 4, grouped, torch.Generator().manual_seed(0))
    assert sorted(row["length"] for batch in batches for row in batch) == list(range(32))
    spread = max(max(row["length"] for row in batch) - min(row["length"] for row in batch) for batch in batches)
    assert spread == 3 if grouped else spread > 12  # one window: each batch has four lengths that follow each other


def test_lora_is_put_at_the_last_feed_forward_weight_of_the_chosen_layers() -> None:
    encoder: Any = SimpleNamespace(model=SimpleNamespace(config=SimpleNamespace(encoder_ffn_dim=32, d_model=16)))
    pattern, inner, width = TASK.lora_place(encoder, "1|2")
    named = [name for name, _ in ShortClips(tiny_encoder()).named_modules() if re.fullmatch(pattern, name)]
    assert named == ["model.layers.1.fc2", "model.layers.2.fc2"] and (inner, width) == (32, 16)

"""Speech recognition with CTC on Whisper's encoder: features of clips as they are long, the frozen head, error rates.

Whisper's own code accepts windows of 30 s alone, 25 times the work of a short clip. `ShortClips` runs its layers on
clips, as our own trials do (harness/backbones/whisper.py): positions are cut, and what lies behind a clip is masked.
"""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import jiwer
import torch
import torch.nn.functional as F
import transformers
from peer_task import CountingModel, PeerTask
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers.models.whisper.modeling_whisper import WhisperEncoder

BLANK = 0
NONE = -100  # what Trainer pads labels and predictions with


class ShortClips(nn.Module):
    """Whisper's encoder on clips that are as long as they are.

    Args:
        model: transformers' WhisperEncoder.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[B, frames, mels] -> hidden states [B, T, D] and the mask [B, T] of real steps."""
        model: Any = self.model
        real_B1F = (torch.arange(features.shape[1]) < lengths[:, None])[:, None]
        x_BDF = F.gelu(model.conv1(features.transpose(1, 2).masked_fill(~real_B1F, 0.0)))
        x_BTD = F.gelu(model.conv2(x_BDF.masked_fill(~real_B1F, 0.0))).transpose(1, 2)
        valid_BT = torch.arange(x_BTD.shape[1]) < ((lengths + 1) // 2)[:, None]
        x_BTD = x_BTD + model.embed_positions.weight[: x_BTD.shape[1]]
        mask_B1TT = valid_BT[:, None, None].expand(-1, 1, x_BTD.shape[1], -1)
        for layer in model.layers:
            x_BTD = layer(x_BTD, mask_B1TT)
        return model.layer_norm(x_BTD), valid_BT


class CtcRecogniser(CountingModel):
    """An encoder and a frozen linear head over symbols, the blank at 0."""

    def forward(self, features: Tensor, lengths: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Loss (a clip's by the length of its transcript, then the mean) and scores [B, T, V]; padded steps blank."""
        hidden_BTD, valid_BT = self.encoder(features, lengths)
        self.count(valid_BT)
        scores_BTV = self.head(hidden_BTD)
        loss = F.ctc_loss(
            scores_BTV.log_softmax(-1).transpose(0, 1),
            labels.clamp(min=0),
            valid_BT.sum(1),
            (labels != NONE).sum(1),
            blank=BLANK,
            zero_infinity=True,
        )
        blank_V = torch.arange(scores_BTV.shape[2]) == BLANK
        return {"loss": loss, "logits": torch.where(valid_BT[..., None], scores_BTV, blank_V.to(scores_BTV.dtype))}


@lru_cache(1)
def clips(path: str) -> dict[str, Tensor]:
    """The features [frames, mels] of every clip, by key, from the workload's file."""
    return load_file(path)


class SpeechTask(PeerTask):
    """Examples are `[key of a clip, indices of its symbols]`."""

    metrics = ("cer", "wer")

    def encoder(self, workload: dict[str, Any]) -> ShortClips:
        folder = Path(workload["encoder"])  # its config has no dropout, so that there is none to switch off
        config = transformers.WhisperConfig(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        model = WhisperEncoder(config)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return ShortClips(model.requires_grad_(False))

    def model(self, encoder: nn.Module, head: dict[str, Any]) -> CtcRecogniser:
        return CtcRecogniser(encoder, head)

    def lora_place(self, encoder: Any, layers: str) -> tuple[str, int, int]:
        config = encoder.model.config
        return rf"model\.layers\.({layers})\.fc2", config.encoder_ffn_dim, config.d_model

    def rows(self, workload: dict[str, Any], examples: list[list[Any]]) -> list[dict[str, Any]]:
        found = clips(workload["features"])
        return [{"features": found[key], "labels": symbols, "length": len(found[key])} for key, symbols in examples]

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {
            "features": pad_sequence([row["features"] for row in rows], batch_first=True),
            "lengths": torch.tensor([row["length"] for row in rows]),
            "labels": pad_sequence([torch.tensor(row["labels"]) for row in rows], True, NONE),
        }

    def predict(self, scores: Tensor, labels: Tensor) -> Tensor:
        return scores.argmax(-1)

    def scores_of(self, workload: dict[str, Any], predictions: Tensor, labels: Tensor) -> dict[str, float]:
        symbols = workload["symbols"]
        said = ["".join(symbols[index] for index in row if index != NONE) for row in labels.tolist()]
        heard = []
        for row in predictions.tolist():  # merge repeats, drop blanks, trim spaces
            merged = (index for index, _ in groupby(row) if index not in (BLANK, NONE))
            heard.append(" ".join("".join(symbols[index] for index in merged).split()))
        return {"cer": float(jiwer.cer(said, heard)), "wer": float(jiwer.wer(said, heard))}


TASK = SpeechTask()

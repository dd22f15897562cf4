"""Adapter files of MMS (Pratap et al. 2023) in and out: `adapter.LANGUAGE.safetensors` beside a wav2vec2 model.

Each has, for every layer, LayerNorm -> Linear -> ReLU -> Linear, whose output is added to the layer's, and an output
layer for the language's symbols. A LinearAdapter with `activation: relu` behind each layer, merged by residual add, is
the same without the biases of its two projections; they are written as zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from harness.adapters import LinearAdapter, ResidualAddAdapterStrategy
from harness.backbones.model import CtcHead
from harness.disk import write_atomically
from harness.errors import UserError, first_line


def adapter_path(folder: Path, language: str) -> Path:
    """The adapter file of a language in a model's folder."""
    return folder / f"adapter.{language}.safetensors"


def is_language_file(path: Path) -> bool:
    """Whether a file is named as one of MMS, and has weights of adapters in wav2vec2 layers."""
    if not path.name.startswith("adapter.") or not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return any(".adapter_layer." in name for name in file.keys())  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError):
        return False


def load_language(model: Any, folder: Path, language: str) -> None:
    """Give a CTC model the adapters and the output layer of a language, as transformers' `load_adapter` does.

    Args:
        model: a Wav2Vec2ForCTC of the folder, whose config has `adapter_attn_dim`.
        folder: of the model.
        language: its adapter file's.

    Raises:
        UserError: the file is missing, damaged, or not of this model; one line.
    """
    path = adapter_path(folder, language)
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        there = sorted(file.name.split(".")[1] for file in folder.glob("adapter.*.safetensors"))
        told = f"; languages there: {', '.join(there[:8])}" if there else ""
        raise UserError(f"text.language: {path}: cannot be read: {first_line(error)}{told}") from error
    wanted = {name: weight for name, weight in model.state_dict().items() if ".adapter_layer." in name}
    weight, bias = (found.pop(name, None) for name in ("lm_head.weight", "lm_head.bias"))
    shapes = {name: tensor.shape for name, tensor in wanted.items()}
    if weight is None or bias is None or {name: tensor.shape for name, tensor in found.items()} != shapes:
        raise UserError(f"text.language: {path}: its weights are not those of adapters for the model in {folder}")
    with torch.no_grad():
        for name, tensor in found.items():
            wanted[name].copy_(tensor)
        model.lm_head = nn.Linear(weight.shape[1], len(bias))
        model.lm_head.weight.copy_(weight)
        model.lm_head.bias.copy_(bias)


def write_mms_adapter(folder: Path, language: str, adapters: Sequence[nn.Module], head: CtcHead) -> Path:
    """Write trained adapters and their output layer as an adapter file of MMS; returns its path.

    transformers loads it into the same model, once its config has `adapter_attn_dim` set to the adapters' width.

    Args:
        folder: of the model.
        language: the name to give it.
        adapters: LinearAdapters, one behind each layer, lowest first.
        head: the output layer that goes with them.

    Raises:
        UserError: an adapter that such a file cannot hold.
    """
    weights: dict[str, Tensor] = {"lm_head.weight": head.output.weight, "lm_head.bias": head.output.bias}
    for number, adapter in enumerate(adapters):
        norm, down, up = _parts(adapter, number)
        tensors = {
            "norm.weight": norm.weight, "norm.bias": norm.bias,
            "linear_1.weight": down.weight, "linear_1.bias": down.weight.new_zeros(len(down.weight)),
            "linear_2.weight": up.weight, "linear_2.bias": up.weight.new_zeros(len(up.weight)),
        }  # fmt: skip
        weights |= {f"wav2vec2.encoder.layers.{number}.adapter_layer.{name}": w for name, w in tensors.items()}
    path = adapter_path(folder, language)
    write_atomically(path, save({name: weight.detach().cpu().contiguous() for name, weight in weights.items()}))
    return path


def _parts(adapter: nn.Module, number: int) -> tuple[Any, Any, Any]:
    """The layer norm and the two projections of an adapter that an adapter file of MMS can hold."""
    if (
        not isinstance(adapter, LinearAdapter)
        or adapter.norm_position != "pre"
        or not isinstance(adapter.module[2], nn.ReLU)
        or type(adapter.adapter_strategy) is not ResidualAddAdapterStrategy
    ):
        raise UserError(
            f"the adapter behind layer {number} is none that an adapter file of MMS can hold: it needs a LinearAdapter "
            "with activation: relu, norm_position: pre and the residual-add strategy"
        )
    return adapter.module[0], adapter.module[1], adapter.module[3]

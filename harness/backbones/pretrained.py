"""Real pretrained text encoders through transformers: from a folder or an installed package, never from a hub.

Adapters are hooked behind each layer of the model, so any encoder with a list of layers can be adapted as it is.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.adapters import InsertionPoint, attach_by_hook
from harness.backbones.blocks import valid_steps
from harness.backbones.encoders import Encoder
from harness.errors import UserError


def model_directory(path: str) -> Path:
    """Resolve `package:NAME/SUBDIR` or a folder.

    Raises:
        UserError: the package is not installed, or there is no such folder with a config.json.
    """
    if path.startswith("package:"):
        package, _, rest = path.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            name = package.replace("_", "-")
            raise UserError(f"encoder.path: package {package!r} is not installed; run: pip install {name}")
        directory = Path(spec.origin).parent / rest
    else:
        directory = Path(path).expanduser()
    if not (directory / "config.json").is_file():
        raise UserError(f"encoder.path: {path}: no config.json there, so it is not a transformers model folder")
    return directory


class PretrainedTextEncoder(Encoder):
    """A transformers encoder (BERT-like: token ids and an attention mask in, last hidden state out).

    Raises:
        UserError: the folder's model has no list of layers to put insertion points behind.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is first imported: never ask a hub
        from transformers import AutoConfig, AutoModel

        # Weights in the library's default precision and the plain attention path: the base must be restored exactly.
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
        self.model: nn.Module = AutoModel.from_pretrained(
            directory, config=config, local_files_only=True, dtype=torch.float32
        )
        self.dim = int(config.hidden_size)
        self.points = nn.ModuleList(InsertionPoint(self.dim) for _ in layers_of(self.model))
        for layer, point in zip(layers_of(self.model), self.points, strict=True):
            attach_by_hook(layer, point)

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        valid_BT = valid_steps(lengths_B, inputs.shape[1])
        self.tell_valid(valid_BT)
        hidden_BTD: Tensor = self.model(input_ids=inputs, attention_mask=valid_BT.long()).last_hidden_state
        return hidden_BTD, valid_BT


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The model's list of layers: its longest `ModuleList` of one class.

    Raises:
        UserError: there is none.
    """
    lists = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len({type(item) for item in module}) == 1
    ]
    if not lists:
        raise UserError(f"{type(model).__name__} has no list of layers, so adapters cannot be inserted")
    return max(lists, key=len)

"""The cut: the point before which a trial's frozen backbone never changes, and what computing it once is worth.

An adapter behind layer f sees the output of the frozen layers 0 to f, which is the same in every step, epoch and trial.
One inside layer f sees that of the layers below it.
With phi the share of the frozen forward pass before the cut, P frozen weights in the blocks and a weights that learn,
a step on N tokens costs (multiplications and additions)

    whole   2 P N (2 - phi) + 6 a N        the backward pass stops at the first adapter already
    cut     4 P N (1 - phi) + 6 a N        G = whole / cut, at most (2 - phi) / (2 (1 - phi)) for small a
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters import InsertionPoint
from harness.adapters.packed import reads_padding
from harness.adapters.peft_bridge import names_peft
from harness.backbones.blocks import valid_steps
from harness.backbones.encoders import Encoder
from harness.backbones.model import ClassifierHead, TaskModel
from harness.config.trial import TrialConfig
from harness.training.adapting import chosen_layers, chosen_places
from harness.training.memory import is_out_of_memory
from harness.training.peft_arm import BEFORE_LAYERS, WHY_BEFORE, cut_layer


@dataclass(frozen=True)
class Cut:
    """Where the frozen prefix ends.

    Attributes:
        layer: the layer that it ends behind, from 0; -1 in front of them all, and the number of layers when all of the
            encoder is frozen.
        num_layers: of the encoder.
        pooled: whether the pooling over the real steps is part of the prefix (a classifier's head learns alone).
    """

    layer: int
    num_layers: int
    pooled: bool = False

    @property
    def phi(self) -> float:
        """Share of the blocks before the cut."""
        return min(1.0, (self.layer + 1) / self.num_layers)

    def gain(self, num_frozen: int, num_learning: float) -> float:
        """Floating-point work of a training step without the cut, over that with it.

        Args:
            num_frozen: P, weights in the encoder's blocks.
            num_learning: a, weights that learn. Of those in the blocks a third counts: all but the product that gives
                their gradients is among what P costs already.
        """
        whole = 2 * num_frozen * (2 - self.phi) + 6 * num_learning
        return whole / (4 * num_frozen * (1 - self.phi) + 6 * num_learning)


def why_no_cut(config: TrialConfig) -> str | None:
    """Why a trial has no frozen prefix that could be kept; None when it has one."""
    if config.train == "none":
        return "nothing is trained"
    if config.train == "full":
        return "train: full changes every layer"
    if config.loop.meta is not None:
        return "loop.meta trains on several domains by turns, and a cut keeps the prefixes of one"
    if config.loop.augment is not None and config.loop.augment.views is None:
        return "loop.augment draws new masks in each step; loop.augment.views: N would use N fixed masks of each item"
    return None


def reads_padded_steps(model: TaskModel, training: bool) -> bool:
    """Whether a trial's numbers may depend on what padded steps hold: NeMo's l2 sum counts them.

    Args:
        model: adapted.
        training: there is no penalty in scoring.
    """
    points = model.encoder.insertion_points.values()
    # Also those that are not enabled: another one's strategy may run them (AdapterFusion).
    there = [adapter for point in points if point.get_enabled_adapters() for adapter in point.adapter_layer.values()]
    return any(reads_padding(adapter, training) for adapter in there)


def enabled_adapters(model: TaskModel) -> list[Any]:
    """The adapters that run, lowest layer first."""
    return [
        point.adapter_layer[name]
        for point in model.encoder.insertion_points.values()
        for name in point.get_enabled_adapters()
    ]


def find_cut(config: TrialConfig, model: TaskModel) -> Cut:
    """The cut of a trial that has one (`why_no_cut`).

    Raises:
        UserError: `backbone.layers` or `backbone.points` names what is not there.
    """
    num_layers = model.encoder.num_layers
    if config.train == "head":
        # A pooling that learns with the head is no part of what stays the same.
        pooled = isinstance(model.head, ClassifierHead) and not list(model.head.pool.parameters())
        return Cut(num_layers, num_layers, pooled)
    if config.train == "layers_and_head":
        return Cut(min(chosen_layers(num_layers, config)) - 1, num_layers)
    if names_peft(config.adapter):
        return Cut(cut_layer(model.encoder, config), num_layers)
    lowest = min(place.layer - place.is_inside for place in chosen_places(model.encoder, config))
    return Cut(lowest, num_layers)


def num_block_weights(encoder: Encoder) -> int:
    """P: weights of the encoder's blocks, without embeddings, convolutions before the blocks, and adapters."""
    blocks = max(
        (module for module in encoder.modules() if isinstance(module, nn.ModuleList) and not _holds_points(module)),
        key=len,
    )
    return sum(weight.numel() for weight in blocks.parameters())


def learning_in_layers(model: TaskModel) -> int:
    """How many weights of the backbone's own layers learn; those of adapters in them are not counted."""
    of_adapters = model.adapter_tensors()
    own = (weight for layer in model.encoder.layers for weight in layer.parameters() if id(weight) not in of_adapters)
    return sum(weight.numel() for weight in own if weight.requires_grad)


def _holds_points(modules: nn.ModuleList) -> bool:
    return all(isinstance(module, InsertionPoint) for module in modules)


@torch.no_grad()
def run_prefix(model: TaskModel, cut: Cut, inputs: Tensor, lengths_B: Tensor) -> Tensor:
    """What reaches the cut: [B, T, D], or [B, 1, D] where the pooling over the steps is part of the prefix.

    Args:
        model: the base model, or one whose adapters all lie behind the cut; in eval mode.
        cut: where to stop.
        inputs: [B, T, ...].
        lengths_B: their real steps.
    """
    x_BTD, valid_BT = model.encoder.forward_to(inputs, lengths_B, cut.layer)
    return model.head.pool(x_BTD, valid_BT)[:, None] if cut.pooled else x_BTD


@torch.no_grad()
def why_not_resumed(model: TaskModel, inputs: Tensor, lengths_B: Tensor, cut: Cut) -> str | None:
    """Why an encoder cannot be run in two parts; None where the parts give what the whole gives.

    Args:
        model: the base model, in eval mode.
        inputs: [B, T, ...], some of it padding.
        lengths_B: the real steps.
        cut: where the parts meet.
    """
    encoder = model.encoder
    if cut.layer == BEFORE_LAYERS:
        return WHY_BEFORE
    whole_BTD, valid_BT = encoder(inputs, lengths_B)
    try:
        x_BTD, _ = encoder.forward_to(inputs, lengths_B, cut.layer)
        found_BTD = encoder.forward_from(x_BTD, valid_BT, cut.layer)
    # A model of another library may raise anything when it is run in a way that it was not made for.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return f"the encoder cannot be run in two parts (it ends in a {type(error).__name__})"
    if found_BTD.shape != whole_BTD.shape or not _close(found_BTD[valid_BT], whole_BTD[valid_BT]):
        return "the encoder gives other outputs when it is run in two parts"
    shortest = int(lengths_B.argmin())
    length = lengths_B[shortest : shortest + 1]
    alone_BTD, alone_BT = encoder(inputs[shortest : shortest + 1, : int(length)], length)
    if not _close(alone_BTD[alone_BT], whole_BTD[shortest][valid_BT[shortest]]):
        return "the encoder gives other outputs for an item beside a longer one, so they cannot be kept"
    return None


def _close(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


class CutModel(TaskModel):
    """The part of a trial's model behind the cut; its input is what the frozen prefix gave.

    It shares the model's modules, and weights keep their names: a checkpoint of either loads in the other.
    """

    def __init__(self, model: TaskModel, cut: Cut) -> None:
        nn.Module.__init__(self)
        self.encoder = model.encoder
        self.head = model.head
        self.adapter_cfg = getattr(model, "adapter_cfg", None) or {}
        self.cut = cut
        self.train(model.training)

    def hidden(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """As TaskModel's; `inputs` is [B, T, D] and `lengths_B` counts its real steps."""
        valid_BT = valid_steps(lengths_B, inputs.shape[1])
        return self.encoder.forward_from(inputs, valid_BT, self.cut.layer), valid_BT

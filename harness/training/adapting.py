"""From a base model to what a trial trains: freeze, insert adapters, choose which weights learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from harness.adapters import BesidePoint, InsertionPoint, freeze_backbone
from harness.adapters.checkpoint import save_adapters
from harness.adapters.freezing import is_frozen
from harness.adapters.linear import AdapterModuleUtil
from harness.backbones.encoders import Encoder
from harness.backbones.model import TaskModel
from harness.backbones.points import Place
from harness.config.points import BEHIND_LAYER
from harness.config.trial import LayersFrom, TrialConfig
from harness.disk import write_atomically
from harness.errors import UserError, no_exits, text_of
from harness.seeding import derive_seed
from harness.tasks.task import Batch, Task
from harness.training.precision import dtype_of

ADAPTER_NAME = "adapted"


@dataclass(frozen=True)
class Adapted:
    """A model ready to train.

    Attributes:
        adapters: insertion point -> number of adapter weights there; empty when the trial has no adapters.
    """

    model: TaskModel
    config: TrialConfig
    num_base: int
    adapters: dict[str, int]

    @property
    def num_trainable(self) -> int:
        return sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)

    @property
    def restorable(self) -> bool:
        """Whether switching the adapters off gives the base model again: no base weight learns."""
        return self.config.train in ("none", "adapters")

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """The model with its adapters disabled."""
        if self.adapters:
            self.model.set_enabled_adapters(ADAPTER_NAME, enabled=False)
        try:
            yield
        finally:
            if self.adapters:
                self.model.set_enabled_adapters(ADAPTER_NAME, enabled=True)

    def save(self, directory: Path, base_fingerprint: str) -> None:
        """Write what was trained: adapters in their file format, other weights and buffers as plain safetensors.

        Raises:
            TrialError: the disk is full or not writable (reason `disk`).
        """
        if self.adapters:
            save_adapters(self.model, directory / "adapter", base_fingerprint=base_fingerprint)
        frozen = {path for path, module in self.model.named_modules() if is_frozen(module)}
        kept = self.model.state_dict().keys()  # without buffers that their module calls not persistent
        learnt = {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}
        buffers = {name: buffer for name, buffer in self.model.named_buffers() if name.rpartition(".")[0] not in frozen}
        others = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in {**learnt, **buffers}.items()
            if name in kept and "adapter_layer" not in name
        }
        if others:
            write_atomically(directory / "weights.safetensors", save(others))


def adapt(model: TaskModel, config: TrialConfig) -> Adapted:
    """Turn a copy of the base model into what the trial trains.

    Raises:
        UserError: a layer does not exist, or the adapter cannot be built, changes the shape, or learns nothing.
    """
    num_base, encoder = sum(weight.numel() for weight in model.parameters()), model.encoder
    places = chosen_places(encoder, config)
    encoder.put_points(places)
    for place in encoder.places_taken:
        encoder.insertion_points[place.name].depth_fraction = (place.layer + 1) / encoder.num_layers
    if config.train == "full":
        return Adapted(model, config, num_base, {})
    freeze_backbone(model)
    adapters = insert_adapters(model, config, places) if config.adapter is not None else {}
    if adapters and encoder.shares is not None:
        encoder.shares.requires_grad_(True)
    if config.train in ("head", "adapters_and_head"):
        model.head.requires_grad_(True)
    return Adapted(model, config, num_base, adapters)


def chosen_layers(num_layers: int, config: TrialConfig) -> list[int]:
    """The layer numbers that `backbone.layers` chooses.

    Raises:
        UserError: a layer does not exist, or none is chosen.
    """
    layers = config.backbone.layers
    if layers == "all":
        return list(range(num_layers))
    wanted = range(layers.first, num_layers) if isinstance(layers, LayersFrom) else layers
    if not wanted or max(wanted) >= num_layers:
        asked = f"{{from: {layers.first}}}" if isinstance(layers, LayersFrom) else list(layers)
        raise UserError(
            f"backbone.layers: {asked} matches no layer; "
            f"backbone {config.backbone.recipe} has layers 0 to {num_layers - 1}"
        )
    return sorted(set(wanted))


def chosen_places(encoder: Encoder, config: TrialConfig) -> tuple[Place, ...]:
    """The places that `backbone.layers` and `backbone.points` choose, in the order in which a pass reaches them.

    A trial that has no adapter has the usual points behind all layers, whatever it says of others.

    Raises:
        UserError: a layer or a point does not exist, or there is none in the chosen layers.
    """
    if config.adapter is None:
        return encoder.places(BEHIND_LAYER)
    places = encoder.places(config.backbone.points)
    layers = chosen_layers(encoder.num_layers, config)
    chosen = tuple(place for place in places if place.layer in layers)
    if not chosen:
        there = ", ".join(map(str, sorted({place.layer for place in places})))
        raise UserError(
            f"backbone.points: none is in the layers that backbone.layers chooses ({', '.join(map(str, layers))}); "
            f"those that backbone.points names are in layers {there}"
        )
    return chosen


def insert_adapters(model: TaskModel, config: TrialConfig, places: Sequence[Place]) -> dict[str, int]:
    """Add the trial's adapters, their first weights drawn from the trial's seed, lowest layer first.

    Args:
        model: its encoder has insertion points at the places.
        config: of the trial.
        places: where adapters go.

    Returns:
        Insertion point -> number of adapter weights there.

    Raises:
        UserError: an adapter cannot be built, changes the shape, or has no weight that learns.
    """
    points = model.encoder.insertion_points
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "init"))
        try:
            with no_exits():
                model.add_adapter_to_hosts_(ADAPTER_NAME, config.adapter, [points[place.name] for place in places])
        # A user's own class may raise anything when it is built: it is their input that is wrong.
        except Exception as error:
            raise UserError(f"adapter: {' '.join(text_of(error).split()) or type(error).__name__}") from error
    dtype = dtype_of(config.loop)
    sizes = {}
    for name, point in points.items():
        adapter = point.get_adapter_module(ADAPTER_NAME)
        if adapter is None:
            continue
        adapter.to(torch.device(config.loop.device), dtype)
        if _says_what_learns(adapter):
            adapter.adapter_unfreeze()  # type: ignore[operator]
        if ADAPTER_NAME not in point.get_enabled_adapters():
            raise UserError("adapter: enabled: false: the adapter would never run, so the trial would train nothing")
        sizes[name] = sum(weight.numel() for weight in adapter.parameters())
        if sizes[name] == 0:
            raise UserError(f"adapter: {adapter_target(config)} has no weights, so the trial would train nothing")
        check_shape(point, config)
        check_strategy(name, point, adapter)
    return sizes


def _says_what_learns(adapter: nn.Module) -> bool:
    """Whether a class has an `adapter_unfreeze` of its own; otherwise what it was built with stays as it is."""
    own = getattr(type(adapter), "adapter_unfreeze", None)
    return callable(own) and own is not AdapterModuleUtil.adapter_unfreeze


def adapter_target(config: TrialConfig) -> str:
    """The import path of the trial's adapter class."""
    return str((config.adapter or {}).get("_target_"))


@torch.enable_grad()
def check_shape(point: InsertionPoint, config: TrialConfig) -> None:
    """Pass a small input through a new adapter: it must run, and give the input's shape.

    Raises:
        UserError: it fails, gives another shape, or its strategy never runs it.
    """
    weight = next(point.parameters())
    probe = torch.zeros(2, 3, point.dim, dtype=weight.dtype, device=weight.device)
    valid, point.valid_frames = point.valid_frames, torch.ones(2, 3, dtype=torch.bool, device=weight.device)
    was_training = point.training
    try:
        point.eval()
        with no_exits():
            output = point(probe)
    # A user's own class may raise anything: it is told as their mistake, with the class and the cause.
    except Exception as error:
        cause = " ".join(f"{type(error).__name__}: {text_of(error)}".split())
        raise UserError(f"adapter: {adapter_target(config)} fails on a [2, 3, {point.dim}] input: {cause}") from error
    finally:
        point.train(was_training)
        point.valid_frames = valid
    if output.shape != probe.shape:
        shapes = f"{list(output.shape)} for an input of shape {list(probe.shape)}"
        raise UserError(f"adapter: {adapter_target(config)} returns shape {shapes}; both must be equal")
    if not output.requires_grad:  # nothing else here has a gradient
        raise UserError(
            f"adapter: the output depends on no weight of {adapter_target(config)}, so the trial would train nothing"
        )


def check_strategy(name: str, point: InsertionPoint, adapter: nn.Module) -> None:
    """Refuse what works behind a module alone, before anything is trained.

    Raises:
        UserError: the adapter is beside a module or reads the mask of a batch, and its strategy runs it on some rows.
    """
    strategy: Any = getattr(adapter, "adapter_strategy", None)
    if not getattr(strategy, "skip_dropped", False):
        return
    why = "reads another tensor than the one it is merged with" if isinstance(point, BesidePoint) else None
    if any(hasattr(type(module), "valid_frames") for module in adapter.modules()):
        why = "has an adapter that reads which steps of the whole batch are real"
    if why is not None:
        raise UserError(
            f"adapter.adapter_strategy.skip_dropped: true: {name} {why}, so rows cannot be left out; set it to false, "
            "which gives the same numbers"
        )


@torch.no_grad()
def check_reached(adapted: Adapted, task: Task, batch: Batch) -> None:
    """Pass a batch of a task through the model: every adapter must run.

    Raises:
        UserError: some do not; one line with their places.
    """
    points = adapted.model.encoder.insertion_points
    before = {name: _num_calls(points[name]) for name in adapted.adapters}
    try:
        adapted.model.eval()(batch.inputs, batch.lengths, *task.given(batch))
    except Exception:  # a user's own code may fail on real data: that is for the trial itself to fail of, and to tell
        return
    unreached = [name for name, count in before.items() if _num_calls(points[name]) == count]
    if unreached:
        raise UserError(
            f"adapter: {', '.join(unreached)}: a pass of the model never reaches the adapters there, so they would "
            "learn nothing"
        )


def _num_calls(point: InsertionPoint) -> int:
    return int(getattr(point, "adapter_calls", {}).get(ADAPTER_NAME, 0))

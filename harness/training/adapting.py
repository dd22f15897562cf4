"""From a base model to what a trial trains: freeze, insert adapters, choose which weights learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from harness.adapters import InsertionPoint, freeze_backbone
from harness.adapters.checkpoint import save_adapters
from harness.adapters.freezing import freeze_module, is_frozen
from harness.adapters.linear import AdapterModuleUtil
from harness.adapters.peft_bridge import names_peft
from harness.adapters.widths import told_width
from harness.backbones.encoders import Encoder
from harness.backbones.model import TaskModel
from harness.backbones.points import Place
from harness.config.adapters import Member
from harness.config.points import BEHIND_LAYER
from harness.config.trial import LayersFrom, TrialConfig
from harness.disk import write_atomically
from harness.errors import UserError
from harness.seeding import derive_seed
from harness.tasks.task import Batch, Task
from harness.training.adapter_checks import check_fusions, check_shape, check_strategy
from harness.training.peft_arm import inject_peft
from harness.training.precision import dtype_of
from harness.training.taking import PEFT_FOLDER, WEIGHTS_FILE, Sources, add_member, start_from, start_member


@dataclass(frozen=True)
class Adapted:
    """A model ready to train.

    Attributes:
        base: the weights that the model had before adapters were put into it.
        adapters: insertion point (of PEFT's adapters: module) -> number of adapter weights there that learn; empty when
            the trial has no adapters.
        taken: file of another trial's record (`ID/adapter.safetensors`) -> SHA-256, of what it took weights from.
        started: names of the weights outside of adapters that it started with in place of the base model's.
        filled: names of the adapters that `start` of the trial gave their first weights.
    """

    model: TaskModel
    config: TrialConfig
    base: tuple[nn.Parameter, ...]
    adapters: dict[str, int]
    taken: Mapping[str, str] = field(default_factory=dict)
    started: frozenset[str] = frozenset()
    filled: frozenset[str] = frozenset()

    @property
    def num_base(self) -> int:
        """How many numbers these are."""
        return sum(weight.numel() for weight in self.base)

    @property
    def from_elsewhere(self) -> frozenset[str]:
        """The adapters, and the other weights, whose first values are those of a file or of another trial."""
        named = {member.name for member in self.config.members if member.source is not None}
        return self.started | self.filled | named

    @property
    def chain(self) -> tuple[str, ...]:
        """Names of the adapters that run, in their order."""
        return tuple(member.name for member in self.config.members if member.in_chain)

    @property
    def num_trainable(self) -> int:
        return sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)

    @property
    def told(self) -> list[str]:
        """What a record must tell of how the adapters were built."""
        if self.model.encoder.injected is not None:
            return [f"PEFT: {text}" for text in self.model.encoder.injected.notes]
        hosts = self.model.encoder.insertion_points.values()
        texts = [(one, told_width(one.name, one.settings, hosts)) for one in self.config.members]
        return [f"{one.place} ({one.called}): {text}" for one, text in texts if text is not None]

    @property
    def restorable(self) -> bool:
        """Whether switching the adapters off gives the model without them again: no weight outside of them learns."""
        return self.config.train in ("none", "adapters")

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """The model with its adapters disabled."""
        if self.model.encoder.injected is not None:
            with self.model.encoder.injected.switched_off():
                yield
            return
        for name in self.chain:
            self.model.set_enabled_adapters(name, enabled=False)
        try:
            yield
        finally:
            for name in self.chain:
                self.model.set_enabled_adapters(name, enabled=True)

    def save(self, directory: Path, base_fingerprint: str) -> None:
        """Write what was trained: adapters in their file format, other weights and buffers as plain safetensors.

        Raises:
            TrialError: the disk is full or not writable (reason `disk`).
        """
        injected, of_adapters = self.model.encoder.injected, self.model.adapter_tensors()
        if injected is not None:
            injected.save(directory / PEFT_FOLDER)
        elif self.adapters:
            save_adapters(self.model, directory / "adapter", base_fingerprint=base_fingerprint)
        frozen = {path for path, module in self.model.named_modules() if is_frozen(module)}
        kept = self.model.state_dict().keys()  # without buffers that their module calls not persistent
        learnt = {
            name: weight
            for name, weight in self.model.named_parameters()
            if weight.requires_grad or name in self.started  # so that a record has all that differs from the base model
        }
        buffers = {name: buffer for name, buffer in self.model.named_buffers() if name.rpartition(".")[0] not in frozen}
        others = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in {**learnt, **buffers}.items()
            if name in kept and id(tensor) not in of_adapters
        }
        if others:
            write_atomically(directory / WEIGHTS_FILE, save(others))


def adapt(model: TaskModel, config: TrialConfig, sources: Sources | None = None) -> Adapted:
    """Turn a copy of the base model into what the trial trains.

    Args:
        sources: where weights of other trials are; by default those that the trial takes are drawn anew, which is
            enough to try, to count and to time it.

    Raises:
        UserError: a layer does not exist, or the adapter cannot be built, changes the shape, or learns nothing.
        TrialError: weights that it takes are not there (reason `dependency`).
    """
    sources = sources or Sources()
    base, encoder = tuple(model.parameters()), model.encoder
    places = chosen_places(encoder, config)
    encoder.put_points(places)
    for place in encoder.places_taken:
        encoder.insertion_points[place.name].depth_fraction = (place.layer + 1) / encoder.num_layers
    started = frozenset[str]() if config.start is None else start_from(model, str(config.start.trial), sources)
    if config.train == "full":
        return Adapted(model, config, base, {}, sources.taken, started)
    learning = chosen_modules(encoder, config) if config.train == "layers_and_head" else []
    with_head = config.train in ("head", "adapters_and_head", "layers_and_head")
    # A head that learns follows `.train()`, or its dropout would never drop and its BatchNorm never learn.
    freeze_backbone(model, trainable=[*learning, model.head] if with_head else learning)
    if names_peft(config.adapter):
        adapters = inject_peft(model, config).sizes
    else:
        adapters = insert_adapters(model, config, places, sources) if config.members else {}
    if adapters and encoder.shares is not None:
        encoder.shares.requires_grad_(True)
    if with_head:
        model.head.requires_grad_(True)
    return Adapted(model, config, base, adapters, sources.taken, started, frozenset(sources.filled))


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


def chosen_modules(encoder: Encoder, config: TrialConfig) -> list[nn.Module]:
    """The layers themselves that `backbone.layers` chooses; those of a decoder are part of the output layer.

    Raises:
        UserError: one does not exist, or is a decoder's.
    """
    own, chosen = list(encoder.layers), chosen_layers(encoder.num_layers, config)
    if config.backbone.layers == "all":
        chosen = chosen[: len(own)]
    if max(chosen) >= len(own):
        raise UserError(
            f"backbone.layers: layer {max(chosen)} is not the encoder's, which has layers 0 to {len(own) - 1}; with "
            "train: layers_and_head a decoder learns as a whole, as part of the output layer"
        )
    return [own[number] for number in chosen]


def chosen_places(encoder: Encoder, config: TrialConfig) -> tuple[Place, ...]:
    """The places that `backbone.layers` and `backbone.points` choose, in the order in which a pass reaches them.

    A trial that has no adapter has the usual points behind all layers, whatever it says of others.

    Raises:
        UserError: a layer or a point does not exist, or there is none in the chosen layers.
    """
    if not config.members:
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


def insert_adapters(model: TaskModel, config: TrialConfig, places: Sequence[Place], sources: Sources) -> dict[str, int]:
    """Add the trial's adapters, in the order of their chain; each draws first weights from the trial's seed.

    Args:
        model: its encoder has insertion points at the places.
        config: of the trial.
        places: where adapters go.
        sources: where weights come from that are not drawn.

    Returns:
        Insertion point -> number of adapter weights there that learn.

    Raises:
        UserError: an adapter cannot be built, changes the shape, or has no weight that learns.
        TrialError: weights that it takes are not there (reason `dependency`).
    """
    points = model.encoder.insertion_points
    for member in config.members:
        # Of several, each has first weights of its own, whatever stands beside it.
        names = () if config.adapter is not None else (member.name,)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "init", *names))
            add_member(model, member, [points[place.name] for place in places], sources)
            if config.start is not None:
                start_member(model, member, str(config.start.trial), sources)
    sources.check_outputs()
    sizes = {}
    for name, point in points.items():
        there = [member for member in config.members if point.get_adapter_module(member.name) is not None]
        if there:
            sizes[name] = sum(_prepare(name, point, member, config) for member in there)
            check_fusions(point, there)
            check_shape(point, there)
    return sizes


def _prepare(name: str, point: InsertionPoint, member: Member, config: TrialConfig) -> int:
    """Move an adapter to its device, and choose which of its weights learn; returns how many these are."""
    adapter = point.get_adapter_module(member.name)
    assert adapter is not None
    adapter.to(torch.device(config.loop.device), dtype_of(config.loop))
    check_strategy(name, point, member, adapter)
    if not member.trainable:
        freeze_module(adapter)
        return 0
    if _says_what_learns(adapter):
        adapter.adapter_unfreeze()  # type: ignore[operator]
    if member.in_chain and member.name not in point.get_enabled_adapters():
        raise UserError("adapter: enabled: false: the adapter would never run, so the trial would train nothing")
    if not any(weight.numel() for weight in adapter.parameters()):
        raise UserError(f"{member.place}: {member.called} has no weights, so the trial would train nothing")
    return sum(weight.numel() for weight in adapter.parameters() if weight.requires_grad)


def _says_what_learns(adapter: nn.Module) -> bool:
    """Whether a class has an `adapter_unfreeze` of its own; otherwise what it was built with stays as it is."""
    own = getattr(type(adapter), "adapter_unfreeze", None)
    return callable(own) and own is not AdapterModuleUtil.adapter_unfreeze


@torch.no_grad()
def check_reached(adapted: Adapted, task: Task, batch: Batch) -> None:
    """Pass a batch of a task through the model: every adapter must run.

    Raises:
        UserError: some do not; one line with their places.
    """
    if adapted.model.encoder.injected is not None:
        return  # has been tried on a pass when it was put there
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
    return sum(getattr(point, "adapter_calls", {}).values())

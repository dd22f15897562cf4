"""From a base model to what a trial trains: freeze, insert adapters, choose which weights learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from harness.adapters import BesidePoint, InsertionPoint, freeze_backbone
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
from harness.errors import UserError, no_exits, text_of
from harness.seeding import derive_seed
from harness.tasks.task import Batch, Task
from harness.training.peft_arm import inject_peft
from harness.training.precision import dtype_of
from harness.training.taking import WEIGHTS_FILE, Sources, add_member, start_from, start_member


@dataclass(frozen=True)
class Adapted:
    """A model ready to train.

    Attributes:
        adapters: insertion point (of PEFT's adapters: module) -> number of adapter weights there that learn; empty when
            the trial has no adapters.
        taken: file of another trial's record (`ID/adapter.safetensors`) -> SHA-256, of what it took weights from.
        started: names of the weights outside of adapters that it started with in place of the base model's.
    """

    model: TaskModel
    config: TrialConfig
    num_base: int
    adapters: dict[str, int]
    taken: Mapping[str, str] = field(default_factory=dict)
    started: frozenset[str] = frozenset()

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
        injected = self.model.encoder.injected
        if injected is not None:
            injected.save(directory / "adapter")
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
            if name in kept and "adapter_layer" not in name and (injected is None or id(tensor) not in injected.own)
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
    num_base, encoder = sum(weight.numel() for weight in model.parameters()), model.encoder
    places = chosen_places(encoder, config)
    encoder.put_points(places)
    for place in encoder.places_taken:
        encoder.insertion_points[place.name].depth_fraction = (place.layer + 1) / encoder.num_layers
    started = frozenset[str]() if config.start is None else start_from(model, str(config.start.trial), sources)
    if config.train == "full":
        return Adapted(model, config, num_base, {}, sources.taken, started)
    learning = chosen_modules(encoder, config) if config.train == "layers_and_head" else []
    freeze_backbone(model, trainable=learning)
    if names_peft(config.adapter):
        adapters = inject_peft(model, config).sizes
    else:
        adapters = insert_adapters(model, config, places, sources) if config.members else {}
    if adapters and encoder.shares is not None:
        encoder.shares.requires_grad_(True)
    if config.train in ("head", "adapters_and_head", "layers_and_head"):
        model.head.requires_grad_(True)
    return Adapted(model, config, num_base, adapters, sources.taken, started)


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
    """Move an adapter to its device, and choose which of its weights learn; returns how many it has if it learns."""
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
    size = sum(weight.numel() for weight in adapter.parameters())
    if size == 0:
        raise UserError(f"{member.place}: {member.called} has no weights, so the trial would train nothing")
    return size


def _says_what_learns(adapter: nn.Module) -> bool:
    """Whether a class has an `adapter_unfreeze` of its own; otherwise what it was built with stays as it is."""
    own = getattr(type(adapter), "adapter_unfreeze", None)
    return callable(own) and own is not AdapterModuleUtil.adapter_unfreeze


@torch.enable_grad()
def check_shape(point: InsertionPoint, members: Sequence[Member]) -> None:
    """Pass a small input through new adapters: they must run, and give the input's shape.

    Args:
        point: where they are.
        members: of the point, in their order.

    Raises:
        UserError: they fail, give another shape, or a strategy never runs one that is to learn.
    """
    place = members[0].place if len(members) == 1 else "adapters"
    called = ", ".join(member.called for member in members)
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
        raise UserError(f"{place}: {called} fails on a [2, 3, {point.dim}] input: {cause}") from error
    finally:
        point.train(was_training)
        point.valid_frames = valid
    if output.shape != probe.shape:
        shapes = f"{list(output.shape)} for an input of shape {list(probe.shape)}"
        raise UserError(f"{place}: {called} returns shape {shapes}; both must be equal")
    for member in members:
        learnt = [weight for weight in point.adapter_layer[member.name].parameters() if weight.requires_grad]
        if member.trainable and not _reaches(output, learnt):
            raise UserError(
                f"{member.place}: the output depends on no weight of {member.called}, so the trial would train nothing"
                + ("" if member.in_chain else " there (in_chain: false, and no other adapter's strategy reaches it)")
            )


def _reaches(output: Tensor, weights: Sequence[Tensor]) -> bool:
    """Whether a gradient gets from an output to one of some weights."""
    if not output.requires_grad or not weights:
        return False
    found = torch.autograd.grad(output.sum(), weights, allow_unused=True, retain_graph=True)
    return any(gradient is not None for gradient in found)


def check_fusions(point: InsertionPoint, members: Sequence[Member]) -> None:
    """Refuse two fusions: the record of a trial has the attention of one.

    Raises:
        UserError: several adapters in the chain merge others by attention.
    """
    fusions = [one for one in members if one.in_chain and hasattr(point.adapter_layer[one.name], "take_attention")]
    if len(fusions) > 1:
        raise UserError(
            f"{', '.join(one.place for one in fusions)}: each merges other adapters; a trial has one of them"
        )


def check_strategy(name: str, point: InsertionPoint, member: Member, adapter: nn.Module) -> None:
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
            f"{member.place}.adapter_strategy.skip_dropped: true: {name} {why}, so rows cannot be left out; set it to "
            "false, which gives the same numbers"
        )


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

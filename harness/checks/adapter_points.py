"""The insertion points of a backbone, and which of them the arms of an experiment fill. Loads torch; trains nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from harness.adapters import BesidePoint, InsertionPoint
from harness.adapters.peft_bridge import names_peft
from harness.backbones.encoders import Encoder
from harness.backbones.model import TaskModel
from harness.backbones.points import Place, name_in_layer, usable_modules
from harness.backbones.recipe import Recipe, backbone_directory, load_recipe
from harness.backbones.store import build_model, load_backbone
from harness.config.experiment import Experiment
from harness.config.points import KINDS, PointsBehind, PointsBeside
from harness.config.trial import TrialConfig
from harness.errors import UserError, first_line, no_exits
from harness.tasks.registry import task_of_recipe
from harness.training.adapting import adapt


@dataclass(frozen=True)
class OfferedPoint:
    """A place in a backbone where an adapter may go.

    Attributes:
        points: what `backbone.points` calls it: a kind, or the name of a module in its layer.
        place: where it is.
        has_weights: whether the module there has any; dropout and activations have none.
        num_weights: of an adapter there; None where no adapter was asked about, or where it does not fit.
    """

    points: str
    place: Place
    has_weights: bool
    num_weights: int | None = None


@dataclass(frozen=True)
class BackbonePoints:
    """All places of a backbone.

    Attributes:
        recipe: its name.
        num_layers: of its encoder.
        width: of its layers.
        num_weights: of its encoder.
        is_trained: whether it has its weights already.
        offered: the places, each kind and each name of modules from the lowest layer up.
        not_offered: a kind of point that it does not have -> why.
    """

    recipe: str
    num_layers: int
    width: int
    num_weights: int
    is_trained: bool
    offered: tuple[OfferedPoint, ...]
    not_offered: Mapping[str, str]


@dataclass(frozen=True)
class ArmPoints:
    """What the adapters of an arm would be.

    Attributes:
        train: what learns.
        places: where its adapters are.
        filled: insertion point -> weights of its adapter.
        num_weights: of all of them, the shares of the layers on the way to the head included.
        told: what else a reader must know: a width that followed from a budget, or what PEFT warns of.
    """

    arm: str
    recipe: str
    train: str
    places: tuple[Place, ...]
    filled: Mapping[str, int]
    num_weights: int
    told: tuple[str, ...]


def model_of(recipe: Recipe, asked: str) -> tuple[TaskModel, bool]:
    """A backbone's model, in eval mode, and whether it has been trained: places can be told without its weights.

    Raises:
        UserError: the encoder is not there, or a file is corrupt.
    """
    head = task_of_recipe(recipe).head
    if (backbone_directory(recipe) / "backbone.json").is_file():
        return load_backbone(recipe, head, asked).model, True
    vocab_size = getattr(recipe.encoder, "vocab_size", 0)
    return build_model(recipe, head, ("",), vocab_size, seed=0).eval(), False


def backbone_points(recipe: Recipe, asked: str, adapter: Mapping[str, Any] | None = None) -> BackbonePoints:
    """The places of a recipe's backbone, and the size that an adapter would have there.

    Args:
        recipe: of the backbone.
        asked: what it was loaded by.
        adapter: the settings of an adapter, as `adapter` of a trial has them.

    Raises:
        UserError: as `model_of`.
    """
    model, is_trained = model_of(recipe, asked)
    encoder: Encoder = model.encoder
    found: list[tuple[str, Place]] = []
    not_offered: dict[str, str] = {}
    for kind in KINDS:
        try:
            found += [(kind, place) for place in encoder.places(kind)]  # type: ignore[arg-type]
        except UserError as error:
            not_offered[kind] = str(error).removeprefix(f"backbone.points: {kind}: ")
    found += sorted(_modules(encoder), key=lambda one: one[0])
    sizes: dict[tuple[int, int, bool], int | None] = {}
    for _, place in found:
        if adapter is not None and not names_peft(adapter) and _kind(encoder, place) not in sizes:
            sizes[_kind(encoder, place)] = _num_weights(adapter, *_kind(encoder, place))
    offered = tuple(
        OfferedPoint(name, place, _has_weights(encoder, place), sizes.get(_kind(encoder, place)))
        for name, place in found
    )
    num_weights = sum(weight.numel() for weight in encoder.parameters())
    return BackbonePoints(recipe.name, encoder.num_layers, encoder.dim, num_weights, is_trained, offered, not_offered)


def _modules(encoder: Encoder) -> Iterator[tuple[str, Place]]:
    """Each module in the layers by its name in a layer: beside it if it is linear, else behind it."""
    seen = encoder.modules_seen
    for module in usable_modules(seen):
        if module.is_linear and module.reads is None:
            continue
        item = PointsBeside(beside=module.path) if module.is_linear else PointsBehind(behind=module.path)
        (place,) = encoder.places((item,))
        yield name_in_layer(module, seen), place


def _has_weights(encoder: Encoder, place: Place) -> bool:
    return place.how == "layer" or next(encoder.get_submodule(place.module).parameters(), None) is not None


def _kind(encoder: Encoder, place: Place) -> tuple[int, int, bool]:
    """What decides on the size of an adapter at a place: its widths, and whether it is a decoder's."""
    point = encoder.insertion_points.get(place.name)
    return place.reads, place.gives, point is not None and point.hides_later_steps


def _num_weights(adapter: Mapping[str, Any], reads: int, gives: int, hides_later_steps: bool) -> int | None:
    point = InsertionPoint(gives) if reads == gives else BesidePoint(reads, gives)
    point.hides_later_steps = hides_later_steps
    try:
        with no_exits(), torch.random.fork_rng(devices=[]):
            point.add_adapter("one", dict(adapter))
    except Exception:  # a user's own class may raise anything; the arm that fills such a point says what
        return None
    return sum(weight.numel() for weight in point.parameters())


def arm_points(experiment: Experiment) -> list[ArmPoints]:
    """What each arm of an experiment would fill; its first seed stands for all.

    Raises:
        UserError: an adapter cannot be built, or a place is not there; the arm is named.
    """
    found = []
    models: dict[str, TaskModel] = {}
    for arm, config in first_configs(experiment).items():
        asked = config.backbone.recipe
        if asked not in models:
            models[asked] = model_of(load_recipe(asked), asked)[0]
        try:
            adapted = adapt(copy.deepcopy(models[asked]), config)
        except UserError as error:
            raise UserError(f"arm {arm}: {first_line(error)}") from error
        encoder, shares = adapted.model.encoder, adapted.model.encoder.shares
        places = tuple(place for place in encoder.places_taken if place.name in adapted.adapters)
        num_weights = sum(adapted.adapters.values()) + (0 if shares is None else shares.logits.numel())
        told = tuple(adapted.told)
        found.append(ArmPoints(arm, config.backbone.recipe, config.train, places, adapted.adapters, num_weights, told))
    return found


def first_configs(experiment: Experiment) -> dict[str, TrialConfig]:
    """Each arm's config at its first seed, on the CPU."""
    configs: dict[str, TrialConfig] = {}
    for trial in experiment.trials:
        loop = trial.config.loop.model_copy(update={"device": "cpu", "precision": "float32"})
        configs.setdefault(trial.arm, trial.config.model_copy(update={"loop": loop}))
    return configs

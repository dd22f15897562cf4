"""What is registered, with its options: the cases of the contract suites. A new entry gets them without a line here."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters import InsertionPoint
from harness.instantiate import InstantiationError, instantiate, locate, target_of

from .tiny_models import DIM

AMOUNT = 0.3  # of each numeric option
DEPTH, PROGRESS = 0.5, 0.25


def class_of(config: type) -> type:
    """The class that a registered config builds."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    cls: type = locate(defaults["_target_"])
    return cls


def sizes_of(config: type) -> dict[str, Any]:
    """What a config has to be told: sizes, and what its `example` says."""
    missing = dataclasses.MISSING
    fields = [f for f in dataclasses.fields(config) if f.default is missing and f.default_factory is missing]
    example = getattr(config, "example", {})
    sizes: dict[str, Any] = {field.name: DIM if field.name == "in_features" else 3 for field in fields}
    return {**sizes, **{name: _with_width(value) for name, value in example.items()}}


def _with_width(value: Any) -> Any:
    """The config of an adapter in an adapter, as a host fills it in."""
    return {**value, "in_features": DIM} if isinstance(value, dict) and "_target_" in value else value


def settings_of(config: type) -> dict[str, Any]:
    """A registered config as an experiment has it: its class, what it has to be told, and no width of the backbone."""
    sizes = {key: value for key, value in sizes_of(config).items() if key != "in_features"}
    plain = {key: dict(value) if isinstance(value, dict) else value for key, value in sizes.items()}
    for value in plain.values():
        if isinstance(value, dict):
            value.pop("in_features", None)
    return {"_target_": target_of(class_of(config)), **plain}


def build(config: type, **options: Any) -> Any:
    """What a registered config builds."""
    return instantiate(config(**{**sizes_of(config), **options}))


def variants(config: type) -> Iterator[dict[str, Any]]:
    """Options to try: each choice of the file's OPTIONS, with all numbers as they are and with all at AMOUNT.

    Options that the class refuses together are left out.
    """
    numbers = {field.name: AMOUNT for field in dataclasses.fields(config) if field.type in (float, "float")}
    accepted = {field.name for field in dataclasses.fields(config)}
    of_file = getattr(sys.modules[class_of(config).__module__], "OPTIONS", {})
    choices = {name: values for name, values in of_file.items() if name in accepted}
    for chosen in ({}, *({name: value} for name, values in choices.items() for value in values)):
        for options in (chosen, numbers | chosen) if numbers else (chosen,):
            try:
                build(config, **options)
            except InstantiationError:
                continue
            yield options


def cases(registry: dict[str, type]) -> list[tuple[str, dict[str, Any]]]:
    """(name, options) for every variant of every entry."""
    return [(name, options) for name, config in registry.items() for options in variants(config)]


def name_of(value: object) -> str:
    """A test's name for a case's name or options."""
    return ",".join(f"{k}={v}" for k, v in value.items()) or "defaults" if isinstance(value, dict) else str(value)


def host(training: bool, valid_frames: Tensor | None = None) -> InsertionPoint:
    """A host in the middle of the model and a quarter into the training."""
    point = InsertionPoint(DIM).train(training)
    point.valid_frames, point.depth_fraction, point.training_progress = valid_frames, DEPTH, PROGRESS
    return point


def losses_of(adapter: nn.Module) -> list[Tensor]:
    """What was registered on an adapter to be minimised; it is forgotten then."""
    found: list[Tensor] = vars(adapter).pop("_registry", {}).get("adapter_loss", [])
    return found


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)

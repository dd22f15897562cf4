"""The setting `adapters`: several adapters of a trial by name, which of them learn, and where their weights come from.

`adapter: {...}` of a trial means one adapter that is called ADAPTER_NAME. Loads no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from harness.config.base import Settings, refuse_unplain
from harness.config.places import PathText, find_path, folder_of
from harness.config.training import without
from harness.errors import UserError

ADAPTER_NAME = "adapted"
ADAPTER_KEYS = ("adapter", "adapters", "fusion")  # the settings that have adapters
STRATEGY = "adapter_strategy"

AdapterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=100)]
TrialId = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]  # it becomes a path below the records
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class AdapterSource(Settings):
    """Where an adapter's first weights come from: a file, or another trial. Exactly one of them."""

    file: PathText | None = None
    """An adapter file: `NAME.safetensors`, as trials leave it, or a `.pt` file of NeMo. A path from the folder of the
    file that names it, or from the current folder. Class and options come from the file as well."""
    arm: str | None = None
    """In an experiment: the arm or part whose trial of the same seed gives the weights. It is trained first."""
    trial: TrialId | None = None
    """The id of the trial that gives the weights; an experiment puts it in the place of `arm`."""
    adapter: str | None = None
    """The adapter's name there; needed where there are several, none of them called like the one that takes them."""
    sha256: Sha256 | None = None
    """The SHA-256 of the file, which is part of the trial's id in place of the file's path. It is filled in; if it is
    given, the file must have it."""
    allow: tuple[str, ...] = ()
    """Classes of your own that the file may name (import paths). Without them it may name those of harness alone."""

    @model_validator(mode="after")
    def _is_one(self) -> AdapterSource:
        given = [name for name in ("file", "arm", "trial") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of file, arm and trial; given: {', '.join(given) or 'none'}")
        if self.file is None and (self.sha256 is not None or self.allow):
            raise ValueError("sha256 and allow belong to a file")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {key: value for key, value in content.items() if value}


class StartSettings(Settings):
    """The trial whose weights a trial starts with, all of them: adapters, head, and what else it trained."""

    arm: str | None = None
    """In an experiment: the arm or part whose trial of the same seed it is. It is trained first."""
    trial: TrialId | None = None
    """The id of that trial; an experiment puts it in the place of `arm`."""

    @model_validator(mode="after")
    def _is_one(self) -> StartSettings:
        if (self.arm is None) == (self.trial is None):
            raise ValueError("give arm or trial: exactly one of the two")
        return self

    @model_serializer(mode="wrap")
    def _without_null(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without(handler(self), {"arm": None, "trial": None})


class AdapterMember(Settings):
    """One of several adapters: its class (`_target_`) and the class's arguments, or `from`, and the settings below."""

    model_config = ConfigDict(extra="allow")

    source: Annotated[AdapterSource | None, Field(alias="from")] = None
    """Where its first weights come from; without it they are drawn anew. `adapter_strategy` may be given beside it, and
    then takes the place of the strategy that it had there."""
    trainable: bool = True
    """false: its weights stay as they are, and it runs as after training (no dropout, no noise, no penalty)."""
    in_chain: bool = True
    """false: it is put in its place, but does not run by itself. Another adapter's strategy may reach it."""

    @model_validator(mode="before")
    @classmethod
    def _is_plain(cls, content: Any) -> Any:
        return refuse_unplain(content)

    @model_validator(mode="after")
    def _has_a_class(self) -> AdapterMember:
        keys = set(self.settings)
        if "enabled" in keys:
            raise ValueError("enabled: write in_chain: false for an adapter that does not run by itself")
        if self.source is None or self.source.trial is not None:
            if "_target_" not in keys:
                given = ", ".join(map(str, self.settings)) or "none"
                raise ValueError(f"_target_ is missing (the import path of an adapter class); its keys: {given}")
        elif keys - {STRATEGY}:
            raise ValueError(
                f"{', '.join(sorted(keys - {STRATEGY}))}: class and options come with the weights (`from`); only "
                f"{STRATEGY} may be given beside it"
            )
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """Its class and the class's arguments, as far as they are given."""
        return dict(self.model_extra or {})

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without(handler(self), {"source": None, "from": None, "trainable": True, "in_chain": True})


def _without_null(value: Any) -> Any:
    """An arm leaves an adapter of the base out by setting it to null."""
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, Mapping) else value


Adapters = Annotated[dict[AdapterName, AdapterMember], BeforeValidator(_without_null)]


@dataclass(frozen=True)
class Member:
    """An adapter of a trial, as it is put in place; see AdapterMember."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    source: AdapterSource | None = None
    trainable: bool = True
    in_chain: bool = True

    @property
    def place(self) -> str:
        """Where it stands in the settings."""
        return "adapter" if self.name == ADAPTER_NAME else f"adapters.{self.name}"

    @property
    def called(self) -> str:
        """Its class or its file, for people."""
        if "_target_" in self.settings:
            return str(self.settings["_target_"])
        return f"the adapter of {self.source.file}" if self.source is not None else "the adapter"


def members_of(adapter: Mapping[str, Any] | None, adapters: Mapping[str, AdapterMember] | None) -> tuple[Member, ...]:
    """The adapters of a trial in the order in which they run: `adapter`, `adapters`, or none."""
    if adapter is not None:
        return (Member(ADAPTER_NAME, dict(adapter)),)
    return tuple(
        Member(name, one.settings, one.source, one.trainable, one.in_chain) for name, one in (adapters or {}).items()
    )


def check_adapters(train: str, adapter: Mapping[str, Any] | None, adapters: Mapping[str, AdapterMember] | None) -> None:
    """Refuse adapters that a trial does not train, and a trial that lacks them.

    Raises:
        ValueError: one line.
    """
    wants = train in ("adapters", "adapters_and_head")
    if adapter is not None and adapters is not None:
        raise ValueError("adapter and adapters exclude each other; set one of them to null")
    if wants and adapter is None and not adapters:
        raise ValueError(f"train: {train} needs an adapter (a mapping with _target_)")
    if not wants and adapters is not None:
        raise ValueError(f"train: {train} trains no adapter; set adapters: null")
    if not wants and adapter is not None:
        raise ValueError(f"train: {train} trains no adapter; set adapter: null")
    if adapter is not None and "_target_" not in adapter:
        keys = ", ".join(map(str, adapter)) or "none"
        raise ValueError(f"adapter: _target_ is missing (the import path of an adapter class); its keys: {keys}")
    if adapters is None:
        return
    if not any(member.trainable for member in adapters.values()):
        raise ValueError(f"adapters: none of {', '.join(adapters)} is trainable, so train: {train} would train none")
    if not any(member.in_chain for member in adapters.values()):
        raise ValueError(f"adapters: none of {', '.join(adapters)} is in the chain, so none would ever run")
    for name, member in adapters.items():
        if name == ADAPTER_NAME:
            raise ValueError(f"adapters.{name}: the name is that of the only adapter of `adapter`; give another one")
        if member.source is not None and member.source.arm is not None:
            raise ValueError(f"adapters.{name}.from.arm: arms belong to an experiment, so it stands only in its file")


def check_start(train: str, start: StartSettings | None) -> None:
    """Refuse a start that an experiment has not resolved, or of a trial that trains nothing.

    Raises:
        ValueError: one line.
    """
    if start is not None and start.arm is not None:
        raise ValueError("start.arm: arms belong to an experiment, so it stands only in its file")
    if start is not None and train == "none":
        raise ValueError("start: train: none trains nothing, so the numbers would be those of the trial it starts from")


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a resolved config decides a trial's id: the order of its adapters does, the path of a file does not."""
    adapters = config.get("adapters")
    if not isinstance(adapters, Mapping):
        return dict(config)
    kept = []
    for name, member in adapters.items():
        source = member.get("from") if isinstance(member, Mapping) else None
        if isinstance(source, Mapping) and "sha256" in source:
            member = {**member, "from": {key: item for key, item in source.items() if key not in ("file", "allow")}}
        kept.append([name, member])
    return {**config, "adapters": kept}


def needs_in(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The trials that a config takes weights from, of a record's config."""
    found: list[str] = []

    def note(trial_id: str) -> str:
        found.append(trial_id)
        return trial_id

    with_needs(config, note)
    return tuple(dict.fromkeys(found))


def with_needs(config: Mapping[str, Any], renamed: Callable[[str], str]) -> dict[str, Any]:
    """A record's config that takes weights from other trials instead: `renamed` gives the id in place of one."""

    def other(holder: Any) -> Any:
        if isinstance(holder, Mapping) and isinstance(holder.get("trial"), str):
            return {**holder, "trial": renamed(holder["trial"])}
        return holder

    changed = dict(config)
    if "start" in config:
        changed["start"] = other(config["start"])
    if isinstance(adapters := config.get("adapters"), Mapping):
        changed["adapters"] = {
            name: {**one, "from": other(one["from"])} if isinstance(one, Mapping) and "from" in one else one
            for name, one in adapters.items()
        }
    return changed


def with_digests(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A trial's settings in which each adapter that comes from a file says the file's SHA-256.

    Raises:
        UserError: the file is not there, or has another SHA-256 than the settings say.
    """
    adapters = settings.get("adapters")
    if not isinstance(adapters, Mapping):
        return dict(settings)
    filled = dict(adapters)
    for name, member in adapters.items():
        source = member.get("from") if isinstance(member, Mapping) else None
        if isinstance(source, Mapping) and isinstance(source.get("file"), str):
            place = f"{where}: adapters.{name}.from.file"
            filled[name] = {
                **member,
                "from": {**source, "sha256": digest_of(source["file"], source.get("sha256"), place)},
            }
    return {**settings, "adapters": filled}


def digest_of(text: str, expected: Any, place: str) -> str:
    """The SHA-256 of the file that a setting names.

    Raises:
        UserError: the file cannot be read, or is another one than is expected.
    """
    path = file_of(text, place)
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{place}: {path}: cannot be read: {error.strerror}") from error
    if expected not in (None, found):
        raise UserError(f"{place}: {path} has SHA-256 {found}, but the settings say {expected}; it is another file")
    return found


def file_of(text: str, place: str) -> Path:
    """The file that `from.file` means; `weights/en` may be written for `weights/en.safetensors`.

    Raises:
        UserError: it is not there.
    """
    try:
        return find_path(text if text.endswith((".safetensors", ".pt")) else f"{text}.safetensors", folder_of(text))
    except UserError as error:
        raise UserError(f"{place}: {error}") from error

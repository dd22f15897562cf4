"""The settings of a trial and of an experiment: typed, frozen, unknown keys refused, hashed into the trial's id.

A *trial* is one fully resolved config, seed included. An *experiment* is arms x seeds over a common base; its file
holds the base once and, per arm, only what differs. Importing this module loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from harness.config.base import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PlainSettings,
    PositiveFloat,
    PositiveInt,
    Settings,
    content_hash,
)
from harness.config.design import Design
from harness.config.table import TableSettings

CONFIG_VERSION = 1  # raised when the meaning of a setting changes, so that old records are not taken for new ones


class DataSettings(Settings):
    """Which corpus, which domains, and how few target examples.

    `source` are domains the backbone was trained on, `target` the one it is adapted to. `train_limit` keeps that
    many target training examples (a sample of its own for each seed, the same for every arm); null keeps all.
    """

    corpus: str
    options: PlainSettings = Field(default_factory=dict)
    source: tuple[str, ...] = Field(min_length=1)
    target: str
    train_limit: PositiveInt | None = None

    @model_validator(mode="after")
    def _target_is_not_source(self) -> DataSettings:
        if self.target in self.source:
            raise ValueError(f"target {self.target!r} is also a source: forgetting would mean nothing")
        return self


class LayersFrom(Settings):
    """`{from: n}`: every layer from n (0 is the lowest) upwards."""

    first: Annotated[NonNegativeInt, Field(alias="from")]


def _kind_of_layers(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    if isinstance(value, (Mapping, LayersFrom)):
        return "from"
    return "list" if isinstance(value, (list, tuple)) else None


Layers = Annotated[
    Annotated[Literal["all"], Tag("name")]
    | Annotated[LayersFrom, Tag("from")]
    | Annotated[tuple[NonNegativeInt, ...], Tag("list")],
    Discriminator(
        _kind_of_layers,
        custom_error_type="layers",
        custom_error_message="Input should be all, a list of layer numbers, or {from: n}",
    ),
]


class BackboneSettings(Settings):
    """The frozen model: a shipped recipe's name or the path of a recipe file, and where adapters go.

    `layers` chooses the insertion points: "all", a list of layer numbers, or {from: n}.
    """

    recipe: str
    layers: Layers = "all"


class OptimSettings(Settings):
    """AdamW with a linear warm-up (`warmup`: share of all steps) and a decay to zero."""

    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.01
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    warmup: Fraction = 0.1
    decay: Literal["none", "linear", "cosine"] = "linear"
    clip_norm: PositiveFloat | None = 1.0


class AugmentSettings(Settings):
    """SpecAugment on log-mel features: number of masks and their greatest width (speech only).

    A time mask is at most `time_mask` frames and at most `max_time_share` of the clip; a mel mask at most `mel_mask`
    channels.

    `views: null` masks a clip anew each time it is used. `views: N` makes N masked views of each training clip once and
    for all: view v follows from the settings above, `view_seed`, the clip's key and v, and is the same for every trial.
    A trial meets each view of a clip once in N epochs, in an order of its own. As views never change, a frozen prefix
    can be kept for each of them, and such trials can be packed.
    """

    num_time_masks: NonNegativeInt = 2
    time_mask: PositiveInt = 20
    num_mel_masks: NonNegativeInt = 2
    mel_mask: PositiveInt = 8
    max_time_share: Fraction = 0.2
    views: PositiveInt | None = None
    view_seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _view_seed_is_used(self) -> AugmentSettings:
        if self.views is None and self.view_seed != 0:
            raise ValueError(f"view_seed {self.view_seed} is never used: give a number of views, too")
        return self

    @model_serializer(mode="wrap")
    def _without_unused_views(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Where there are no views, the content (so the ids of trials and backbones) is what it was before them."""
        content: dict[str, Any] = handler(self)
        return content if self.views is not None else {k: v for k, v in content.items() if k not in VIEW_FIELDS}


VIEW_FIELDS = ("views", "view_seed")


class LoopSettings(Settings):
    """How long and how a trial trains.

    `max_frames` bounds a batch by its padded size (tokens or feature frames); `valid_limit` bounds the examples per
    domain scored after each epoch (the final scores use all of them). `threads` is fixed so that a trial gives the
    same bits however many cores the machine has.
    """

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 16
    max_frames: PositiveInt | None = None
    patience: PositiveInt | None = None
    valid_limit: PositiveInt | None = 300
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    device: str = "cpu"
    threads: PositiveInt = 1
    augment: AugmentSettings | None = None

    @field_validator("device")
    @classmethod
    def _device_is_known(cls, value: str) -> str:
        if value.split(":")[0] not in ("cpu", "cuda", "mps"):
            raise ValueError(f"unknown device {value!r}; choices: cpu, cuda, cuda:N, mps")
        return value


class TrialConfig(Settings):
    """One training, fully resolved.

    `train` names the weights that learn: nothing ("none"), the output layer ("head"), adapters in a frozen model
    ("adapters", as NeMo does it), both ("adapters_and_head"), or everything ("full"). `adapter` is a `_target_`
    config; its `in_features` is filled in from the insertion point when left out.
    """

    data: DataSettings
    backbone: BackboneSettings
    train: Literal["none", "head", "adapters", "adapters_and_head", "full"]
    adapter: PlainSettings | None = None
    optim: OptimSettings = OptimSettings()
    loop: LoopSettings = LoopSettings()
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _adapter_is_used(self) -> TrialConfig:
        wants = self.train in ("adapters", "adapters_and_head")
        if wants and self.adapter is None:
            raise ValueError(f"train: {self.train} needs an adapter (a mapping with _target_)")
        if not wants and self.adapter is not None:
            raise ValueError(f"train: {self.train} never uses the adapter; set adapter: null")
        if self.adapter is not None and "_target_" not in self.adapter:
            raise ValueError("adapter: _target_ is missing (the import path of an adapter class)")
        return self

    @property
    def trial_id(self) -> str:
        """Hash of the resolved config: the same config is the same trial, in any experiment."""
        return content_hash({"version": CONFIG_VERSION, **self.model_dump(mode="json", by_alias=True)})


class ExperimentConfig(Settings):
    """Arms x seeds that give one table; `base` is shared, each arm overrides what differs.

    `design` adds arms: a factorial, or components left out or added one at a time.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    base: dict[str, Any] = Field(default_factory=dict)
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    design: Design | None = None
    seeds: tuple[NonNegativeInt, ...] = Field(min_length=1)
    table: TableSettings = TableSettings()

    @model_validator(mode="after")
    def _is_consistent(self) -> ExperimentConfig:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} names a seed twice; a repeated seed is no replicate")
        if not self.arms and self.design is None:
            raise ValueError("arms: there is none, and no design that makes some")
        if self.table.baseline is not None and self.table.baseline not in self.arms:
            raise ValueError(f"table.baseline: no arm {self.table.baseline!r}; choices: {', '.join(self.arms)}")
        return self

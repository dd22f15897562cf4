"""The settings of a trial and of an experiment: typed, frozen, unknown keys refused, hashed into the trial's id.

A *trial* is one fully resolved config, seed included. An *experiment* is arms x seeds over a common base; its file
holds the base once and, per arm, only what differs. Importing this module loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from harness.config.adapters import (
    Adapters,
    Member,
    StartSettings,
    check_adapters,
    check_start,
    deciding,
    members_of,
    needs_in,
)
from harness.config.base import (
    Name,
    NonNegativeInt,
    OneLine,
    PlainSettings,
    PositiveInt,
    Settings,
    content_hash,
)
from harness.config.design import Design
from harness.config.execution import LauncherSetting
from harness.config.fusion import with_fusion
from harness.config.places import PathText
from harness.config.points import BEHIND_LAYER, Points
from harness.config.table import TableSettings
from harness.config.training import VIEW_FIELDS as VIEW_FIELDS
from harness.config.training import AugmentSettings as AugmentSettings
from harness.config.training import GroupSettings as GroupSettings
from harness.config.training import KlSettings as KlSettings
from harness.config.training import L2SpSettings as L2SpSettings
from harness.config.training import LoopSettings as LoopSettings
from harness.config.training import OptimSettings as OptimSettings
from harness.config.training import without

# Raised when the meaning of a setting changes, so that old records are not taken for new ones.
# 1: a limited validation set was the head of the corpus's file, and macro F1 counted a class that does not occur as 0.
# 2: the set is drawn as a sample (harness.data.limit_valid), and the mean is over the classes that occur.
CONFIG_VERSION = 2


class DataSettings(Settings):
    """Which corpus, which domains, and how few target examples."""

    corpus: PathText
    """A corpus by its name (`harness data list` shows them), or `manifest:PATH` for data of your own: a path from
    the folder of the file that names it, or from the current folder."""
    options: PlainSettings = Field(default_factory=dict)
    """Options of the corpus, as `labels: [bad, good]` for data of your own. Numbers, yes and no need no quotation
    marks."""
    source: tuple[str, ...] = Field(min_length=1)
    """The domains that the backbone was trained on. Forgetting is measured on them."""
    target: str
    """The domain that the model is adapted to."""
    train_limit: PositiveInt | None = None
    """How many training examples of the target are used; null uses all. Each seed draws its own, for every arm the
    same."""
    pool: PositiveInt | None = None
    """Out of how many training examples of the target the seeds draw theirs: one fixed pool for all seeds and arms, of
    whole groups. null: out of all; with `test: all_unused` out of half as many again as `train_limit`."""
    test: Literal["split", "all_unused"] = "split"
    """What the target is tested on. split: its test split. all_unused: also the training examples outside of the pool,
    which no seed trains on, except those of a group that has an example in it. The sources keep their test split."""

    @property
    def pool_size(self) -> int | None:
        """The number of training examples that seeds draw from; None: all of the target's."""
        if self.pool is None and self.test == "all_unused" and self.train_limit is not None:
            return math.ceil(1.5 * self.train_limit)
        return self.pool

    @model_validator(mode="after")
    def _pool_is_used(self) -> DataSettings:
        if self.train_limit is None and (self.pool is not None or self.test == "all_unused"):
            what = "pool" if self.pool is not None else "test: all_unused"
            raise ValueError(f"{what} needs train_limit; without it every seed trains on all training examples")
        if self.pool is not None and self.train_limit is not None and self.pool < self.train_limit:
            raise ValueError(f"pool {self.pool} is below train_limit {self.train_limit}, which is drawn from it")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the later fields out where they change nothing, so that ids are those from before they existed."""
        return without(handler(self), POOL_FIELDS)

    @model_validator(mode="after")
    def _target_is_not_source(self) -> DataSettings:
        if self.target in self.source:
            raise ValueError(f"target {self.target!r} is also a source, so forgetting could not be measured")
        return self


POOL_FIELDS = {"pool": None, "test": "split"}  # with their defaults


def which_test_set(data: Mapping[str, Any]) -> tuple[str, ...]:
    """What tells one test set of a corpus from another, of a record's data settings."""
    target, test = str(data["target"]), str(data.get("test", "split"))
    return (target, test) if test == "split" else (target, test, str(data.get("pool")), str(data.get("train_limit")))


class LayersFrom(Settings):
    """`{from: n}`: every layer from n (0 is the lowest) upwards."""

    first: Annotated[NonNegativeInt, Field(alias="from")]
    """The lowest layer that gets an adapter; 0 is the layer next to the input."""


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
    """The frozen model, and where adapters go."""

    recipe: PathText
    """A shipped recipe by its name (`text_small`, `speech_small`, `text_minilm`), or the path of a recipe file, from
    the folder of the file that names it, or from the current folder."""
    layers: Layers = "all"
    """The layers that get an adapter, or that learn themselves (`train: layers_and_head`): `all`, a list of layer
    numbers, or `{from: n}`."""
    points: Points = BEHIND_LAYER
    """Where in those layers: `behind_layer`, `after_attention` or `after_feed_forward` (before its residual is added),
    `houlsby` (both of these), `towards_head` (each layer's output on its way to the head), or a list of kinds, of names
    of modules and of patterns: `[q_proj, v_proj]`. A linear module named so has its adapter beside it, any other one
    behind it; `{beside: PATTERN}`, `{behind: PATTERN}` and `{before: PATTERN}` say which. `harness adapters show` lists
    what a backbone has."""

    @model_serializer(mode="wrap")
    def _without_usual_points(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the points out where they are the usual ones, so that ids are those from before there were others."""
        content: dict[str, Any] = handler(self)
        return {key: value for key, value in content.items() if (key, value) != ("points", BEHIND_LAYER)}


class TrialConfig(Settings):
    """One training, fully resolved."""

    data: DataSettings
    """The corpus, its source and target domains, and how many target examples."""
    backbone: BackboneSettings
    """The pretrained model, and the layers that get an adapter."""
    train: Literal["none", "head", "adapters", "adapters_and_head", "layers_and_head", "full"]
    """The weights that learn: none, the output layer (head), adapters in a frozen model, both, the layers that
    `backbone.layers` chooses with the output layer (layers_and_head), or all (full)."""
    adapter: PlainSettings | None = None
    """The adapter: its class (`_target_`) and the class's arguments. `in_features` follows from the backbone. A width
    (`dim` or `r`) may be a list with one for each layer, `{from: n, to: n}` from the lowest layer to the highest, or
    `{budget: n}`: the largest one with which all adapters together have at most so many weights. A config of PEFT
    (`peft.LoraConfig` ...) is taken as well, where the extra `peft` is installed."""
    adapters: Adapters | None = None
    """Several adapters instead of one, by name, in the order in which they run: the output of one is the input of the
    next. An arm sets one to null to leave it out."""
    fusion: PlainSettings | None = None
    """What merges the adapters that it names in `over`: its class (`_target_`) and the class's arguments. These
    adapters are then `trainable: false` and `in_chain: false`, unless they say otherwise. The trial's id and record
    have it as the last one of `adapters`, called `fusion`."""
    start: StartSettings | None = None
    """The trial whose weights it starts with; without it, with the pretrained ones. A later stage has the one before
    it."""
    optim: OptimSettings = OptimSettings()
    """The optimizer and its schedule."""
    loop: LoopSettings = LoopSettings()
    """Epochs, batches, precision, device and augmentation."""
    seed: NonNegativeInt
    """Seeds the adapter's first weights, the order of the data, dropout and masks. Where nothing is trained, no number
    depends on it and it is always 0, so that such a trial is run once for all seeds."""

    @field_validator("seed", mode="after")
    @classmethod
    def _seed_changes_something(cls, value: int, info: ValidationInfo) -> int:
        return 0 if is_deterministic(info.data) else value

    @model_validator(mode="before")
    @classmethod
    def _fusion_is_an_adapter(cls, content: Any) -> Any:
        return with_fusion(content)

    @model_validator(mode="after")
    def _adapter_is_used(self) -> TrialConfig:
        check_adapters(self.train, self.adapter, self.adapters)
        check_start(self.train, self.start)
        return self

    @model_validator(mode="after")
    def _meta_is_used(self) -> TrialConfig:
        meta, data = self.loop.meta, self.data
        if meta is None:
            return self
        if self.train == "none":
            raise ValueError("loop.meta has no effect with train: none")
        if data.target in meta.over:
            raise ValueError(
                f"loop.meta.over has the target {data.target!r}, which its adapter is adapted to afterwards"
            )
        if data.train_limit is not None:
            raise ValueError(
                f"data.train_limit {data.train_limit} has no effect with loop.meta, which trains on other domains than "
                "the target; set it to null, and loop.meta.limit for those"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_later_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the later fields out where they say nothing, so that ids are those from before they existed."""
        return without(handler(self), LATER_FIELDS)

    @property
    def members(self) -> tuple[Member, ...]:
        """Its adapters, in the order in which they run."""
        return members_of(self.adapter, self.adapters)

    @property
    def needs(self) -> tuple[str, ...]:
        """The ids of the trials that it takes weights from."""
        return needs_in(self.model_dump(mode="json", by_alias=True, include={"start", "adapters"}))

    @property
    def is_deterministic(self) -> bool:
        """Whether every seed gives the same numbers, so that all of an experiment's seeds name one trial."""
        return is_deterministic({"train": self.train})

    @property
    def trial_id(self) -> str:
        """Hash of the resolved config: the same config is the same trial, in any experiment."""
        return trial_id_of(self.model_dump(mode="json", by_alias=True))


LATER_FIELDS = {"adapters": None, "fusion": None, "start": None}  # with their defaults


def is_deterministic(config: Mapping[str, Any]) -> bool:
    """Whether a config, as a record has it, gives the same numbers with every seed: nothing is trained."""
    return config.get("train") == "none"


def trial_id_of(config: Mapping[str, Any], version: int = CONFIG_VERSION) -> str:
    """The id of a resolved config, as JSON has it, under a version of what its settings mean."""
    return content_hash({"version": version, **deciding(config)})


def version_of(trial_id: str, config: Mapping[str, Any]) -> int | None:
    """The version under which a config has this id; None where it is no hash of the config."""
    versions = range(CONFIG_VERSION, 0, -1)
    return next((version for version in versions if trial_id_of(config, version) == trial_id), None)


def describe_old(version: int | None, config: Mapping[str, Any]) -> str | None:
    """What a reader must know of a record that an older version made; None where its settings mean the same today."""
    limit = config.get("loop", {}).get("valid_limit")
    if version != 1 or limit is None:
        return None
    return (
        "made before validation sets were drawn as samples: validation was the head of the file "
        f"(the first {limit} validation examples of each domain), which may lack a class"
    )


class ExperimentConfig(Settings):
    """Arms and seeds that give one table."""

    name: Name
    """The experiment's name; its records are kept in `results/NAME`."""
    description: OneLine = ""
    """One line that becomes the table's title."""
    base: dict[str, Any] = Field(default_factory=dict)
    """The settings that all arms share."""
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The rows of the table: the name of each arm, and the settings in which it differs from `base`. `stages` are
    trained one after another, each with settings of its own above the arm's; the row is the last one's."""
    parts: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Arms that give their weights to others (`from: {arm: NAME}`) and are no rows. Their test data are never read."""
    design: Design | None = None
    """Writes arms for you: a factorial, or components left out or added one at a time."""
    seeds: tuple[NonNegativeInt, ...] = Field(min_length=1)
    """Every arm is trained once on each of these seeds."""
    table: TableSettings = TableSettings()
    """What the table shows."""
    launcher: LauncherSetting = None
    """Where the trials run: a launcher's name, or a mapping of its `name` and its
    [options](launchers.md), as `{name: slurm, partition: gpu}`. `--launcher` replaces it. It is no part of a trial's
    config or id."""

    @model_validator(mode="after")
    def _is_consistent(self) -> ExperimentConfig:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} names a seed twice, which would only repeat a trial")
        if not self.arms and self.design is None:
            raise ValueError("arms: give at least one, or a design that makes some")
        return self

"""How a trial or a backbone is trained: the optimizer, the loop and its loss, and augmentation. Loads no torch."""

from __future__ import annotations

import re
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
    NUMBER,
    Fraction,
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Settings,
)


def without(content: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that do not have their default among some that may be left out."""
    return {key: value for key, value in content.items() if defaults.get(key, ...) != value}


class GroupSettings(Settings):
    """What a part of the weights has for itself."""

    lr: PositiveFloat | None = None
    """Its highest learning rate; null: `optim.lr`. Warm-up and decay are the same for all."""
    weight_decay: NonNegativeFloat | None = None
    """Its weight decay; null: `optim.weight_decay`."""


class OptimSettings(Settings):
    """The optimizer, with a linear warm-up and a decay to zero."""

    name: Literal["adamw", "sgd", "adafactor"] = "adamw"
    """The optimizer: torch's AdamW, SGD or Adafactor. `betas` and `eps` are AdamW's alone."""
    lr: PositiveFloat = 1e-3
    """The highest learning rate, reached at the end of the warm-up."""
    weight_decay: NonNegativeFloat = 0.01
    """The weight decay, on all weights that learn: decoupled in AdamW and Adafactor, in SGD part of the gradient."""
    betas: tuple[FractionBelowOne, FractionBelowOne] = (0.9, 0.999)
    """AdamW's decay rates of the running means of the gradient and of its square."""
    eps: PositiveFloat = 1e-8
    """What AdamW adds to its denominator."""
    momentum: FractionBelowOne = 0.9
    """SGD's momentum; no other optimizer reads it."""
    warmup: Fraction = 0.1
    """The share of all steps in which the learning rate rises from 0."""
    decay: Literal["none", "linear", "cosine"] = "linear"
    """How the learning rate falls to 0 after the warm-up; `none` keeps it."""
    clip_norm: PositiveFloat | None = 1.0
    """The largest norm of the gradient over all weights; null never clips."""
    groups: dict[Literal["head", "adapters", "encoder"], GroupSettings] = Field(default_factory=dict)
    """Learning rate and weight decay of a part of the weights: `{head: {lr: 0.01}}`."""

    @model_validator(mode="after")
    def _is_used(self) -> OptimSettings:
        readers = {"betas": "adamw", "eps": "adamw", "momentum": "sgd"}
        for field, reader in readers.items():
            if self.name != reader and getattr(self, field) != type(self).model_fields[field].default:
                raise ValueError(f"{field} has no effect with name: {self.name}; leave it out, or set name: {reader}")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the later fields out where they change nothing, so that ids are those from before they existed."""
        return without(handler(self), OPTIM_FIELDS)


OPTIM_FIELDS: dict[str, Any] = {"name": "adamw", "momentum": 0.9, "groups": {}}  # the later ones, with their defaults


class AugmentSettings(Settings):
    """SpecAugment: random masks on the log-mel features of training clips (speech only).

    View v of a clip follows from the mask settings, `view_seed`, the clip's key and v, and is the same for every trial.
    A trial meets each view of a clip once in N epochs, in an order of its own.
    """

    num_time_masks: NonNegativeInt = 2
    """How many masks along time."""
    time_mask: PositiveInt = 20
    """The longest time mask, in frames."""
    num_mel_masks: NonNegativeInt = 2
    """How many masks along the mel channels."""
    mel_mask: PositiveInt = 8
    """The widest mel mask, in channels."""
    max_time_share: Fraction = 0.2
    """The largest share of a clip that one time mask may cover."""
    views: PositiveInt | None = None
    """null masks a clip anew each time. N masks each clip N times, once and for all, which the faster engines need."""
    view_seed: NonNegativeInt = 0
    """The seed of the fixed views; it is used only with `views`."""

    @model_validator(mode="after")
    def _view_seed_is_used(self) -> AugmentSettings:
        if self.views is None and self.view_seed != 0:
            raise ValueError(f"view_seed {self.view_seed} has no effect without views; set a number of views, too")
        return self

    @model_serializer(mode="wrap")
    def _without_unused_views(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the fields out where no views are used, so that ids are those from before the fields existed."""
        content: dict[str, Any] = handler(self)
        return content if self.views is not None else {k: v for k, v in content.items() if k not in VIEW_FIELDS}


VIEW_FIELDS = ("views", "view_seed")


Weights = Annotated[
    Annotated[Literal["balanced"], Tag("name")] | Annotated[dict[str, PositiveFloat], Tag("each")],
    Discriminator(
        lambda value: "each" if isinstance(value, Mapping) else "name",
        custom_error_type="class_weights",
        custom_error_message="Input should be balanced, or {class: weight}",
    ),
]


class MetaSettings(Settings):
    """Meta-learning (MetaAdapter): a training on several domains by turns, for an adapter that others start from."""

    over: tuple[str, ...] = Field(min_length=1)
    """The domains that are trained on, in place of the target; the epoch that does best on their validation examples is
    kept. Each step takes a batch of each domain and splits it in half. What a step of the optimizer on the second half
    changes, taken after one on the first half, is averaged over the domains."""
    lr: PositiveFloat = 1.0
    """How much of that mean change each step makes; it falls linearly to 0 over the training."""
    limit: PositiveInt | None = None
    """How many training examples of each of the domains are used, drawn anew for each seed; null uses all."""

    @field_validator("over")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"{list(value)} names a domain twice")
        return value


class L2SpSettings(Settings):
    """L2-SP (Li et al. 2018, arXiv 1802.01483): `alpha / 2 |w - w_start|^2 + beta / 2 |v|^2` is added to the loss."""

    alpha: NonNegativeFloat
    """How strongly the weights w that learn, and came with the base model or from another training, are pulled to their
    values at the start."""
    beta: NonNegativeFloat = 0.0
    """How strongly the new weights v (of adapters that start from random weights) are pulled to 0."""


class KlSettings(Settings):
    """`weight T^2 mean KL(base || model)` is added to the loss, both softened by the temperature T (Li and Hoiem 2016,
    arXiv 1606.09282): the trained model is to answer as the base model does.

    The mean is over examples; where an answer has several steps, an example's is the mean over its real frames (CTC),
    words (tagging) or tokens (seq2seq). For regression it is half the squared difference."""

    weight: NonNegativeFloat
    """The factor; 0 leaves it out."""
    examples: Literal["target", "source"] = "target"
    """The examples on which the two are compared. target: each batch that is learnt from. source: with each of those, a
    batch of the sources' training examples, whose answers are not learnt from; the domains take turns."""
    temperature: PositiveFloat = 1.0
    """T: what the scores of both are divided by. More than 1 makes answers that are not the best one count more."""


class LoopSettings(Settings):
    """How long and how a trial trains."""

    epochs: PositiveInt = 10
    """The most passes over the training examples; the best epoch's weights are kept."""
    batch_size: PositiveInt = 16
    """The most examples in a batch."""
    accumulate: PositiveInt = 1
    """How many batches give one step of the optimizer, each with the weight of its examples; the last step of an epoch
    has the batches that are left. The strategies' auxiliary losses are averaged alike."""
    max_frames: PositiveInt | None = None
    """The most tokens or feature frames in a batch, padding included; null sets no such bound."""
    patience: PositiveInt | None = None
    """After how many epochs without a better validation score a training stops; null trains all epochs."""
    valid_limit: PositiveInt | None = 300
    """How many validation examples of each domain are scored after an epoch: a sample with all classes, spread over the
    groups, the same for all arms and seeds. null scores all. The final scores are of the whole test set."""
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    """The numbers that training computes with; bfloat16 keeps weights, moments and scores in float32."""
    device: str = "cpu"
    """Where to train: cpu, cuda, cuda:N or mps."""
    threads: Annotated[int, Field(gt=0, le=1024), NUMBER] = 1  # many more, and torch ends the process without a word
    """Threads of a training. They are part of the trial: with another number, sums have other last bits."""
    augment: AugmentSettings | None = None
    """SpecAugment of the training clips (speech only); null trains on clips as they are."""
    label_smoothing: FractionBelowOne = 0.0
    """The share of each target that is spread evenly over all classes or tags, in training alone."""
    class_weights: Weights | None = None
    """What the loss of an example is multiplied by in training, by its class: `{good: 2}` (1 for the others), or
    `balanced`: the number of examples, by the number of classes and that of the class's examples."""

    meta: MetaSettings | None = None
    """Meta-learning on several domains instead of a training on the target; null trains on the target."""
    l2_sp: L2SpSettings | None = None
    """A pull of the weights to where they start; null pulls none. It takes the place of `optim.weight_decay`, which
    pulls them to 0: set that to 0 beside it. A recipe has none, as it has no base model."""
    kl_to_base: KlSettings | None = None
    """A pull of the outputs to those of the base model; null pulls none. Each step then also runs the base model.
    A recipe has none."""

    @model_validator(mode="after")
    def _meta_heeds_them(self) -> LoopSettings:
        if self.meta is not None and self.accumulate != 1:
            raise ValueError(f"accumulate {self.accumulate} has no effect with meta, which takes a step for each half")
        if self.meta is not None and self.kl_to_base is not None and self.kl_to_base.examples == "source":
            raise ValueError("kl_to_base.examples: source has no batches with meta; set target, those of meta.over")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the later fields out where they change nothing, so that ids are those from before they existed."""
        return without(handler(self), LOOP_FIELDS)

    @field_validator("device")
    @classmethod
    def _device_is_known(cls, value: str) -> str:
        if not re.fullmatch(r"(cpu|cuda|mps)(:[0-9]{1,2})?", value):
            raise ValueError(f"unknown device {value!r}; choices: cpu, cuda, cuda:N, mps")
        return value


LOOP_FIELDS = {  # the later ones, with their defaults
    "accumulate": 1,
    "label_smoothing": 0.0,
    "class_weights": None,
    "l2_sp": None,
    "kl_to_base": None,
    "meta": None,
}

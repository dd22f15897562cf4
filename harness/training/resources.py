"""What trials of one process share: corpora, backbones, encoded items, and the base model's scores.

Everything here is read-only for a trial: it copies the backbone's model before it adapts it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from harness.backbones.model import TaskModel
from harness.backbones.recipe import Recipe, SpeechEncoderSettings, load_recipe
from harness.backbones.store import Backbone, load_backbone
from harness.config.base import content_hash
from harness.config.trial import VIEW_FIELDS, AugmentSettings, LoopSettings, TrialConfig
from harness.data.cache import data_cache
from harness.data.corpora.registry import load_corpus
from harness.data.corpus import Corpus, Example, Split, limit_train
from harness.data.features import FeatureCache, LogMel
from harness.data.spec_augment import AugmentedViews, SpecAugment
from harness.errors import UserError
from harness.tasks.speech import CtcTask
from harness.tasks.task import Evaluation, Item, Task, evaluate
from harness.tasks.text import ClassificationTask

EVALUATION_FRAMES = {"text": 4096, "speech": 12000}  # padded steps in a batch when scoring
PREFIX_ALIGN = {"text": 4, "speech": 32}  # input steps; an item's prefix is computed at a multiple of it


def dtype_of(loop: LoopSettings) -> torch.dtype:
    """The dtype of a training's weights, and of what reaches its cut: with bfloat16 float32, which holds all of its."""
    return torch.float64 if loop.precision == "float64" else torch.float32


def make_task(
    recipe: Recipe, symbols: Sequence[str], tokenizer: Any, corpus: Corpus, augment: AugmentSettings | None
) -> Task:
    """The task of a backbone on a corpus; `augment` masks speech features in training.

    Raises:
        UserError: the corpus is of the other family, or has other symbols than the backbone.
    """
    settings = recipe.encoder
    family = "speech" if isinstance(settings, SpeechEncoderSettings) else "text"
    if corpus.family != family:
        raise UserError(f"backbone {recipe.name} reads {family}, but corpus {corpus.name} is {corpus.family}")
    if not set(corpus.symbols) <= set(symbols) or (family == "text" and tuple(corpus.symbols) != tuple(symbols)):
        raise UserError(
            f"corpus {corpus.name} has outputs {list(corpus.symbols)}, but backbone {recipe.name} gives {list(symbols)}"
        )
    if not isinstance(settings, SpeechEncoderSettings):
        if augment is not None:
            raise UserError("loop.augment: SpecAugment masks speech features; for text set it to null")
        return ClassificationTask(tokenizer, symbols, settings.max_length)
    log_mel = LogMel(
        settings.sample_rate, num_mels=settings.num_mels, window_ms=settings.window_ms, hop_ms=settings.hop_ms
    )
    # A sealed corpus keeps features of its own on disk: the whole corpus' files have those of the test clips.
    cache = FeatureCache(corpus, log_mel, data_cache() / "sealed" if corpus.is_sealed else None)
    if augment is None:
        return CtcTask(symbols, cache.features)
    masks = SpecAugment(**augment.model_dump(exclude=set(VIEW_FIELDS)))
    if augment.views is None:
        return CtcTask(symbols, cache.features, masks)
    return CtcTask(symbols, cache.features, views=AugmentedViews(masks, augment.view_seed, augment.views))


class Domains:
    """A backbone's view of a corpus: encoded items and base scores, each made once."""

    def __init__(self, backbone: Backbone, corpus: Corpus) -> None:
        self.backbone = backbone
        self.corpus = corpus
        self._frozen: dict[tuple[str, str], TaskModel] = {}
        self._items: dict[tuple[str, Split], list[Item]] = {}
        self._samples: dict[tuple[str, int | None, int], list[Item]] = {}
        self.base_probes: dict[tuple[object, ...], Tensor] = {}  # see BaseCheck
        self._base: dict[tuple[str, str, Split, str, int | None], Evaluation] = {}

    @cached_property
    def plain_task(self) -> Task:
        """The task without augmentation: for encoding and scoring."""
        return self.task(None)

    def task(self, augment: AugmentSettings | None) -> Task:
        backbone = self.backbone
        return make_task(backbone.recipe, backbone.symbols, backbone.tokenizer, self.corpus, augment)

    def items(self, domain: str, split: Split) -> list[Item]:
        """Encoded items of a split, in corpus order.

        Raises:
            UserError: the domain is unknown, or the split is empty.
        """
        if (domain, split) not in self._items:
            examples = self.corpus.split(domain, split)
            if not examples:
                raise UserError(f"corpus {self.corpus.name}: domain {domain!r} has no {split} examples")
            self._items[domain, split] = self.plain_task.encode(examples)
        return self._items[domain, split]

    def items_of(self, examples: Sequence[Example], domain: str, split: Split) -> list[Item]:
        """The encoded items of some examples of a split, in their order."""
        by_key = {item.key: item for item in self.items(domain, split)}
        return [by_key[example.key] for example in examples]

    def train_sample(self, domain: str, limit: int | None, seed: int) -> list[Item]:
        """The encoded items of a domain's few-shot sample (harness.data.limit_train), drawn once for each seed.

        Raises:
            DataError: there are fewer examples than the limit.
        """
        key = (domain, limit, seed)
        if key not in self._samples:
            chosen = limit_train(self.corpus.split(domain, "train"), limit, seed)
            self._samples[key] = self.items_of(chosen, domain, "train")
        return self._samples[key]

    def score(
        self, model: TaskModel, items: Sequence[Item], loop: LoopSettings, task: Task | None = None
    ) -> Evaluation:
        """Score a model on items; `task` makes the batches where that is not the plain one."""
        return evaluate(
            model,
            task or self.plain_task,
            items,
            max_frames=EVALUATION_FRAMES[self.corpus.family],
            device=torch.device(loop.device),
            dtype=dtype_of(loop),
        )

    def frozen_model(self, loop: LoopSettings) -> TaskModel:
        """A copy of the base model on a device, in a dtype, in eval mode; nothing trains it."""
        key = (loop.device, loop.precision)
        if key not in self._frozen:
            model = copy.deepcopy(self.backbone.model).to(torch.device(loop.device), dtype_of(loop)).eval()
            self._frozen[key] = model.requires_grad_(False)
        return self._frozen[key]

    def base_scores(
        self, base: TaskModel, domain: str, split: Split, loop: LoopSettings, limit: int | None = None
    ) -> Evaluation:
        """The base model's scores on a split's first `limit` items (measured once for each precision and device)."""
        key = (loop.precision, loop.device, split, domain, limit)
        if key not in self._base:
            self._base[key] = self.score(base, self.items(domain, split)[:limit], loop)
        return self._base[key]


class Resources:
    """Loads each corpus and backbone once a process.

    Args:
        sealed: for the search: corpora come without their test examples.
    """

    def __init__(self, sealed: bool = False) -> None:
        self.sealed = sealed
        self._corpora: dict[str, Corpus] = {}
        self._backbones: dict[str, Backbone] = {}
        self._domains: dict[tuple[str, str], Domains] = {}

    def corpus(self, name: str, options: dict[str, Any]) -> Corpus:
        key = content_hash([name, options])
        if key not in self._corpora:
            corpus = load_corpus(name, **options)
            self._corpora[key] = corpus.sealed() if self.sealed else corpus
        return self._corpora[key]

    def backbone(self, recipe_name: str) -> Backbone:
        recipe = load_recipe(recipe_name)
        if recipe.recipe_id not in self._backbones:
            self._backbones[recipe.recipe_id] = load_backbone(recipe, recipe_name)
        return self._backbones[recipe.recipe_id]

    def domains(self, config: TrialConfig) -> Domains:
        """The trial's backbone and corpus, joined.

        Raises:
            UserError: the corpus or the backbone is not there, or they do not fit.
        """
        backbone = self.backbone(config.backbone.recipe)
        corpus = self.corpus(config.data.corpus, config.data.options)
        key = (backbone.fingerprint, corpus.fingerprint)
        if key not in self._domains:
            self._domains[key] = Domains(backbone, corpus)
        return self._domains[key]

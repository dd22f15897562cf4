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
from harness.backbones.recipe import load_recipe
from harness.backbones.store import Backbone, load_backbone
from harness.config.base import content_hash
from harness.config.places import folder_of
from harness.config.trial import AugmentSettings, LoopSettings, TrialConfig
from harness.data.corpora.registry import load_corpus
from harness.data.corpus import Corpus, Example, Split, limit_train
from harness.errors import UserError
from harness.tasks.making import make_task
from harness.tasks.registry import task_of_recipe
from harness.tasks.task import Evaluation, Item, Task, WholeTask, evaluate
from harness.training.precision import dtype_of


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
    def plain_task(self) -> WholeTask:
        """The task without augmentation: for encoding and scoring."""
        return self.task(None)

    def task(self, augment: AugmentSettings | None) -> WholeTask:
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
                raise UserError(f"corpus {self.corpus.name}: domain {domain!r} has no examples in its {split} split")
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
            max_frames=self.plain_task.score_steps,
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
        key = content_hash([name, options, str(folder_of(name))])
        if key not in self._corpora:
            corpus = load_corpus(name, **options)
            self._corpora[key] = corpus.sealed() if self.sealed else corpus
        return self._corpora[key]

    def backbone(self, recipe_name: str) -> Backbone:
        recipe = load_recipe(recipe_name)
        if recipe.recipe_id not in self._backbones:
            self._backbones[recipe.recipe_id] = load_backbone(recipe, task_of_recipe(recipe).head, recipe_name)
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

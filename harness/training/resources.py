"""What trials of one process share: corpora, backbones, encoded items, and the base model's scores.

Everything here is read-only for a trial: it copies the backbone's model before it adapts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from harness.backbones.copying import copy_model
from harness.backbones.model import TaskModel
from harness.backbones.recipe import load_recipe
from harness.backbones.store import Backbone, load_backbone
from harness.config.places import folder_of
from harness.config.trial import AugmentSettings, DataSettings, LoopSettings, TrialConfig
from harness.data.corpus import Corpus, Example, Split, limit_train, limit_valid
from harness.data.loaded import LoadedCorpora
from harness.data.samples import (
    data_notes,
    test_examples,
    train_sample,
    training_pool,
    unused_examples,
)
from harness.errors import UserError
from harness.records.made_with import MadeWith
from harness.tasks.making import head_maker, make_task
from harness.tasks.task import Evaluation, Item, Task, WholeTask, evaluate
from harness.training.precision import dtype_of


class Domains:
    """A backbone's view of a corpus: encoded items and base scores, each made once."""

    def __init__(self, backbone: Backbone, corpus: Corpus) -> None:
        self.backbone = backbone
        self.corpus = corpus
        self._frozen: dict[tuple[str, str], TaskModel] = {}
        self._items: dict[tuple[str, Split], list[Item]] = {}
        self._samples: dict[tuple[str, int | None, int | None, int | None], list[Item]] = {}
        self.base_probes: dict[tuple[object, ...], list[Tensor]] = {}  # see BaseCheck
        self._notes: dict[tuple[object, ...], tuple[str, ...]] = {}
        self._valid: dict[tuple[str, int | None], list[Item]] = {}
        self._base: dict[tuple[object, ...], Evaluation] = {}

    @property
    def fingerprint(self) -> str:
        """See harness.training.engine.Shared."""
        return self.backbone.fingerprint

    @property
    def made_of(self) -> tuple[str, ...]:
        """See harness.training.engine.Shared."""
        sealed = f"sealed{self.corpus.hidden}" if self.corpus.is_sealed else "open"
        recipe_id = self.backbone.recipe.recipe_id
        return self.fingerprint, recipe_id, self.corpus.fingerprint, sealed, self.backbone.preparation

    @property
    def made_with(self) -> MadeWith:
        """What a record of a training says that it was made with."""
        return MadeWith(self.backbone.fingerprint, self.corpus.fingerprint, self.backbone.preparation)

    @cached_property
    def plain_task(self) -> WholeTask:
        """The task without augmentation: for encoding and scoring."""
        return self.task(None)

    def task(self, augment: AugmentSettings | None) -> WholeTask:
        backbone = self.backbone
        return make_task(backbone.recipe, backbone.symbols, backbone.tokenizer, self.corpus, augment)

    def notes(self, data: DataSettings, valid_limit: int | None) -> tuple[str, ...]:
        """What a table must say of the corpus and of the examples that a trial is scored on."""
        key = (data.target, data.source, data.test, data.pool_size, valid_limit)
        if key not in self._notes:
            self._notes[key] = (*data_notes(self.corpus, data, valid_limit), *self.answer_notes(data))
        return self._notes[key]

    def answer_notes(self, data: DataSettings) -> list[str]:
        """What is to be said of answers that the backbone cannot give, to training examples and in the tests."""
        notes = []
        for domain in (data.target, *data.source):
            parts = {"training": training_pool(self.corpus, data)} if domain == data.target else {}
            if not self.corpus.is_sealed:
                parts["test"] = test_examples(self.corpus, data, domain)
            notes += self.plain_task.notes_on(domain, parts)
        return notes

    def items(self, domain: str, split: Split) -> list[Item]:
        """Encoded items of a split, in corpus order.

        Raises:
            UserError: the domain is unknown, or the split is empty.
        """
        if (domain, split) not in self._items:
            examples = self.corpus.split(domain, split)
            if not examples:
                raise UserError(f"corpus {self.corpus.name}: {self._why_empty(domain, split)}")
            self._items[domain, split] = self.plain_task.encode(examples)
        return self._items[domain, split]

    def cut_notes(self, data: DataSettings) -> list[str]:
        """A note for each domain with test examples of which the model sees only the beginning."""
        notes = []
        for name in (data.target, *data.source):
            items = self.test_items(data, name)
            if num_cut := sum(item.key in self.plain_task.inputs.cut for item in items):
                notes.append(f"{name}: {num_cut} of {len(items)} test {self.plain_task.inputs.cut_as}")
        return notes

    def _why_empty(self, domain: str, split: Split) -> str:
        """Say that a split is empty, and the way out."""
        empty = f"domain {domain!r} has no examples in its {split} split"
        if self.corpus.fixed_splits is not None:
            return f"{empty}; mark some of its groups {split!r} in the column `split`, or leave that column out"
        num_groups = len({example.group for example in self.corpus.examples(domain)})
        return (
            f"{empty}: its {num_groups} groups are split by their hash, and none fell there; give data of your own a "
            "column `split` (train, valid or test), or more groups"
        )

    def items_of(self, examples: Sequence[Example], domain: str, split: Split) -> list[Item]:
        """The encoded items of some examples of a split, in their order."""
        by_key = {item.key: item for item in self.items(domain, split)}
        return [by_key[example.key] for example in examples]

    def train_sample(self, data: DataSettings, seed: int) -> list[Item]:
        """The encoded items of a seed's few-shot sample of the target, drawn once for each seed.

        Raises:
            DataError: there are fewer examples than the limit, or than the pool shall have.
        """
        key = (data.target, data.train_limit, data.pool_size, seed)
        if key not in self._samples:
            self._samples[key] = self.items_of(train_sample(self.corpus, data, seed), data.target, "train")
        return self._samples[key]

    def meta_sample(self, domain: str, limit: int | None, seed: int) -> list[Item]:
        """The encoded training items of a domain that `loop.meta` is trained on: all, or a seed's sample.

        Raises:
            UserError: the domain is unknown, or has no training examples.
            DataError: there are fewer examples than the limit.
        """
        items = self.items(domain, "train")
        if limit is None:
            return items
        return self.items_of(limit_train(self.corpus.split(domain, "train"), limit, seed), domain, "train")

    def test_items(self, data: DataSettings, domain: str) -> list[Item]:
        """The encoded items that a domain is tested on, in corpus order, the test split's first.

        Raises:
            DataError: as `harness.data.samples.unused_examples`.
            TrialError: the corpus is sealed (`sealed`).
        """
        items = self.items(domain, "test")
        if domain != data.target or data.test == "split":
            return items
        key = (data.target, data.train_limit, data.pool_size, None)
        if key not in self._samples:
            self._samples[key] = self.items_of(unused_examples(self.corpus, data), domain, "train")
        return items + self._samples[key]

    def valid_items(self, domain: str, limit: int | None) -> list[Item]:
        """The encoded items of a domain's validation examples, or a sample of them (harness.data.limit_valid).

        Raises:
            UserError: there is no validation example.
        """
        if (domain, limit) not in self._valid:
            self.items(domain, "valid")  # raises where there is none
            chosen = limit_valid(self.corpus.split(domain, "valid"), limit)
            self._valid[domain, limit] = self.items_of(chosen, domain, "valid")
        return self._valid[domain, limit]

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
            model = copy_model(self.backbone.model).to(torch.device(loop.device), dtype_of(loop)).eval()
            self._frozen[key] = model.requires_grad_(False)
        return self._frozen[key]

    def base_scores(self, base: TaskModel, items: Sequence[Item], loop: LoopSettings) -> Evaluation:
        """The base model's scores on items (measured once for each precision and device)."""
        key = (loop.precision, loop.device, *(item.key for item in items))
        if key not in self._base:
            self._base[key] = self.score(base, items, loop)
        return self._base[key]


class Resources:
    """Loads each corpus and backbone once a process.

    Args:
        sealed: for the search: corpora come without their test examples.
        corpora: those that were read already, sealed alike.
    """

    def __init__(self, sealed: bool = False, corpora: LoadedCorpora | None = None) -> None:
        self.sealed = sealed
        self.corpora = corpora or LoadedCorpora(sealed)
        self._named: dict[tuple[str, str], Backbone] = {}
        self._backbones: dict[str, Backbone] = {}
        self._domains: dict[tuple[int, str, str], Domains] = {}

    def corpus(self, data: DataSettings, normaliser: str) -> Corpus:
        """The corpus of some trials, with normalised transcripts; sealed, without all that is test data for them."""
        return self.corpora.corpus(data, normaliser)

    def backbone(self, recipe_name: str) -> Backbone:
        where = (recipe_name, str(folder_of(recipe_name)))  # the same name may stand in files of several folders
        if where not in self._named:
            recipe = load_recipe(recipe_name)
            name = recipe.recipe_id
            if name not in self._backbones:
                self._backbones[name] = load_backbone(recipe, head_maker(recipe), recipe_name)
            self._named[where] = self._backbones[name]
        return self._named[where]

    def domains(self, config: TrialConfig) -> Domains:
        """The trial's backbone and corpus, joined.

        Raises:
            UserError: the corpus or the backbone is not there, or they do not fit.
        """
        backbone = self.backbone(config.backbone.recipe)
        corpus = self.corpus(config.data, backbone.recipe.text.normaliser_name)
        key = (id(backbone), corpus.fingerprint, corpus.hidden)
        if key not in self._domains:
            self._domains[key] = Domains(backbone, corpus)
        return self._domains[key]

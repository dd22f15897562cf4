"""One trial from its config to its record: adapt, train, score, check that the base model is untouched.

base model (frozen copy) -> adapters at the insertion points -> fit on the target -> scores on target and sources
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from harness.adapters.attention_mean import attention_content, watched_attention
from harness.backbones.copying import copy_model
from harness.backbones.model import TaskModel
from harness.config.notes import Note
from harness.config.trial import TrialConfig
from harness.data.samples import test_examples
from harness.errors import UserError, no_exits
from harness.metrics import constrained_score, forgetting
from harness.records.predictions import PredictedItem, group_digest
from harness.tasks.fitting import check_domains, check_target
from harness.tasks.task import Evaluation, Item
from harness.training.adapting import Adapted, adapt, check_reached
from harness.training.base_check import BaseCheck
from harness.training.device import check_device
from harness.training.engine import PLAIN_ENGINE, Engine, Fitting, drive
from harness.training.fit_plan import FitPlan, FitState
from harness.training.optim import check_optim, in_order, make_optimizer
from harness.training.precision import dtype_of
from harness.training.pulls import output_pull
from harness.training.resources import Domains, Resources
from harness.training.taking import Sources
from harness.training.validation import Validation

UNMOVED = (
    "training changed nothing: the outputs are the frozen model's, bit for bit (too few steps, too small a learning "
    "rate, or adapters that were dropped in every step)"
)
Report = Callable[[dict[str, Any]], bool | None]


@dataclass(frozen=True)
class Outcome:
    """What a finished training gives the record.

    In a search, or when pruned, no test number is known: `metrics` are parameter counts, and `by_domain`, `base` and
    `predictions` are empty. `sharing` says who shared its steps, in a pack. `attention` is that of a fusion over its
    members, on the target's test set.
    """

    metrics: dict[str, float]
    by_domain: dict[str, dict[str, float]]
    base: dict[str, dict[str, float]]
    valid: dict[str, float]
    checks: dict[str, str]
    adapters: dict[str, int]
    notes: tuple[Note, ...]
    predictions: dict[str, tuple[PredictedItem, ...]]
    epochs_run: int
    best_epoch: int
    elapsed_s: float
    adapted: Adapted
    sharing: dict[str, float] = field(default_factory=dict)
    pruned: bool = False
    attention: dict[str, Any] | None = None


class Trial:
    """A trial's training and scoring; `run` does it all.

    Args:
        config: the resolved config.
        resources: what trials of this process share; where they are sealed, no test example is read or scored.
        checkpoint: where to keep the checkpoint, or None for none.
        report: called with each epoch's entry; True prunes the trial.
        engine: what trains it, or names what does (Engine.choose).
        records: the folder with the records of the trials that it takes weights from; see Sources.

    Attributes:
        executed: which engine trained it, and why not the one that was asked for, as provenance tells it.
        taken: the files of other trials that it took weights from, with their SHA-256.

    Raises (from `run`):
        UserError: data, backbone, layers or adapter do not fit together; nothing was trained.
        TrialError: training failed, or a check did not hold.
    """

    def __init__(
        self,
        config: TrialConfig,
        resources: Resources,
        checkpoint: Path | None = None,
        report: Report = lambda entry: None,
        engine: Engine = PLAIN_ENGINE,
        records: Path | None = None,
    ) -> None:
        self.config = config
        self.records = records
        self.engine = engine
        self.sealed = resources.sealed
        self.domains: Domains = resources.domains(config)
        self.validation = Validation(config, self.domains)
        self.checkpoint = checkpoint
        self.report = report
        self.device = torch.device(config.loop.device)
        self.dtype = dtype_of(config.loop)
        self.notes = [Note("method", text) for text in self.domains.backbone.model.encoder.notes]
        self.executed = engine.execution.record("plain", "nothing is trained")  # until a training is due
        self.taken: dict[str, str] = {}  # until its model is made

    def run(self) -> Outcome:
        """Train and score, alone."""
        return drive(self.steps())

    def steps(self) -> Generator[Fitting, FitState, Outcome]:
        """As `run`, without training: yields a Fitting whenever one is due, and has to be sent its FitState."""
        torch.set_num_threads(self.config.loop.threads)
        with no_exits():  # not around the `yield`: there, GeneratorExit is how whoever drives the trial closes it
            notes = self.domains.notes(self.config.data, self.config.loop.valid_limit)
            self.notes += [Note("data", text) for text in notes]
            base_check = BaseCheck(self.config, self.domains)
            adapted = self.adapted()
            self.taken = dict(adapted.taken)
            base_check.note_start(adapted)
            self.notes += [Note("method", text) for text in adapted.told]
            fitting = self._fitting(adapted) if adapted.num_trainable else None
        state = FitState() if fitting is None else (yield fitting)
        torch.set_num_threads(self.config.loop.threads)  # others may have trained meanwhile
        began = time.monotonic()
        with no_exits():
            checks = base_check.check(adapted, self.fresh_base)
            if state.history and base_check.is_as_before(adapted):
                self.notes.append(Note("unmoved", UNMOVED))
            outcome = self._sealed_outcome(adapted, state, checks)
            if not self.sealed and not state.pruned:
                outcome = self._open_test(outcome, adapted)
        return replace(outcome, elapsed_s=state.elapsed_s + time.monotonic() - began)

    def check(self, is_part: bool = False) -> None:
        """Find what `run` would find wrong, without training: device, data, audio, layers, the adapter.

        Args:
            is_part: it is no row of a table, but gives weights to others.

        Raises:
            UserError: something does not fit together.
        """
        check_device(self.config.loop.device)
        torch.set_num_threads(self.config.loop.threads)  # many threads wait for each other where others train, too
        check_optim(self.config.optim, self.dtype)
        data, recipe = self.config.data, self.domains.backbone.recipe
        check_domains(recipe, data)
        if not is_part:
            check_target(recipe, data)
        task = self.domains.task(self.config.loop.augment)
        more = self.config.loop.meta.over if self.config.loop.meta else ()
        for name in (data.target, *data.source, *more):
            task.check_domain(self.domains.corpus, name)
            self.domains.plain_task.inputs.check_readable(self.domains.corpus, name)
        if self.config.train != "none":
            task.for_training(self.config.loop, self.train_items())
        for name in more:
            self.domains.items(name, "valid")
        for name in (data.target, *data.source):
            self.domains.items(name, "valid")
            if not self.sealed:
                self.domains.test_items(data, name)
            elif name in self.domains.corpus.untested:
                where = f"corpus {self.domains.corpus.name}: domain {name!r}"
                raise UserError(f"{where} has no examples in its test split, so no winner could be confirmed")
        shortest = min(self.domains.items(data.target, "valid"), key=lambda item: len(item.inputs))
        task, adapted = self.domains.plain_task, self.adapted()
        check_reached(adapted, task, task.collate([shortest], None).to(self.device, self.dtype))
        if trained := [pair for pair in adapted.model.named_parameters() if pair[1].requires_grad]:
            adapters = adapted.model.learnt_with_adapters()
            make_optimizer(in_order(trained, self.config.optim, adapters), self.config.optim, adapters)

    @property
    def base(self) -> TaskModel:
        """The base model, for comparison: shared, as nothing trains it."""
        return self.domains.frozen_model(self.config.loop)

    def fresh_base(self) -> TaskModel:
        """A copy of the backbone's model on the trial's device, in its dtype, in eval mode."""
        return copy_model(self.domains.backbone.model).to(self.device, self.dtype).eval()

    def adapted(self) -> Adapted:
        """A fresh model with what the trial trains.

        Raises:
            UserError: layers or adapter do not fit the backbone.
            TrialError: weights that it takes are not there (reason `dependency`).
        """
        return adapt(self.fresh_base(), self.config, Sources(self.domains.backbone.fingerprint, self.records))

    def train_items(self) -> list[Item]:
        """The target's training items: the few-shot sample of this seed, without clips that CTC cannot learn.

        Raises:
            UserError: no clip can be aligned, or there are fewer examples than the limit.
        """
        return [item for items in self.train_parts() for item in items]

    def train_parts(self) -> list[list[Item]]:
        """The training items of each domain that is trained on: the target's, or those of `loop.meta.over`."""
        data, meta = self.config.data, self.config.loop.meta
        if meta is None:
            return [self._usable(data.target, self.domains.train_sample(data, self.config.seed))]
        samples = {name: self.domains.meta_sample(name, meta.limit, self.config.seed) for name in meta.over}
        return [self._usable(name, items) for name, items in samples.items()]

    def _usable(self, domain: str, items: list[Item]) -> list[Item]:
        usable = [item for item in items if self.domains.plain_task.can_learn(item, self.domains.backbone.model)]
        if not usable:
            where = f"corpus {self.domains.corpus.name}: domain {domain!r}"
            raise UserError(f"{where}: all {len(items)} training clips are too short for their transcript")
        empty = sum(item.target.numel() == 0 for item in items)
        for count, why in (
            (empty, "have a transcript of which the backbone can write nothing"),
            (len(items) - len(usable) - empty, "are too short for their transcript"),
        ):
            if count:
                self.notes.append(Note("data", f"{count} training clips {why}"))
        return usable

    def _fitting(self, adapted: Adapted) -> Fitting:
        config, domains, validation = self.config, self.domains, self.validation
        parts = self.train_parts()
        items = [item for part in parts for item in part]
        task = domains.task(config.loop.augment).for_training(config.loop, items)
        plan = FitPlan(
            optim=config.optim,
            loop=config.loop,
            seed=config.seed,
            score_epoch=lambda model: validation.epoch(lambda domain: validation.score(model, domain)),
            select=f"valid_{'target' if config.loop.meta is None else 'meta'}/{task.primary}",
            metric=task.primary,
            checkpoint=self.checkpoint,
            report=self.report,
            made_with=" ".join(map(str, domains.made_with)),
            output_pull=output_pull(config, domains),
            taken=adapted.from_elsewhere,
        )
        engine, why_other = self.engine.choose(config, domains, adapted.model)
        self.executed = self.engine.execution.record(engine.execution.engine, why_other)
        sizes = None if config.loop.meta is None else tuple(map(len, parts))
        return Fitting(config, domains, adapted.model, task, items, plan, validation, self.notes, engine, sizes)

    def _score(self, model: TaskModel, items: list[Item]) -> Evaluation:
        return self.domains.score(model, items, self.config.loop)

    def _sealed_outcome(self, adapted: Adapted, state: FitState, checks: dict[str, str]) -> Outcome:
        """The outcome without test metrics: validation metrics at the best epoch, and parameter counts."""
        if state.history:
            valid = state.history[state.best_epoch - 1]["metrics"]
        else:
            valid = self.validation.epoch(lambda domain: self.validation.score(adapted.model, domain))
        return Outcome(
            metrics={
                "trainable_parameters": float(adapted.num_trainable),
                "trainable_share": adapted.num_trainable / adapted.num_base,
            },
            by_domain={},
            base={},
            valid={name: value for name, value in valid.items() if name.startswith("valid_")},
            checks=checks,
            adapters=adapted.adapters,
            notes=tuple(self.notes),
            predictions={},
            epochs_run=state.epoch,
            best_epoch=state.best_epoch,
            elapsed_s=state.elapsed_s,
            adapted=adapted,
            sharing=_sharing(state.history),
            pruned=state.pruned,
        )

    def _open_test(self, outcome: Outcome, adapted: Adapted) -> Outcome:
        """The outcome with the test metrics of target and sources."""
        data, primary = self.config.data, self.domains.plain_task.primary
        names = self.validation.names
        items = {name: self.domains.test_items(data, name) for name in names}
        with watched_attention(adapted.model.encoder.points_by_layer()) as attention:
            scored = {data.target: self._score(adapted.model, items[data.target])}
        scored |= {name: self._score(adapted.model, items[name]) for name in data.source}
        bases = {name: self.domains.base_scores(self.base, items[name], self.config.loop).scores for name in names}
        target = scored[data.target].scores
        metrics = {f"target_{name}": value for name, value in target.items()}
        for name in target:
            metrics[f"source_{name}"] = fmean(scored[source].scores[name] for source in data.source)
        base_sources = [bases[source][primary] for source in data.source]
        sources_after = [scored[source].scores[primary] for source in data.source]
        metrics["forgetting"] = forgetting(primary, fmean(base_sources), fmean(sources_after))
        metrics["constrained_score"] = constrained_score(
            primary, bases[data.target][primary], target[primary], base_sources, sources_after
        )
        predictions = {name: self._predicted(name, evaluation) for name, evaluation in scored.items()}
        return replace(
            outcome,
            notes=(*outcome.notes, *(Note("data", text) for text in self.domains.cut_notes(data))),
            metrics=metrics | outcome.metrics,
            by_domain={name: evaluation.scores for name, evaluation in scored.items()},
            base=bases,
            predictions=predictions,
            attention=attention_content(attention) if attention else None,
        )

    def _predicted(self, domain: str, evaluation: Evaluation) -> tuple[PredictedItem, ...]:
        """A domain's test items, with what was predicted and what would have been right."""
        data = self.config.data
        groups = {e.key: e.group for e in test_examples(self.domains.corpus, data, domain)}
        return tuple(
            PredictedItem(item.key, prediction, item.reference, group_digest(groups[item.key]))
            for item, prediction in zip(self.domains.test_items(data, domain), evaluation.predictions, strict=True)
        )


def _sharing(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The costs of a trial that packs tell of, from its epochs' entries; none of one that trained alone."""
    packs = [entry["pack"] for entry in history if "pack" in entry]
    found = {"trials_a_step": fmean(pack["trials"] for pack in packs)} if packs else {}
    gains = [pack["gain"] for pack in packs if "gain" in pack]
    return {**found, "packing_gain": gains[-1]} if gains else found

"""One trial from its config to its record: adapt, train, score, check that the base model is untouched.

base model (frozen copy) -> adapters at the insertion points -> fit on the target -> scores on target and sources
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any, TypeVar, cast

import torch

from harness.backbones.model import TaskModel
from harness.config.execution import PLAIN, Engine, Execution
from harness.config.trial import TrialConfig
from harness.data.corpus import Split
from harness.engines.cut.cut import Cut, CutModel, find_cut, reads_padded_steps, why_no_cut
from harness.engines.cut.cut_task import CutTask
from harness.engines.cut.prefix_cache import PrefixStore
from harness.engines.packed.packable import why_not_packable
from harness.errors import UserError
from harness.metrics import constrained_score, forgetting
from harness.tasks.task import Evaluation, Item, Task
from harness.training.adapting import Adapted, adapt
from harness.training.base_check import BaseCheck
from harness.training.device import check_device
from harness.training.loop import FitPlan, FitState, fit
from harness.training.resources import Domains, Resources, dtype_of
from harness.training.views import num_views_of

Report = Callable[[dict[str, Any]], bool | None]


@dataclass(frozen=True)
class Outcome:
    """What a finished training gives the record.

    In a search, or when pruned, no test number is known: `metrics` are parameter counts, and `by_domain`, `base` and
    `predictions` are empty.
    """

    metrics: dict[str, float]
    by_domain: dict[str, dict[str, float]]
    base: dict[str, dict[str, float]]
    valid: dict[str, float]
    checks: dict[str, str]
    adapters: dict[str, int]
    notes: tuple[str, ...]
    predictions: dict[str, dict[str, int | str]]
    epochs_run: int
    best_epoch: int
    elapsed_s: float
    adapted: Adapted
    pruned: bool = False


@dataclass(frozen=True, eq=False)
class Fitting:
    """A training that is due: what `fit` needs, and the trial it belongs to."""

    trial: Trial
    adapted: Adapted
    task: Task
    items: list[Item]
    plan: FitPlan
    engine: Engine

    def fit(self) -> FitState:
        """Train it alone: whole, behind its cut, or as a pack of one.

        Raises:
            TrialError: see harness.training.loop.fit.
        """
        if self.engine == "plain":
            return fit(self.adapted.model, self.task, self.items, self.plan)
        if self.engine == "packed":
            from harness.engines.packed.driver import fit_alone  # it needs this module

            return fit_alone(self)
        model = CutModel(self.adapted.model, self.trial.cut)
        store = self.trial.prefix(model, self.trial.config.data.target, "train")
        if num_views_of(self.plan.loop.augment) is None:  # views are computed when an epoch needs them
            store.rows(self.items)
        return fit(model, CutTask(self.task, store, model.encoder), self.items, self.plan)


T = TypeVar("T")


def drive(steps: Generator[Fitting, FitState, T]) -> T:
    """Go through a trial's steps, training each one that is due alone; what they return."""
    try:
        fitting = next(steps)
        while True:
            try:
                state = fitting.fit()
            except BaseException as error:  # the trial's own code decides what becomes of it
                fitting = steps.throw(error)
            else:
                fitting = steps.send(state)
    except StopIteration as end:
        return cast(T, end.value)


class Trial:
    """A trial's training and scoring; `run` does it all.

    Args:
        config: the resolved config.
        resources: what trials of this process share; where they are sealed, no test example is read or scored.
        checkpoint: where to keep the checkpoint, or None for none.
        report: called with each epoch's entry; True prunes the trial.
        execution: which engine trains it.

    Raises (from `run`):
        UserError: data, backbone, layers or adapter do not fit together; nothing was trained.
        TrialError: training failed, or a check did not hold.
    """

    def __init__(
        self, config: TrialConfig, resources: Resources, checkpoint: Any, report: Report, execution: Execution = PLAIN
    ) -> None:
        self.config = config
        self.execution = execution
        self.sealed = resources.sealed
        self.domains: Domains = resources.domains(config)
        self.checkpoint = checkpoint
        self.report = report
        self.device = torch.device(config.loop.device)
        self.dtype = dtype_of(config.loop)
        self.notes: list[str] = list(self.domains.corpus.notes)
        self.executed = execution.record("plain", why_no_cut(config))  # until a training is due

    def run(self) -> Outcome:
        """Train and score, alone."""
        return drive(self.steps())

    def steps(self) -> Generator[Fitting, FitState, Outcome]:
        """The same, leaving the training to whoever goes through it: it yields a Fitting and is sent its state."""
        torch.set_num_threads(self.config.loop.threads)
        base_check = BaseCheck(self.config, self.domains)
        adapted = self.adapted()
        state = (yield self._fitting(adapted)) if adapted.num_trainable else FitState()
        torch.set_num_threads(self.config.loop.threads)  # others may have trained meanwhile
        began = time.monotonic()
        checks = base_check.check(adapted, self.fresh_base)
        outcome = self._sealed_outcome(adapted, state, checks)
        if not self.sealed and not state.pruned:
            outcome = self._open_test(outcome, adapted)
        return replace(outcome, elapsed_s=state.elapsed_s + time.monotonic() - began)

    def check(self) -> None:
        """Find what `run` would find wrong, without training: device, data, audio, layers, the adapter.

        Raises:
            UserError: something does not fit together.
        """
        check_device(self.config.loop.device)
        data, recipe = self.config.data, self.domains.backbone.recipe
        foreign = [name for name in data.source if name not in recipe.data.domains]
        if foreign:
            raise UserError(
                f"data.source: backbone {recipe.name} was not trained on {foreign[0]!r}; "
                f"choices: {', '.join(recipe.data.domains)}"
            )
        if data.target in recipe.data.domains:
            raise UserError(f"data.target: backbone {recipe.name} was trained on {data.target!r} already")
        self.domains.task(self.config.loop.augment)
        if self.config.train != "none":
            self.train_items()
        for name in (data.target, *data.source):
            self.domains.items(name, "valid")
            if not self.sealed:
                self.domains.items(name, "test")
        self.adapted()

    @cached_property
    def base(self) -> TaskModel:
        """The base model, for comparison: shared, as nothing trains it."""
        return self.domains.frozen_model(self.config.loop)

    def fresh_base(self) -> TaskModel:
        """A copy of the backbone's model on the trial's device, in its dtype, in eval mode."""
        return copy.deepcopy(self.domains.backbone.model).to(self.device, self.dtype).eval()

    def adapted(self) -> Adapted:
        """A fresh model with what the trial trains.

        Raises:
            UserError: layers or adapter do not fit the backbone.
        """
        return adapt(self.fresh_base(), self.config)

    def train_items(self) -> list[Item]:
        """The target's training items: the few-shot sample of this seed, without clips that CTC cannot align.

        Raises:
            UserError: no clip can be aligned, or there are fewer examples than the limit.
        """
        data = self.config.data
        items = self.domains.train_sample(data.target, data.train_limit, self.config.seed)
        usable = [item for item in items if self.domains.plain_task.can_learn(item, self.domains.backbone.model)]
        if not usable:
            where = f"corpus {self.domains.corpus.name}: domain {data.target!r}"
            raise UserError(f"{where}: all {len(items)} training clips are too short for their transcript")
        if len(usable) < len(items):
            self.notes.append(f"{len(items) - len(usable)} training clips are too short for their transcript")
        return usable

    def choose_engine(self, model: TaskModel) -> tuple[Engine, str | None]:
        """The engine for the trial's adapted model: the one asked for, or the nearest that can, and why."""
        wanted = self.execution.engine
        if wanted == "plain":
            return wanted, None
        if reason := why_no_cut(self.config):
            return "plain", reason
        if not self.domains.can_resume(self.config):
            return "plain", "the encoder gives something else when it is run in two parts"
        if wanted == "packed" and (reason := why_not_packable(model, self.config.loop)):
            return "cut", reason
        return wanted, None

    @cached_property
    def cut(self) -> Cut:
        """The trial's cut (of one that has one)."""
        return find_cut(self.config, self.domains.frozen_model(self.config.loop))

    def prefix(self, model: TaskModel, domain: str, split: Split) -> PrefixStore:
        """What reaches the cut of the trial's model, for the items of a split."""
        padded = reads_padded_steps(model, training=split == "train")
        return self.domains.prefix(self.cut, padded, domain, split, self.config.loop)

    def _fitting(self, adapted: Adapted) -> Fitting:
        config, task = self.config, self.domains.task(self.config.loop.augment)
        plan = FitPlan(
            optim=config.optim,
            loop=config.loop,
            seed=config.seed,
            score_epoch=lambda model: self.score_epoch(lambda domain: self._score_valid(model, domain)),
            select=f"valid_target/{task.primary}",
            metric=task.primary,
            checkpoint=self.checkpoint,
            report=self.report,
            made_with=f"{self.domains.corpus.fingerprint} {self.domains.backbone.fingerprint}",
        )
        engine, why = self.choose_engine(adapted.model)
        self.executed = self.execution.record(engine, why)
        return Fitting(self, adapted, task, self.train_items(), plan, engine)

    def valid_items(self, domain: str) -> list[Item]:
        """The validation items that are scored after each epoch."""
        return self.domains.items(domain, "valid")[: self.config.loop.valid_limit]

    def _score_valid(self, model: TaskModel, domain: str) -> Evaluation:
        return self.domains.score(model, self.valid_items(domain), self.config.loop, self._task_of(model, domain))

    def _task_of(self, model: TaskModel, domain: str) -> Task | None:
        if not isinstance(model, CutModel):
            return None
        return CutTask(self.domains.plain_task, self.prefix(model, domain, "valid"), model.encoder)

    def score_epoch(self, score: Callable[[str], Evaluation]) -> dict[str, float]:
        """Validation scores after an epoch: target, and mean over the sources.

        Args:
            score: a domain -> its evaluation on `valid_items`.
        """
        data = self.config.data
        target = score(data.target)
        sources = [score(name) for name in data.source]
        entry = {f"valid_target/{name}": value for name, value in target.scores.items()}
        entry["valid_target/loss"] = target.loss
        for name in target.scores:
            entry[f"valid_source/{name}"] = fmean(source.scores[name] for source in sources)
        return entry | self._against_base(target, sources)

    def _against_base(self, target: Evaluation, sources: list[Evaluation]) -> dict[str, float]:
        """Forgetting and the constrained score on the validation examples, against the base model on the same ones."""
        data, loop, primary = self.config.data, self.config.loop, self.domains.plain_task.primary
        before = {
            name: self.domains.base_scores(self.base, name, "valid", loop, loop.valid_limit).scores[primary]
            for name in (data.target, *data.source)
        }
        base_sources = [before[name] for name in data.source]
        after = [source.scores[primary] for source in sources]
        score = constrained_score(primary, before[data.target], target.scores[primary], base_sources, after)
        return {
            "valid_forgetting": forgetting(primary, fmean(base_sources), fmean(after)),
            "valid_constrained_score": score,
        }

    def _score(self, model: TaskModel, items: list[Item]) -> Evaluation:
        return self.domains.score(model, items, self.config.loop)

    def _sealed_outcome(self, adapted: Adapted, state: FitState, checks: dict[str, str]) -> Outcome:
        """What a search may know: validation metrics at the best epoch, and parameter counts."""
        if state.history:
            valid = state.history[state.best_epoch - 1]["metrics"]
        else:
            valid = self.score_epoch(lambda domain: self._score_valid(adapted.model, domain))
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
            pruned=state.pruned,
        )

    def _open_test(self, outcome: Outcome, adapted: Adapted) -> Outcome:
        """The outcome with the test metrics of target and sources."""
        data, primary = self.config.data, self.domains.plain_task.primary
        names = (data.target, *data.source)
        scored = {name: self._score(adapted.model, self.domains.items(name, "test")) for name in names}
        bases = {name: self.domains.base_scores(self.base, name, "test", self.config.loop).scores for name in names}
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
        predictions = {
            name: dict(zip([i.key for i in self.domains.items(name, "test")], evaluation.predictions, strict=True))
            for name, evaluation in scored.items()
        }
        return replace(
            outcome,
            metrics=metrics | outcome.metrics,
            by_domain={name: evaluation.scores for name, evaluation in scored.items()},
            base=bases,
            predictions=predictions,
        )

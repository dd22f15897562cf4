"""One trial from its config to its record: adapt, train, score, check that the base model is untouched.

base model (frozen copy) -> adapters at the insertion points -> fit on the target -> scores on target and sources
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any

import torch

from harness.backbones.model import TaskModel
from harness.config import TrialConfig
from harness.data.corpus import limit_train
from harness.errors import TrialError, UserError
from harness.metrics import constrained_score, forgetting
from harness.training.adapting import Adapted, adapt
from harness.training.loop import FitPlan, FitState, fit
from harness.training.resources import Domains, Resources
from harness.training.task import Evaluation, Item

NUM_PROBES = 8  # examples per domain on which "adapters off" is compared with the base model, bit for bit

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


class Trial:
    """A trial's training and scoring; `run` does it all.

    Args:
        config: the resolved config.
        resources: what trials of this process share; where they are sealed, no test example is read or scored.
        checkpoint: where to keep the checkpoint, or None for none.
        report: called with each epoch's entry; True prunes the trial.

    Raises (from `run`):
        UserError: data, backbone, layers or adapter do not fit together; nothing was trained.
        TrialError: training failed, or a check did not hold.
    """

    def __init__(self, config: TrialConfig, resources: Resources, checkpoint: Any, report: Report) -> None:
        self.config = config
        self.sealed = resources.sealed
        self.domains: Domains = resources.domains(config)
        self.checkpoint = checkpoint
        self.report = report
        self.device = torch.device(config.loop.device)
        self.dtype = torch.float64 if config.loop.precision == "float64" else torch.float32
        self.notes: list[str] = list(self.domains.corpus.notes)

    def run(self) -> Outcome:
        probes = self._probe_outputs(self.base)
        adapted = adapt(self.fresh_base(), self.config)
        state = self._fit(adapted.model) if adapted.num_trainable else FitState()
        began = time.monotonic()
        checks = self._check_base_restored(adapted, probes)
        outcome = self._sealed_outcome(adapted, state, checks)
        if not self.sealed and not state.pruned:
            outcome = self._open_test(outcome, adapted)
        return replace(outcome, elapsed_s=state.elapsed_s + time.monotonic() - began)

    def check(self) -> None:
        """Find what `run` would find wrong, without training: data, audio, layers, the adapter.

        Raises:
            UserError: something does not fit together.
        """
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
        adapt(self.fresh_base(), self.config)

    @cached_property
    def base(self) -> TaskModel:
        """The base model, for comparison; nothing trains it."""
        return self.fresh_base()

    def fresh_base(self) -> TaskModel:
        """A copy of the backbone's model on the trial's device, in its dtype, in eval mode."""
        return copy.deepcopy(self.domains.backbone.model).to(self.device, self.dtype).eval()

    def train_items(self) -> list[Item]:
        """The target's training items: the few-shot sample of this seed, without clips that CTC cannot align.

        Raises:
            UserError: no clip can be aligned, or there are fewer examples than the limit.
        """
        data = self.config.data
        examples = self.domains.corpus.split(data.target, "train")
        chosen = limit_train(examples, data.train_limit, self.config.seed)
        items = self.domains.items_of(chosen, data.target, "train")
        usable = [item for item in items if self.domains.plain_task.can_learn(item, self.domains.backbone.model)]
        if not usable:
            where = f"corpus {self.domains.corpus.name}: domain {data.target!r}"
            raise UserError(f"{where}: all {len(items)} training clips are too short for their transcript")
        if len(usable) < len(items):
            self.notes.append(f"{len(items) - len(usable)} training clips are too short for their transcript")
        return usable

    def _fit(self, model: TaskModel) -> FitState:
        config, task = self.config, self.domains.task(self.config.loop.augment)
        plan = FitPlan(
            optim=config.optim,
            loop=config.loop,
            seed=config.seed,
            score_epoch=self._score_epoch,
            select=f"valid_target/{task.primary}",
            metric=task.primary,
            checkpoint=self.checkpoint,
            report=self.report,
            made_with=f"{self.domains.corpus.fingerprint} {self.domains.backbone.fingerprint}",
        )
        return fit(model, task, self.train_items(), plan)

    def _score_epoch(self, model: TaskModel) -> dict[str, float]:
        """Validation scores after an epoch: target, and mean over the sources."""
        data, limit = self.config.data, self.config.loop.valid_limit
        target = self._score(model, self.domains.items(data.target, "valid")[:limit])
        sources = [self._score(model, self.domains.items(name, "valid")[:limit]) for name in data.source]
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

    @torch.no_grad()
    def _probe_outputs(self, model: TaskModel) -> list[torch.Tensor]:
        """The model's raw scores on a few examples of each domain."""
        data, task = self.config.data, self.domains.plain_task
        outputs = []
        for domain in (data.target, *data.source):
            batch = task.collate(self.domains.items(domain, "valid")[:NUM_PROBES], None)
            batch = batch.to(self.device, self.dtype)
            outputs.append(model.eval()(batch.inputs, batch.lengths)[0])
        return outputs

    def _check_base_restored(self, adapted: Adapted, before: list[torch.Tensor]) -> dict[str, str]:
        """Adapters off (or, where the base's own weights learn, the shared backbone) must give the base's bits."""
        if adapted.restorable:
            with adapted.switched_off():
                after = self._probe_outputs(adapted.model)
            how = "adapters off: the base model's outputs, bit for bit"
        else:
            after = self._probe_outputs(self.fresh_base())
            how = "base weights are trained; the shared backbone still gives the base's outputs, bit for bit"
        if not all(torch.equal(old, new) for old, new in zip(before, after, strict=True)):
            raise TrialError("not_restored", "the base model's outputs are not restored after the trial")
        return {"base_restored": how}

    def _sealed_outcome(self, adapted: Adapted, state: FitState, checks: dict[str, str]) -> Outcome:
        """What a search may know: validation metrics at the best epoch, and parameter counts."""
        valid = state.history[state.best_epoch - 1]["metrics"] if state.history else self._score_epoch(adapted.model)
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

"""The cut engine: the plain loop behind a frozen prefix that is computed once for each item and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.backbones.model import TaskModel
from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.engines.cut.cut import CutModel, why_no_cut
from harness.engines.cut.prefixes import Prefixes
from harness.tasks.task import Evaluation, Task
from harness.training.engine import PLAIN_ENGINE, Engine, Fitting, Shared
from harness.training.fit_plan import FitState
from harness.training.loop import fit
from harness.training.views import num_views_of


class CutEngine(Engine):
    """Trains the part behind the cut; a trial without a frozen prefix goes to the plain engine.

    Args:
        execution: see Engine.
        prefixes: those of the process.
    """

    def __init__(self, execution: Execution, prefixes: Prefixes) -> None:
        self.execution, self.prefixes = execution, prefixes

    def choose(self, config: TrialConfig, domains: Shared, model: TaskModel) -> tuple[Engine, str | None]:
        if reason := why_no_cut(config):
            return PLAIN_ENGINE, reason
        if model.encoder.starts_elsewhere:
            return (
                PLAIN_ENGINE,
                "start: the trial that it starts from changed the encoder, so its prefix is another one",
            )
        if reason := self.prefixes.of(domains).why_not(config):
            return PLAIN_ENGINE, reason
        return self, None

    def fit(self, fitting: Fitting) -> FitState:
        config, whole, prefixes = fitting.config, fitting.model, self.prefixes.of(fitting.domains)
        model = CutModel(whole, prefixes.cut(config))
        task = prefixes.task(config, whole, config.data.target, "train", fitting.task)
        if num_views_of(config.loop.augment) is None:  # views are computed when an epoch needs them
            task.store.rows(fitting.items)

        def score(domain: str) -> Evaluation:
            behind = prefixes.task(config, whole, domain, "valid", fitting.domains.plain_task)
            return fitting.validation.score(model, domain, behind)

        plan = replace(fitting.plan, score_epoch=lambda _: fitting.validation.epoch(score))
        if plan.output_pull is not None:
            base = CutModel(plan.output_pull.base, prefixes.cut(config))
            plan = replace(plan, output_pull=plan.output_pull.behind(base, self._source_tasks(fitting)))
        return fit(model, task, fitting.items, plan)

    def _source_tasks(self, fitting: Fitting) -> Callable[[int], Task]:
        """The task behind the cut on the training items of each source domain, which have no augmented views."""
        config, domains = fitting.config, fitting.domains
        plain = config.model_copy(update={"loop": config.loop.model_copy(update={"augment": None})})
        return lambda number: self.prefixes.of(domains).task(
            plain, fitting.model, config.data.source[number], "train", domains.plain_task
        )

"""The packed engine: the steps of several trainings at once, each exactly what it is alone."""

from __future__ import annotations

from harness.backbones.model import TaskModel
from harness.config.execution import Execution
from harness.config.notes import Note
from harness.config.trial import TrialConfig
from harness.engines.cut.engine import CutEngine
from harness.engines.cut.prefixes import Prefixes
from harness.engines.packed.packable import why_not_packable
from harness.engines.packed.scheduler import PackScheduler
from harness.training.engine import Engine, Fitting, Shared
from harness.training.fit_plan import FitState


class PackedEngine(Engine):
    """Trains packs; a trial that cannot be packed goes to the cut engine, or from there to the plain one.

    It is the engine `auto` as well, which asks for no more than that.

    A pack of several comes from a PackDriver (driver.py), which is given their trainings; `fit` makes a pack of one.

    Args:
        execution: see Engine.
        prefixes: those of the process.
    """

    def __init__(self, execution: Execution, prefixes: Prefixes) -> None:
        self.execution, self.prefixes = execution, prefixes
        packs = execution.model_copy(update={"engine": "packed"})
        self._packs = self if execution == packs else PackedEngine(packs, prefixes)
        self._cut = CutEngine(Execution(engine="cut"), prefixes)

    def choose(self, config: TrialConfig, domains: Shared, model: TaskModel) -> tuple[Engine, str | None]:
        nearest, reason = self._cut.choose(config, domains, model)
        if reason is None and config.start is not None:
            return nearest, "start: a pack shares the backbone's frozen weights, and this trial starts with others"
        if reason is None and (reason := why_not_packable(model, config.loop, config.optim)) is None:
            if not self.prefixes.of(domains).mixes_rows(config):
                return self._packs, None
            reason = "the bits that the encoder gives for an item depend on the items beside it"
        return nearest, reason

    def fit(self, fitting: Fitting) -> FitState:
        scheduler = PackScheduler(1, self.prefixes)
        scheduler.add(fitting)
        while True:
            found = scheduler.run()
            fitting.notes.extend(Note("engine", text) for text in scheduler.take_notes())
            for ended in found:
                if isinstance(ended.outcome, BaseException):
                    raise ended.outcome
                return ended.outcome

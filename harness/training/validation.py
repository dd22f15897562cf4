"""Score a trial after each epoch: on the validation items of its domains, and against the base model.

An engine says how one domain is scored; the epoch's numbers are made of that here, for all engines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.backbones.model import TaskModel
from harness.config.trial import TrialConfig
from harness.metrics import constrained_score, forgetting
from harness.tasks.task import Evaluation, Item, Task
from harness.training.resources import Domains


@dataclass(frozen=True, eq=False)
class Validation:
    """The validation scores of one trial: on its target, on its sources, and against the base model on the same items.

    Args:
        config: the trial's.
        domains: its data, shared with other trials.
    """

    config: TrialConfig
    domains: Domains

    @property
    def names(self) -> tuple[str, ...]:
        """The domains: the target first."""
        return self.config.data.target, *self.config.data.source

    def items(self, domain: str) -> list[Item]:
        """The items of a domain that are scored after each epoch: the same for all arms and seeds."""
        return self.domains.valid_items(domain, self.config.loop.valid_limit)

    def score(self, model: TaskModel, domain: str, task: Task | None = None) -> Evaluation:
        """Score a model on a domain's items; `task` makes the batches where the model takes others than the plain."""
        return self.domains.score(model, self.items(domain), self.config.loop, task)

    def epoch(self, score: Callable[[str], Evaluation]) -> dict[str, float]:
        """The scores of an epoch, by name: target, mean over the sources (and `loop.meta.over`), what was forgotten.

        Args:
            score: a domain -> its evaluation on `items`.
        """
        meta = self.config.loop.meta
        found = {name: score(name) for name in dict.fromkeys((*self.names, *(meta.over if meta else ())))}
        target, sources = found[self.config.data.target], [found[name] for name in self.config.data.source]
        entry = {f"valid_target/{name}": value for name, value in target.scores.items()}
        entry["valid_target/loss"] = target.loss
        for name in target.scores:
            entry[f"valid_source/{name}"] = fmean(source.scores[name] for source in sources)
            if meta is not None:
                entry[f"valid_meta/{name}"] = fmean(found[domain].scores[name] for domain in meta.over)
        return entry | self._against_base(target, sources)

    def _against_base(self, target: Evaluation, sources: Sequence[Evaluation]) -> dict[str, float]:
        loop, primary = self.config.loop, self.domains.plain_task.primary
        base = self.domains.frozen_model(loop)
        before_target, *before = [
            self.domains.base_scores(base, self.items(name), loop).scores[primary] for name in self.names
        ]
        after = [source.scores[primary] for source in sources]
        score = constrained_score(primary, before_target, target.scores[primary], before, after)
        return {"valid_forgetting": forgetting(primary, fmean(before), fmean(after)), "valid_constrained_score": score}

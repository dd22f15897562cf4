"""A check after each trial: without what it has trained, the base model is what it was, bit for bit.

Its weights are compared, and what it gives for a few examples: a wrapper or a mode that was left behind changes no
weight.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from harness.backbones.model import TaskModel
from harness.config.trial import TrialConfig
from harness.data.batching import tight_batches
from harness.errors import TrialError
from harness.tasks.task import Item
from harness.training.adapting import Adapted
from harness.training.precision import dtype_of
from harness.training.resources import Domains

NUM_PROBES = 4  # examples of each domain, at most
PROBE_STEPS = 256  # input steps of those together: where they have more, the shortest are taken, at least two
BATCH_COST = 64  # of a batch besides its steps, in steps


class BaseCheck:
    """The base model's raw scores on a few validation examples of each domain of a trial, before and after it.

    Args:
        config: the trial's.
        domains: shared with other trials. The scores before are computed once for all of them, so that a later trial
            finds what an earlier one broke.
    """

    def __init__(self, config: TrialConfig, domains: Domains) -> None:
        self._config, self._domains = config, domains
        data, loop = config.data, config.loop
        key = (data.target, *data.source, loop.device, loop.precision, loop.threads)
        if key not in domains.base_probes:
            domains.base_probes[key] = [*self._scores(domains.frozen_model(loop))]
        self._before = self._at_start = self._without = domains.base_probes[key]

    def note_start(self, adapted: Adapted) -> None:
        """Keep the outputs that a trial starts with, where weights from elsewhere make them others than the base's."""
        if self._config.start is not None or any(member.source is not None for member in self._config.members):
            self._at_start = [*self._scores(adapted.model)]
        if self._config.start is not None:
            with adapted.switched_off():
                self._without = [*self._scores(adapted.model)]

    def check(self, adapted: Adapted, fresh_base: Callable[[], TaskModel]) -> dict[str, str]:
        """Switch the adapters off (or, where the base's own weights learn, copy the shared backbone) and compare.

        A trial that started with another's weights has to give, with its adapters off, what it gave so before it.

        Returns:
            What the record says of it.

        Raises:
            TrialError: not_restored.
        """
        changes, restored = self._config.start is not None, True
        if adapted.restorable:
            with adapted.switched_off():
                restored = (changes or self._has_base_weights(adapted)) and self._gives(adapted.model, self._without)
            whose = "outputs of the model that it started from" if changes else "base model's outputs"
            how = f"adapters off: the {whose}, bit for bit"
        else:
            how = "base weights are trained; the shared backbone still gives the base's outputs, bit for bit"
        if changes or not adapted.restorable:
            restored = restored and self._gives(fresh_base(), self._before)
        if not restored:
            raise TrialError("not_restored", "the base model's weights or outputs are not restored after the trial")
        return {"base_restored": how}

    def is_as_before(self, adapted: Adapted) -> bool:
        """Whether the trained model gives the outputs that it started with, bit for bit: training changed nothing."""
        return self._gives(adapted.model, self._at_start)

    def _has_base_weights(self, adapted: Adapted) -> bool:
        """Whether the weights that a model had before adapters were put into it are the base model's, bit for bit."""
        base = self._domains.frozen_model(self._config.loop)
        return all(torch.equal(own, expected) for own, expected in zip(adapted.base, base.parameters(), strict=True))

    def _probes(self, domain: str) -> list[Item]:
        """The examples of a domain: long clips would cost as much as an epoch."""
        first = self._domains.items(domain, "valid")[:NUM_PROBES]
        probes = sorted(first, key=lambda item: len(item.inputs))
        ends = itertools.accumulate(len(item.inputs) for item in probes)
        return probes[: max(2, sum(end <= PROBE_STEPS for end in ends))]

    def _gives(self, model: TaskModel, expected: Sequence[Tensor]) -> bool:
        """Whether a model gives some scores, bit for bit; what comes after the first other one is not computed."""
        return all(torch.equal(one, found) for one, found in zip(expected, self._scores(model), strict=True))

    @torch.no_grad()
    def _scores(self, model: TaskModel) -> Iterator[Tensor]:
        """The scores of batches of like length, the shortest first: clips padded to the longest would cost twice."""
        data, loop, domains = self._config.data, self._config.loop, self._domains
        items = [item for name in (data.target, *data.source) for item in self._probes(name)]
        task, model = domains.plain_task, model.eval()
        lengths = [len(item.inputs) for item in items]
        for places in tight_batches(lengths, max_frames=task.score_steps, batch_cost=BATCH_COST, multiple=1):
            batch = task.collate([items[place] for place in places], None)
            batch = batch.to(torch.device(loop.device), dtype_of(loop))
            scores: Tensor = model(batch.inputs, batch.lengths, *task.given(batch))[0]
            yield scores

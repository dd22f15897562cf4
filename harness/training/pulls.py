"""What pulls a training back to where it began: L2-SP on its weights, and KL to the base model's outputs.

Both are added to the loss that is minimised, and are counted among its auxiliary losses:

    loss = the task's + the strategies' penalties
         + alpha / 2 |w - w_start|^2 + beta / 2 |v|^2               L2-SP (Li et al. 2018, arXiv 1802.01483)
         + weight T^2 mean KL(base || model, both softened by T)    learning without forgetting (arXiv 1606.09282)

w are the weights that learn and came with the base model, w_start their values where the trial begins; v are those that
are new: of adapters that start from random weights, and the shares of the layers that learn with them.
The base model is the frozen one, without adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle

import torch
from torch import Tensor, nn

from harness.backbones.model import TaskModel
from harness.config.trial import KlSettings, L2SpSettings, LoopSettings, TrialConfig
from harness.data.batching import bucketed_batches
from harness.seeding import torch_generator
from harness.tasks.task import Batch, Item, Task
from harness.training.precision import dtype_of
from harness.training.resources import Domains


class WeightPull:
    """L2-SP: made where a training begins, before a checkpoint is read.

    Args:
        named: the weights that learn, by name, with the values that they are pulled to.
        settings: alpha and beta.
        adapters: the ids of the weights that learn with adapters -> the adapter (TaskModel.learnt_with_adapters).
        taken: the adapters, and names of weights, whose first values are those of a file or another trial.
    """

    def __init__(
        self,
        named: Sequence[tuple[str, nn.Parameter]],
        settings: L2SpSettings,
        adapters: Mapping[int, str],
        taken: Collection[str] = (),
    ) -> None:
        self.settings = settings
        new = {id(weight) for name, weight in named if id(weight) in adapters and name not in taken}
        new = {one for one in new if adapters[one] not in taken}
        self.started = [(weight, weight.detach().clone()) for _, weight in named if id(weight) not in new]
        self.new = [weight for _, weight in named if id(weight) in new]

    def penalty(self) -> Tensor | None:
        """alpha / 2 |w - w_start|^2 + beta / 2 |v|^2, a scalar; None where there is no such weight."""
        alpha, beta = self.settings.alpha, self.settings.beta
        terms = [alpha / 2 * (weight - start).square().sum() for weight, start in self.started if alpha > 0]
        terms += [beta / 2 * weight.square().sum() for weight in self.new if beta > 0]
        return sum(terms[1:], terms[0]) if terms else None


@dataclass(frozen=True, eq=False)
class OutputPull:
    """KL to the base model's outputs, on the batches that the task is learnt from or on batches of the sources.

    Attributes:
        base: the frozen base model, behind the cut where the training is.
        sources: with `examples: source` the task and the training items of each source domain, which take turns.
    """

    settings: KlSettings
    base: TaskModel
    sources: tuple[tuple[Task, Sequence[Item]], ...] = ()

    def behind(self, base: TaskModel, task_of: Callable[[int], Task]) -> OutputPull:
        """The same behind a cut.

        Args:
            base: its part behind the cut.
            task_of: the task of source domain n, whose batches begin at the cut.
        """
        tasks = [(task_of(number), items) for number, (_, items) in enumerate(self.sources)]
        return replace(self, base=base, sources=tuple(tasks))

    def source_batches(self, loop: LoopSettings, seed: int, epoch: int) -> Iterator[tuple[Task, Batch]]:
        """An epoch's batches of the sources, without end: the domains take turns, each in an order of its own.

        Batches are made as those that are learnt from, so that they keep to `loop.batch_size` and `loop.max_frames`.
        """
        # Each goes through all items of its domain again and again.
        streams = [self._stream(number, loop, seed, epoch) for number in range(len(self.sources))]
        for stream in cycle(streams):
            yield next(stream)

    def _stream(self, number: int, loop: LoopSettings, seed: int, epoch: int) -> Iterator[tuple[Task, Batch]]:
        task, items = self.sources[number]
        device, dtype = torch.device(loop.device), dtype_of(loop)
        for turn in count():
            batches = bucketed_batches(
                [len(item.inputs) for item in items],
                max_frames=loop.max_frames,
                batch_size=loop.batch_size,
                generator=torch_generator(seed, "kl", epoch, number, turn),
            )
            for indices in batches:
                yield task, task.collate([items[index] for index in indices], None).to(device, dtype)

    def on_batch(self, task: Task, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        """weight * mean KL between the base model's scores of a batch and the model's, a scalar.

        Args:
            task: whose batch it is.
            scores: of the model.
            valid_BT: as the model gave it.
            batch: what was scored.
        """
        with torch.no_grad():
            wanted, _ = self.base(batch.inputs, batch.lengths, *task.given(batch))
        rows_B = task.kl_rows(scores, wanted, valid_BT, batch, self.settings.temperature)
        return self.settings.weight * rows_B.mean()


def output_pull(config: TrialConfig, domains: Domains) -> OutputPull | None:
    """What a trial's settings ask for; None where they ask for none."""
    settings = config.loop.kl_to_base
    if settings is None or settings.weight == 0:
        return None
    sources = config.data.source if settings.examples == "source" else ()
    task = domains.plain_task
    items = tuple((task, domains.items(name, "train")) for name in sources)
    return OutputPull(settings, domains.frozen_model(config.loop), items)

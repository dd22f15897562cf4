"""MetaAdapter: train one adapter on several domains by turns, so that a few steps on another one go far.

First-order meta-learning as in the code of its authors (Hou et al. 2021, ICASSP; arXiv 2105.11905). From the weights w
of a step, for each domain d, a batch of d is split in half:

    u_d = w   after an optimizer step on the first half     (meta-train)
    v_d = u_d after an optimizer step on the second half    (meta-valid)

    w <- w + lr * mean_d (v_d - u_d),    lr = loop.meta.lr, falling linearly to 0 over the training

One optimizer takes all of these steps, so its second moments run over domains and steps. `betas: [0, 0.999]` leaves it
no momentum that one domain could hand to the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, count, islice
from statistics import fmean

import torch

from harness.backbones.model import TaskModel
from harness.data.batching import bucketed_batches
from harness.seeding import torch_generator
from harness.tasks.task import Item, Task
from harness.training.fit_plan import FitPlan, Scores
from harness.training.loop import Fit
from harness.training.optim import lr_at
from harness.training.randomness import seed_global


class MetaFit(Fit):
    """A training on several domains by turns; see the module.

    An epoch has as many steps as the domain with most batches has batches; the others begin anew, in another order.

    Args:
        sizes: how many of the items, in their order, are of each domain.
    """

    def __init__(
        self, model: TaskModel, task: Task, items: Sequence[Item], plan: FitPlan, *, sizes: Sequence[int]
    ) -> None:
        super().__init__(model, task, items, plan)
        assert sum(sizes) == len(items) and all(sizes), "each domain has items"
        self.domains = [range(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]

    def batches_of_turn(self, number: int, epoch: int, turn: int) -> list[list[int]]:
        """The batches in which a domain's items pass for the first time in an epoch (turn 0), or for a later one."""
        part = self.domains[number]
        batches = bucketed_batches(
            [len(self.items[i].inputs) for i in part],
            max_frames=self.plan.loop.max_frames,
            batch_size=self.plan.loop.batch_size,
            generator=torch_generator(self.plan.seed, "data", "order", epoch, "domain", number, turn),
        )
        return [[part[i] for i in batch] for batch in batches]

    def batches_by_turns(self, epoch: int) -> list[tuple[list[int], ...]]:
        """Each step's batches, one of each domain, as indices of all items."""
        firsts = [self.batches_of_turn(number, epoch, 0) for number in range(len(self.domains))]

        def turns(number: int) -> Iterator[list[list[int]]]:
            yield firsts[number]
            yield from (self.batches_of_turn(number, epoch, turn) for turn in count(1))

        without_end = [chain.from_iterable(turns(number)) for number in range(len(firsts))]
        return list(islice(zip(*without_end, strict=True), max(map(len, firsts))))

    def _train_epoch(self, epoch: int) -> Scores:
        """One epoch; the mean losses of the second halves."""
        loop, seed = self.plan.loop, self.plan.seed
        assert loop.meta is not None
        seed_global(seed, epoch)
        self.model.train()
        self.model.set_strategy_generator(self.noise_generator(epoch))
        items, augmentation = self.items_in(epoch), torch_generator(seed, "augmentation", epoch)
        steps, losses = self.batches_by_turns(epoch), []
        for number, parts in enumerate(steps):
            progress = (epoch + number / len(steps)) / loop.epochs
            lr = lr_at(self.plan.optim, progress, loop.epochs * len(steps))
            where = f"epoch {epoch + 1}, step {number + 1}"
            start = self._copy_weights()
            moves = [torch.zeros_like(weight) for weight in start]
            for part in parts:
                self._put_weights(start)
                for half in halves(part):
                    before = self._copy_weights()
                    batch = self.task.collate([items[i] for i in half], augmentation)
                    found = self._step([batch], [len(half)], progress, lr, where)
                losses.append(found)
                for move, old, new in zip(moves, before, self.weights, strict=True):
                    move.add_(new.detach() - old, alpha=1 / len(parts))
            step = loop.meta.lr * (1.0 - progress)
            self._put_weights([old.add(move, alpha=step) for old, move in zip(start, moves, strict=True)])
        task, auxiliary = zip(*losses, strict=True)
        return {"train/loss": fmean(task), "train/auxiliary_loss": fmean(auxiliary)}


def halves(batch: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Every other item, and the others, so that both are of like length; an item that is alone is in both."""
    return (batch[::2], batch[1::2]) if len(batch) > 1 else (batch, batch)

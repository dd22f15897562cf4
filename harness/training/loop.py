"""The readable reference for training one model: what every faster path must reproduce.

Randomness: the order of the data, augmentation, dropout and stochastic depth are seeded anew at each epoch from
(trial seed, purpose, epoch). A checkpoint is taken at the end of an epoch, so it needs no generator state, and a
killed trial goes on to the same bits. Nothing outside the loop sees a seeded global generator. Augmented views
(`loop.augment.views`) never change: only which of them an epoch uses is drawn (harness/training/views.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.backbones.model import TaskModel
from harness.data.batching import bucketed_batches
from harness.errors import TrialError, first_line
from harness.metrics import METRICS
from harness.seeding import torch_generator
from harness.tasks.task import Batch, Item, Task
from harness.training.checkpoint import (
    SYNC_S,
    Checkpoint,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from harness.training.fit_plan import FitPlan, FitState, Scores
from harness.training.optim import in_order, lr_at, make_optimizer, set_lr
from harness.training.precision import autocast, dtype_of
from harness.training.pulls import WeightPull
from harness.training.randomness import device_generator, own_global_generator, seed_global
from harness.training.state import ChangingState, Snapshot
from harness.training.views import num_views_of, views_of_epoch
from harness.watchdog import beat


def fit(
    model: TaskModel, task: Task, items: Sequence[Item], plan: FitPlan, make: Callable[..., Fit] | None = None
) -> FitState:
    """Train the weights of `model` that require a gradient and leave it as it was after its best epoch.

    Args:
        model: on the device and in the dtype of `plan.loop` already.
        items: the training examples, ready for the model.
        plan: settings, scoring and reporting; `plan.report` gets one entry per epoch, repeated for the epochs that a
            checkpoint already holds. True stops the training at that entry, a repeated one too.
        make: what takes the steps, from the four above; Fit if None.

    Returns:
        the state; where `pruned`, as it was after the epoch that stopped it. (After a resume the model may then have
        the weights of a later epoch; nothing keeps the weights of a pruned training.)

    Raises:
        TrialError: a loss or score is not finite (`nan`), a checkpoint is damaged (`damaged`) or another training's
            (`checkpoint`), or the disk is full.
    """
    fitting = (make or Fit)(model, task, items, plan)
    with own_global_generator(torch.device(plan.loop.device)):
        fitting.run()
    return fitting.state


class Fit:
    """One training under way: its weights, optimizer and state, and what happens between two epochs.

    An engine that takes the steps of many of these at once leaves the rest to them.
    """

    def __init__(self, model: TaskModel, task: Task, items: Sequence[Item], plan: FitPlan) -> None:
        self.model, self.task, self.items, self.plan = model, task, items, plan
        self.device = torch.device(plan.loop.device)
        self.dtype = dtype_of(plan.loop)
        trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        adapters = model.learnt_with_adapters()
        named = in_order(trained, plan.optim, adapters)
        self.names = [name for name, _ in named]
        self.weights = [weight for _, weight in named]
        self.optimizer = make_optimizer(named, plan.optim, adapters)
        l2_sp = plan.loop.l2_sp
        self.weight_pull = None if l2_sp is None else WeightPull(named, l2_sp, adapters, plan.taken)
        self.state = FitState()
        self.other = ChangingState(model)
        self.best, self.best_other = self._copy_weights(), self.other.take()
        self._synced = time.monotonic()

    def run(self) -> None:
        """Train to the end, and leave the model with the best weights."""
        self.resume()
        while not self.is_over:
            began = time.monotonic()
            losses = self._train_epoch(self.state.epoch)
            scores = self.plan.score_epoch(self.model)
            self.finish_epoch(losses, scores, partial(_seconds_since, began))
        self.put_best_weights()

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left to train."""
        state, loop = self.state, self.plan.loop
        out_of_patience = loop.patience is not None and state.epoch - state.best_epoch >= loop.patience
        return state.epoch >= loop.epochs or out_of_patience or state.pruned

    def batches_of(self, epoch: int) -> list[list[int]]:
        """The epoch's batches, as indices of the items, in their order."""
        return bucketed_batches(
            [len(item.inputs) for item in self.items],
            max_frames=self.plan.loop.max_frames,
            batch_size=self.plan.loop.batch_size,
            generator=torch_generator(self.plan.seed, "data", "order", epoch),
        )

    def items_in(self, epoch: int) -> Sequence[Item]:
        """The items as an epoch uses them: themselves, or one augmented view of each."""
        views = self.views_in(epoch)
        if views is None:
            return self.items
        return [replace(item, view=view) for item, view in zip(self.items, views, strict=True)]

    def views_in(self, epoch: int) -> list[int] | None:
        """Which augmented view of each item an epoch uses; None where there are none."""
        num_views = num_views_of(self.plan.loop.augment)
        return None if num_views is None else views_of_epoch(len(self.items), num_views, self.plan.seed, epoch)

    def noise_generator(self, epoch: int) -> torch.Generator:
        """The generator that the strategies draw from in an epoch, on the device."""
        return device_generator(self.device, self.plan.seed, "stochastic_depth", epoch)

    def _train_epoch(self, epoch: int) -> Scores:
        """One pass over the data; the mean training losses."""
        loop, seed = self.plan.loop, self.plan.seed
        seed_global(seed, epoch)
        self.model.train()
        self.model.set_strategy_generator(self.noise_generator(epoch))
        if self.plan.output_pull is not None:
            self.source_batches = self.plan.output_pull.source_batches(loop, seed, epoch)
        batches, items = self.batches_of(epoch), self.items_in(epoch)
        steps = [batches[first : first + loop.accumulate] for first in range(0, len(batches), loop.accumulate)]
        augmentation = torch_generator(seed, "augmentation", epoch)
        task_sum = auxiliary_sum = 0.0
        for number, parts in enumerate(steps):
            progress = (epoch + number / len(steps)) / loop.epochs
            lr = lr_at(self.plan.optim, progress, loop.epochs * len(steps))
            collated = (self.task.collate([items[i] for i in indices], augmentation) for indices in parts)
            where = f"epoch {epoch + 1}, step {number + 1}"
            task_loss, auxiliary_loss = self._step(collated, [len(part) for part in parts], progress, lr, where)
            task_sum += task_loss
            auxiliary_sum += auxiliary_loss
        return {"train/loss": task_sum / len(steps), "train/auxiliary_loss": auxiliary_sum / len(steps)}

    def _step(
        self, batches: Iterable[Batch], sizes: Sequence[int], progress: float, lr: float, where: str
    ) -> tuple[float, float]:
        """One optimizer step on batches of some sizes; the task's mean loss and the strategies' auxiliary loss."""
        beat()
        plan = self.plan
        self.model.set_training_progress(progress)
        set_lr(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        losses = [0.0, 0.0]
        for batch, size in zip(batches, sizes, strict=True):
            # Its share of the step's examples: the sum of the gradients is that of one batch of all of them.
            found = self._add_gradient(batch.to(self.device, self.dtype), size / sum(sizes), where)
            losses = [before + loss for before, loss in zip(losses, found, strict=True)]
        if plan.optim.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.weights, plan.optim.clip_norm)
        self.optimizer.step()
        return losses[0], losses[1]

    def _add_gradient(self, batch: Batch, share: float, where: str) -> tuple[float, float]:
        """Add the gradient of a batch's loss, by its share in the step; that share of both losses."""
        with autocast(self.device, self.plan.loop.precision):
            scores, valid = self.model(batch.inputs, batch.lengths, *self.task.given(batch))
            loss = self.task.loss(scores, valid, batch)
            auxiliary = self._auxiliary_loss(scores, valid, batch)
        total = loss if auxiliary is None else loss + auxiliary
        if not torch.isfinite(total):
            raise TrialError("nan", f"the loss is {float(total.detach())} at {where}")
        (total * share).backward()  # type: ignore[no-untyped-call]
        return share * float(loss.detach()), 0.0 if auxiliary is None else share * float(auxiliary.detach())

    def _auxiliary_loss(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor | None:
        """What is minimised beside the task's loss: the strategies' penalties on a batch, and the pulls (pulls.py)."""
        parts = [self.model.collect_adapter_losses()]
        if self.weight_pull is not None:
            parts.append(self.weight_pull.penalty())
        if (pull := self.plan.output_pull) is not None:
            task = self.task
            if pull.sources:
                task, batch = next(self.source_batches)
                scores, valid_BT = self.model(batch.inputs, batch.lengths, *task.given(batch))
                self.model.collect_adapter_losses()  # the strategies' penalties are on the task's own batches alone
            parts.append(pull.on_batch(task, scores, valid_BT, batch))
        found = [part for part in parts if part is not None]
        return sum(found[1:], found[0]) if found else None

    def finish_epoch(
        self, losses: Scores, scores: Scores, elapsed_s: Callable[[], float], about: Mapping[str, Any] | None = None
    ) -> None:
        """Take an epoch's numbers: keep the best weights, save a checkpoint, report (which may prune).

        Args:
            losses: mean training losses.
            scores: what `plan.score_epoch` gave.
            elapsed_s: the seconds that the epoch took, asked when the best weights have been kept.
            about: what else its entry says of how it was trained.

        Raises:
            TrialError: a number is not finite (`nan`), or the checkpoint cannot be written (`disk`).
        """
        state = self.state
        for name, value in (losses | scores).items():
            if not math.isfinite(value):  # a gradient that was not finite in the last step shows only here
                raise TrialError("nan", f"{name} is {value} after epoch {state.epoch + 1}")
        state.epoch += 1
        if self._take_score(scores):
            self.best, self.best_other = self._copy_weights(), self.other.take()
        seconds = elapsed_s()
        state.elapsed_s += seconds
        entry = {"epoch": state.epoch, "metrics": losses | scores, "seconds": seconds, **(about or {})}
        state.history.append(entry)
        self._save()
        self._report(entry)

    def _take_score(self, scores: Scores) -> bool:
        """Take the epoch's score; returns whether it is the best so far."""
        state, select = self.state, self.plan.select
        score = 0.0 if select is None else scores[select]
        is_better = select is None or METRICS[self.plan.metric].better(score, state.best_score)
        if state.best_epoch and not is_better:
            return False
        state.best_epoch, state.best_score = state.epoch, score
        return True

    def _report(self, entry: dict[str, Any]) -> None:
        if self.plan.report(entry):
            self.state.pruned = True

    def _copy_weights(self) -> list[Tensor]:
        return [weight.detach().clone() for weight in self.weights]

    def put_best_weights(self) -> None:
        """Leave the model with the weights of the best epoch, and with what else training had changed by then."""
        self._put_weights(self.best)
        self.other.put(self.best_other)

    @torch.no_grad()
    def _put_weights(self, values: Sequence[Tensor]) -> None:
        for weight, value in zip(self.weights, values, strict=True):
            weight.copy_(value)

    def _save(self) -> None:
        if self.plan.checkpoint is None:
            return
        other = self.best_other if self.state.best_epoch == self.state.epoch else self.other.take()
        tensors = {
            **{f"weights/{name}": weight for name, weight in zip(self.names, self.weights, strict=True)},
            **{f"best/{name}": weight for name, weight in zip(self.names, self.best, strict=True)},
            **{f"other/{name}": tensor for name, tensor in other.tensors.items()},
            # After the best epoch these are the very same tensors, and torch's writer refuses any that share memory.
            **{f"best_other/{name}": tensor.clone() for name, tensor in self.best_other.tensors.items()},
            **{f"optimizer/{k}": v for k, v in optimizer_tensors(self.optimizer, self.names).items()},
        }
        values = {
            "made_with": self.plan.made_with,
            "state": vars(self.state),
            "other": other.values,
            "best_other": self.best_other.values,
        }
        sync = time.monotonic() - self._synced >= SYNC_S
        save_checkpoint(self.plan.checkpoint, Checkpoint(tensors, values), sync=sync)
        if sync:
            self._synced = time.monotonic()

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one; its epochs are reported again."""
        path = self.plan.checkpoint
        if path is None or not path.exists():
            return
        saved = load_checkpoint(path)
        weights, best = saved.group("weights"), saved.group("best")
        for what, fits in (
            ("holds other weights than the trial trains", set(weights) == set(self.names)),
            ("was made with other data or another base model", saved.values.get("made_with") == self.plan.made_with),
        ):
            if not fits:
                raise TrialError("checkpoint", f"{path}: this checkpoint {what}; delete it to train from the start")
        self._put_weights([weights[name] for name in self.names])
        self.best = [best[name].to(self.device) for name in self.names]
        self.best_other = Snapshot(saved.group("best_other"), saved.values.get("best_other", {}))
        try:
            self.other.put(Snapshot(saved.group("other"), saved.values.get("other", {})))
            self.state = FitState(**saved.values["state"])
        except (KeyError, TypeError) as error:  # of another version of the trial's classes, or of this package
            what = f"this checkpoint has another state than the trial ({first_line(error)})"
            raise TrialError("checkpoint", f"{path}: {what}; delete it to train from the start") from error
        load_optimizer_tensors(self.optimizer, self.names, saved.group("optimizer"))
        for entry in self.state.history:
            self._report(entry)
            if self.state.pruned:  # it would have ended here, had it not been killed before it could say so
                self._cut(entry["epoch"])
                return

    def _cut(self, num_epochs: int) -> None:
        """Make the state what it was after `num_epochs`: the checkpoint may hold more of them."""
        state = self.state = FitState(pruned=True, history=self.state.history[:num_epochs])
        for entry in state.history:
            state.epoch = entry["epoch"]
            state.elapsed_s += entry["seconds"]
            self._take_score(entry["metrics"])


def _seconds_since(began: float) -> float:
    return time.monotonic() - began

"""One trial in a pack: its data at the cut, its random streams, and what is due next.

Between two epochs it is a training of the plain loop (`Fit`): that takes its scores, keeps its best weights, writes its
checkpoint and decides whether it is over. So checkpoints pass between the loop and the pack.

Shape legend: N items of the trial, B rows, S target symbols.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.adapters.packed import packed_strategy
from harness.engines.cut.cut import enabled_adapters
from harness.engines.packed.items import ItemSet, ScoreSet, Width, padded_rows, padded_steps
from harness.engines.packed.optimizer import RowStep
from harness.engines.packed.packable import variant_of
from harness.errors import TrialError
from harness.metrics import Answer
from harness.tasks.task import Evaluation, evaluation_of
from harness.training.engine import Fitting
from harness.training.loop import Fit
from harness.training.optim import lr_at


@dataclass(frozen=True, eq=False)
class TrainStep:
    """A batch to learn from, on the device, and the padded shape that it shares launches by.

    A padded row repeats the first one; its loss is left out.

    Attributes:
        places_B: in the store.
        lengths_B: real steps at the cut.
        targets_BS: padded.
        target_lengths_B: of the targets.
        own_lengths: real steps at the cut of the rows that are no padding, on the host.
        num_steps: of the trial's own batch.
        shape: rows and steps, padded.
    """

    places_B: Tensor
    lengths_B: Tensor
    targets_BS: Tensor
    target_lengths_B: Tensor
    own_lengths: tuple[int, ...]
    num_steps: int
    shape: tuple[int, int]

    @property
    def num_own_rows(self) -> int:
        """Rows that are no padding."""
        return len(self.own_lengths)


@dataclass(frozen=True)
class ScoreStep:
    """A batch of validation items to score."""

    set_id: int
    number: int


@dataclass
class Scoring:
    """The predictions and the loss of one domain, as far as a slot has scored it."""

    predictions: list[Answer]
    total_loss: float = 0.0


class Slot:
    """One trial in a pack.

    Args:
        fitting: the training; its checkpoint, if it has one, is read here.
        items: to learn from, which other slots may share.
        score_set: its validation items, which other slots may share.
        width: of its model, for steps on these items.

    Raises:
        TrialError: the checkpoint is damaged, or that of another training.
    """

    def __init__(self, fitting: Fitting, items: ItemSet, score_set: ScoreSet, width: Width) -> None:
        self.fitting, self.items, self.score_set = fitting, items, score_set
        self.fit = Fit(fitting.model, fitting.task, fitting.items, fitting.plan)
        self.strategies = [adapter.adapter_strategy for adapter in enabled_adapters(fitting.model)]
        self.form = packed_strategy(self.strategies[0]) if self.strategies else None  # one config makes all layers'
        self._variants = {training: variant_of(self.strategies, training) for training in (True, False)}
        self.width = width
        self.row = -1
        self.num_optimizer_steps = 0
        self.waited = 0
        self.seconds = 0.0
        self.fit.resume()

    @property
    def due(self) -> TrainStep | ScoreStep:
        """The next thing to run."""
        return self.work[self.position]

    @property
    def variant(self) -> Hashable | None:
        """The variant of its strategies in what is due: only slots of one variant share a launch; None joins any."""
        return self._variants[isinstance(self.due, TrainStep)]

    @property
    def is_unpadded(self) -> bool:
        """Whether the layers should run on real steps alone in what is due: only such slots share a launch."""
        return self.width.unpads(isinstance(self.due, TrainStep))

    def begin_epoch(self) -> None:
        """Seed the streams anew and lay out the epoch: batches to learn from, then those to score."""
        epoch = self.fit.state.epoch
        self.noise = self.fit.noise_generator(epoch)
        self.task_sum = self.auxiliary_sum = 0.0
        self.unread: list[Tensor] = []
        self.position = self.num_sharing = 0
        self.seconds = 0.0
        batches = self.fit.batches_of(epoch)
        if (views := self.fit.views_in(epoch)) is not None:
            began = time.perf_counter()
            batches = self.items.view_indices(batches, views)
            self.seconds = time.perf_counter() - began
        self.num_batches = len(batches)
        self.work: list[TrainStep | ScoreStep] = [*self._train_steps(batches)]
        self.scorings = {domain: Scoring([""] * len(items)) for domain, items in self.score_set.items.items()}
        self.work += [ScoreStep(id(self.score_set), number) for number in range(len(self.score_set.batches))]

    def _train_steps(self, batches: Sequence[Sequence[int]]) -> list[TrainStep]:
        """An epoch's batches: what each needs of its items is taken for all of them at once."""
        items, shapes = self.items, [self._shape_of(indices) for indices in batches]
        # A short batch is filled up with its first item, whose further losses do not count: 5 3 becomes 5 3 5 5.
        padded = [
            [*indices, *[indices[0]] * (rows - len(indices))]
            for indices, (_, (rows, _)) in zip(batches, shapes, strict=True)
        ]
        chosen = torch.tensor([index for indices in padded for index in indices], device=items.places_N.device)
        sizes = [len(indices) for indices in padded]
        places, lengths, targets, target_lengths = (
            torch.split(of_items[chosen], sizes)
            for of_items in (items.places_N, items.lengths_N, items.targets_NS, items.target_lengths_N)
        )
        own_lengths = [tuple(items.lengths[index] for index in indices) for indices in batches]
        return [
            TrainStep(places[n], lengths[n], targets[n], target_lengths[n], own_lengths[n], *shapes[n])
            for n in range(len(batches))
        ]

    def _shape_of(self, indices: Sequence[int]) -> tuple[int, tuple[int, int]]:
        """A batch's own number of steps, and the shape that it is padded to."""
        longest = max(self.items.input_lengths[index] for index in indices)
        pooled = self.items.store.plan.cut.pooled
        encoder = self.fitting.model.encoder
        num_steps = 1 if pooled else int(encoder.output_lengths(torch.tensor(longest)))
        loop = self.fitting.plan.loop
        rows = padded_rows(len(indices), None if loop.max_frames is not None else loop.batch_size, self.width.is_wide)
        padded = padded_steps(num_steps, self.width.is_wide)
        return num_steps, (rows, min(padded, self.items.store.plan.num_steps))

    @property
    def progress(self) -> float:
        """Share of all steps that are done, as the plain loop counts it."""
        return (self.fit.state.epoch + self.position / self.num_batches) / self.fitting.plan.loop.epochs

    @property
    def options(self) -> list[float]:
        """The numeric options that its strategy has for itself, in its form's order."""
        return [] if self.form is None else [float(getattr(self.strategies[0], name)) for name in self.form.options]

    @property
    def drop_unit(self) -> str:
        """What one draw of its noise drops (functional.DROP_UNITS)."""
        return "batch" if self.form is None else self.form.drop_unit(self.strategies[0])

    def keep_probability(self, depth_fraction: float) -> float:
        """1 - the drop probability of a layer in the step that is due; 1 where its strategy drops nothing."""
        if self.form is None:
            return 1.0
        return 1.0 - self.form.drop_probability(self.strategies[0], depth_fraction, self.progress)

    def row_step(self) -> RowStep:
        """Its next optimizer step."""
        optim = self.fitting.plan.optim
        lr = lr_at(optim, self.progress, self.fitting.plan.loop.epochs * self.num_batches)
        return RowStep(optim, lr, self.num_optimizer_steps + 1)

    def take_losses(self, task_loss: float, auxiliary_loss: float) -> None:
        """Count a step that was taken.

        Raises:
            TrialError: the loss is not finite (`nan`), as the plain loop raises it.
        """
        self._add_losses(task_loss, auxiliary_loss, self.position + 1)
        self.num_optimizer_steps += 1
        self.position += 1

    def keep_losses(self, losses_2: Tensor) -> None:
        """Count a step that was taken, whose losses are still being computed: they are read when the epoch has no more.

        A loss that is not finite is found then; the trial's further steps up to there were in vain.

        Raises:
            TrialError: as `take_losses`, for the first such step.
        """
        self.unread.append(losses_2)
        self.num_optimizer_steps += 1
        self.position += 1
        if self.position == self.num_batches:
            losses, self.unread = torch.stack(self.unread).tolist(), []
            for number, (task_loss, auxiliary_loss) in enumerate(losses, 1):
                self._add_losses(task_loss, auxiliary_loss, number)

    def _add_losses(self, task_loss: float, auxiliary_loss: float, number: int) -> None:
        total = task_loss + auxiliary_loss
        if not math.isfinite(total):
            raise TrialError("nan", f"the loss is {total} at epoch {self.fit.state.epoch + 1}, step {number}")
        self.task_sum += task_loss
        self.auxiliary_sum += auxiliary_loss

    def take_scores(self, step: ScoreStep, predictions: Sequence[Answer], mean_losses: Sequence[float]) -> None:
        """Take a scored batch.

        Args:
            step: the batch.
            predictions: of its rows.
            mean_losses: of its parts.
        """
        rows = iter(predictions)
        for part, mean_loss in zip(self.score_set.batches[step.number].parts, mean_losses, strict=True):
            scoring = self.scorings[part.domain]
            scoring.total_loss += mean_loss * len(part.indices)
            for index in part.indices:
                scoring.predictions[index] = next(rows)
        self.position += 1

    @property
    def epoch_is_done(self) -> bool:
        """Whether everything of the epoch has run."""
        return self.position == len(self.work)

    def finish_epoch(self, gain: float | None = None) -> None:
        """Score, keep, save and report; the weights have been read back.

        Args:
            gain: how many times as fast as alone its pack trains it, where that was measured.

        Raises:
            TrialError: a number is not finite, or the checkpoint cannot be written.
        """
        losses = {
            "train/loss": self.task_sum / self.num_batches,
            "train/auxiliary_loss": self.auxiliary_sum / self.num_batches,
        }
        scores = self.fitting.validation.epoch(self._evaluation)
        pack = {"trials": round(self.num_sharing / self.num_batches, 2)}
        if gain is not None:
            pack["gain"] = round(gain, 2)
        self.fit.finish_epoch(losses, scores, lambda: self.seconds, {"pack": pack})

    def _evaluation(self, domain: str) -> Evaluation:
        scoring, items = self.scorings[domain], self.score_set.items[domain]
        return evaluation_of(self.fitting.domains.plain_task, items, scoring.predictions, scoring.total_loss)

"""Trainings on a module and tensors of a user's own: what stands in for a backbone's corpus and recipe.

Shape legend: N items, T steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.backbones.copying import copy_model
from harness.backbones.model import TaskModel
from harness.backbones.recipe import Recipe
from harness.backbones.store import fingerprint_of
from harness.config.trial import AugmentSettings, LoopSettings, TrialConfig
from harness.data.batching import bucketed_batches, pad_sequence_batch
from harness.data.corpus import Corpus, Example, Split
from harness.errors import UserError
from harness.seeding import derive_seed
from harness.tasks.given import GivenTask
from harness.tasks.inputs import Inputs
from harness.tasks.task import Evaluation, Item, Task, evaluate
from harness.training.adapting import Adapted, adapt
from harness.training.precision import dtype_of


class GivenInputs(Inputs):
    """Inputs that are tensors already."""

    score_steps = 4096
    align = 4
    cut_as: ClassVar[str] = "items are cut"

    @classmethod
    def make(cls, recipe: Recipe, tokenizer: Any, corpus: Corpus, augment: AugmentSettings | None) -> Inputs:
        raise AssertionError("there is no corpus")

    def prepare(self, examples: Sequence[Example]) -> list[Tensor]:
        raise AssertionError("there are no examples of a corpus")


def make_items(task: GivenTask, inputs: Any, targets: Any, mask: Any, place: str, *, to_learn: bool) -> list[Item]:
    """The items of a user's tensors.

    Args:
        task: says which targets it can learn.
        inputs: [N, T, ...], or N tensors [T, ...].
        targets: of the items.
        mask: [N, T] of the real steps of padded inputs; None: all are.
        place: of the data, for messages.
        to_learn: rather than to score.

    Raises:
        UserError: no item, an empty one, other numbers of items, padding in front of real steps, a value that is not
            finite, or a target that the task cannot learn.
    """
    rows = tensors_of(inputs, mask, place)
    if len(targets) != len(rows):
        raise UserError(f"{place}: {len(rows)} inputs and {len(targets)} targets; each input has one")
    items = []
    for number, (row, target) in enumerate(zip(rows, targets, strict=True)):
        plain = target.item() if isinstance(target, Tensor) and target.numel() == 1 else target
        try:
            items.append(task.item(str(number), row, plain))
            if to_learn and (reason := task.why_not_learnt(items[-1])):
                raise ValueError(reason)
        except ValueError as error:
            raise UserError(f"{place}: target {number}: {error}") from error
    return items


def tensors_of(inputs: Any, mask: Any, place: str) -> list[Tensor]:
    """The inputs of each item without padding, on the processor; raises UserError as `make_items`."""
    rows = _without_padding(inputs, mask, place) if isinstance(inputs, Tensor) else list(inputs)
    if not isinstance(inputs, Tensor) and mask is not None:
        raise UserError(f"{place}: mask: inputs of one tensor each are not padded, so leave it out")
    if not rows:
        raise UserError(f"{place}: there are no items")
    for number, row in enumerate(rows):
        if not isinstance(row, Tensor) or row.ndim == 0 or len(row) == 0:
            what = f"of shape {list(row.shape)}" if isinstance(row, Tensor) else f"a {type(row).__name__}"
            raise UserError(
                f"{place}: input {number} is {what}; a tensor [steps, ...] of at least one step is expected"
            )
        if row.shape[1:] != rows[0].shape[1:] or row.dtype != rows[0].dtype:
            kinds = [f"{one.dtype} [steps{''.join(f', {size}' for size in one.shape[1:])}]" for one in (row, rows[0])]
            raise UserError(f"{place}: input {number} is {kinds[0]}, and input 0 is {kinds[1]}; all are of one kind")
        if row.is_floating_point() and not row.isfinite().all():
            raise UserError(f"{place}: input {number} has a value that is not finite")
    as_kept = rows[0].dtype if rows[0].dtype in (torch.float32, torch.float64) else None
    wanted = as_kept or (torch.float32 if rows[0].is_floating_point() else torch.int64)
    return [row.detach().to("cpu", wanted) for row in rows]


def _without_padding(inputs: Tensor, mask: Any, place: str) -> list[Tensor]:
    """The rows of padded inputs, each with its real steps alone."""
    if inputs.ndim < 2:
        raise UserError(f"{place}: inputs of shape {list(inputs.shape)}; [items, steps, ...] is expected")
    if mask is None:
        return list(inputs)
    if not isinstance(mask, Tensor) or mask.shape != inputs.shape[:2]:
        found = list(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise UserError(f"{place}: mask: {found}; a tensor {list(inputs.shape[:2])} is expected, as the inputs have")
    real_NT = mask.cpu() != 0
    lengths_N = real_NT.sum(1)
    behind_N = (real_NT != (torch.arange(mask.shape[1]) < lengths_N[:, None])).any(1)
    if bool(behind_N.any()):
        row = int(behind_N.nonzero()[0])
        raise UserError(f"{place}: mask: row {row} has padding in front of real steps; pad at the end (on the right)")
    return [row[:length] for row, length in zip(inputs, lengths_N.tolist(), strict=True)]


@torch.no_grad()
def score_rows(model: TaskModel, rows: Sequence[Tensor]) -> list[Tensor]:
    """What a model's head gives for each item, [C], or [T, V] for each of its real steps; on the processor."""
    weight, found = next(model.parameters()), [Tensor()] * len(rows)
    for part in bucketed_batches([len(row) for row in rows], max_frames=GivenInputs.score_steps, generator=None):
        inputs, lengths_B = pad_sequence_batch([rows[index] for index in part])
        inputs = inputs.to(weight.device, weight.dtype if inputs.is_floating_point() else None)
        scores, valid_BT = model(inputs, lengths_B.to(weight.device))
        for index, own, is_real in zip(part, scores.cpu(), valid_BT.cpu(), strict=True):
            found[index] = own if own.ndim == 1 else own[is_real]
    return found


class GivenData:
    """A frozen module with a head, and items by the name of their data set: see harness.training.engine.Shared.

    Args:
        model: the module as an encoder, with a head; nothing else uses it.
        plain_task: what is learnt.
        sets: name of a data set -> its items to train on, and those to score, which may be none.
        draws_head: whether each training draws a head from its seed; otherwise it begins with the model's.
    """

    def __init__(
        self,
        model: TaskModel,
        plain_task: GivenTask,
        sets: Mapping[str, tuple[Sequence[Item], Sequence[Item]]],
        draws_head: bool,
    ) -> None:
        self.plain_task, self.sets, self.draws_head = plain_task, sets, draws_head
        self._model = model.eval().requires_grad_(False)
        self._frozen: dict[tuple[str, str], TaskModel] = {}

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self._model)

    @cached_property
    def made_of(self) -> tuple[str, ...]:
        state = hashlib.sha256()
        for name, parts in self.sets.items():
            for item in (item for part in parts for item in part):
                state.update(f"{name} {item.reference!r} {item.inputs.dtype} {list(item.inputs.shape)}".encode())
                state.update(item.inputs.numpy().tobytes())
        return self.fingerprint, state.hexdigest()

    def task(self, augment: AugmentSettings | None) -> GivenTask:
        return self.plain_task

    def frozen_model(self, loop: LoopSettings) -> TaskModel:
        key = (loop.device, loop.precision)
        if key not in self._frozen:
            device, dtype = torch.device(loop.device), dtype_of(loop)
            weights = [*self._model.parameters(), *self._model.buffers()]
            is_there = all(w.device == device and w.dtype == dtype for w in weights if w.is_floating_point())
            self._frozen[key] = self._model if is_there else copy_model(self._model).to(device, dtype)
        return self._frozen[key]

    def items(self, domain: str, split: Split) -> Sequence[Item]:
        train, valid = self.sets[domain]
        return valid if split == "valid" and valid else train  # engines try the module on items to score

    def adapted(self, config: TrialConfig) -> Adapted:
        """What a training trains: the frozen weights are shared, not copied.

        Raises:
            UserError: layers or adapter do not fit the module.
        """
        frozen = self.frozen_model(config.loop)
        shared: Any = {id(tensor): tensor for tensor in (*frozen.encoder.parameters(), *frozen.encoder.buffers())}
        model = copy_model(frozen, shared)
        if self.draws_head:
            output = model.head.output
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(derive_seed(config.seed, "init", "head"))
                drawn = nn.Linear(output.in_features, output.out_features)
                output.weight.copy_(drawn.weight)
                output.bias.copy_(drawn.bias)
        return adapt(model, config)


@dataclass(frozen=True, eq=False)
class GivenScores:
    """How a training on given data is scored after each epoch: see harness.training.engine.EpochScores.

    Args:
        domain: the data set.
        data: has its items.
        loop: of the training.
    """

    domain: str
    data: GivenData
    loop: LoopSettings

    @property
    def names(self) -> tuple[str, ...]:
        return (self.domain,) if self.data.sets[self.domain][1] else ()

    def items(self, domain: str) -> Sequence[Item]:
        return self.data.items(domain, "valid")

    def score(self, model: TaskModel, domain: str, task: Task | None = None) -> Evaluation:
        return evaluate(
            model,
            task or self.data.plain_task,
            self.items(domain),
            max_frames=self.data.plain_task.score_steps,
            device=torch.device(self.loop.device),
            dtype=dtype_of(self.loop),
        )

    def epoch(self, score: Callable[[str], Evaluation]) -> dict[str, float]:
        found = [score(name) for name in self.names]
        return {f"valid/{name}": value for one in found for name, value in {"loss": one.loss, **one.scores}.items()}

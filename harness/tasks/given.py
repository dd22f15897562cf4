"""The tasks that tensors of a user's own can be learnt by: classes, numbers, or texts by CTC. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from harness.config.trial import LoopSettings
from harness.errors import UserError
from harness.tasks.ctc import CtcTask, steps_needed
from harness.tasks.regression import RegressionTask
from harness.tasks.task import Batch, Item, WholeTask
from harness.tasks.text_classification import ClassificationTask

if TYPE_CHECKING:
    from torch import Tensor

OwnLoss = Callable[["Tensor", "Tensor"], "Tensor"]
"""(scores [B, C], targets [B]) -> each example's loss [B]."""


class GivenTask(WholeTask):
    """What a task adds to learn from targets that are no corpus's.

    Attributes:
        own_loss: a user's own, in place of the task's; None: the task's.
        takes_loss: whether there may be one.
        num_outputs: how many scores its head has where its outputs are not named; None: as many as these.
    """

    own_loss: OwnLoss | None = None
    takes_loss: ClassVar[bool] = True
    num_outputs: ClassVar[int | None] = None

    def item(self, key: str, inputs: Tensor, target: Any) -> Item:
        """An example, ready for the model.

        Raises:
            ValueError: the target is none that the task can learn; what it is and what is expected.
        """
        raise NotImplementedError

    def why_not_learnt(self, item: Item) -> str | None:
        """Why an item cannot be learnt from, though it can be scored; None where it can."""
        return None

    def loss(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        if self.own_loss is None:
            return super().loss(scores, valid_BT, batch)  # type: ignore[safe-super]
        return self.loss_rows(scores, valid_BT, batch).mean()

    def loss_rows(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        if self.own_loss is None:
            return super().loss_rows(scores, valid_BT, batch)
        return self.own_loss(scores, batch.targets[:, 0])

    def for_training(self, loop: LoopSettings, items: Sequence[Item]) -> Self:
        if self.own_loss is not None and (loop.label_smoothing or loop.class_weights is not None):
            raise UserError("loop.label_smoothing, loop.class_weights: a loss of your own has its own weights")
        return super().for_training(loop, items)


class GivenClasses(GivenTask, ClassificationTask):
    """Classes by their numbers, from 0."""

    def item(self, key: str, inputs: Tensor, target: Any) -> Item:
        import torch

        number = _number(target)
        if number != int(number) or not 0 <= number < len(self.symbols):
            raise ValueError(f"class {target!r}; choices: 0 to {len(self.symbols) - 1}")
        return Item(key, inputs, torch.tensor(int(number)), int(number))


class GivenNumbers(GivenTask, RegressionTask):
    """Numbers."""

    num_outputs = 1

    def item(self, key: str, inputs: Tensor, target: Any) -> Item:
        import torch

        number = _number(target)
        return Item(key, inputs, torch.tensor(number, dtype=torch.float64), number)


class GivenTexts(GivenTask, CtcTask):
    """Texts, aligned by CTC; the blank is index 0."""

    takes_loss = False

    def item(self, key: str, inputs: Tensor, target: Any) -> Item:
        import torch

        if not isinstance(target, str) or not target:
            raise ValueError(f"{target!r}; a text of at least one symbol is expected")
        if lacking := self.table.lacking(target):
            raise ValueError(f"{target!r} has {lacking[0]!r}, which is none of the symbols {''.join(self.symbols)!r}")
        return Item(key, inputs, torch.tensor(self.table.write(target), dtype=torch.long), target)

    def why_not_learnt(self, item: Item) -> str | None:
        needed, num_steps = steps_needed(item.target.tolist()), len(item.inputs)
        if needed <= num_steps:
            return None
        return f"{item.reference!r} needs {needed} steps in CTC, and it has {num_steps}"


GIVEN_TASKS: Mapping[str, type[GivenTask]] = {
    "classification": GivenClasses,
    "regression": GivenNumbers,
    "ctc": GivenTexts,
}
"""Name -> the task of that name."""


def _number(target: Any) -> float:
    """A target as a number; raises ValueError if it is none, or not finite."""
    import math

    try:
        number = float(target)
    except (TypeError, ValueError):
        raise ValueError(f"{target!r}; a number is expected") from None
    if not math.isfinite(number):
        raise ValueError(f"{target!r}; a finite number is expected")
    return number

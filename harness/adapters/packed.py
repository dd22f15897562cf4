"""Packed forms: how the adapters of K trials, and the strategies that merge their output, are computed at once.

A strategy or an adapter that can share a step with those of other trials says so in its own class body:

    class MyStrategy(AbstractAdapterStrategy):
        packed_form = PackedMyStrategy()        # a PackedStrategy; an adapter names its subclass of PackedAdapter

Only what a class declares itself counts: a subclass may compute anything, so it inherits no packed form, and it trains
alone until it declares one. The maths is in `functional`, where one function serves a trial and a pack of them.

Shape legend: K trials, B rows, T steps, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn

WIDTHS = (8, 16, 32, 64, 128, 256, 512, 1024)  # bottlenecks are padded to the next of these


@dataclass(frozen=True)
class PackedCall:
    """One insertion point in one pass of K trials: what a packed strategy may read besides its input.

    Attributes:
        run: the adapters: [K, B, T, D] -> [K, B, T, D].
        training: noise and penalties belong to training alone.
        variant: of the trials (PackedStrategy.variant).
        options: each name in PackedStrategy.options -> the trials' values, [K].
        noise: 1 where a trial keeps its adapter's output and 0 where it drops it, [K, 1, 1, 1], [K, B, 1, 1] or
            [K, B, T, 1]; None where no trial drops anything.
        keep_K: the probabilities of keeping that the noise was drawn with; None where there is no noise.
        valid_KBT: real steps of real rows; None in training where there is no variant.
        own_KBT: steps and rows of each trial's own batch, where the pack is padded wider; None where that is all.
        num_own_rows_K: rows of each trial's own batch.
        penalties: a strategy appends its penalty here, [K].
    """

    run: Callable[[Tensor], Tensor]
    training: bool
    variant: Any
    options: Mapping[str, Tensor]
    noise: Tensor | None
    keep_K: Tensor | None
    valid_KBT: Tensor | None
    own_KBT: Tensor | None
    num_own_rows_K: Tensor
    penalties: list[Tensor]


class PackedStrategy(ABC):
    """The packed form of a strategy: what one trial's strategy contributes to a pass, and the pass itself.

    Trials never mix: trial k of the result may depend on trial k of the input alone. Subclasses are frozen dataclasses
    with no fields, or with plain values, so that two of a kind compare equal.

    Attributes:
        options: numeric options of the strategy that may differ between the trials of a pass.
    """

    options: tuple[str, ...] = ()

    def why_not(self, strategy: Any) -> str | None:
        """Why a strategy with these options cannot be packed; None when it can."""
        return None

    def variant(self, strategy: Any, training: bool) -> Hashable | None:
        """The options of a strategy that choose the operations: only trials of one variant share a pass.

        A trial whose variant is None can join any of them: the others' operations change nothing for it.
        """
        return None

    def drop_probability(self, strategy: Any, depth_fraction: float, training_progress: float) -> float:
        """The probability with which a layer's output is dropped in a step; the engine draws the noise.

        Each trial draws from its own generator, once for each layer, lowest first, as its strategy does when alone.
        """
        return 0.0

    def drop_unit(self, strategy: Any) -> str:
        """What one draw drops: the "batch", each "row" or each real "frame" (functional.DROP_UNITS)."""
        return "batch"

    @abstractmethod
    def merge(self, call: PackedCall, x_KBTD: Tensor) -> Tensor:
        """Run the adapters and merge their outputs with the input, [K, B, T, D]."""


class PackedAdapter(ABC):
    """The packed form of an adapter: adapters whose forms are equal share a pass, whatever their weights.

    Subclasses are frozen dataclasses: their fields are what chooses the operations.
    """

    @staticmethod
    def why_not(adapter: Any) -> str | None:
        """Why an adapter with these options cannot be packed; None when it can."""
        return None

    @classmethod
    @abstractmethod
    def of(cls, adapter: Any) -> Self:
        """The form of an adapter."""

    def padded_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that a weight is padded to with zeros, so that adapters of several widths share a pass.

        Padding must change nothing: what is computed of it, and its gradient, have to stay exactly 0.
        """
        return shape

    @abstractmethod
    def run(self, weights: Mapping[str, Tensor], x_KBTD: Tensor) -> Tensor:
        """The adapters' outputs, [K, B, T, D].

        Args:
            weights: the parameters by their names in the adapter, padded, with a leading K.
            x_KBTD: the adapters' inputs.
        """


def padded_width(width: int) -> int:
    """The bottleneck width that a width is padded to."""
    return next((bucket for bucket in WIDTHS if bucket >= width), -(-width // WIDTHS[-1]) * WIDTHS[-1])


def packed_strategy(strategy: Any) -> PackedStrategy | None:
    """The packed form that a strategy's own class declares; None without one."""
    form = vars(type(strategy)).get("packed_form")
    return form if isinstance(form, PackedStrategy) else None


def packed_adapter(adapter: nn.Module) -> type[PackedAdapter] | None:
    """The packed form that an adapter's own class declares; None without one."""
    form = vars(type(adapter)).get("packed_form")
    return form if isinstance(form, type) and issubclass(form, PackedAdapter) else None


def reads_padding(adapter: Any, training: bool) -> bool:
    """Whether the values at padded steps may change a trial's numbers, through its adapter or the adapter's strategy.

    A class answers by its own method `reads_padding(training)`. Where a class only inherits it, or comes from another
    library, the answer is yes, because it may do anything.
    """
    for part in (adapter, adapter.adapter_strategy):
        says = vars(type(part)).get("reads_padding")
        if says is None or says(part, training):
            return True
    return False

"""What the parts of a packed pass share: the kind of trials that can be in one pack, and one pass of some of them.

Shape legend: K slots, B rows, T steps, L layers with adapters.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from harness.adapters.packed import PackedAdapter, PackedStrategy
from harness.backbones.points import Place
from harness.engines.cut.cut import Cut
from harness.engines.packed.layout import Layout
from harness.engines.packed.unpadded import RealSteps
from harness.tasks.losses import LossOptions


@dataclass(frozen=True)
class PackKind:
    """What the trials of one pack have in common; `adapter` and `strategy` are None where the head learns alone.

    `places` are where their adapters are, in the order in which a pass reaches them; `name` is what these are called.
    `layout` is that of their rows of weights: a weight of another name or padded shape would be read as one of these.
    """

    backbone: str
    device: str
    precision: str
    threads: int
    cut: Cut
    places: tuple[Place, ...]
    name: str
    adapter: PackedAdapter | None
    strategy: PackedStrategy | None
    layout: Layout
    trains_head: bool
    loss: LossOptions

    @property
    def options(self) -> tuple[str, ...]:
        """Numeric options of the strategy that the slots have each for itself."""
        return () if self.strategy is None else self.strategy.options


@dataclass
class Launch:
    """What one pass works on.

    Attributes:
        num_rows: B, of each slot, those that are only padding included.
        num_own_rows_K: rows of the slots' own batches.
        training: False when scoring.
        valid_KBT: real steps of real rows; None in training where there is no variant.
        own_KBT: steps and rows of the slots' own batches, which NeMo's l2 sum counts; None where they are all.
        variant: of the slots' strategies, or None (harness.adapters.packed.PackedStrategy.variant).
        options: of the slots' strategies, by name, [K].
        noise_L: of each layer with adapters, what is kept; empty where nothing is dropped, and when scoring.
        keeps_L: [K] each, the probabilities of keeping that the noise was drawn with.
        weights: what learns, by name, [K, ...].
        real: the real steps, where the layers run on these alone.
        penalties: filled by the pass: [K] each.
    """

    num_slots: int
    num_rows: int
    num_own_rows_K: Tensor
    training: bool
    valid_KBT: Tensor | None = None
    own_KBT: Tensor | None = None
    variant: Hashable | None = None
    options: Mapping[str, Tensor] = field(default_factory=dict)
    noise_L: Sequence[Tensor] = ()
    keeps_L: Sequence[Tensor] = ()
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    real: RealSteps | None = None
    penalties: list[Tensor] = field(default_factory=list)

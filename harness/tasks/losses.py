"""The loss of tasks whose answers are classes, and its options: label smoothing, and weights of the classes.

A loss is the mean over examples, so that it follows from the rows alone whatever batch they are in. Hence a weight
multiplies its example's loss, and the sum is divided by the number of examples, not by the sum of their weights.

Shape legend: R rows (examples, or words), C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.config.trial import LoopSettings
from harness.errors import UserError, must_be_in

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class LossOptions:
    """What a training's loss differs by from the plain one.

    Attributes:
        label_smoothing: this share of the target is spread evenly over all classes (Szegedy et al. 2016).
        class_weights: of each class, in the order of the backbone's outputs; None weighs all alike.
    """

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None


PLAIN_LOSS = LossOptions()


def loss_options(loop: LoopSettings, names: Sequence[str], classes: Iterable[int]) -> LossOptions:
    """The options that a training's settings ask for.

    Args:
        names: of the classes.
        classes: the class of each training example (or word), which balanced weights are counted from.

    Raises:
        UserError: a weight is for a class that there is not.
    """
    if loop.class_weights is None:
        return LossOptions(loop.label_smoothing)
    if loop.class_weights == "balanced":
        counts = Counter(classes)
        total, num_present = sum(counts.values()), len(counts)
        # A class without an example has no loss to weigh. The others' weights have a mean of 1 over the examples.
        weights = [total / (num_present * counts[number]) if counts[number] else 1.0 for number in range(len(names))]
        return LossOptions(loop.label_smoothing, tuple(weights))
    for name in loop.class_weights:
        must_be_in(name, names, f"loop.class_weights: no class {name!r}", UserError)
    return LossOptions(loop.label_smoothing, tuple(loop.class_weights.get(name, 1.0) for name in names))


def class_losses(scores_RC: Tensor, targets_R: Tensor, options: LossOptions) -> Tensor:
    """Each row's cross-entropy, [R], in float32 at least."""
    import torch.nn.functional as F

    scores_RC = in_float32(scores_RC)
    losses_R = F.cross_entropy(scores_RC, targets_R, reduction="none", label_smoothing=options.label_smoothing)
    if options.class_weights is None:
        return losses_R
    return losses_R * _tensor_of(options.class_weights, scores_RC.dtype, scores_RC.device)[targets_R]


def kl_divergence(scores: Tensor, base_scores: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(base / T) || softmax(scores / T)) over the last axis, in float32 at least.

    T^2 gives the gradient the size that it has at T = 1 (Hinton et al. 2015, arXiv 1503.02531).
    """
    log_p, log_q = ((in_float32(s) / temperature).log_softmax(-1) for s in (base_scores, scores))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1)


def mean_kl(scores_BTV: Tensor, base_BTV: Tensor, chosen_BT: Tensor, temperature: float) -> Tensor:
    """Each row's mean of `kl_divergence` over its chosen steps, [B]; 0 for a row without any."""
    # Before any logarithm, so that the gradient of what is not chosen is 0, whatever padding holds.
    scores_BTV, base_BTV = (scores.where(chosen_BT[..., None], 0.0) for scores in (scores_BTV, base_BTV))
    return kl_divergence(scores_BTV, base_BTV, temperature).sum(1) / chosen_BT.sum(1).clamp(min=1)


def in_float32(scores: Tensor) -> Tensor:
    """The scores in float32 at least, because a bfloat16 loss would have only three digits."""
    import torch

    return scores.float() if scores.dtype == torch.bfloat16 else scores


@lru_cache(maxsize=256)
def _tensor_of(weights: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept, because a CUDA graph cannot have a copy from the host in it."""
    import torch

    return torch.tensor(weights, dtype=dtype, device=device)

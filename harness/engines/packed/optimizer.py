"""Gradient clipping and AdamW for the rows of a pack, each with its own settings, as if each were alone.

Equal to `torch.nn.utils.clip_grad_norm_` and `torch.optim.AdamW` (Loshchilov and Hutter, 2019), to rounding.

Shape legend: K trials, P numbers in a row, C coefficients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.config.trial import OptimSettings

NUM_COEFFICIENTS = 8


@dataclass(frozen=True)
class RowStep:
    """One trial's optimizer step: its settings, the learning rate of this step, and the step's number from 1."""

    settings: OptimSettings
    lr: float
    number: int

    def coefficients(self) -> tuple[float, ...]:
        """What differs between rows: decay, 1 - beta1, beta2, 1 - beta2, step size, sqrt of correction 2, eps, clip."""
        beta1, beta2 = self.settings.betas
        decay = 1.0 - self.lr * self.settings.weight_decay
        step_size = self.lr / (1.0 - beta1**self.number)
        correction = math.sqrt(1.0 - beta2**self.number)
        clip = self.settings.clip_norm
        return (
            *(decay, 1.0 - beta1, beta2, 1.0 - beta2, step_size, correction, self.settings.eps),
            math.nan if clip is None else clip,
        )


@torch.no_grad()
def step_rows(
    weights_KP: Tensor, first_KP: Tensor, second_KP: Tensor, gradients_KP: Tensor, values_KC: Tensor, clips: bool
) -> None:
    """Clip the gradients and update weights and moments, in place.

    All memory is taken before the first of them is written: where it runs out, they are as they were.

    Args:
        weights_KP: weights that learn.
        first_KP: mean of the gradients (Adam's exp_avg).
        second_KP: mean of their squares (exp_avg_sq).
        gradients_KP: overwritten.
        values_KC: `RowStep.coefficients` of the rows, in the weights' dtype.
        clips: whether any row is clipped.
    """
    decay, new1, beta2, new2, size, correction, eps, clip = values_KC.unsqueeze(-1).unbind(1)
    if clips:
        norm_K1 = torch.linalg.vector_norm(gradients_KP, dim=1, keepdim=True)
        scale_K1 = torch.clamp(clip / (norm_K1 + 1e-6), max=1.0)
        gradients_KP *= torch.where(clip.isnan(), 1.0, scale_K1)  # NaN: this trial is not clipped
    scratch_KP = gradients_KP.square().mul_(new2)  # the last allocation; below, memory is used again by `out=`
    weights_KP *= decay
    first_KP.lerp_(gradients_KP, new1)
    second_KP.mul_(beta2).add_(scratch_KP)
    denominator_KP = torch.sqrt(second_KP, out=scratch_KP).div_(correction).add_(eps)
    weights_KP.sub_(torch.mul(first_KP, size, out=gradients_KP).div_(denominator_KP))

"""The maths of adapters and merge strategies, as pure functions for one trial or for a pack of them.

One trial: x is [B, ..., D] and weights have no trial axis. A pack: x is [K, B, ..., D], every weight
has a leading K, and a hyperparameter (keep probability, lambda) is a scalar or a tensor [K]. Modules
and strategies call these functions, and packed training calls the same ones, so there is no second
copy. Trials never mix: what is left out is selected away with `torch.where`, not multiplied by 0,
because 0 * NaN is NaN.

Shapes: K trials, B rows, T frames, D features, H bottleneck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PerTrial = float | Tensor  # one value, or one for each trial: [K]

DROP_UNITS = ("batch", "row", "frame")  # the later ones are smaller
L2_REDUCTIONS = ("sum", "valid_frame_mean", "valid_element_mean")
L2_FORMS = ("squared", "norm", "relative", "relative_norm")
RELATIVE_EPS = 1e-6  # added to the squared norm of an input, which may be 0
SCHEDULES = ("constant", "linear")


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise the last axis, then scale and shift.

    Args:
        x: [..., D], or [K, ..., D] for a pack.
        weight: [D] or [K, D].
        bias: like weight.
        eps: added to the variance.
    """
    if weight.ndim == 1:
        return F.layer_norm(x, weight.shape, weight, bias, eps)
    normalised = F.layer_norm(x, weight.shape[-1:], None, None, eps)
    return normalised * align_features(weight, x) + align_features(bias, x)


def project(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply by a weight, no bias: x [..., I] with weight [O, I], or [K, ..., I] with [K, O, I]."""
    if weight.ndim == 2:
        return F.linear(x, weight)
    rows = x.reshape(x.shape[0], -1, x.shape[-1])
    return torch.bmm(rows, weight.transpose(1, 2)).reshape(*x.shape[:-1], weight.shape[1])


def bottleneck(
    x: Tensor,
    *,
    norm_weight: Tensor,
    norm_bias: Tensor,
    down: Tensor,
    up: Tensor,
    activation: Callable[[Tensor], Tensor],
    norm_position: str = "pre",
    eps: float = 1e-5,
) -> Tensor:
    """The linear bottleneck adapter (Houlsby et al. 2019, as in NeMo's LinearAdapter), residual not included.

    Args:
        x: [..., D], or [K, ..., D] for a pack.
        norm_weight: [D] or [K, D]; norm_bias likewise.
        norm_bias: see norm_weight.
        down: [H, D] or [K, H, D].
        up: [D, H] or [K, D, H].
        activation: an elementwise function.
        norm_position: "pre" normalises the input, "post" the output.
        eps: of the normalisation.
    """
    if norm_position == "pre":
        hidden = activation(project(layer_norm(x, norm_weight, norm_bias, eps), down))
        return project(hidden, up)
    return layer_norm(project(activation(project(x, down)), up), norm_weight, norm_bias, eps)


def low_rank(x: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """`scale * B A x`, the update of LoRA (Hu et al. 2021).

    Args:
        x: [..., I], or [K, ..., I] for a pack.
        a: [r, I] or [K, r, I].
        b: [O, r] or [K, O, r].
        scale: a number, the same for all trials of a pack.
    """
    return project(project(x, a), b) * scale


def drop_probability(
    p: PerTrial,
    *,
    depth_schedule: str = "constant",
    depth_fraction: PerTrial = 1.0,
    progress_schedule: str = "constant",
    training_progress: PerTrial = 1.0,
) -> PerTrial:
    """The drop probability of one layer at one moment.

    A linear depth schedule is that of Huang et al. 2016 (arXiv 1603.09382): layer l of L is dropped with
    p * l / L. A linear progress schedule grows the probability from 0 to p over the training.

    Args:
        p: drop probability of the last layer at the end of training.
        depth_schedule: "constant" or "linear".
        depth_fraction: (layer index + 1) / number of layers.
        progress_schedule: "constant" or "linear".
        training_progress: share of the training that is done, in [0, 1].
    """
    if depth_schedule == "linear":
        p = p * depth_fraction
    if progress_schedule == "linear":
        p = p * training_progress
    return p


def noise_shape(shape: Sequence[int], drop: str = "batch") -> list[int]:
    """Shape of the noise for an output of that shape: all ones, one value a row (first axis), or one a frame."""
    if drop == "frame":
        return [*shape[:-1], 1]
    ones = [1] * len(shape)
    return ones if drop == "batch" else [shape[0], *ones[1:]]


def draw_noise(
    shape: Sequence[int],
    keep_prob: float,
    *,
    drop: str = "batch",
    valid_frames: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw which parts of an adapter's output are kept: 1 with probability `keep_prob`, else 0.

    Padded frames are not drawn, so the draws of real ones do not depend on how wide a batch is padded. Their noise is
    `keep_prob` itself: `stochastic_depth` divides by it, and so leaves a padded frame's output as it is.

    Args:
        shape: of the output, [B, ..., D] (no trial axis).
        keep_prob: 1 - drop probability.
        drop: "batch" makes one draw for the whole output, as NeMo does; "row" one for each row; "frame" one for each
            real frame, row by row.
        valid_frames: bool, of shape[:-1], true for real frames, read by "frame" alone; None: all of them are.
        generator: torch's default one if None. One on another device draws there.
        dtype: of the output (the draw may depend on it).
        device: of the output.
    """
    where = device if generator is None else generator.device
    if drop != "frame" or valid_frames is None:
        noise = torch.empty(noise_shape(shape, drop), dtype=dtype, device=where)
        return noise.bernoulli_(keep_prob, generator=generator).to(device)
    draws = torch.empty(int(valid_frames.sum()), dtype=dtype, device=where).bernoulli_(keep_prob, generator=generator)
    noise = torch.full(noise_shape(shape, drop), keep_prob, dtype=dtype, device=device)
    return noise.masked_scatter_(valid_frames.to(device)[..., None], draws.to(device))


def draw_packed_noise(
    shape: Sequence[int],
    keep_probs: Sequence[float],
    generators: Sequence[torch.Generator | None],
    *,
    drop: str | Sequence[str] = "batch",
    num_rows: Sequence[int] | None = None,
    valid_frames: Sequence[Tensor | None] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw the noise of each trial from its own generator, exactly as it would be drawn alone.

    A trial that keeps everything draws nothing, as when it is alone.

    Args:
        shape: of the packed output, [K, B, ..., D].
        keep_probs: K values.
        generators: K of them.
        drop: one for all, or K values, which may be mixed.
        num_rows: K values, rows of each trial's own batch where the pack has more; the others are kept.
        valid_frames: K values, the real frames of each trial's own rows, [own rows, ...] as wide as the pack; see
            `draw_noise`. A trial that drops no frames has None.
        dtype: of the output.
        device: of the output.

    Returns:
        [K, 1, ..., 1], or [K, B, 1, ..., 1] if any trial drops rows, or [K, B, ..., 1] if any drops frames.
    """
    drops = [drop] * shape[0] if isinstance(drop, str) else list(drop)
    counts = [shape[1]] * shape[0] if num_rows is None else num_rows
    frames = [None] * shape[0] if valid_frames is None else valid_frames
    noise = torch.ones((shape[0], *noise_shape(shape[1:], smallest_unit(drops))), dtype=dtype, device=device)
    for k, own_noise in enumerate(noise):
        if keep_probs[k] != 1.0:
            own_noise[: counts[k]] = draw_noise(
                [counts[k], *shape[2:]],  # the trial's own size, so that its generator moves as when alone
                keep_probs[k],
                drop=drops[k],
                valid_frames=frames[k],
                generator=generators[k],
                dtype=dtype,
                device=device,
            )
    return noise


def smallest_unit(drops: Sequence[str]) -> str:
    """The smallest of some trials' units of dropping, whose noise has a place for that of the others."""
    return max(drops, key=DROP_UNITS.index)


def stochastic_depth(output: Tensor, noise: Tensor, keep_prob: PerTrial) -> Tensor:
    """Zero what the noise drops and divide the rest by the keep probability.

    Equal to NeMo's `(noise / keep) * output` for every finite output; a dropped infinity gives 0 there
    instead of NaN. Nothing is divided where the keep probability is 0.

    Args:
        output: [B, ..., D] or [K, B, ..., D].
        noise: 0 or 1, of a shape that broadcasts to the output's.
        keep_prob: a float, or [K] for a pack.
    """
    if isinstance(keep_prob, Tensor):
        keep_prob = per_trial(torch.where(keep_prob > 0, keep_prob, 1.0), output)
        scale = noise / keep_prob
    else:
        scale = noise / keep_prob if keep_prob > 0.0 else noise
    return torch.where(noise != 0, scale * output, 0.0)


def residual_add(x: Tensor, output: Tensor) -> Tensor:
    """Add the adapter's (noised) output to its input; both [..., D]."""
    return x + output


def l2_penalty(
    difference: Tensor,
    l2_lambda: PerTrial,
    *,
    reduction: str = "sum",
    form: str = "squared",
    x: Tensor | None = None,
    valid_frames: Tensor | None = None,
    packed: bool = False,
    own_frames: Tensor | None = None,
    num_rows: Tensor | None = None,
) -> Tensor:
    """The penalty on how far an adapter moves its input, with d the difference in a frame and x the input there.

        squared        |d|^2, NeMo's          relative        |d|^2 / (|x|^2 + eps)
        norm           |d|                    relative_norm   |d| / sqrt(|x|^2 + eps)

    eps is RELATIVE_EPS. |x| counts as a constant: its gradient would grow the input instead of shrinking d. Where d is
    0, as with an adapter that starts as the identity, the gradient of |d| is 0, one of its subgradients.

    "sum" is NeMo's: per row the sum over frames, padded ones included, then the mean over rows. "valid_frame_mean" is
    the mean over valid frames, so that it does not grow with length or padding; "valid_element_mean" also divides by D.

    Args:
        difference: input minus result (the sign is irrelevant), [B, ..., D] or [K, B, ..., D].
        l2_lambda: weight, >= 0; a float, or [K] for a pack.
        reduction: one of L2_REDUCTIONS.
        form: one of L2_FORMS.
        x: the input, as `difference`; read by the relative forms alone.
        valid_frames: bool, true for real frames, broadcasting to difference.shape[:-1]; not read by "sum".
        packed: whether there is a trial axis.
        own_frames: bool, broadcasting to difference.shape[:-1], read by "sum" alone: the frames of the trial's own
            batch, where a pack is padded wider than that.
        num_rows: [K], rows of each trial's own batch, where a pack has more; read by "sum" alone.

    Returns:
        A scalar, or [K] for a pack.
    """
    frames, lead = difference.shape[:-1], difference.shape[: int(packed)]
    counted = own_frames if reduction == "sum" else valid_frames
    if isinstance(l2_lambda, Tensor):  # a trial without the penalty must not see its own infinities either
        has_penalty = per_trial(l2_lambda, difference[..., 0]) > 0
        difference = torch.where(has_penalty.unsqueeze(-1), difference, 0.0)
    else:
        has_penalty = None
    if counted is not None:
        # Before squaring, so that the gradient of a padded frame is 0 too, even if the frame is NaN.
        difference = torch.where(counted.unsqueeze(-1), difference, 0.0)
    if form in ("relative", "relative_norm"):
        assert x is not None
        norms = (x.detach().square().sum(dim=-1) + RELATIVE_EPS).sqrt()
        for kept in (counted, has_penalty):
            norms = norms if kept is None else torch.where(kept, norms, 1.0)  # 0 / NaN is NaN
        difference = difference / norms.unsqueeze(-1)
    is_norm = form in ("norm", "relative_norm")
    amounts = torch.linalg.vector_norm(difference, dim=-1) if is_norm else difference.square()
    if reduction == "sum":
        sums = amounts.reshape(*frames[: len(lead) + 1], -1).sum(dim=-1)
        return l2_lambda * (sums.mean(dim=-1) if num_rows is None else sums.sum(dim=-1) / num_rows)
    if counted is None:
        count = difference.new_full(lead, float(max(frames[len(lead) :].numel(), 1)))
    else:
        count = counted.expand(frames).reshape(*lead, -1).sum(dim=-1).clamp(min=1).to(difference.dtype)
    if reduction == "valid_element_mean":
        count = count * difference.shape[-1]
    return l2_lambda * amounts.reshape(*lead, -1).sum(dim=-1) / count


def per_trial(value: PerTrial, like: Tensor) -> Any:
    """Shape a per-trial value [K] so that it broadcasts over `like` [K, ...]; scalars are left alone."""
    if isinstance(value, Tensor) and value.ndim == 1:
        return value.reshape(-1, *[1] * (like.ndim - 1))
    return value


def align_features(vector: Tensor, like: Tensor) -> Tensor:
    """Shape a vector of features so that it broadcasts over `like`: [D] is left alone, [K, D] -> [K, 1, ..., 1, D]."""
    if vector.ndim == 1:
        return vector
    return vector.reshape(vector.shape[0], *[1] * (like.ndim - 2), vector.shape[-1])


def touch_with_zero_gradient(x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Return x unchanged, but give the parameters a gradient of exactly zero.

    A branch that is skipped then leaves the same gradients as one that was computed and dropped: the
    loss still has a graph, and optimizers with momentum take the same step.
    """
    touched: Tensor = _ZeroGradient.apply(x, *parameters)  # type: ignore[no-untyped-call]
    return touched


class _ZeroGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.likes = [(p.shape, p.dtype, p.device) for p in parameters]
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        zeros = (torch.zeros(shape, dtype=dtype, device=device) for shape, dtype, device in ctx.likes)
        return (grads[0], *zeros)

"""The maths of merging several adapters at one insertion point, as pure functions.

Shape legend: N members (the adapters that are merged), D width; `...` is usually [B, T].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    query: Tensor,
    members: Tensor,
    *,
    query_weight: Tensor,
    query_bias: Tensor,
    key_weight: Tensor,
    key_bias: Tensor,
    value_weight: Tensor,
    tau: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Attention of each step over the members: `s = softmax_n((h Q) . (z_n K) / tau)`, `o = sum_n s_n (z_n V)`.

    AdapterFusion's (arXiv 2005.00247, section 3.2) and SimAdapter's (arXiv 2105.11905): one head, no 1 / sqrt(D).

    Args:
        query: h, [..., D].
        members: z, [..., N, D].
        query_weight: as of torch.nn.Linear, [out, in]: D x D; key_weight and value_weight likewise.
        query_bias: [D]; key_bias likewise; V has none.
        key_weight: see query_weight.
        key_bias: see query_bias.
        value_weight: see query_weight.
        tau: the temperature.

    Returns:
        o, [..., D], and s, [..., N], whose sum over N is 1.
    """
    asked = F.linear(query, query_weight, query_bias)
    # (h Q) . (K z_n + b) = (K^T (h Q)) . z_n + (h Q) . b, and sum_n s_n V z_n = V (sum_n s_n z_n): one product with K
    # and V a step instead of N. b is the same for all members, so the softmax leaves nothing of it, there as here.
    scores = torch.einsum("...nd,...d->...n", members, asked @ key_weight) + (asked @ key_bias).unsqueeze(-1)
    attention = torch.softmax(scores / tau, dim=-1)
    merged = F.linear(torch.einsum("...n,...nd->...d", attention, members), value_weight)
    return merged, attention


def mean_over_frames(attention: Tensor, valid_frames: Tensor | None) -> Tensor:
    """The mean of attention weights [..., N] over the valid frames (all if None), [N]: padding counts nowhere."""
    flat = attention.reshape(-1, attention.shape[-1])
    if valid_frames is None:
        return flat.mean(dim=0) if len(flat) else flat.sum(dim=0)  # of no frame 0, as with a mask
    valid = valid_frames.reshape(-1, 1)
    # Before the sum: a padded frame may be NaN, and 0 * NaN is NaN.
    return torch.where(valid, flat, 0.0).sum(dim=0) / valid.sum().clamp(min=1).to(flat.dtype)


def guide_loss(mean_attention: Tensor, index: int) -> Tensor:
    """SimAdapter's guide: the cross-entropy of the logits exp(mean attention), [N], with the member at `index`.

    As in the code of its authors (arXiv 2105.11905), where the index is that of the target language.
    """
    logits = mean_attention.exp()
    return torch.logsumexp(logits, dim=0) - logits[index]


def distance_to_identity(weight: Tensor) -> Tensor:
    """`sum_ij (I - W)_ij^2` of W [D, D]: what holds V near the identity."""
    identity = torch.eye(weight.shape[0], dtype=weight.dtype, device=weight.device)
    return (identity - weight).square().sum()


def weighted_mean(members: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """The mean of members [..., N, D], or with weights (made to sum to 1) their weighted mean, [..., D]."""
    if weights is None:
        return members.mean(dim=-2)
    shares = torch.tensor(weights, dtype=members.dtype, device=members.device)
    return torch.einsum("...nd,n->...d", members, shares / shares.sum())

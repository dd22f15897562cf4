"""Transformer and Conformer blocks, each with one named insertion point after its last feed-forward part.

Shape legend: B batch, T time (tokens or frames), D model width, F feed-forward width, H heads, W kernel width.
A padded position never changes a valid one: attention masks it, and the convolution sees zeros there.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.adapters import InsertionPoint


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions (Su et al. 2021, arXiv 2104.09864)."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        if dim % num_heads or (dim // num_heads) % 2:
            raise ValueError(f"dim {dim} over {num_heads} heads must give an even width per head")
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        num_batch, num_steps, dim = x_BTD.shape
        shape = (num_batch, num_steps, 3, self.num_heads, dim // self.num_heads)
        projected_BT3Hd = self.in_proj(x_BTD).reshape(shape)
        q_BHTd, k_BHTd = rotate(projected_BT3Hd[:, :, :2]).permute(2, 0, 3, 1, 4)
        v_BHTd = projected_BT3Hd[:, :, 2].transpose(1, 2)
        out_BHTd = F.scaled_dot_product_attention(
            q_BHTd, k_BHTd, v_BHTd, valid_BT[:, None, None, :], dropout_p=self.dropout if self.training else 0.0
        )
        return self.out_proj(out_BHTd.transpose(1, 2).reshape(x_BTD.shape))


def rotate(x_BTNHd: Tensor) -> Tensor:
    """Rotate pairs of channels by an angle that grows with the position, so that products see distances.

    Args:
        x_BTNHd: [B, T, N, H, d], whatever N counts (queries and keys).
    """
    num_steps, width = x_BTNHd.shape[1], x_BTNHd.shape[-1]
    half = width // 2
    # Positions are counted in float32 at least: bfloat16 has no odd numbers above 256.
    device, dtype = x_BTNHd.device, torch.promote_types(x_BTNHd.dtype, torch.float32)
    frequency = torch.exp(torch.arange(half, device=device, dtype=dtype) * (-math.log(10000.0) / half))
    angle = torch.arange(num_steps, device=device, dtype=dtype)[:, None] * frequency
    cos, sin = angle.cos().to(x_BTNHd.dtype), angle.sin().to(x_BTNHd.dtype)
    # A pair is channels (i, i + half): first -> first cos - second sin, second -> second cos + first sin.
    # `roll` by half swaps first and second of all pairs at once.
    cos_T11d = torch.cat([cos, cos], -1)[:, None, None]
    sin_T11d = torch.cat([-sin, sin], -1)[:, None, None]
    return x_BTNHd * cos_T11d + x_BTNHd.roll(half, -1) * sin_T11d


def feed_forward(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    """Pre-norm feed-forward part, without its residual."""
    return nn.Sequential(
        nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
    )


class ConvolutionModule(nn.Module):
    """The Conformer's convolution module (Gulati et al. 2020), with LayerNorm where it has BatchNorm.

    LayerNorm keeps no running statistics, so a frozen module gives the same output whatever is in the batch.
    """

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"the convolution kernel must be odd, got {kernel}")
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 2 * dim)
        # As a 2-D convolution of height one: on a CPU its backward is about four times faster than the 1-D form.
        self.depthwise = nn.Conv2d(dim, dim, (1, kernel), padding=(0, kernel // 2), groups=dim)
        self.middle_norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        hidden_BTD = F.glu(self.expand(self.norm(x_BTD)), dim=-1)
        hidden_BTD = hidden_BTD.masked_fill(~valid_BT[..., None], 0.0)
        mixed_BTD = self.depthwise(hidden_BTD.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        out_BTD: Tensor = self.project(F.silu(self.middle_norm(mixed_BTD)))
        return out_BTD


class TransformerBlock(nn.Module):
    """Pre-norm Transformer block; the insertion point follows the feed-forward residual."""

    def __init__(self, dim: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, num_heads, dropout)
        self.feed_forward = feed_forward(dim, hidden, dropout)
        self.drop = nn.Dropout(dropout)
        self.insertion = InsertionPoint(dim)

    def body(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        """Everything before the insertion point."""
        x_BTD = x_BTD + self.drop(self.attention(self.attention_norm(x_BTD), valid_BT))
        return x_BTD + self.drop(self.feed_forward(x_BTD))

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        out_BTD: Tensor = self.insertion(self.body(x_BTD, valid_BT))
        return out_BTD


class ConformerBlock(nn.Module):
    """Conformer block: half feed-forward, attention, convolution, half feed-forward, norm, insertion point."""

    def __init__(self, dim: int, num_heads: int, hidden: int, dropout: float, kernel: int) -> None:
        super().__init__()
        self.first_feed_forward = feed_forward(dim, hidden, dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, num_heads, dropout)
        self.convolution = ConvolutionModule(dim, kernel)
        self.second_feed_forward = feed_forward(dim, hidden, dropout)
        self.final_norm = nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)
        self.insertion = InsertionPoint(dim)

    def body(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        """Everything before the insertion point."""
        x_BTD = x_BTD + 0.5 * self.drop(self.first_feed_forward(x_BTD))
        x_BTD = x_BTD + self.drop(self.attention(self.attention_norm(x_BTD), valid_BT))
        x_BTD = x_BTD + self.drop(self.convolution(x_BTD, valid_BT))
        x_BTD = x_BTD + 0.5 * self.drop(self.second_feed_forward(x_BTD))
        out_BTD: Tensor = self.final_norm(x_BTD)
        return out_BTD

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        out_BTD: Tensor = self.insertion(self.body(x_BTD, valid_BT))
        return out_BTD


def valid_steps(lengths_B: Tensor, num_steps: int) -> Tensor:
    """Mask [B, T] of the real steps, given lengths [B]."""
    return torch.arange(num_steps, device=lengths_B.device) < lengths_B[:, None]


def is_transposed_linear(module: nn.Module) -> bool:
    """Whether a module is transformers' `Conv1D`, the linear layer of GPT-2, whose weight is [I, O]."""
    return type(module).__name__ == "Conv1D" and type(module).__module__ == "transformers.pytorch_utils"

"""Attention with rotary positions, and the Conformer's convolution: distances, padding, sizes."""

from __future__ import annotations

import pytest
import torch

from harness.backbones.blocks import ConvolutionModule, SelfAttention, rotate, valid_steps


def random_tensor(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_the_product_of_rotated_vectors_depends_on_their_distance_only(dtype: torch.dtype, tolerance: float) -> None:
    """Rotated by position, the same query and key give a Toeplitz matrix of scores."""
    num_steps, width = 120, 8
    query, key = random_tensor(width, seed=1, dtype=dtype), random_tensor(width, seed=2, dtype=dtype)
    q_Td = rotate(query.expand(1, num_steps, 1, 1, width))[0, :, 0, 0]
    k_Td = rotate(key.expand(1, num_steps, 1, 1, width))[0, :, 0, 0]
    scores_TT = q_Td @ k_Td.T
    for distance in (-num_steps + 1, -7, -1, 0, 1, 2, 50):
        diagonal = scores_TT.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=tolerance)
    assert len(set(scores_TT[0].tolist())) == num_steps  # and each distance has a score of its own


def test_positions_are_exact_also_in_bfloat16() -> None:
    """As far as the vectors themselves are: the angles must not be rounded."""
    num_steps, width = 300, 8
    vector_BTNHd = random_tensor(1, 1, 1, 1, width).expand(1, num_steps, 1, 1, width)
    exact = rotate(vector_BTNHd.bfloat16().double())
    torch.testing.assert_close(rotate(vector_BTNHd.bfloat16()).double(), exact, rtol=0.02, atol=0.02)


def test_rotation_keeps_lengths_and_leaves_the_first_position_alone() -> None:
    x_BTNHd = random_tensor(2, 11, 2, 3, 6)
    rotated_BTNHd = rotate(x_BTNHd)
    torch.testing.assert_close(rotated_BTNHd.norm(dim=-1), x_BTNHd.norm(dim=-1), rtol=1e-12, atol=0)
    assert torch.equal(rotated_BTNHd[:, 0], x_BTNHd[:, 0])
    assert not torch.allclose(rotated_BTNHd[:, 1:], x_BTNHd[:, 1:])


def test_rotation_turns_each_pair_of_channels() -> None:
    """Channel c and c + d/2 are a point in the plane, turned by position / 10000^(2c/d)."""
    x_BTNHd = random_tensor(2, 5, 2, 3, 6)
    rotated_BTNHd = rotate(x_BTNHd)
    for position in range(5):
        for channel in range(3):
            angle = torch.tensor(position / 10000 ** (channel / 3), dtype=torch.float64)
            first, second = x_BTNHd[:, position, ..., channel], x_BTNHd[:, position, ..., channel + 3]
            turned = rotated_BTNHd[:, position, ..., [channel, channel + 3]]
            expected = torch.stack(
                [first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1
            )
            torch.testing.assert_close(turned, expected, rtol=1e-12, atol=1e-12)


def test_attention_sees_distances_and_not_places() -> None:
    """Moving a sentence along the time axis (behind padding) moves its output and changes nothing else."""
    torch.manual_seed(0)
    attention = SelfAttention(8, 2, dropout=0.0).double()
    x_BTD = random_tensor(1, 5, 8)
    shifted_BTD = torch.cat([torch.full((1, 3, 8), 7.0, dtype=torch.float64), x_BTD], 1)
    alone = attention(x_BTD, torch.ones(1, 5, dtype=torch.bool))
    moved = attention(shifted_BTD, torch.tensor([[False] * 3 + [True] * 5]))
    torch.testing.assert_close(moved[:, 3:], alone, rtol=1e-12, atol=1e-12)


def test_convolution_takes_exactly_nothing_from_padding() -> None:
    """Not even from padding that is not a number: it is filled, not multiplied, away."""
    torch.manual_seed(0)
    convolution = ConvolutionModule(8, kernel=5)
    x_BTD = random_tensor(2, 9, 8, dtype=torch.float32)
    valid_BT = valid_steps(torch.tensor([9, 4]), 9)
    poisoned_BTD = x_BTD.masked_fill(~valid_BT[..., None], torch.nan)
    assert torch.equal(convolution(poisoned_BTD, valid_BT)[valid_BT], convolution(x_BTD, valid_BT)[valid_BT])


def test_valid_steps() -> None:
    assert valid_steps(torch.tensor([0, 1, 3]), 3).tolist() == [[False] * 3, [True, False, False], [True] * 3]

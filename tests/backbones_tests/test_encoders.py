"""Encoders: an example gives the same output whatever it is padded or batched with."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harness.backbones.blocks import valid_steps
from harness.backbones.encoders import Encoder, SpeechEncoder, TextEncoder, masked_mean
from harness.data.batching import pad_sequence_batch

VOCABULARY, MELS = 30, 6


def text_encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(VOCABULARY, dim=16, num_layers=3, num_heads=2, hidden=32, dropout=0.3).eval()


def speech_encoder(kernel: int = 5, second_stride: int = 2) -> SpeechEncoder:
    torch.manual_seed(0)
    sizes = {"dim": 16, "num_layers": 3, "num_heads": 2, "hidden": 32, "dropout": 0.3}
    return SpeechEncoder(MELS, kernel=kernel, second_stride=second_stride, **sizes).eval()  # type: ignore[arg-type]


def make_inputs(encoder: Encoder, lengths: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    if isinstance(encoder, TextEncoder):
        return [torch.randint(VOCABULARY, (n,), generator=generator) for n in lengths]
    return [torch.randn(n, MELS, generator=generator, dtype=torch.float64) for n in lengths]


ENCODERS: dict[str, Callable[[], Encoder]] = {
    "text": text_encoder,
    "conformer": speech_encoder,
    "transformer": lambda: speech_encoder(kernel=0),
    "stride 1": lambda: speech_encoder(second_stride=1),
    "stride 3": lambda: speech_encoder(second_stride=3),
}


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return ENCODERS[request.param]()


@torch.no_grad()
def test_output_is_the_same_in_any_batch(encoder: Encoder) -> None:
    """Alone, padded to twice its length, and in a batch with longer and shorter ones."""
    encoder.double()
    lengths = [1, 2, 3, 7, 12, 21, 22]
    inputs = make_inputs(encoder, lengths)
    alone = [encoder(item[None], torch.tensor([len(item)]))[0][0] for item in inputs]
    padded_BT, lengths_B = pad_sequence_batch(inputs)
    wider_BT = torch.cat([padded_BT, torch.zeros_like(padded_BT)], 1)
    for batch in (padded_BT, wider_BT):
        hidden_BTD, valid_BT = encoder(batch, lengths_B)
        for row, expected in enumerate(alone):
            found = hidden_BTD[row][valid_BT[row]]
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    reversed_BT = torch.arange(len(inputs)).flip(0)
    again_BTD, valid_BT = encoder(padded_BT[reversed_BT], lengths_B[reversed_BT])
    torch.testing.assert_close(again_BTD[-1][valid_BT[-1]], alone[0], rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_text_takes_exactly_nothing_from_padding() -> None:
    """Whatever ids fill the padding, one of them with a huge embedding: not one bit changes."""
    encoder = text_encoder()
    encoder.embedding.weight[VOCABULARY - 1] = 1e18
    ids_BT = torch.randint(VOCABULARY - 1, (3, 9), generator=torch.Generator().manual_seed(2))
    lengths_B = torch.tensor([9, 4, 1])
    expected_BTD, valid_BT = encoder(ids_BT, lengths_B)
    for poison in (0, 5, VOCABULARY - 1):
        poisoned_BTD, _ = encoder(ids_BT.masked_fill(~valid_BT, poison), lengths_B)
        assert torch.equal(poisoned_BTD[valid_BT], expected_BTD[valid_BT])
    leaking_BTD, _ = encoder(ids_BT.masked_fill(~valid_BT, VOCABULARY - 1), torch.tensor([9, 5, 1]))
    assert not torch.equal(leaking_BTD[1, :4], expected_BTD[1, :4])  # the comparison can fail


@pytest.mark.parametrize("kernel", [5, 0])
@pytest.mark.parametrize("length", [7, 8])
@torch.no_grad()
def test_speech_takes_exactly_nothing_from_padding(kernel: int, length: int) -> None:
    """The first convolution reaches two frames beyond a clip, which a batch pads with zeros as the convolution does;
    whatever comes after them, and whatever the convolution makes of it, changes not one bit."""
    encoder = speech_encoder(kernel)
    frames_BTM = torch.randn(2, 16, MELS, generator=torch.Generator().manual_seed(2))
    frames_BTM[1, length:] = 0.0
    lengths_B = torch.tensor([16, length])
    expected_BTD, valid_BT = encoder(frames_BTM, lengths_B)
    for poison in (1.0, 1e18, torch.nan):
        poisoned_BTM = frames_BTM.clone()
        poisoned_BTM[1, length + 2 :] = poison
        poisoned_BTD, _ = encoder(poisoned_BTM, lengths_B)
        assert torch.equal(poisoned_BTD[valid_BT], expected_BTD[valid_BT])


@pytest.mark.parametrize("second_stride", [1, 2, 3, 4])
@torch.no_grad()
def test_output_lengths_are_the_real_ones(second_stride: int) -> None:
    encoder = speech_encoder(kernel=0, second_stride=second_stride)
    lengths = [*range(1, 34), 97, 98, 99, 100]
    expected = [len(encoder(torch.zeros(1, n, MELS), torch.tensor([n]))[0][0]) for n in lengths]
    assert encoder.output_lengths(torch.tensor(lengths)).tolist() == expected
    assert expected == [math.ceil(math.ceil(n / 2) / second_stride) for n in lengths]


@torch.no_grad()
def test_valid_steps_count_the_real_outputs(encoder: Encoder) -> None:
    lengths = [5, 16, 9]
    hidden_BTD, valid_BT = encoder.double()(*pad_sequence_batch(make_inputs(encoder, lengths)))
    counts = encoder.output_lengths(torch.tensor(lengths)) if isinstance(encoder, SpeechEncoder) else lengths
    assert valid_BT.sum(1).tolist() == list(map(int, counts))
    assert hidden_BTD.shape == (3, valid_BT.shape[1], encoder.dim)
    for point in encoder.insertion_points.values():
        assert point.valid_frames is valid_BT


def test_insertion_points_are_in_the_order_of_the_layers(encoder: Encoder) -> None:
    assert list(encoder.insertion_points) == [f"layers.{number}.insertion" for number in range(3)]


def test_a_copy_has_insertion_points_of_its_own(encoder: Encoder) -> None:
    twin = copy.deepcopy(encoder)
    assert list(twin.insertion_points) == list(encoder.insertion_points)
    for mine, its in zip(encoder.insertion_points.values(), twin.insertion_points.values(), strict=True):
        assert mine is not its


def test_mean_over_real_steps_ignores_padding_that_is_not_a_number() -> None:
    hidden_BTD = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [torch.nan, torch.inf]], [[5.0, 6.0]] + [[torch.nan] * 2] * 2])
    mean_BD = masked_mean(hidden_BTD, valid_steps(torch.tensor([2, 1]), 3))
    assert mean_BD.tolist() == [[2.0, 3.0], [5.0, 6.0]]

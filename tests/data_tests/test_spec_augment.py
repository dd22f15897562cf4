"""SpecAugment: the same masks as torchaudio's for the same random numbers, from the generator that is passed."""

import pytest
import torch

from harness.data.audio_backend import torchaudio
from harness.data.errors import DataError
from harness.data.spec_augment import SpecAugment
from harness.seeding import torch_generator

FEATURES = torch.randn(4, 60, 40, generator=torch_generator(0, "features")) + 5.0
LENGTHS = torch.tensor([60, 60, 60, 60])


def test_equals_torchaudio_given_the_same_numbers() -> None:
    augment = SpecAugment(num_time_masks=2, time_mask=12, num_mel_masks=2, mel_mask=9, max_time_share=1.0)
    ours = augment(FEATURES, LENGTHS, torch_generator(7, "masks"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(7, "masks").initial_seed())
        theirs = FEATURES[:, None]  # [batch, channel, time, mel]: torchaudio's masks are per example and channel
        for _ in range(2):
            theirs = torchaudio.functional.mask_along_axis_iid(theirs, 12, 0.0, axis=2)
        for _ in range(2):
            theirs = torchaudio.functional.mask_along_axis_iid(theirs, 9, 0.0, axis=3)
    assert torch.equal(ours, theirs[:, 0])


def test_reproducible_and_independent_of_the_global_state() -> None:
    augment = SpecAugment()
    first = augment(FEATURES, LENGTHS, torch_generator(7, "masks"))
    state = torch.get_rng_state()
    second = augment(FEATURES, LENGTHS, torch_generator(7, "masks"))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second)
    assert not torch.equal(first, augment(FEATURES, LENGTHS, torch_generator(8, "masks")))


def test_time_masks_stay_inside_the_utterance_and_its_share() -> None:
    lengths = torch.tensor([60, 30, 10, 3])
    augment = SpecAugment(num_time_masks=1, time_mask=50, num_mel_masks=0, max_time_share=0.5)
    generator = torch_generator(1, "masks")
    for _ in range(200):
        masked = (augment(FEATURES, lengths, generator) == 0).all(dim=2)
        for row, length in zip(masked, lengths.tolist(), strict=True):
            assert not row[length:].any()
            assert int(row.sum()) <= length / 2


def test_masks_nothing_when_switched_off_and_leaves_the_input_alone() -> None:
    before = FEATURES.clone()
    assert torch.equal(SpecAugment(0, 0, 0, 0)(FEATURES, LENGTHS, torch_generator(0)), FEATURES)
    SpecAugment()(FEATURES, LENGTHS, torch_generator(0))
    assert torch.equal(FEATURES, before)


def test_a_mask_wider_than_the_mel_axis_is_cut() -> None:
    augment = SpecAugment(num_time_masks=0, num_mel_masks=1, mel_mask=500)
    masked = augment(FEATURES, LENGTHS, torch_generator(0))
    assert masked.shape == FEATURES.shape


def test_settings_are_checked() -> None:
    with pytest.raises(DataError, match="counts and widths of 0 or more"):
        SpecAugment(time_mask=-1)
    with pytest.raises(DataError, match=r"max_time_share in 0..1, got 2.0"):
        SpecAugment(max_time_share=2.0)

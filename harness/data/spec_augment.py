"""SpecAugment: bands of frames and of mel channels masked out of the training features.

Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition", 2019, without
time warping. The widths and places are drawn as in torchaudio 2.11's `mask_along_axis_iid`; torchaudio draws
from the global random state, so the drawing is done here, from the generator that is passed in.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.data.errors import DataError
from harness.seeding import torch_generator


@dataclass(frozen=True)
class SpecAugment:
    """Masks for padded features [batch, frames, mels]; all-zero settings change nothing.

    Attributes: num_time_masks: masks along time, each up to `time_mask` frames and up to `max_time_share` of
    the utterance. num_mel_masks: masks along the mel axis, each up to `mel_mask` channels.
    """

    num_time_masks: int = 2
    time_mask: int = 20
    num_mel_masks: int = 2
    mel_mask: int = 8
    max_time_share: float = 0.2

    def __post_init__(self) -> None:
        if min(self.num_time_masks, self.time_mask, self.num_mel_masks, self.mel_mask) < 0:
            raise DataError(f"SpecAugment needs counts and widths of 0 or more, got {self}")
        if not 0.0 <= self.max_time_share <= 1.0:
            raise DataError(f"SpecAugment needs max_time_share in 0..1, got {self.max_time_share}")

    def __call__(self, features_BTM: Tensor, lengths_B: Tensor, generator: torch.Generator) -> Tensor:
        """Return `features_BTM` with masked places set to 0 (the mean, for features normalised per utterance).

        Time masks fall within each utterance's own length, not into its padding. The input is not changed; all
        randomness comes from `generator`, in an order that depends on the batch size and the settings alone.
        """
        masked_BTM = torch.zeros_like(features_BTM, dtype=torch.bool)
        lengths = lengths_B.to("cpu", torch.float32)
        widest = (lengths * self.max_time_share).clamp(max=float(self.time_mask))
        for _ in range(self.num_time_masks):
            masked_BTM |= _draw_band(features_BTM.shape[1], lengths, widest, generator)[:, :, None].to(
                features_BTM.device
            )
        num_mels = features_BTM.shape[2]
        sizes = torch.full_like(lengths, float(num_mels))
        widest = torch.full_like(lengths, float(min(self.mel_mask, num_mels)))
        for _ in range(self.num_mel_masks):
            masked_BTM |= _draw_band(num_mels, sizes, widest, generator)[:, None, :].to(features_BTM.device)
        return features_BTM.masked_fill(masked_BTM, 0.0)


@dataclass(frozen=True)
class AugmentedViews:
    """A fixed number of masked views of each clip. A view depends on the clip, settings, seed and its number alone.

    Attributes: masks: draws them. seed: of all views, whatever trial uses them. num_views: from 0 to num_views - 1.
    """

    masks: SpecAugment
    seed: int
    num_views: int

    def __call__(self, features_TM: Tensor, key: str, view: int) -> Tensor:
        """Return one view of a clip's features [frames, mels], without padding: no other clip plays a part.

        Raises DataError when there is no such view.
        """
        if not 0 <= view < self.num_views:
            raise DataError(f"view {view} of {key}: there are views 0 to {self.num_views - 1}")
        generator = torch_generator(self.seed, "augmentation", "view", key, view)
        return self.masks(features_TM[None], torch.tensor([len(features_TM)]), generator)[0]


def _draw_band(size: int, sizes_B: Tensor, widest_B: Tensor, generator: torch.Generator) -> Tensor:
    """Return bool [batch, size]: one band per row, of width below `widest_B`, inside the first `sizes_B` places."""
    width = torch.rand(len(sizes_B), generator=generator) * widest_B
    start = torch.rand(len(sizes_B), generator=generator) * (sizes_B - width)
    first = start.long()[:, None]
    places = torch.arange(size)[None, :]
    return (places >= first) & (places < first + width.long()[:, None])

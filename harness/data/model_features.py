"""What a pretrained speech model reads, by its own feature extractor: the settings lie beside the model.

transformers computes the features; here the settings are read, and clips get their tail of silence.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import harness.data.audio_backend  # noqa: F401 - transformers imports torchaudio, which may need its stand-in
from harness.data.audio_backend import resample
from harness.data.errors import DataError
from harness.errors import must_be_in

SETTINGS_FILE = "preprocessor_config.json"
EXTRACTORS = ("WhisperFeatureExtractor",)


@dataclass(frozen=True)
class ModelFeatures:
    """Features of a pretrained speech model: waveform [samples] -> [frames, channels], float32.

    Attributes:
        settings: of the feature extractor, as JSON with sorted keys.
        tail_s: seconds of silence behind each clip.
    """

    settings: str
    tail_s: float

    @classmethod
    def of_folder(cls, folder: Path, tail_s: float) -> ModelFeatures:
        """The features of the model in a folder.

        Raises:
            DataError: it has no settings of a feature extractor, or one that is not known here.
        """
        path = folder / SETTINGS_FILE
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{path}: the settings of the feature extractor cannot be read: {reason}") from error
        kind = str(settings.get("feature_extractor_type") if isinstance(settings, dict) else None)
        must_be_in(kind, EXTRACTORS, f"{path}: unknown feature_extractor_type {kind!r}", DataError)
        return cls(json.dumps(settings, sort_keys=True), tail_s)

    @cached_property
    def _extractor(self) -> Any:
        import transformers

        settings = json.loads(self.settings)
        return getattr(transformers, settings.pop("feature_extractor_type"))(**settings)

    @property
    def longest_s(self) -> float:
        """The longest clip that the model can read whole, in seconds."""
        return float(self._extractor.chunk_length) - self.tail_s

    def __call__(self, waveform: Tensor, rate: int) -> Tensor:
        """The features [frames, channels] of `waveform` [samples], sampled at `rate` Hz, and of its tail.

        A clip longer than `longest_s` is cut. Raises DataError for an empty or many-dimensional waveform.
        """
        if waveform.dim() != 1 or len(waveform) == 0:
            raise DataError(f"features need samples in one dimension, got shape {list(waveform.shape)}")
        extractor = self._extractor
        samples = resample(waveform, rate, extractor.sampling_rate)[: int(self.longest_s * extractor.sampling_rate)]
        # Whole frames, so that the clip's features do not depend on where between two frames it ends.
        missing = max(extractor.n_fft - len(samples), round(self.tail_s * extractor.sampling_rate))
        missing += -(len(samples) + missing) % extractor.hop_length
        samples = torch.nn.functional.pad(samples, (0, missing))
        found = extractor(
            samples.numpy().astype(np.float32),
            sampling_rate=extractor.sampling_rate,
            padding="do_not_pad",
            truncation=False,
            return_tensors="np",
        )
        return torch.from_numpy(np.ascontiguousarray(found["input_features"][0].T, dtype=np.float32))

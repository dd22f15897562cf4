"""What a pretrained speech model reads, by its own feature extractor: the settings lie beside the model.

transformers computes the features; here the settings are read, and Whisper's clips get their tail of silence.
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
from harness.disk import read_mapping
from harness.errors import must_be_in

SETTINGS_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"  # newer folders keep the settings in there
TYPE = "feature_extractor_type"
WHISPER, SAMPLES = "WhisperFeatureExtractor", "Wav2Vec2FeatureExtractor"
EXTRACTORS = (WHISPER, SAMPLES, "LasrFeatureExtractor", "ParakeetFeatureExtractor", "SeamlessM4TFeatureExtractor")

FEWEST_SAMPLES = 900  # give four frames of 25 ms, of which a mean and a spread can be taken


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
        if not path.is_file() and (folder / PROCESSOR_FILE).is_file():
            path = folder / PROCESSOR_FILE
        settings = _read(path)
        if path.name == PROCESSOR_FILE:
            settings = settings.get("feature_extractor", settings)
        if TYPE not in settings:  # older folders leave it to the type of the model
            settings[TYPE] = _usual_extractor(folder)
        kind = str(settings[TYPE])
        must_be_in(kind, EXTRACTORS, f"{path}: unknown {TYPE} {kind!r}", DataError)
        return cls(json.dumps(settings, sort_keys=True), tail_s)

    @cached_property
    def kind(self) -> str:
        """The class of the feature extractor."""
        return str(json.loads(self.settings)[TYPE])

    @property
    def reads_samples(self) -> bool:
        """Whether the features are the samples themselves, [samples, 1]."""
        return self.kind == SAMPLES

    @cached_property
    def _extractor(self) -> Any:
        import transformers

        settings = json.loads(self.settings)
        return getattr(transformers, settings.pop(TYPE))(**settings)

    @property
    def longest_s(self) -> float | None:
        """The longest clip that the model can read whole, in seconds; None: any."""
        return float(self._extractor.chunk_length) - self.tail_s if self.kind == WHISPER else None

    def __call__(self, waveform: Tensor, rate: int) -> Tensor:
        """The features [frames, channels] of `waveform` [samples], sampled at `rate` Hz, and of Whisper's tail.

        A clip longer than `longest_s` is cut. Raises DataError for an empty or many-dimensional waveform.
        """
        if waveform.dim() != 1 or len(waveform) == 0:
            raise DataError(f"features need samples in one dimension, got shape {list(waveform.shape)}")
        extractor = self._extractor
        samples = resample(waveform, rate, extractor.sampling_rate)
        if self.kind != WHISPER:
            return self._of_whole_clip(samples)
        samples = samples[: int((extractor.chunk_length - self.tail_s) * extractor.sampling_rate)]
        # Whole frames, so that the clip's features do not depend on where between two frames it ends.
        missing = max(extractor.n_fft - len(samples), round(self.tail_s * extractor.sampling_rate))
        missing += -(len(samples) + missing) % extractor.hop_length
        samples = torch.nn.functional.pad(samples, (0, missing))
        found = extractor(
            samples.numpy().astype(np.float32),
            sampling_rate=extractor.sampling_rate,
            padding="do_not_pad",
            truncation=False,
            do_normalize=getattr(extractor, "do_normalize", None),  # transformers asks at the call alone
            return_tensors="np",
        )
        return torch.from_numpy(np.ascontiguousarray(found["input_features"][0].T, dtype=np.float32))

    def _of_whole_clip(self, samples: Tensor) -> Tensor:
        """Features of a clip as it is; frames that the extractor adds to fill a multiple are left out."""
        extractor = self._extractor
        if not self.reads_samples and len(samples) < FEWEST_SAMPLES:
            samples = torch.nn.functional.pad(samples, (0, FEWEST_SAMPLES - len(samples)))
        found = extractor(
            samples.numpy().astype(np.float32),
            sampling_rate=extractor.sampling_rate,
            padding=True,
            return_tensors="np",
            return_attention_mask=True,
        )
        if self.reads_samples:
            return torch.from_numpy(np.asarray(found["input_values"][0], dtype=np.float32))[:, None]
        features = np.asarray(found["input_features"][0], dtype=np.float32)
        real = np.asarray(found["attention_mask"][0], dtype=bool)
        return torch.from_numpy(np.ascontiguousarray(features[: len(real)][real[: len(features)]]))


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_mapping(path)
    except ValueError as error:
        raise DataError(f"{path}: the settings of the feature extractor cannot be read: {error}") from error


def _usual_extractor(folder: Path) -> str | None:
    """The feature extractor that transformers takes for the type of a folder's model, if it has one."""
    from transformers.models.auto import feature_extraction_auto

    names: Any = feature_extraction_auto
    found: str | None = names.FEATURE_EXTRACTOR_MAPPING_NAMES.get(str(_read(folder / "config.json").get("model_type")))
    return found

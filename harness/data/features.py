"""Log-mel features of recordings, and a cache so that each recording is analysed once.

The cache lies in memory and on disk, one safetensors file a domain, under a name that hashes the corpus fingerprint and
every setting of the extractor: another corpus or another setting is another file, never a stale one.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.data.audio_backend import load_audio, resample, torchaudio
from harness.data.cache import data_cache, staging_file
from harness.data.corpus import Corpus, SpeechExample
from harness.data.errors import DataError
from harness.errors import must_be_in
from harness.tensors import digest

Normalisation = Literal["utterance", "none"]
LOG_FLOOR = 1e-6  # added to the mel energies, because studio prompts hold digital silence, whose logarithm is -inf
VERSION = 1  # part of the cache's name: raise it when the computation below changes


@dataclass(frozen=True)
class LogMel:
    """Log-mel energies: waveform [samples] -> features [frames, num_mels], float32.

    `normalisation` "utterance" gives every mel band zero mean and unit variance over the utterance, which
    removes the level and colour of the recording; "none" leaves natural logarithms.
    """

    sample_rate: int = 8000
    num_mels: int = 40
    window_ms: float = 25.0
    hop_ms: float = 10.0
    normalisation: Normalisation = "utterance"

    def __post_init__(self) -> None:
        if self.sample_rate < 1 or self.num_mels < 1 or self.window_ms <= 0 or self.hop_ms <= 0:
            raise DataError(f"LogMel needs positive sample_rate, num_mels, window_ms and hop_ms, got {self}")
        must_be_in(
            self.normalisation, get_args(Normalisation), f"unknown normalisation {self.normalisation!r}", DataError
        )

    @property
    def hop_samples(self) -> int:
        """Samples between two frames."""
        return max(1, round(self.sample_rate * self.hop_ms / 1000))

    @property
    def num_fft(self) -> int:
        """Length of the Fourier transform: a power of two over at least 64 ms.

        Longer than the window, because the lowest mel bands would otherwise fall between two bins and be empty.
        """
        shortest = max(self.sample_rate * self.window_ms / 1000, self.sample_rate * 0.05)
        return 1 << (int(shortest) - 1).bit_length()

    @cached_property
    def _transform(self) -> Any:
        return torchaudio.transforms.MelSpectrogram(
            sample_rate=self.sample_rate,
            n_fft=self.num_fft,
            win_length=round(self.sample_rate * self.window_ms / 1000),
            hop_length=self.hop_samples,
            n_mels=self.num_mels,
            power=2.0,
        )

    def __call__(self, waveform: Tensor, rate: int | None = None) -> Tensor:
        """Return the features [frames, num_mels] of `waveform` [samples], sampled at `rate` Hz (else `sample_rate`).

        There is one frame every `hop_ms`, centred, the first on the first sample. Raises DataError for an empty or
        many-dimensional waveform.
        """
        if waveform.dim() != 1 or len(waveform) == 0:
            raise DataError(f"LogMel needs samples in one dimension, got shape {list(waveform.shape)}")
        samples = resample(waveform, rate or self.sample_rate, self.sample_rate)
        half = self.num_fft // 2  # reflecting at the ends needs more samples than half a transform
        if len(samples) <= half:
            samples = torch.nn.functional.pad(samples, (0, half + 1 - len(samples)))
        with torch.no_grad():
            log_mel = torch.log(self._transform(samples) + LOG_FLOOR).transpose(0, 1)
            if self.normalisation == "utterance":
                spread, mean = torch.std_mean(log_mel, dim=0, correction=0)
                log_mel = (log_mel - mean) / (spread + 1e-5)
        return log_mel.contiguous()


class Extractor(Protocol):
    """Waveform [samples] at a rate in Hz -> features [frames, channels]; a dataclass, whose fields name the cache."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __call__(self, waveform: Tensor, rate: int) -> Tensor: ...


class FeatureCache:
    """Features of the recordings of one corpus: computed once, kept in memory and on disk."""

    def __init__(self, corpus: Corpus, extractor: Extractor, root: Path | None = None) -> None:
        self.corpus_name = corpus.name
        self.extractor = extractor
        settings = json.dumps([VERSION, corpus.fingerprint, asdict(extractor)], sort_keys=True)
        self.folder = (root or data_cache()) / "features" / hashlib.sha256(settings.encode()).hexdigest()[:24]
        self._memory: dict[str, dict[str, Tensor]] = {}

    def features(self, examples: Sequence[SpeechExample]) -> list[Tensor]:
        """Return the features [frames, num_mels] of each of `examples`, in their order.

        What is neither in memory nor on disk is computed, and its domain's file rewritten. Raises DataError
        for audio that cannot be read.
        """
        by_domain: dict[str, list[SpeechExample]] = defaultdict(list)
        for example in examples:
            by_domain[example.domain].append(example)
        for domain, members in by_domain.items():
            self._fill(domain, members)
        return [self._memory[example.domain][example.key] for example in examples]

    def path(self, domain: str) -> Path:
        """Return the file that holds the features of `domain`."""
        # Any other name may be too long for a file, or hold a slash.
        is_plain = re.fullmatch(r"[A-Za-z0-9_-]{1,80}", domain)
        name = domain if is_plain else hashlib.sha256(domain.encode()).hexdigest()[:24]
        return self.folder / f"{name}.safetensors"

    def _fill(self, domain: str, examples: Iterable[SpeechExample]) -> None:
        known = self._memory.setdefault(domain, {})
        wanted = {example.key: example for example in examples}
        if not wanted.keys() <= known.keys():
            known.update(self._read(domain))
        missing = [example for key, example in wanted.items() if key not in known]
        if not missing:
            return
        for example in missing:
            known[example.key] = self.extractor(*load_audio(example.path, example.segment))
        with staging_file(self.path(domain)) as path:
            save_file(known, path, {"sha256": digest(known)})

    def _read(self, domain: str) -> dict[str, Tensor]:
        path = self.path(domain)
        if not path.is_file():
            return {}
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
                is_whole = (file.metadata() or {}).get("sha256") == digest(tensors)
        except (SafetensorError, OSError):
            is_whole = False
        return tensors if is_whole else {}  # a damaged cache is made again, not an error

"""Log-mel features and their cache: shapes, normalisation, and one analysis for each recording."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.data import Corpus, DataError, SpeechExample, features
from harness.data.audio_backend import load_audio
from harness.data.features import FeatureCache, LogMel
from harness.seeding import torch_generator

NOISE = torch.randn(8000, generator=torch_generator(0, "noise")) * 0.1


@pytest.mark.parametrize(("rate", "mels"), [(8000, 40), (8000, 64), (16000, 40), (16000, 80)])
def test_shape_and_type(rate: int, mels: int) -> None:
    out = LogMel(sample_rate=rate, num_mels=mels)(torch.randn(rate, generator=torch_generator(1)))
    assert out.shape == (101, mels)
    assert out.dtype == torch.float32
    assert out.is_contiguous()


def test_normalised_per_utterance() -> None:
    out = LogMel()(NOISE)
    assert out.mean(dim=0).abs().max() < 1e-4
    assert (out.std(dim=0, correction=0) - 1).abs().max() < 1e-3
    assert torch.allclose(LogMel()(NOISE * 0.5), out, atol=0.02)


def test_without_normalisation_the_level_shows() -> None:
    extractor = LogMel(normalisation="none")
    difference = (extractor(NOISE) - extractor(NOISE * 0.5)).median()
    assert float(difference) == pytest.approx(2 * 0.6931, abs=0.01)  # half the amplitude is a quarter of the energy


def test_a_tone_lights_up_its_band() -> None:
    time = torch.arange(8000) / 8000
    low, high = (LogMel(normalisation="none")(torch.sin(2 * torch.pi * f * time)).mean(dim=0) for f in (300, 3000))
    assert int(low.argmax()) < 10
    assert int(high.argmax()) > 30


def test_other_rates_are_resampled() -> None:
    doubled = torch.nn.functional.interpolate(NOISE[None, None], scale_factor=2.0, mode="linear")[0, 0]
    assert LogMel()(doubled, 16000).shape == LogMel()(NOISE).shape


@pytest.mark.parametrize("samples", [1, 80, 256, 257])
def test_very_short_clips_have_frames(samples: int) -> None:
    out = LogMel()(NOISE[:samples])
    assert out.shape[0] >= 1
    assert torch.isfinite(out).all()


def test_silence_is_finite() -> None:
    assert torch.isfinite(LogMel()(torch.zeros(4000))).all()


def test_wrong_input_and_settings() -> None:
    with pytest.raises(DataError, match=r"one dimension, got shape \[2, 10\]"):
        LogMel()(torch.zeros(2, 10))
    with pytest.raises(DataError, match="positive sample_rate"):
        LogMel(num_mels=0)
    with pytest.raises(DataError, match="unknown normalisation 'speaker'; choices: utterance, none"):
        LogMel(normalisation="speaker")  # type: ignore[arg-type]


@pytest.fixture
def speech(tmp_path: Path, make_tone: Callable[..., Path]) -> Corpus:
    """Two domains of two tones each."""
    domains = {
        domain: tuple(
            SpeechExample(
                key=f"{domain}/{i}",
                group=f"g{i}",
                domain=domain,
                path=make_tone(tmp_path / domain / f"{i}.wav", seconds=0.4 + 0.2 * i, pitch=300.0 + 100 * i),
                seconds=0.4 + 0.2 * i,
                transcript="a",
            )
            for i in range(2)
        )
        for domain in ("it", "ru")
    }
    return Corpus("made", "speech", domains, ("a",), fingerprint="first")


def all_clips(corpus: Corpus) -> list[SpeechExample]:
    return [e for domain in corpus.domains.values() for e in domain if isinstance(e, SpeechExample)]


def count_loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    loads: list[Path] = []

    def counted(path: Path, segment: tuple[float, float] | None = None) -> tuple[torch.Tensor, int]:
        loads.append(path)
        return load_audio(path, segment)

    monkeypatch.setattr(features, "load_audio", counted)
    return loads


def test_cache_computes_once_and_grows(speech: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = count_loads(monkeypatch)
    clips = all_clips(speech)
    for num in (1, 2, 2):
        FeatureCache(speech, LogMel(), tmp_path).features(clips[:num])
    assert loads == [clips[0].path, clips[1].path]
    cache = FeatureCache(speech, LogMel(), tmp_path)
    first = cache.features(clips)
    assert [len(f) for f in first] == [41, 61, 41, 61]
    cache.features(clips[::-1])
    again = FeatureCache(speech, LogMel(), tmp_path).features(clips)
    assert loads == [clip.path for clip in clips]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(first[1], LogMel()(*load_audio(clips[1].path)))


def test_cache_depends_on_contents_and_settings(speech: Corpus, tmp_path: Path) -> None:
    folders = {
        FeatureCache(speech, LogMel(), tmp_path).folder,
        FeatureCache(speech, LogMel(num_mels=64), tmp_path).folder,
        FeatureCache(speech, LogMel(normalisation="none"), tmp_path).folder,
        FeatureCache(replace(speech, fingerprint="second"), LogMel(), tmp_path).folder,
    }
    assert len(folders) == 4
    assert FeatureCache(replace(speech, name="other"), LogMel(), tmp_path).folder in folders


@pytest.mark.parametrize("how", ["garbage", "a bit of a tensor", "cut", "of an older version"])
def test_damaged_cache_is_made_again(how: str, speech: Corpus, tmp_path: Path) -> None:
    cache = FeatureCache(speech, LogMel(), tmp_path)
    clips, path = all_clips(speech), cache.path("it")
    first = cache.features(clips)
    whole = path.read_bytes()
    if how == "of an older version":  # nothing tells whether its numbers are those that were written
        save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)
    else:
        flipped = whole[:-100] + bytes([whole[-100] ^ 16]) + whole[-99:]
        path.write_bytes({"garbage": b"damaged", "a bit of a tensor": flipped, "cut": whole[:-100]}[how])
    again = FeatureCache(speech, LogMel(), tmp_path).features(clips)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert path.read_bytes() == whole


def test_corrupt_recording_is_named(speech: Corpus, tmp_path: Path) -> None:
    clips = all_clips(speech)
    clips[2].path.write_bytes(b"noise")
    with pytest.raises(DataError, match=r"ru/0\.wav: cannot be read as audio"):
        FeatureCache(speech, LogMel(), tmp_path).features(clips)

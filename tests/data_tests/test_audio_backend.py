"""torchaudio comes in with or without its native extension; audio files that cannot be used are named."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from harness.data.audio_backend import BACKEND, describe_backend, interpolate, load_audio, resample, torchaudio
from harness.data.errors import DataError

pytestmark = pytest.mark.slow


def run_python(code: str) -> str:
    """Run `code` in a fresh process with warnings as errors, and return what it prints."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_backend_says_what_it_is() -> None:
    assert BACKEND in ("native", "pure-python")
    assert torchaudio.__version__ in describe_backend()
    assert ("without" in describe_backend()) == (BACKEND == "pure-python")


def test_stand_in_when_the_extension_cannot_be_loaded() -> None:
    """Whatever is installed here: an extension whose import raises is replaced, and the transforms work."""
    out = run_python(
        """
        import importlib.abc, sys

        class Broken(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name == "torchaudio._extension":
                    raise error
                return None

        sys.meta_path.insert(0, Broken())
        error = OSError("libcudart.so.13: no such file")
        from harness.data import audio_backend
        import torch
        torchaudio = audio_backend.torchaudio
        mel = torchaudio.transforms.MelSpectrogram(8000, n_fft=512, hop_length=80, n_mels=40)
        torchaudio.models.Conformer(40, 2, 64, 1, 3)
        assert torchaudio.pipelines and torchaudio.datasets.SPEECHCOMMANDS
        print(audio_backend.BACKEND, tuple(mel(torch.randn(8000)).shape))
        print(audio_backend.describe_backend())

        for name in [name for name in sys.modules if name.startswith("torchaudio")]:
            del sys.modules[name]
        error = RuntimeError("CUDA versions differ")
        _, backend, reason = audio_backend._import_torchaudio()
        print(backend, reason)
        """
    )
    first, second, third = out.splitlines()
    assert first == "pure-python (40, 101)"
    assert "libcudart.so.13: no such file" in second
    assert third == "pure-python CUDA versions differ"


def test_native_extension_is_used_where_it_loads_and_other_import_errors_are_not_hidden() -> None:
    out = run_python(
        """
        import sys, types
        fake = types.ModuleType("torchaudio")
        fake.__version__ = "9.9"
        fake.__path__ = []
        sys.modules["torchaudio"] = fake
        sys.modules["torchaudio.transforms"] = types.ModuleType("torchaudio.transforms")
        from harness.data.audio_backend import BACKEND, describe_backend
        print(BACKEND, describe_backend())
        del sys.modules["harness.data.audio_backend"]
        sys.modules["torchaudio"] = None
        try:
            import harness.data.audio_backend
        except ImportError as error:
            print("ImportError")
        """
    )
    assert out.splitlines() == ["native torchaudio 9.9 with its native extension", "ImportError"]


def test_load_audio(tmp_path: Path, make_tone: Callable[..., Path]) -> None:
    waveform, rate = load_audio(make_tone(tmp_path / "a.wav", seconds=0.25))
    assert waveform.shape == (2000,)
    assert waveform.dtype == torch.float32
    assert rate == 8000
    assert 0.2 < float(waveform.abs().max()) < 0.3


def test_channels_are_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "stereo.wav", np.array([[0.5, -0.5], [0.5, 0.0]]), 8000, subtype="FLOAT")
    waveform, _ = load_audio(tmp_path / "stereo.wav")
    assert waveform.tolist() == [0.0, 0.25]


@pytest.mark.parametrize("name", ["missing.wav", "corrupt.wav", "cut.wav", "empty.wav", "nan.wav"])
def test_unusable_audio_names_path_and_reason(tmp_path: Path, name: str, make_tone: Callable[..., Path]) -> None:
    path = tmp_path / name
    if name == "corrupt.wav":
        path.write_bytes(b"this is not audio")
    elif name == "cut.wav":
        path.write_bytes(make_tone(path).read_bytes()[:20])
    elif name == "empty.wav":
        soundfile.write(path, np.zeros(0), 8000)
    elif name == "nan.wav":
        soundfile.write(path, np.array([0.0, np.nan]), 8000, subtype="FLOAT")
    with pytest.raises(DataError, match=rf"{name}: cannot be (read|used) as audio: .+"):
        load_audio(path)


def test_resample(tmp_path: Path, make_tone: Callable[..., Path]) -> None:
    waveform, rate = load_audio(make_tone(tmp_path / "a.wav", rate=16000))
    halved = resample(waveform, rate, 8000)
    assert halved.shape == (4000,)
    assert resample(waveform, rate, rate) is waveform
    spectrum = torch.fft.rfft(halved).abs()
    assert int(spectrum.argmax()) * 8000 / 4000 == pytest.approx(440, abs=4)


@pytest.mark.parametrize(("rate", "new_rate"), [(7350, 8000), (44100, 8000), (11025, 16000), (16000, 22050)])
def test_interpolate_is_torchaudios_resample(rate: int, new_rate: int) -> None:
    noise = torch.randn(2, rate, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torchaudio.functional.resample(noise, rate, new_rate)
    torch.testing.assert_close(interpolate(noise, rate, new_rate), expected, rtol=0, atol=1e-12)
    single = interpolate(noise.float(), rate, new_rate)
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 192000])
@pytest.mark.parametrize("new_rate", [8000, 16000])
def test_usual_rates_are_left_to_torchaudio(rate: int, new_rate: int) -> None:
    """Bit for bit: published features were made with it."""
    noise = torch.randn(rate // 4, generator=torch.Generator().manual_seed(0))
    expected = torchaudio.functional.resample(noise, rate, new_rate)
    assert torch.equal(resample(noise, rate, new_rate), expected)


@pytest.mark.parametrize("rate", [7351, 11127, 22254, 44056, 47952, 191_999])
def test_odd_rates_keep_the_tone_and_its_aliases_out(rate: int) -> None:
    """Old Macintosh recordings have 11,127 Hz; torchaudio alone needs gigabytes for such rates."""
    time = torch.arange(rate * 2, dtype=torch.float64) / rate
    kept = resample(torch.sin(2 * torch.pi * 1000 * time).float(), rate, 8000)
    expected = torch.sin(2 * torch.pi * 1000 * torch.arange(16000, dtype=torch.float64) / 8000)
    assert kept.shape == (16000,)
    assert (kept - expected)[200:-200].abs().max() < 3e-3
    if rate > 2 * 5000:
        gone = resample(torch.sin(2 * torch.pi * 5000 * time).float(), rate, 8000)
        assert gone[200:-200].abs().max() < 2e-2  # above the new Nyquist frequency of 4,000 Hz

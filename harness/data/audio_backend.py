"""The package's one import of torchaudio, and reading audio files without it.

torchaudio's wheels are linked to one CUDA version, so importing it beside another torch build (a CPU one,
say) raises OSError or RuntimeError. Only its native extension is concerned; features, masking, datasets and
pipelines are pure PyTorch. Where the real import fails, a stand-in takes the extension's place and torchaudio
is imported again. Files are read with soundfile: torchaudio's own `load` needs TorchCodec and FFmpeg.
"""

import importlib
import importlib.machinery
import math
import sys
import types
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from harness.data.audio_files import read_audio
from harness.errors import first_line

EXTENSION = "torchaudio._extension"
MAX_KERNEL = 1_000_000  # numbers in torchaudio's table of filters; from 44,100 Hz to 8,000 it has 35,280
ZEROS, ROLLOFF = 6, 0.99  # torchaudio's own: zeros of the sinc on either side, cutoff as a share of Nyquist
WEIGHTS_AT_ONCE = 1 << 19
Backend = Literal["native", "pure-python"]


def _fail_without_extension(*_args: object, **_kwargs: object) -> None:
    raise RuntimeError("torchaudio's native extension is not loaded: this build of torchaudio is for another torch")


def _extension_stand_in() -> types.ModuleType:
    """Return a module with the names that torchaudio imports from `torchaudio._extension`."""
    module = types.ModuleType(EXTENSION, "Stand-in for torchaudio's native extension.")
    module.__spec__ = importlib.machinery.ModuleSpec(EXTENSION, loader=None)
    namespace: dict[str, Any] = {
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "_IS_RIR_AVAILABLE": False,
        "_IS_ALIGN_AVAILABLE": False,
        "lazy_import_sox_ext": _fail_without_extension,
        "fail_if_no_rir": lambda function: _fail_without_extension,
        "fail_if_no_align": lambda function: _fail_without_extension,
        "_check_cuda_version": lambda: None,
    }
    vars(module).update(namespace)
    return module


def _import_torchaudio() -> tuple[Any, Backend, str]:
    try:
        return importlib.import_module("torchaudio"), "native", ""
    except (OSError, RuntimeError) as error:
        reason = first_line(error)
    # What the failed import left behind would be found, half made, by the second one.
    for name in [n for n in sys.modules if n == "torchaudio" or n.startswith("torchaudio.")]:
        del sys.modules[name]
    sys.modules[EXTENSION] = _extension_stand_in()
    return importlib.import_module("torchaudio"), "pure-python", reason


torchaudio, BACKEND, _REASON = _import_torchaudio()
importlib.import_module("torchaudio.transforms")


def describe_backend() -> str:
    """Return one sentence that says which torchaudio is in use, for `harness doctor`."""
    name = f"torchaudio {torchaudio.__version__}"
    if BACKEND == "native":
        return f"{name} with its native extension"
    return f"{name} without its native extension, which this torch {torch.__version__} cannot load ({_REASON})"


def load_audio(path: Path | str, segment: tuple[float, float] | None = None) -> tuple[Tensor, int]:
    """Return the samples of `path` as float32 [samples] in -1..1 (channels averaged), and the rate in Hz.

    `segment` is where to begin and how much to read, in seconds (all of it when None). Raises DataError with path and
    reason when the file is missing, corrupt, cut short, empty or not finite.
    """
    samples, rate = read_audio(Path(path), segment)
    return torch.from_numpy(samples), rate


def resample(waveform: Tensor, rate: int, new_rate: int) -> Tensor:
    """Return `waveform` [..., samples] at `new_rate` Hz instead of `rate` Hz (windowed sinc interpolation)."""
    if rate == new_rate:
        return waveform
    divisor = math.gcd(rate, new_rate)
    if (rate // divisor) * (new_rate // divisor) > MAX_KERNEL:
        return interpolate(waveform, rate, new_rate)
    resampled: Tensor = torchaudio.functional.resample(waveform, rate, new_rate)
    return resampled


def interpolate(waveform: Tensor, rate: int, new_rate: int) -> Tensor:
    """Return what torchaudio's `resample` returns in float64, in memory that does not grow with the two rates.

    torchaudio makes one filter for each place that a new sample can have between two old ones, so its table has
    `rate x new_rate / gcd^2` numbers: 89 million from 11,127 Hz to 8,000. Here a new sample's weights are computed for
    its own place. The filter is the same, a sinc below the lower of the two Nyquist frequencies in a Hann window
    (J. O. Smith, "Digital Audio Resampling Home Page", 2002).
    """
    cutoff = min(rate, new_rate) * ROLLOFF
    reach = math.ceil(ZEROS * rate / cutoff)  # old samples on either side that a new one is made of
    num_new = math.ceil(waveform.shape[-1] * new_rate / rate)
    padded = torch.nn.functional.pad(waveform, (reach, reach + 1))
    taps = torch.arange(-reach, reach + 1)
    chunk = max(1, WEIGHTS_AT_ONCE // len(taps))
    parts = []
    for begin in range(0, num_new, chunk):
        ticks = torch.arange(begin, min(begin + chunk, num_new)) * rate
        nearest = ticks.div(new_rate, rounding_mode="floor")
        # Distances from the new sample, in zeros of the sinc. Whole numbers up to here: no rounding grows with time.
        places = (taps - (ticks % new_rate).double()[:, None] / new_rate) * (cutoff / rate)
        inside = places.clamp(-ZEROS, ZEROS)
        weights = torch.sinc(inside) * torch.cos(inside * (math.pi / ZEROS / 2)) ** 2 * (cutoff / rate)
        parts.append((padded[..., nearest[:, None] + taps + reach] * weights.to(waveform.dtype)).sum(-1))
    return torch.cat(parts, -1)

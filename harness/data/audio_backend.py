"""The package's one import of torchaudio, and reading audio files without it.

torchaudio's wheels are linked to one CUDA version, so importing it beside another torch build (a CPU one,
say) raises OSError or RuntimeError. Only its native extension is concerned; features, masking, datasets and
pipelines are pure PyTorch. Where the real import fails, a stand-in takes the extension's place and torchaudio
is imported again. Files are read with soundfile: torchaudio's own `load` needs TorchCodec and FFmpeg.
"""

import importlib
import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from harness.data.audio_files import read_audio
from harness.errors import first_line

EXTENSION = "torchaudio._extension"
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


def load_audio(path: Path | str) -> tuple[Tensor, int]:
    """Return the samples of `path` as float32 [samples] in -1..1 (channels averaged), and the rate in Hz.

    Raises DataError with path and reason when the file is missing, corrupt, empty or not finite.
    """
    samples, rate = read_audio(Path(path))
    return torch.from_numpy(samples), rate


def resample(waveform: Tensor, rate: int, new_rate: int) -> Tensor:
    """Return `waveform` [..., samples] at `new_rate` Hz instead of `rate` Hz (windowed sinc interpolation)."""
    if rate == new_rate:
        return waveform
    resampled: Tensor = torchaudio.functional.resample(waveform, rate, new_rate)
    return resampled

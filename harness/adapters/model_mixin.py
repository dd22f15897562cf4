"""AdapterModelMixin: what a model inherits to hold adapters, and to save and load them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from harness.adapters import checkpoint, nemo_files, nemo_writing
from harness.adapters.model_adapters import ModelAdapters


class AdapterModelMixin(ModelAdapters):
    """Model-level adapters: put it after `nn.Module` (or a subclass) in the bases.

    Override `default_adapter_module_name` to say where bare names go, and `adapter_module_names` to
    restrict where adapters may go at all.
    """

    def save_adapters(
        self,
        filepath: str | Path,
        name: str | Sequence[str] | None = None,
        *,
        format: Literal["harness", "nemo"] | None = None,
        **options: Any,
    ) -> list[Path]:
        """Save adapters alone, in this package's format or in NeMo's.

        Args:
            filepath: a stem or NAME.safetensors, NAME.pt for a file that NeMo reads, or a folder.
            name: the adapters; all if None.
            format: `harness` or `nemo`; what the suffix says if None.
            **options: of checkpoint.save_adapters, or of nemo_writing.save_nemo_adapters; errors are theirs, too.

        Returns:
            The files written.

        Raises:
            ValueError: also if the suffix is that of the other format.
        """
        path = Path(filepath)
        is_folder, is_nemos = path.is_dir(), path.suffix == nemo_writing.SUFFIX
        if format not in (None, "harness", "nemo"):
            raise ValueError(f"format: {format!r} has to be harness or nemo")
        if format == "harness" and is_nemos and not is_folder:
            raise ValueError(f"{path}: .pt is the suffix of format nemo; with format harness, name it .safetensors")
        if format == "nemo" and not is_nemos and not is_folder:
            raise ValueError(f"{path}: a file of format nemo has the suffix .pt")
        if format == "nemo" or (is_nemos and not is_folder):
            return nemo_writing.save_nemo_adapters(self, path, name, **options)
        return checkpoint.save_adapters(self, path, name, **options)

    def load_adapters(
        self,
        filepath: str | Path,
        name: str | Sequence[str] | None = None,
        map_location: str | None = None,
        strict: bool = True,
        **options: Any,
    ) -> list[str]:
        """Add adapters from a file of this package, or from NeMo's `.pt`; returns their names.

        See checkpoint.load_adapters and nemo_files.load_nemo_adapters for errors and options. Weights go
        to the device of the host unless `map_location` names another.
        """
        if Path(filepath).suffix == nemo_writing.SUFFIX and not Path(filepath).is_dir():
            return nemo_files.load_nemo_adapters(self, filepath, name, map_location, strict, **options)
        return checkpoint.load_adapters(self, filepath, name, map_location, strict, **options)

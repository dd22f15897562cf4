"""AdapterModelMixin: what a model inherits to hold adapters, and to save and load them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.adapters import checkpoint, nemo_files
from harness.adapters.model_adapters import ModelAdapters


class AdapterModelMixin(ModelAdapters):
    """Model-level adapters: put it after `nn.Module` (or a subclass) in the bases.

    Override `default_adapter_module_name` to say where bare names go, and `adapter_module_names` to
    restrict where adapters may go at all.
    """

    def save_adapters(
        self, filepath: str | Path, name: str | Sequence[str] | None = None, **options: Any
    ) -> list[Path]:
        """Save adapters alone; see checkpoint.save_adapters, which takes the same options."""
        return checkpoint.save_adapters(self, filepath, name, **options)

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
        if Path(filepath).suffix == ".pt" and Path(filepath).is_file():
            return nemo_files.load_nemo_adapters(self, filepath, name, map_location, strict, **options)
        return checkpoint.load_adapters(self, filepath, name, map_location, strict, **options)

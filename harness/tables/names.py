"""Name metrics, settings and their values in a table's headers, labels and ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.config.design import level_text
from harness.metrics import metric_words
from harness.tables.load import DIMENSIONS

_HEADERS = {
    "relative_gain": "relative error reduction",
    "original_scale": "original scale",
    "base_target_error": "target error, base model",
    "base_source_error": "source error, base model",
}


def metric_header(name: str) -> str:
    """A metric's header: `target_macro_f1` -> `target macro F1`, `es/wer` -> `es WER`."""
    return _HEADERS.get(name) or metric_words(name)


def dimension_header(name: str) -> str:
    """The header for a dimension or setting of the rows or columns: `adapter.dim` -> `dim`."""
    return name if name in DIMENSIONS else name.rsplit(".", 1)[-1].replace("_", " ")


def part_text(value: Any) -> str:
    """A coordinate or a setting's value as text: `0.5`, `none`, `movie, product`."""
    if isinstance(value, (tuple, list)):
        return ", ".join(part_text(item) for item in value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return level_text(value) if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def part_label(name: str, value: Any, labels: Mapping[str, str], *, named: bool) -> str:
    """The label of a row or column for a value; with `named`, a setting's name is in it (`dim = 32`)."""
    text = labels.get(part_text(value), part_text(value))
    if not named or name in DIMENSIONS:
        return text
    return f"{labels.get(name, dimension_header(name))} = {text}"


def key_id(names: tuple[str, ...], key: tuple[Any, ...]) -> str:
    """A row's or column's id: `residual_add`, `optim.lr=0.001, adapter.dim=32`."""
    parts = [part_text(v) if n in DIMENSIONS else f"{n}={part_text(v)}" for n, v in zip(names, key, strict=True)]
    return ", ".join(parts)

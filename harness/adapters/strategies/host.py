"""What a strategy reads of its host and of its options, with a clear error where that is wrong."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def check_probability(p: Any) -> None:
    """Raise NeMo's ValueError unless p is a number in [0, 1]."""
    if not is_number(p) or not 0.0 <= p <= 1.0:
        raise ValueError(f"Stochastic depth probability has to be between 0 and 1, but got {p}")


def is_number(value: Any) -> bool:
    """Whether an option is a number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def fraction_of(module: Any, attribute: str, option: str) -> float:
    """A share in [0, 1] that a linear schedule reads of its host.

    Raises:
        ValueError: the host has none.
    """
    value: Any = getattr(module, attribute, None)
    if not is_number(value) or not 0.0 <= value <= 1.0:
        raise ValueError(
            f"{option}='linear' needs `{attribute}` in [0, 1] on the host {type(module).__name__}, but got {value}"
        )
    return float(value)


def valid_frames_of(module: Any, input: Tensor) -> Tensor | None:
    """The host's real frames, bool [B, ...]; None where it names none, and all are real.

    Raises:
        ValueError: they are not those of an input [B, ..., D].
    """
    valid: Tensor | None = getattr(module, "valid_frames", None)
    if valid is not None and valid.shape != input.shape[:-1]:
        raise ValueError(
            f"valid_frames of the host {type(module).__name__} has shape {list(valid.shape)}, "
            f"but the adapter's input has frames {list(input.shape[:-1])}"
        )
    return valid

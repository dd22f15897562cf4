"""Plain values as JSON and tensors, never as a pickle: numbers, texts, tensors, arrays, generators, lists, dicts."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LISTS: dict[str, type] = {kind.__name__: kind for kind in (list, tuple, set, deque)}
_GENERATORS = (torch.Generator, random.Random, np.random.Generator)


def is_plain(value: Any, inside: bool = False) -> bool:
    """Whether `encode` can hold a value; `inside` another one, it can be no generator and no subclass of dict."""
    if type(value) is dict or (isinstance(value, dict) and not inside):
        return all(is_plain(part, inside=True) for pair in value.items() for part in pair)
    if type(value) in _LISTS.values():
        return all(is_plain(part, inside=True) for part in value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.kind in "biuf"
    if isinstance(value, _GENERATORS):
        return not inside
    return value is None or type(value) in (bool, int, float, str) or isinstance(value, Tensor)


def encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """A plain value as JSON; its tensors are copied to `tensors`, by names that start with `path`.

    A number, a text or None is itself; anything else is a list that begins with its kind.
    """
    if isinstance(value, dict):
        # Keys need not be texts, so they are encoded too: ["dict", [[key, value], ...]]
        pairs = [(f"{path}.{number}", key, part) for number, (key, part) in enumerate(value.items())]
        return ["dict", [[encode(key, f"{at}.key", tensors), encode(part, at, tensors)] for at, key, part in pairs]]
    if type(value) in _LISTS.values():
        parts = [encode(part, f"{path}.{number}", tensors) for number, part in enumerate(value)]
        return [type(value).__name__, parts, *([value.maxlen] if isinstance(value, deque) else [])]
    if isinstance(value, (np.ndarray, np.generic)):
        tensors[path] = torch.from_numpy(np.array(value))  # a copy
        return ["array" if isinstance(value, np.ndarray) else "scalar", path]
    if isinstance(value, torch.Generator):
        return ["generator", encode(value.get_state(), path, tensors)]
    if isinstance(value, random.Random):
        return ["generator", encode(value.getstate(), path, tensors)]
    if isinstance(value, np.random.Generator):
        return ["generator", encode(value.bit_generator.state, path, tensors)]
    if isinstance(value, Tensor):
        tensors[path] = value.detach().clone()
        return ["tensor", path]
    return value


def decode(content: Any, tensors: Mapping[str, Tensor], current: Any) -> Any:
    """The value that was encoded; a generator, or a subclass of dict, is `current` itself with its old content."""
    if not isinstance(content, list):
        return content
    kind, parts = content[:2]
    if kind == "dict":
        pairs = {decode(key, tensors, None): decode(part, tensors, None) for key, part in parts}
        if not isinstance(current, dict):
            return pairs
        current.clear()
        current.update(pairs)
        return current
    if kind == "tensor":
        return tensors[parts].to(current.device if isinstance(current, Tensor) else None, copy=True)
    if kind in ("array", "scalar"):
        array = tensors[parts].cpu().numpy().copy()
        return array if kind == "array" else array[()]
    if kind == "generator":
        return _put_state(current, decode(parts, tensors, None))
    decoded = [decode(part, tensors, None) for part in parts]
    return deque(decoded, content[2]) if kind == "deque" else _LISTS[kind](decoded)


def _put_state(generator: Any, state: Any) -> Any:
    if isinstance(generator, torch.Generator):
        generator.set_state(state.cpu())
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.bit_generator.state = state
    return generator


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal; NaN is equal to NaN."""
    alike = one.dtype == other.dtype and one.shape == other.shape and one.device == other.device
    return alike and torch.equal(one.nan_to_num(), other.nan_to_num())

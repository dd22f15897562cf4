"""Trees of settings: merged, set by a dotted key, read by one, copied so that no part is shared. Loads no torch.

Merging rule: mappings merge key by key, anything else replaces; a mapping whose `_target_` differs from the one
below it replaces it whole, since the arguments of another class mean nothing to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.errors import UserError, hide_passwords

MISSING = object()  # what `get_dotted` gives for a key that is not there


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two setting trees; `above` wins (see the module's merging rule)."""
    if "_target_" in above and above["_target_"] != below.get("_target_", above["_target_"]):
        return dict(above)
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def set_dotted(tree: dict[str, Any], dotted: str, value: Any, where: str) -> None:
    """Set `a.b.c` in a tree of mappings, making the mappings on the way.

    Raises:
        UserError: a value on the way is not a mapping.
    """
    *parents, last = dotted.split(".")
    node = tree
    for depth, key in enumerate(parents):
        if node.get(key) is None:
            node[key] = {}
        child = node[key]
        if not isinstance(child, dict):
            path = ".".join(parents[: depth + 1])
            found = hide_passwords(repr(child))
            raise UserError(f"{where}: {path} is {found}, not a mapping, so {dotted} cannot be set")
        node = child
    node[last] = value


def unshared(tree: Any) -> Any:
    """Copy a tree so that no part is shared: a YAML alias (`*x`) is the very mapping of its anchor (`&x`)."""
    if isinstance(tree, dict):
        return {key: unshared(value) for key, value in tree.items()}
    return [unshared(item) for item in tree] if isinstance(tree, list) else tree


def get_dotted(tree: Any, dotted: str, default: Any = MISSING) -> Any:
    """The value at `a.b.c` in a tree of mappings, or `default`."""
    for key in dotted.split("."):
        if not isinstance(tree, Mapping) or key not in tree:
            return default
        tree = tree[key]
    return tree


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A tree of mappings by dotted keys; lists and scalars are values."""
    if isinstance(tree, Mapping) and tree:
        flat: dict[str, Any] = {}
        for key, value in tree.items():
            flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
        return flat
    return {prefix: tree}


def show(value: Any) -> str:
    """A setting as text: numbers as short as they read back, lists with commas, a class by its last name."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        text = repr(value)
        return text.removesuffix(".0") if "e" not in text else re.sub(r"e([+-])0+", r"e\1", f"{value:g}")
    if isinstance(value, (list, tuple)):
        return ", ".join(show(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {show(item)}" for key, item in value.items())
    return str(value)

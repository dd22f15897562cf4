"""Trees of settings: merged, set by a dotted key, read by one, copied so that no part is shared. Loads no torch.

Merging rule: mappings merge key by key, anything else replaces; a mapping whose `_target_` differs from the one
below it replaces it whole, since the arguments of another class mean nothing to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.errors import UserError, hide_passwords, is_harmful

MAX_DEPTH = 40  # levels of a tree of settings; the deepest shipped one has 8
MAX_VALUES = 100_000  # values of a tree, each counted as often as aliases repeat it
MAX_NAME = 200  # characters
MAX_LINE = 1_000  # characters of a title or a description
MAX_DIGITS = 30  # of a whole number
MISSING = object()  # what `get_dotted` gives for a key that is not there


def check_tree(tree: Any, where: str) -> None:
    """Refuse a tree that is more than settings: other types than YAML's plain ones, or far too many of them.

    Trees are walked by recursion, copied without their aliases, hashed, printed and written as JSON: what would break
    one of these is refused here.

    Raises:
        UserError: a key that is no name (a text of one line, of at most MAX_NAME characters), a value that is no text,
            number, list or mapping, a control character, a number of many digits, a value within itself, or a tree of
            more than MAX_DEPTH levels or MAX_VALUES values.
    """
    num_values, _ = _measure(tree, where, (), {})
    if num_values > MAX_VALUES:
        raise UserError(f"{where}: it holds more than {MAX_VALUES:,} values (an alias counts as often as it is used)")


def _measure(node: Any, where: str, path: tuple[str, ...], known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """How many values a node holds, and how many levels.

    Args:
        path: the keys that lead to it.
        known: id of a mapping or list -> its measures; None while it is being measured. So what an alias repeats is
            measured once, and what holds itself is noticed.
    """
    place = f"{where}: {'.'.join(path)}" if path else where
    if not isinstance(node, (dict, list, tuple)):
        _check_value(node, place)
        return 1, 1
    measured = known.get(id(node), (0, 0))
    if measured is None:
        raise UserError(f"{place}: the value holds itself (an alias within its own anchor)")
    if measured == (0, 0):
        known[id(node)] = None
        if len(path) > MAX_DEPTH:
            raise UserError(f"{where}: it is nested more than {MAX_DEPTH} levels deep")
        items = node.items() if isinstance(node, dict) else ((str(number), item) for number, item in enumerate(node))
        measures = []
        for key, value in items:
            check_name(key, f"{place}: the key")
            measures.append(_measure(value, where, (*path, key), known))
        measured = 1 + sum(count for count, _ in measures), 1 + max((levels for _, levels in measures), default=0)
        known[id(node)] = measured
    if len(path) + measured[1] > MAX_DEPTH + 1:
        raise UserError(f"{where}: it is nested more than {MAX_DEPTH} levels deep")
    return measured


def check_name(name: Any, what: str) -> None:
    """Refuse what cannot be the name of an arm, a setting or anything else that people read in tables and figures.

    Raises:
        UserError: `what`, then the name and what is wrong with it.
    """
    if not isinstance(name, str):
        raise UserError(f"{what} {name!r} is no text; put it into quotes to make it one")
    if len(name) > MAX_NAME:
        raise UserError(f"{what} {name[:40]!r}... has {len(name):,} characters; a name has at most {MAX_NAME}")
    if not name or name != name.strip() or "\n" in name or "\t" in name:
        raise UserError(f"{what} {name!r} is empty, begins or ends with a blank, or has a line break or a tab")
    check_text(name, f"{what} {name!r}")


def one_line(text: str) -> str:
    """A text that people read in one line: runs of blanks and line breaks are one blank.

    Raises:
        ValueError: it has more than MAX_LINE characters.
    """
    joined = " ".join(text.split())
    if len(joined) > MAX_LINE:
        raise ValueError(f"it has {len(joined):,} characters; give at most {MAX_LINE:,}")
    return joined


def _check_value(value: Any, place: str) -> None:
    if isinstance(value, str):
        check_text(value, place)
    elif isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
        raise UserError(f"{place}: a whole number of more than {MAX_DIGITS} digits is no setting")
    elif not (value is None or isinstance(value, (int, float))):
        raise UserError(f"{place}: {value!r} is a {type(value).__name__}, and not a text, number, list or mapping")


def check_text(text: str, place: str) -> None:
    """Refuse a text with a character that steers whatever shows it (harness.errors.is_harmful), line breaks aside.

    Raises:
        UserError: `place`, and the character.
    """
    found = next((sign for sign in text if is_harmful(sign) and sign not in "\n\t"), None)
    if found is not None:
        raise UserError(f"{place}: the character U+{ord(found):04X} steers the output and is not shown; leave it out")


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
        UserError: a value on the way is not a mapping, or there are too many.
    """
    *parents, last = dotted.split(".")
    if len(parents) >= MAX_DEPTH:
        raise UserError(f"{where}: {len(parents) + 1} levels; a setting is nested at most {MAX_DEPTH} levels deep")
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

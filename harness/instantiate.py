"""Build an object from a config that names its class: `{"_target_": "package.module.Name", ...}`.

The same configs work with `hydra.utils.instantiate`; this module needs neither hydra, omegaconf nor
torch, and reports each mistake in one line that names the value, its place in the config and the
cause. A class in a user's own file is named the same way, provided that its folder is on `sys.path`.

A config builds objects and calls nothing else: whatever `_target_` names has to be a class, from outside of Python's
standard library, and of the kind that the caller asks for. That is checked before it is called, at every depth.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from difflib import SequenceMatcher
from typing import Any

from harness.errors import UserError, no_exits, text_of

TARGET_KEY = "_target_"
MISSING = "???"  # omegaconf's mark for a value that must be given
SHOWN = 8  # of the names in a module, when one is not there
_DIRECTIVES = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_")

Kind = Callable[[str, type], str | None]
"""Says what a class should have been, or None if it is right. It is told the key that the class's config stands under
(`adapter_strategy`; "" at the top), so that each place has a kind of its own."""


class InstantiationError(UserError):
    """A config that names no object, or names one that its other values do not fit."""


def any_class(key: str, cls: type) -> str | None:
    """The kind of a config that the caller wrote: every class."""
    return None


def instantiate(cfg: Any, kind: Kind = any_class, /, **extra: Any) -> Any:
    """Build the object that a config describes, nested configs first.

    Args:
        cfg: a mapping, a dataclass instance or an omegaconf config with a `_target_` key. `_args_`
            (positional arguments), `_partial_` and `_recursive_` mean what they mean in hydra.
        kind: which classes may be built; give one for every config that somebody else may have written.
        **extra: keyword arguments that are added to the config's, or override them.

    Returns:
        What calling the target returned; a `functools.partial` of it if `_partial_` is true.

    Raises:
        InstantiationError: no target, an unknown one, one that is no class of the right kind, a keyword it does
            not accept, one that is missing, or a ValueError, TypeError or AssertionError from the target itself.
    """
    plain = to_plain(cfg)
    if not isinstance(plain, dict):
        raise InstantiationError(f"config: expected a mapping with `{TARGET_KEY}`, but got {cfg!r}")
    return _build({**plain, **extra}, "config", kind)


def locate(target: Any, *, place: str = "config") -> type:
    """Return the class that an import path names.

    Args:
        target: `package.module.Name` or `package.module.Outer.Inner`; a class is returned as it is.
        place: where the path was written, for the error message.

    Raises:
        InstantiationError: an empty path, a module of Python's standard library (it is not imported), one that is not
            found or fails to import, a module without that attribute, or an attribute that is no class.
    """
    if callable(target):
        return _checked_class(target, getattr(target, "__qualname__", repr(target)), place)
    if not isinstance(target, str) or not all(target.split(".")):
        raise InstantiationError(f"{place}: `{TARGET_KEY}` must be an import path, but got {target!r}")
    parts = target.split(".")
    if len(parts) < 2:
        raise InstantiationError(f"{place}: `{TARGET_KEY}: {target}` names no module (write `module.Name`)")
    if parts[0] in sys.stdlib_module_names:  # importing may already do something (`antigravity` opens a browser)
        raise InstantiationError(f"{place}: `{target}` {_NO_STDLIB}")
    for size in range(len(parts) - 1, 0, -1):
        module = _import_if_there(".".join(parts[:size]), target, place)
        if module is not None:
            return _checked_class(_walk_attributes(module, parts[size:], target, place), target, place)
    raise InstantiationError(f"{place}: cannot find `{target}`: no module named `{parts[0]}`{_looked_in()}")


def _looked_in() -> str:
    """Where a user's own module would have been found: the folders that are no part of the Python installation."""
    installed = tuple({sys.prefix, sys.base_prefix, sys.exec_prefix})
    own = [os.path.abspath(folder) for folder in sys.path if os.path.isdir(folder or ".")]
    folders = dict.fromkeys(folder for folder in own if not folder.startswith(installed))
    return f"; looked in {', '.join(folders)} and the installed packages" if folders else ""


_NO_STDLIB = "is in Python's standard library, which a config may not call; name an adapter or strategy class"


def _checked_class(found: Any, name: str, place: str) -> type:
    if not inspect.isclass(found):
        what = f"a {type(found).__name__}"
        raise InstantiationError(f"{place}: `{name}` is {what} and no class, so it is not called; name a class")
    if str(found.__module__).partition(".")[0] in sys.stdlib_module_names:  # reached through another module's import
        raise InstantiationError(f"{place}: `{name}` {_NO_STDLIB}")
    return found


def to_plain(cfg: Any) -> Any:
    """Turn config dataclasses and omegaconf configs, at any depth, into plain dicts and lists.

    A dataclass instance is a config if it has `_target_`; any other object is returned as it is.
    Mappings and lists are copied, so that the result may be changed.
    """
    omegaconf = sys.modules.get("omegaconf")  # a config of that kind exists only if it is imported
    if omegaconf is not None and omegaconf.OmegaConf.is_config(cfg):
        cfg = omegaconf.OmegaConf.to_container(cfg, resolve=True)
    if dataclasses.is_dataclass(cfg) and not isinstance(cfg, type) and hasattr(cfg, TARGET_KEY):
        cfg = {f.name: getattr(cfg, f.name) for f in dataclasses.fields(cfg)}
    if isinstance(cfg, Mapping):
        return {key: to_plain(value) for key, value in cfg.items()}
    if type(cfg) in (list, tuple):
        return type(cfg)(to_plain(item) for item in cfg)
    return cfg


def target_of(cls: Any) -> str:
    """Return the import path of a class or function, for the `_target_` of a config."""
    return f"{cls.__module__}.{cls.__qualname__}"


def accepted_keywords(target: Callable[..., Any]) -> list[str] | None:
    """Return the keyword names that a callable accepts, or None if it accepts any (or cannot tell)."""
    signature = _signature(target)
    if signature is None or any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return None
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, p in signature.parameters.items() if p.kind in kinds]


def _build(node: Any, place: str, kind: Kind, key: str = "") -> Any:
    if isinstance(node, dict) and TARGET_KEY in node:
        return _build_target(node, place, kind, key)
    if isinstance(node, dict):
        if place == "config":
            raise InstantiationError(f"config: no `{TARGET_KEY}` among its keys: {', '.join(map(str, node))}")
        return {name: _build(value, f"{place}.{name}", kind, str(name)) for name, value in node.items()}
    if type(node) in (list, tuple):
        return type(node)(_build(item, f"{place}[{i}]", kind, key or "[]") for i, item in enumerate(node))
    return node


def _build_target(node: dict[str, Any], place: str, kind: Kind, key: str) -> Any:
    target = locate(node[TARGET_KEY], place=place)
    name = node[TARGET_KEY] if isinstance(node[TARGET_KEY], str) else target_of(target)
    expected = kind(key, target)
    if expected is not None:
        raise InstantiationError(f"{place}: `{name}` is not {expected}, so it is not called")
    values = {name: value for name, value in node.items() if name not in _DIRECTIVES}
    args = list(node.get("_args_", ()))
    if node.get("_recursive_", True):
        values = {key: _build(value, f"{place}.{key}", kind, str(key)) for key, value in values.items()}
        args = [_build(item, f"{place}._args_[{i}]", kind, "_args_") for i, item in enumerate(args)]
    missing = [key for key, value in values.items() if isinstance(value, str) and value == MISSING]
    if missing:
        raise InstantiationError(f"{place}: {name}: no value given for `{'`, `'.join(missing)}`")
    _check_keywords(target, name, values, place)
    if node.get("_partial_", False):
        return functools.partial(target, *args, **values)
    _check_required(target, name, args, values, place)
    return _call(target, name, args, values, place)


def _call(target: Callable[..., Any], name: str, args: list[Any], values: dict[str, Any], place: str) -> Any:
    try:
        with no_exits():
            return target(*args, **values)
    except InstantiationError as error:  # the target built something itself: keep its own place, add ours
        raise InstantiationError(f"{place}: {name}: {error}") from error
    except (ValueError, TypeError, AssertionError, AttributeError, KeyError) as error:
        cause = " ".join(text_of(error).split()) or f"{type(error).__name__} without a message"  # one line
        raise InstantiationError(f"{place}: {name}: {type(error).__name__}: {cause}") from error
    except Exception as error:  # not the config's fault, perhaps: the type matters to the caller
        error.add_note(f"while building {name} at {place}")
        raise


def _check_keywords(target: Callable[..., Any], name: str, values: dict[str, Any], place: str) -> None:
    accepted = accepted_keywords(target)
    if accepted is None:
        return
    unknown = [key for key in values if key not in accepted]
    if unknown:
        listed = ", ".join(accepted) if accepted else "none"
        raise InstantiationError(
            f"{place}: {name} does not accept `{'`, `'.join(map(str, unknown))}`; it accepts: {listed}"
        )


def _check_required(target: Callable[..., Any], name: str, args: list[Any], values: dict[str, Any], place: str) -> None:
    signature = _signature(target)
    if signature is None:
        return
    try:
        signature.bind(*args, **values)
    except TypeError as error:
        listed = ", ".join(accepted_keywords(target) or ["any"])
        raise InstantiationError(f"{place}: {name}: {error}; it accepts: {listed}") from error


def _signature(target: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return _known_signature(target)
    except TypeError:  # a callable without a hash
        return _read_signature(target)


def _read_signature(target: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(target)
    except (TypeError, ValueError):  # some C functions have none
        return None


_known_signature = functools.lru_cache(maxsize=256)(_read_signature)  # each trial asks, for each of its adapters


def _import_if_there(path: str, target: str, place: str) -> Any:
    """Import a module; None if that module (or a parent) does not exist."""
    try:
        with no_exits():  # a user's script may end with `sys.exit()`
            return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is not None and (path == error.name or path.startswith(f"{error.name}.")):
            return None
        raise InstantiationError(
            f"{place}: cannot import `{target}`: `{path}` needs a module `{error.name}` that is not there"
        ) from error
    except Exception as error:
        raise InstantiationError(
            f"{place}: cannot import `{target}`: `{path}` fails with {type(error).__name__}: {text_of(error)}"
        ) from error


def _walk_attributes(module: Any, names: list[str], target: str, place: str) -> Any:
    found = module
    for name in names:
        if not hasattr(found, name):
            where = getattr(found, "__name__", repr(found))
            public = [n for n, v in vars(module).items() if not n.startswith("_") and callable(v)]
            choices = sorted(public, key=lambda n: (-SequenceMatcher(None, name, n).ratio(), n))  # the likeliest first
            more = f" and {len(choices) - SHOWN} more" if len(choices) > SHOWN else ""
            raise InstantiationError(
                f"{place}: cannot find `{target}`: `{where}` has no attribute `{name}`"
                f" (it has: {', '.join(choices[:SHOWN]) or 'no public class or function'}{more})"
            )
        found = getattr(found, name)
    return found

"""Turns what callers pass (files, shipped names, mappings, overrides) into what the layers below take."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from harness.config.shipped import Kind, find_file
from harness.config.trees import check_tree
from harness.config.yaml import read_yaml
from harness.errors import UserError
from harness.instantiate import to_plain

Source = str | Path | Mapping[str, Any]
Overrides = Mapping[str, Any] | Iterable[str]


def read_source(source: Source, kind: Literal["experiment", "sweep"]) -> tuple[dict[str, Any], Path]:
    """The settings that a file, a shipped name or a mapping stands for, and the path that errors name.

    Raises:
        UserError: there is no such file or name, or it is not a mapping of settings.
    """
    if isinstance(source, Mapping):
        path = Path(kind)  # relative, so a file that a sweep names is looked for in the current folder
        add_user_code(path)
        check_tree(to_plain(source), kind)
        return dict(source), path
    if not isinstance(source, (str, Path)):
        raise UserError(f"{kind} {source!r}: expected a path, a shipped name or a mapping of settings")
    path = user_file(source, kind)
    return read_yaml(path), path


def user_file(name: str | Path, *kinds: Kind) -> Path:
    """The file that a path or a shipped name stands for; classes of the user's own may lie beside it.

    Raises:
        UserError: no shipped file has the name.
    """
    path = find_file(name, *kinds)
    add_user_code(path)
    return path


def add_user_code(path: Path) -> None:
    """Let `_target_` name modules beside a file, or in the current folder."""
    for folder in (path.parent.resolve(), Path.cwd()):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))  # behind everything that is installed: a file `random.py` must not replace it


def as_arguments(overrides: Overrides | None) -> list[str]:
    """Overrides as the command line has them: `{"optim.lr": 3e-4}` -> `["optim.lr=0.0003"]`.

    Raises:
        UserError: a config cannot hold one of the values.
    """
    if overrides is None:
        return []
    if isinstance(overrides, str):
        raise UserError(f"overrides {overrides!r}: expected a mapping, or a list of key=value")
    if not isinstance(overrides, Mapping):
        return _texts(overrides)
    arguments = []
    for key, value in overrides.items():
        try:
            arguments.append(f"{key}={json.dumps(value, allow_nan=False, default=_plain_scalar)}")
        except (TypeError, ValueError):
            raise UserError(f"override {key}: {value!r} is not a number, text, list or mapping of these") from None
    return arguments


def _texts(overrides: Any) -> list[str]:
    given = as_collection(overrides, "overrides")
    for text in given:
        if not isinstance(text, str):
            raise UserError(f"overrides: {text!r} is no text: expected a mapping, or a list of key=value")
    return given


def _plain_scalar(value: Any) -> Any:
    """A scalar of numpy or torch as the number that it is; raises TypeError for anything else."""
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return value.item()
    raise TypeError


def as_collection(values: Any, what: str) -> list[Any]:
    """The values of an argument that takes several.

    Raises:
        UserError: it is one text, or one value of another kind.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise UserError(f"{what}={values!r}: expected a list, as {what}=[{values!r}]")
    return list(values)


def check_jobs(num_jobs: int) -> None:
    """Refuse fewer than one worker, and a launch from within a worker that imports the caller's script.

    Raises:
        UserError: one of the two is the case.
    """
    if not isinstance(num_jobs, Integral) or isinstance(num_jobs, bool) or num_jobs < 1:
        raise UserError(f"jobs={num_jobs!r}: expected 1 or more worker processes")
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UserError(
            f"jobs={num_jobs}: each worker process imports this script, so the launch must stand under "
            "`if __name__ == '__main__':`; jobs=1 needs no such line"
        )

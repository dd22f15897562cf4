"""Paths in a settings file: they start from the folder of the file that names them, and then from the current folder.

A trial's settings, and so its id and its record, hold a path as it is written: they do not depend on where a project
lies, nor on the folder in which a command is started. The folder of the file goes with the text in memory alone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import ValidatorFunctionWrapHandler, WrapValidator

from harness.errors import UserError

KEYS = (".data.corpus", ".backbone.recipe", ".encoder.path")


class PlacedText(str):
    """A path as it is written, with the folder that it starts from. For everybody else it is the text."""

    folder: Path

    def __new__(cls, text: str, folder: Path) -> PlacedText:
        self = super().__new__(cls, text)
        self.folder = folder
        return self

    def __getnewargs__(self) -> tuple[str, Path]:  # type: ignore[override]  # str's own has the text alone
        return str(self), self.folder


def _keep_folder(value: Any, validate: ValidatorFunctionWrapHandler) -> str:
    text: str = validate(value)
    return value if isinstance(value, PlacedText) else text


PathText = Annotated[str, WrapValidator(_keep_folder)]
"""A setting that may be a path; pydantic alone would make a plain text of it."""


def place_paths(tree: Any, folder: Path, at: str = "") -> Any:
    """Copy a tree of settings so that each path in it knows its folder; what has one already keeps it."""
    if isinstance(tree, dict):
        return {key: place_paths(value, folder, f"{at}.{key}") for key, value in tree.items()}
    return PlacedText(tree, folder) if type(tree) is str and at.endswith(KEYS) else tree


def folder_of(text: str) -> Path:
    """The folder that a path starts from: the current one where no file names it."""
    return text.folder if isinstance(text, PlacedText) else Path()


def find_path(text: str, folder: Path) -> Path:
    """The file or folder that a path means.

    Args:
        text: the path as it is written.
        folder: that of the file that names it.

    Raises:
        UserError: it is in neither folder; one line that names both.
    """
    written = Path(os.path.expanduser(text))
    for place in (folder / written, written):
        if os.path.exists(place):  # false, too, for what can be no path
            return place
    here, beside = Path.cwd(), folder.resolve()
    first = "" if beside == here else f"in {beside}, the folder of the file that names it, and "
    looked = "" if written.is_absolute() else f"; looked {first}in {here}, the current folder"
    raise UserError(f"{text}: cannot be read: No such file or directory{looked}")

"""Paths in a settings file: they start from the folder of the file that names them, and then from the current folder.

A trial's settings, and so its id and its record, hold a path as it is written: they do not depend on where a project
lies, nor on the folder in which a command is started. The folder of the file goes with the text in memory alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import ValidatorFunctionWrapHandler, WrapValidator

from harness.errors import UserError

LOCAL_CORPUS = "manifest:"
KEYS = (".data.corpus", ".backbone.recipe", ".encoder.path", ".text.alphabet", ".from.file")


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
    if isinstance(tree, list):
        return [place_paths(item, folder, at) for item in tree]
    return PlacedText(tree, folder) if type(tree) is str and at.endswith(KEYS) else tree


def folder_of(text: str) -> Path:
    """The folder that a path starts from: the current one where no file names it."""
    return text.folder if isinstance(text, PlacedText) else Path()


def recorded_places(paths: Mapping[str, str], record: Path) -> dict[str, str]:
    """Dotted setting -> the folder that its path starts from, as seen from the folder of a record.

    A text that is no relative path to something (the name of a corpus or a shipped recipe) has none.
    """
    found = {}
    for key, text in paths.items():
        written = Path(os.path.expanduser(text.removeprefix(LOCAL_CORPUS)))
        folder = next((folder for folder in (folder_of(text), Path()) if os.path.exists(folder / written)), None)
        if folder is not None and not written.is_absolute():
            found[key] = Path(os.path.relpath(folder, record)).as_posix()
    return found


def place_recorded(config: dict[str, Any], places: Mapping[str, str], record: Path) -> dict[str, Any]:
    """A recorded config whose paths know their folders again."""
    placed = dict(config)
    for key, folder in places.items():
        *parents, name = key.split(".")
        settings = placed
        for parent in parents:
            below = settings.get(parent)
            settings[parent] = settings = dict(below) if isinstance(below, Mapping) else {}
        if isinstance(settings.get(name), str):
            start = Path(os.path.normpath(record / folder))  # that of a published record need not exist
            settings[name] = PlacedText(settings[name], start)
    return placed


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

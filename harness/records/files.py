"""The one interface through which the files of a trial's record are read, wherever they lie.

`FolderFiles` reads a folder as a training leaves it; `harness.records.packed.PackedTrial` reads a published line.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from harness.disk.network import read_whole
from harness.errors import UserError

ModelT = TypeVar("ModelT", bound=BaseModel)
REMAKE = "delete it and run again"
RESTORE = (
    "restore it, from a copy or from your version control: it also holds the history of the launches, on which harness "
    "verify relies, and a launch without it begins a new one"
)


class RecordFiles(Protocol):
    """The files of one trial's record."""

    @property
    def place(self) -> str:
        """Where they lie, for people."""

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""

    def read(self, name: str) -> bytes | None:
        """A file, byte for byte as the training wrote it; None where there is none.

        Raises:
            UserError: it cannot be read.
        """

    def json(self, name: str) -> Any:
        """The content of a JSON file.

        Raises:
            UserError: it is missing, unreadable or corrupt.
        """

    def model(self, name: str, model: type[ModelT]) -> ModelT | None:
        """The content of a JSON file as a model; None where there is no such file.

        Raises:
            UserError: it is unreadable or corrupt.
        """


class FolderFiles:
    """The files in a trial's folder."""

    def __init__(self, folder: str) -> None:
        self.place = folder

    def has(self, name: str) -> bool:
        return os.path.exists(f"{self.place}/{name}")

    def read(self, name: str) -> bytes | None:
        path = f"{self.place}/{name}"
        try:
            return read_whole(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; {REMAKE}") from error

    def json(self, name: str) -> Any:
        return read_json(f"{self.place}/{name}")

    def model(self, name: str, model: type[ModelT]) -> ModelT | None:
        return read_model(f"{self.place}/{name}", model)


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        UserError: it is unreadable or corrupt.
    """
    try:
        return json.loads(read_whole(path))
    except (OSError, ValueError, RecursionError) as error:  # the last: ten thousand brackets in one another
        cause = error.strerror if isinstance(error, OSError) else "not valid JSON"
        raise UserError(f"{path}: {cause}; {REMAKE}") from error


def read_model(path: str, model: type[ModelT], advice: str = REMAKE) -> ModelT | None:
    """Read a JSON file as a model; None where there is none.

    Validated straight from the bytes, without path objects: with ten thousand records both save seconds.

    Args:
        advice: what to do about a corrupt file.

    Raises:
        UserError: it is unreadable or corrupt.
    """
    folder, name = os.path.split(path)
    content = FolderFiles(folder).read(name)
    if content is None:
        return None
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}; {advice}") from error


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with a file: `metrics: target_accuracy: Input should be a valid number`."""
    problem = error.errors()[0]
    if problem["type"] == "json_invalid":
        return "not valid JSON"
    return "".join(f"{part}: " for part in problem["loc"]) + str(problem["msg"])

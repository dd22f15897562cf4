"""The packed form of records, as `harness publish` writes it: two files beside the manifest.

    records.jsonl         one line a trial: {"folder", "trial_id", "version", "files": {NAME: CONTENT}, "predictions"}
    predictions.jsonl.xz  the trials' predictions.jsonl, one after another, each below a line that says whose it is

Any program can read a line, and every file of a record comes back byte for byte: a file's content is stored as JSON if
writing that JSON gives the same bytes again, else as text. For example `"files": {"config.json": {"seed": 0, ...}}`.

The two files may come from anybody, so they are not trusted: reading them runs nothing, and the names in them are
checked before anything is written under them (publishing.py). Predictions are only unpacked when they are asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from harness.disk import json_bytes
from harness.errors import UserError
from harness.records.files import ModelT, first_problem
from harness.records.packed_predictions import PREDICTIONS, PackedPredictions

Key = tuple[str, str]  # folder, trial id
FOLDERS = ("records", "search")
RECORDS = "records.jsonl"
PACKED_VERSION = 1
PREDICTIONS_FILE = "predictions.jsonl"  # of a record; the one file that is kept apart, compressed
SAFE_NAME = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,127}")  # stays in its folder, and is not hidden
LINE_START = re.compile(rb'\{"folder": "([a-z]+)", "trial_id": "([^"\\]+)", ')
REMEDY = "get it again from where it was published"


class PackedTrial:
    """One trial's line; the same interface as a trial's folder (`harness.records.files.RecordFiles`).

    Attributes:
        place: the file and the line.
        files: name -> content, without the predictions.
        digest: of its predictions: `bytes` and `sha256`; None where it has none.
    """

    def __init__(
        self, place: str, key: Key, files: Mapping[str, Any], digest: Mapping[str, Any] | None, apart: PackedPredictions
    ) -> None:
        self.place, self.key, self.files, self.digest, self._apart = place, key, files, digest, apart

    def names(self) -> list[str]:
        """The files of the record."""
        return sorted([*self.files, *([PREDICTIONS_FILE] if self.digest is not None else [])])

    def has(self, name: str) -> bool:
        return name in self.files or (name == PREDICTIONS_FILE and self.digest is not None)

    def read(self, name: str) -> bytes | None:
        if name in self.files:
            try:
                return as_bytes(name, self.files[name])
            except (ValueError, RecursionError) as error:  # NaN, half a surrogate pair
                raise UserError(f"{self.place}: files: {name}: cannot be a file's content; {REMEDY}") from error
        if name != PREDICTIONS_FILE or self.digest is None:
            return None
        content = self._apart.read(self.key)
        if content is None or hashlib.sha256(content).hexdigest() != self.digest["sha256"]:
            what = "has none of this trial" if content is None else "has others than those that this line belongs to"
            raise UserError(f"{self.place}: predictions: {self._apart.path.name} {what}; get both files again")
        return content

    def json(self, name: str) -> Any:
        content = self.files.get(name)
        if content is None:
            raise UserError(f"{self.place}: {name}: this line has no such file; {REMEDY}")
        if not isinstance(content, str):
            return content
        try:
            return from_json(content)
        except ValueError as error:
            raise UserError(f"{self.place}: {name}: not valid JSON; {REMEDY}") from error

    def model(self, name: str, model: type[ModelT]) -> ModelT | None:
        content = self.files.get(name)
        if content is None:
            return None
        try:
            is_text = isinstance(content, str)
            return model.model_validate_json(content) if is_text else model.model_validate(content)
        except ValidationError as error:
            raise UserError(f"{self.place}: {name}: {first_problem(error)}; {REMEDY}") from error


class PackedRecords:
    """All packed trials of an experiment. All lines are indexed at once; each is parsed when it is asked for.

    Args:
        path: the file of the lines.
        predictions: the file of the predictions, beside it.

    Raises:
        UserError: the file cannot be read, a line is no trial's or is cut short, or a trial has two lines.
    """

    def __init__(self, path: Path, predictions: Path | None = None) -> None:
        self.path = path
        self.predictions = PackedPredictions(predictions or path.with_name(PREDICTIONS))
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from error
        *lines, rest = content.split(b"\n")
        if rest:
            raise UserError(f"{path}:{len(lines) + 1}: the file ends in the middle of a line; {REMEDY}")
        self._lines: dict[Key, tuple[int, bytes]] = {}
        for number, line in enumerate(lines, start=1):
            key = self._key(number, line)
            if key in self._lines:
                raise UserError(
                    f"{path}:{number}: trial {'/'.join(key)} is in line {self._lines[key][0]} already; {REMEDY}"
                )
            self._lines[key] = (number, line)
        self._last: PackedTrial | None = None  # the files of a record are read in a row, so one parsed line is kept

    def __contains__(self, key: Key) -> bool:
        return key in self._lines

    @property
    def keys(self) -> Collection[Key]:
        """Folder and id of every trial, in the order of the lines."""
        return self._lines.keys()

    def trial(self, key: Key) -> PackedTrial:
        """A trial's files.

        Raises:
            UserError: its line is corrupt.
            KeyError: it is not packed here.
        """
        if self._last is None or self._last.key != key:
            number, line = self._lines[key]
            place = f"{self.path}:{number}"
            self._last = PackedTrial(place, key, *_files_of(_parse(line, place), place), self.predictions)
        return self._last

    def check(self) -> None:
        """Read everything.

        Raises:
            UserError: a line or the predictions are corrupt.
        """
        for key in self.keys:
            trial = self.trial(key)
            for name in trial.names():
                trial.read(name)

    def _key(self, number: int, line: bytes) -> Key:
        """A line's folder and trial id. Only a line that another program has rewritten is parsed for them."""
        place = f"{self.path}:{number}"
        start = LINE_START.match(line)
        if start is not None:
            folder, trial_id = start[1].decode("ascii"), start[2].decode("utf-8", "replace")
        else:
            content = _parse(line, place)
            folder, trial_id = content.get("folder"), content.get("trial_id")
        if folder not in FOLDERS:
            raise UserError(f"{place}: folder {folder!r:.80}; choices: {', '.join(FOLDERS)}")
        if not isinstance(trial_id, str) or not SAFE_NAME.fullmatch(trial_id):
            raise UserError(f"{place}: trial_id {trial_id!r:.80}: cannot be the name of a trial's folder")
        return folder, trial_id


def packed_records(experiment: str) -> PackedRecords | None:
    """The packed records of an experiment's folder, read once for as long as the file stays as it is.

    Raises:
        UserError: the file is corrupt.
    """
    path = f"{experiment}/{RECORDS}"
    try:
        now = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _read_packed(path, (now.st_ino, now.st_size, now.st_mtime_ns))


@lru_cache(maxsize=8)
def _read_packed(path: str, state: tuple[int, int, int]) -> PackedRecords:
    return PackedRecords(Path(path))


def as_json(name: str, content: bytes) -> Any:
    """A file's content as JSON, if `as_bytes` turns that into the same bytes again; else as text.

    Raises:
        UnicodeDecodeError: it is no text.
    """
    try:
        found = [from_json(line) for line in content.splitlines()] if name.endswith(".jsonl") else from_json(content)
        if isinstance(found, (dict, list)) and as_bytes(name, found) == content:
            return found
    except (ValueError, RecursionError):
        pass  # no JSON, or JSON that this package would not write (NaN, half a surrogate pair): then it is text
    return content.decode("utf-8")


def as_bytes(name: str, content: Any) -> bytes:
    """The bytes of a file, from its content in a line (see `as_json`)."""
    if isinstance(content, str):
        return content.encode("utf-8")
    if name.endswith(".jsonl"):
        return "".join(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n" for entry in content).encode()
    return json_bytes(content)


def _parse(line: bytes, place: str) -> dict[str, Any]:
    try:
        content = from_json(line)  # twice as fast as `json`: with ten thousand records it is felt
    except ValueError as error:
        raise UserError(f"{place}: not a JSON line; {REMEDY}") from error
    if not isinstance(content, dict):
        raise UserError(f"{place}: not a trial's line (a JSON object with folder, trial_id and files)")
    return content


def _files_of(content: Mapping[str, Any], place: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A line's files and the digest of its predictions, checked."""
    version, files, digest = content.get("version"), content.get("files"), content.get("predictions")
    if version != PACKED_VERSION:
        raise UserError(f"{place}: version {version!r:.80}; this harness reads version {PACKED_VERSION}")
    if not isinstance(files, dict):
        raise UserError(f"{place}: files: expected an object with the record's files by name")
    for name, value in files.items():
        if not SAFE_NAME.fullmatch(name) or (name == PREDICTIONS_FILE and digest is not None):
            raise UserError(f"{place}: files: {name!r:.80}: cannot be the name of a record's file")
        kinds = (str, list) if name.endswith(".jsonl") else (str, list, dict)
        if not isinstance(value, kinds):
            raise UserError(f"{place}: files: {name}: cannot be a file's content")
    if digest is not None and not (isinstance(digest, dict) and isinstance(digest.get("sha256"), str)):
        raise UserError(f"{place}: predictions: expected an object with their sha256")
    return files, digest

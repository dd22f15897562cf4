"""Records as bytes, for workers that do not see the results folder: what goes there with a trial, and what comes back.

    driver  --  Carried: the task, with its record so far, those that it needs, the backbone  -->  worker
    driver  <--  Delivery: an event, with the files of the record that have changed since  -------  worker

A worker trains in a scratch folder of its own. What it writes there comes back byte for byte, but for its place: in
messages and in provenance it is that of the record, as if the trial had been trained there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic

from harness.disk import json_bytes, write_together
from harness.disk.temporary import drop_left_over, temporary_beside
from harness.launch.events import Done, Epoch, Note, TrialEvent
from harness.launch.task import TrialTask
from harness.records.packed import PackedTrial
from harness.records.schema import Provenance, Summary
from harness.records.trial_folder import TrialFolder

Files = Mapping[str, bytes]
CHECKPOINT = "checkpoint.safetensors"
LAST = ("provenance.json", "summary.json")  # in this order: who finds a summary finds a whole record


@dataclass(frozen=True)
class Carried:
    """A task for a worker elsewhere.

    Attributes:
        records: folder -> files: the task's own record so far, and those that it takes weights from; None for a worker
            that sees the folders.
        cwd: the driver's current folder, from which its paths start.
        checkpoint_s: how often, at most, the checkpoint of a trial under way goes back.
        backbone: the folder of its backbone in the user's cache, by name, and what fetches its files; None where every
            installation has it.
    """

    task: TrialTask
    records: Mapping[Path, Files] | None
    cwd: Path
    checkpoint_s: float
    backbone: tuple[str, Callable[[], Files]] | None = None


@dataclass(frozen=True)
class Delivery:
    """An event of a worker elsewhere.

    Attributes:
        records: folder -> the files that have changed since the last delivery; None is one that is gone.
    """

    event: TrialEvent
    records: Mapping[Path, Mapping[str, bytes | None]] = field(default_factory=dict)


def carried_records(task: TrialTask) -> dict[Path, Files]:
    """What a task's worker has to have: its own record, and those that it takes weights from, as far as they are here.

    Raises:
        UserError: a record cannot be read.
    """
    named = [task.folder.parent / trial_id for trial_id in task.config.needs]  # those of no plan have to be there, too
    folders = dict.fromkeys([task.folder, *(need.folder for need in task.needs), *named])
    return {folder: files for folder in folders if (files := record_files(folder))}


def record_files(folder: Path, without: Sequence[str] = ()) -> Files:
    """All files of a record, published or not, without claims and what is half written.

    Raises:
        UserError: it cannot be read.
    """
    trial = TrialFolder(folder)
    here = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    names = {name for name in here if not name.startswith(".")}
    if isinstance(trial.files, PackedTrial):
        names |= set(trial.files.names())
    read = {name: trial.read(name) for name in sorted(names - set(without))}
    return {name: content for name, content in read.items() if content is not None}


def store(delivery: Delivery) -> None:
    """Write what has come back into the records; a summary is the last file that gets its name.

    Raises:
        TrialError: the disk is full or not writable (reason `disk`).
    """
    for folder, files in delivery.records.items():
        there = {name: content for name, content in files.items() if content is not None}
        paths = {folder / name: there[name] for name in sorted(there, key=lambda name: (name in LAST, name))}
        if paths:
            matters = CHECKPOINT in there or LAST[-1] in there
            write_together(paths, sync=[*paths] if matters else [])
        for name in files.keys() - there.keys():
            (folder / name).unlink(missing_ok=True)


class Unpacked:
    """A trial that a worker trains elsewhere, in a folder of its own below a scratch folder.

    Attributes:
        task: the task with its folders here.
    """

    def __init__(self, scratch: Path, carried: Carried) -> None:
        self._root, self._carried = scratch, carried
        self._home: dict[Path, Path] = {}  # folder here -> the record's
        self._known: dict[Path, dict[str, str]] = {}  # folder here -> what the driver has: file -> SHA-256
        for folder, files in (carried.records or {}).items():
            here = self._place(folder)
            write_together({here / name: content for name, content in files.items()}, sync=[])
            self._known[here] = {name: _digest(content) for name, content in files.items()}
        task = carried.task
        needs = tuple(replace(need, folder=self._place(need.folder)) for need in task.needs)
        self.task = replace(task, folder=self._place(task.folder), needs=needs)
        self._went_back = monotonic()

    def pack(self, event: TrialEvent) -> Delivery:
        """What goes back with an event: what has changed of the trial's record, and of those trained before it."""
        ends = not isinstance(event, (Epoch, Note))
        is_due = ends or monotonic() - self._went_back >= self._carried.checkpoint_s
        if is_due:
            self._went_back = monotonic()
        folders = [need.folder for need in self.task.needs] if ends else []
        changed = {folder: self._changes(folder, is_due) for folder in (*folders, self.task.folder)}
        records = {self._home[folder]: files for folder, files in changed.items() if files}
        if ends:
            shutil.rmtree(self._root, ignore_errors=True)
        event = replace(event, task=self._carried.task)
        if isinstance(event, Done) and (written := records.get(event.task.folder, {}).get("summary.json")):
            event = replace(event, summary=Summary.model_validate_json(written))  # with the record's own place
        return Delivery(event, records)

    def _place(self, folder: Path) -> Path:
        here = self._root.joinpath(*folder.parts[-3:])  # EXPERIMENT/records/ID
        self._home[here] = folder
        return here

    def _changes(self, folder: Path, with_checkpoint: bool) -> dict[str, bytes | None]:
        left_out = () if with_checkpoint else (CHECKPOINT,)
        known, now = self._known.setdefault(folder, {}), record_files(folder, left_out)
        changed = {name: content for name, content in now.items() if known.get(name) != _digest(content)}
        if changed.keys() & set(LAST):  # they belong together: one names the place and the digest of the other
            changed |= {name: now[name] for name in LAST if name in now}
        gone = known.keys() - now.keys() - set(left_out)
        known.update({name: _digest(content) for name, content in changed.items()})
        for name in gone:
            del known[name]
        return {**self._at_home(folder, changed), **dict.fromkeys(gone)}

    def _at_home(self, folder: Path, files: Files) -> Files:
        """The files with the record's own place where they name their place here."""
        if not files.keys() >= set(LAST):
            return files
        home = self._home[folder]
        summary = files["summary.json"].replace(f"{folder}{os.sep}".encode(), f"{home}{os.sep}".encode())
        made = Provenance.model_validate_json(files["provenance.json"])
        start = self._carried.cwd / home
        places = {key: Path(os.path.relpath(folder / at, start)).as_posix() for key, at in made.places.items()}
        digests = made.files | {"summary.json": _digest(summary)}
        made = made.model_copy(update={"places": places, "files": digests})
        return {**files, "summary.json": summary, "provenance.json": json_bytes(made.model_dump(mode="json"))}


def install(directory: Path, fetch: Callable[[], Files]) -> None:
    """Have a folder that another machine made, whole or not at all; one that is there stays."""
    if directory.is_dir():
        return
    drop_left_over(directory.parent)
    building = temporary_beside(directory)
    write_together({building / name: content for name, content in fetch().items()}, sync=[])
    try:
        building.rename(directory)
    except OSError:  # another worker of this machine was faster
        shutil.rmtree(building, ignore_errors=True)
        if not directory.is_dir():
            raise


def folder_files(directory: Path) -> Files:
    """The files below a folder, by their path from there."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

"""`harness publish`: pack an experiment's trial folders into two files for a repository (packed.py), and back.

Nothing is lost, whenever the command is stopped, and the same command then goes on. The order of steps sees to that:

    1. write both files under temporary names, sync them, read them back, compare them byte for byte with the folders
    2. rename them: predictions first, records last, since whoever finds the records looks for the predictions
    3. remove the folders' files, config.json first: without it a folder is no record (see `TrialFolder.files`)

Weights and files that are not text stay in their folders, on this machine: they are not published.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from harness.disk import sync_files
from harness.disk.temporary import drop_left_over, temporary_beside
from harness.errors import TrialError, UserError
from harness.records.digests import take_digests
from harness.records.leases import lease_files, take
from harness.records.packed import (
    FOLDERS,
    PACKED_VERSION,
    PREDICTIONS_FILE,
    RECORDS,
    SAFE_NAME,
    Key,
    PackedRecords,
    PackedTrial,
    as_json,
    packed_records,
)
from harness.records.packed_predictions import MAX_BYTES, PREDICTIONS, PRESET, header
from harness.records.points import POINTS, read_points
from harness.records.search import read_search
from harness.records.store import RecordStore
from harness.records.trial_folder import TrialFolder

Files = Mapping[str, bytes]
PUBLISHING = "publishing"  # the lease of who publishes an experiment
OLD_LOCK = ".lock"  # beside records from before there were leases
WEIGHTS = ("adapter.json",)  # and *.safetensors


@dataclass
class Publication:
    """What `publish` or `unpack` did.

    Attributes:
        num_trials: folder -> trials that are in the two files.
        num_new, num_replaced: of these, how many were not published before (`unpack`: not in a folder), and how many
            were published with other content.
        num_removed: files that were removed because their content is published.
        num_unfinished: trials that are not finished, so they stay folders.
        num_weights: trials whose weights stay in their folders.
        left: other things that stay in trial folders.
        sizes: the two files, in bytes.
        digest: of the whole experiment; None where digests.json is lost, so that nothing can be said of what it was.
    """

    num_trials: dict[str, int]
    num_new: int = 0
    num_replaced: int = 0
    num_removed: int = 0
    num_unfinished: int = 0
    num_weights: int = 0
    left: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    digest: str | None = None


def publish(store: RecordStore, keep: bool = False) -> Publication:
    """Pack an experiment's finished trials, search included, and take their folders away.

    Args:
        keep: leave the folders where they are.

    Raises:
        UserError: nothing is finished there, or what is published already is corrupt.
        TrialError: another process publishes it, a trial changed meanwhile, or the disk is full.
    """
    with _only_one(store):
        old = packed_records(str(store.path))
        folders = {key: TrialFolder(store.path.joinpath(*key)) for key in _trial_folders(store.path)}
        owned = {key: folder for key, folder in folders.items() if _is_record(folder)}
        finished = {key: folder for key, folder in owned.items() if folder.is_finished()}
        keys = sorted({*finished, *(old.keys if old is not None else ())})
        if not keys:
            raise UserError(f"{store.path}: no trial of {store.name} is finished, so there is nothing to publish")
        report = Publication({kind: sum(key[0] == kind for key in keys) for kind in FOLDERS})
        report.num_unfinished = len(owned) - len(finished)

        def read(key: Key) -> Files:
            if key in finished:
                return read_folder(finished[key].path)
            assert old is not None
            return _read_packed(old.trial(key))

        _write(store.path, keys, read, old, report)
        digests = take_digests(store, "later")
        report.digest = None if digests is None else digests.experiment
        if not keep:
            packed = packed_records(str(store.path))
            assert packed is not None
            for key in keys:
                if key in folders and (key in finished or key not in owned):
                    _take_away(folders[key], _read_packed(packed.trial(key)), report)
            _remove_empty(store.path)
            _take_points_away(store.path)
        return report


def unpack(store: RecordStore, keep: bool = False) -> Publication:
    """Put every published trial back into its folder, byte for byte, and take the two files away.

    A trial that has a folder with a record already (it was trained again) keeps that.

    Args:
        keep: leave the two files where they are.

    Raises:
        UserError: nothing is published there, or it is corrupt.
        TrialError: another process publishes it, or the disk is full.
    """
    with _only_one(store):
        packed = packed_records(str(store.path))
        if packed is None:
            raise UserError(f"{store.path}: no {RECORDS} there, so there is nothing to unpack")
        folders = {key: TrialFolder(store.path.joinpath(*key)) for key in packed.keys}
        missing = {key: folder for key, folder in folders.items() if not _is_record(folder)}
        for key in packed.keys:  # before anything is written
            _refuse_links(store.path, key)
            trial = packed.trial(key)
            if key in missing:
                _read_packed(trial)
        report = Publication({kind: sum(key[0] == kind for key in packed.keys) for kind in FOLDERS}, len(missing))
        report.num_unfinished = sum(not folders[key].is_finished() for key in folders if key not in missing)
        for key, folder in missing.items():
            trial = packed.trial(key)
            folder.write_packed(trial, sync=True)
            written = {name: (folder.path / name).read_bytes() for name in trial.names()}
            if written != _read_packed(trial):
                raise TrialError("disk", f"{folder.path}: does not read back as it was written")
        if not keep and report.num_unfinished == 0:
            for name in (PREDICTIONS, RECORDS):  # stopped in between, the same command goes on
                (store.path / name).unlink(missing_ok=True)
        return report


def read_folder(path: Path) -> dict[str, bytes]:
    """The files of a trial's folder that are published."""
    return {name: content for name, content in _contents(path) if content is not None}


def _contents(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """The names in a trial's folder, with the content of files to publish, else None. Hidden files are skipped."""
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        name = entry.name
        if name.startswith("."):
            continue
        content = None
        if entry.is_file(follow_symlinks=False) and SAFE_NAME.fullmatch(name) and not _is_weights(name):
            content = Path(entry.path).read_bytes()
            if name != PREDICTIONS_FILE:
                try:
                    content.decode("utf-8")
                except UnicodeDecodeError:
                    content = None
        yield name, content


def _is_weights(name: str) -> bool:
    return name in WEIGHTS or name.endswith(".safetensors")


def _is_record(folder: TrialFolder) -> bool:
    return (folder.path / "config.json").exists()


def _read_packed(trial: PackedTrial) -> dict[str, bytes]:
    return {name: trial.read(name) or b"" for name in trial.names()}


def _trial_folders(path: Path) -> Iterator[Key]:
    """Every trial folder; links are not followed, as they may lead out of the results."""
    for kind in FOLDERS:
        if (path / kind).is_dir() and not (path / kind).is_symlink():
            for entry in os.scandir(path / kind):
                if entry.is_dir(follow_symlinks=False) and SAFE_NAME.fullmatch(entry.name):
                    yield kind, entry.name


@contextmanager
def _only_one(store: RecordStore) -> Iterator[None]:
    """Lock the experiment: two processes that publish it would remove each other's files.

    Raises:
        UserError: there are no such results.
        TrialError: another process holds it (reason `busy`).
    """
    if not store.path.is_dir():
        store.manifest()  # names the choices
    lease = take(store.path, PUBLISHING)
    if lease is None:
        raise TrialError("busy", f"{store.path}: another process is publishing it")
    try:
        yield
    finally:
        lease.release()


def _write(
    path: Path, keys: list[Key], read: Callable[[Key], Files], old: PackedRecords | None, report: Publication
) -> None:
    """Write the two files, compare them with their sources, then rename them, the records last."""
    drop_left_over(path)
    records, predictions = (temporary_beside(path / name) for name in (RECORDS, PREDICTIONS))
    try:
        digests = _write_predictions(predictions, keys, read)
        with open(records, "xb") as file:
            for key in keys:
                file.write(line_of(key, read(key), digests.get(key)))
        sync_files([predictions, records])
        written = PackedRecords(records, predictions)
        for key in keys:
            if _read_packed(written.trial(key)) != read(key):
                raise TrialError("changed", f"{path.joinpath(*key)}: changed while it was read; publish again")
        _count(keys, written, old, report)
        # Publishing the same trials again keeps the old files, even if this build of the compressor writes other bytes.
        if old is None or old.path.read_bytes() != records.read_bytes() or not _is_whole(old):
            if digests:
                os.replace(predictions, path / PREDICTIONS)
            os.replace(records, path / RECORDS)
            if not digests:
                (path / PREDICTIONS).unlink(missing_ok=True)
            sync_files([path])
        report.sizes = {name: (path / name).stat().st_size for name in (RECORDS, PREDICTIONS)[: 2 if digests else 1]}
    except OSError as error:
        raise TrialError("disk", f"{path}: cannot be written: {error.strerror}") from error
    finally:
        for temporary in (records, predictions):
            temporary.unlink(missing_ok=True)


def _write_predictions(path: Path, keys: list[Key], read: Callable[[Key], Files]) -> dict[Key, dict[str, Any]]:
    """Compress all predictions into one file; return size and SHA-256 of each trial's."""
    import lzma

    digests: dict[Key, dict[str, Any]] = {}
    total = 0
    compressor = lzma.LZMACompressor(lzma.FORMAT_XZ, preset=PRESET)
    with open(path, "xb") as file:
        for key in keys:
            content = read(key).get(PREDICTIONS_FILE)
            if content is None:
                continue
            total += len(content) + len(header(key, len(content)))
            if total > MAX_BYTES:
                raise UserError(f"{path.parent}: more than {MAX_BYTES:,} bytes of predictions: too many for one file")
            digests[key] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            file.write(compressor.compress(header(key, len(content)) + content))
        file.write(compressor.flush())
    return digests


def line_of(key: Key, files: Files, predictions: Mapping[str, Any] | None) -> bytes:
    """A trial's line in records.jsonl; `predictions` are the bytes and SHA-256 of the file that is kept apart."""
    content: dict[str, Any] = {"folder": key[0], "trial_id": key[1], "version": PACKED_VERSION}
    content["files"] = {name: as_json(name, files[name]) for name in sorted(files) if name != PREDICTIONS_FILE}
    if predictions is not None:
        content["predictions"] = predictions
    # ASCII only: some programs also break lines at U+2028 and the like, so no such character may stand in the file.
    return json.dumps(content, allow_nan=False).encode() + b"\n"


def _count(keys: list[Key], written: PackedRecords, old: PackedRecords | None, report: Publication) -> None:
    for key in keys:
        if old is None or key not in old:
            report.num_new += 1
        else:
            before, now = old.trial(key), written.trial(key)
            report.num_replaced += (before.files, before.digest) != (now.files, now.digest)


def _is_whole(packed: PackedRecords) -> bool:
    try:
        packed.check()
    except UserError:
        return False
    return True


def _take_away(folder: TrialFolder, published: Files, report: Publication) -> None:
    """Remove a folder's files that are published unchanged, the config first; then the folder, if it is empty."""
    with folder.lock(wait=False) as held:
        if not held:
            report.left.append(f"{folder.path}: another process holds it")
            return
        found = dict(_contents(folder.path))
        changed = [name for name, content in found.items() if content is not None and published.get(name) != content]
        if changed:  # trained again since it was read, or somebody has written into a half-removed folder
            report.left.append(f"{folder.path}: {', '.join(changed)}: not as published, so the folder stays")
            return
        packed = [name for name, content in found.items() if content is not None]
        for name in sorted(packed, key=lambda name: name != "config.json"):
            (folder.path / name).unlink()
            report.num_removed += 1
        rest = [name for name, content in found.items() if content is None]
        report.num_weights += any(map(_is_weights, rest))
        report.left += [str(folder.path / name) for name in rest if not _is_weights(name)]
        if not rest:
            for path in [*folder.path.glob(".*.tmp"), *lease_files(folder.path), folder.path / OLD_LOCK]:
                path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty (a hidden file): it stays
                folder.path.rmdir()


def _remove_empty(path: Path) -> None:
    for kind in FOLDERS:
        with suppress(OSError):
            (path / kind).rmdir()


def _take_points_away(path: Path) -> None:
    """Remove the points of a search that has ended: search.json has them all. One that goes on keeps them."""
    result = read_search(path)
    known = set() if result is None else {(point.arm, point.number) for point in result.points}
    arms = {arm for arm, _ in known} | {unquote(folder.name) for folder in (path / POINTS).glob("*")}
    found = {(arm, point.number) for arm, points in read_points(path, arms).items() for point in points}
    if found <= known and not (path / POINTS).is_symlink():
        shutil.rmtree(path / POINTS, ignore_errors=True)


def _refuse_links(path: Path, key: Key) -> None:
    """Refuse links among the results, through which files outside could be written."""
    for place in (path / key[0], path.joinpath(*key)):
        if place.is_symlink():
            raise UserError(f"{place}: is a link; records are only written into folders of their own")

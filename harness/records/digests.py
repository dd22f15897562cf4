"""`digests.json`: SHA-256 of every record and of the files that say what was launched, and one digest over all of them.

    {"version": 1, "experiment": SHA-256 of the rest, "files": {"experiment.json": ...},
     "taken": [{"at": TIME, "by": "launch", "records": {"records/ID": ..., "search/ID": ...}}]}

A launch takes the digests of what it trained when it ends; `harness publish` takes those that are missing, as in
results that are older than digests. A digest that was taken stays, unless its trial is trained again. A record has the
same digest as a folder and as a published line. Whoever changes results and this file consistently is found only by
those who know the experiment's digest from elsewhere, or train again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.config.base import content_hash
from harness.disk import json_bytes, write_json
from harness.records.files import read_model
from harness.records.leases import locked
from harness.records.packed import FOLDERS
from harness.records.provenance import utc_now
from harness.records.schema import Manifest
from harness.records.store import MANIFEST, RecordStore
from harness.records.trial_folder import TrialFolder

DIGESTS = "digests.json"
DIGESTING = "digesting"  # the lease of who changes it
RECORD_FILES = (
    *("config.json", "log.jsonl", "predictions.jsonl", "attention.json"),
    *("summary.json", "provenance.json"),
)
PLAN_FILES = (MANIFEST, "search.json", "frozen.json")
Source = Literal["launch", "later"]


class Taken(BaseModel):
    """Digests that were taken at one time: `records/ID` or `search/ID` -> SHA-256.

    `by` is `launch` if they were taken at the end of the launch that made the records, `later` if the records were
    there before: what happened to them in between cannot be told.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: str
    by: Source
    records: dict[str, str]


class Digests(BaseModel):
    """The content of digests.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    experiment: str = ""
    files: dict[str, str] = Field(default_factory=dict)
    taken: tuple[Taken, ...] = ()

    @property
    def records(self) -> dict[str, str]:
        """Every record's digest."""
        return {key: digest for taken in self.taken for key, digest in taken.records.items()}

    @property
    def whole(self) -> str:
        """The digest of all others, with the times at which they were taken: what `experiment` must be."""
        return content_hash(self.model_dump(mode="json", exclude={"experiment"}), 64)


def read_digests(store: RecordStore) -> Digests | None:
    """An experiment's digests; None where there are none.

    Raises:
        UserError: the file is corrupt.
    """
    return read_model(f"{store.path}/{DIGESTS}", Digests)


def begin_digests(store: RecordStore, again: Collection[str] = (), searching: bool = False) -> None:
    """Before anything is trained: begin the digests, and forget those of trials that are trained again.

    Call it only if something is trained: a launch that trains nothing changes no byte of an older result.

    Args:
        again: `records/ID` of the trials of the table that this launch trains.
        searching: trials of the search that have no finished record are trained again as well.
    """

    def begin(known: Digests | None) -> Digests:
        if known is None:
            return _with_missing(store, Digests(), "later")
        forgotten = set(again)
        if searching:
            finished = {key_of(folder) for folder in store.finished("search")}
            forgotten |= {key for key in known.records if key.startswith("search/") and key not in finished}
        kept = [
            taken.model_copy(update={"records": {k: d for k, d in taken.records.items() if k not in forgotten}})
            for taken in known.taken
        ]
        return known.model_copy(update={"taken": tuple(taken for taken in kept if taken.records)})

    _update(store, begin)


def take_digests(store: RecordStore, by: Source) -> Digests | None:
    """Take the digests that are missing; those that are there stay. None where there are none, and none are begun.

    Args:
        by: `later` begins the digests of results that are older than digests. It does not where a launch has taken some
            and the file is lost: what has happened to the results since then would be hidden.
    """
    known = read_digests(store)
    if known is None:
        has_launches = (store.path / MANIFEST).exists() and store.manifest().launches
        if by == "launch" or has_launches:
            return None
    return _update(store, lambda now: _with_missing(store, now or Digests(), by))


def _with_missing(store: RecordStore, known: Digests, by: Source) -> Digests:
    missing = [folder for kind in FOLDERS for folder in store.finished(kind) if key_of(folder) not in known.records]
    fresh = {key_of(folder): record_digest(folder) for folder in missing}
    taken = (*known.taken, Taken(at=utc_now(), by=by, records=fresh)) if fresh else known.taken
    return known.model_copy(update={"files": {**file_digests(store), **known.files}, "taken": taken})


def write_manifest(store: RecordStore, manifest: Manifest) -> None:
    """Write the manifest if it changed, and take its digest anew; its launches go with digests, which are begun."""
    if read_digests(store) is None and store.is_new_manifest(manifest):
        begin_digests(store)
    if store.write_manifest(manifest):
        _take_file(store, MANIFEST)


def write_plan_file(store: RecordStore, name: str, content: Any) -> None:
    """Write another of `PLAN_FILES` if that changes its bytes, and then take its digest anew."""
    path = store.path / name
    if not path.exists() or path.read_bytes() != json_bytes(content):
        write_json(path, content)
        _take_file(store, name)


def _take_file(store: RecordStore, name: str) -> None:
    if read_digests(store) is not None:
        _update(store, lambda now: _with_file(store, now or Digests(), name))


def _with_file(store: RecordStore, known: Digests, name: str) -> Digests:
    return known.model_copy(update={"files": {**known.files, name: _file_digest(store.path / name)}})


def file_digests(store: RecordStore) -> dict[str, str]:
    """The digests of those of `PLAN_FILES` that are there."""
    paths = (store.path / name for name in PLAN_FILES)
    return {path.name: _file_digest(path) for path in paths if path.exists()}


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def record_digest(folder: TrialFolder) -> str:
    """SHA-256 over the names and the SHA-256 of a record's files, the weights aside: they are not published.

    Raises:
        UserError: a file cannot be read.
    """
    files = folder.files
    contents = {name: files.read(name) for name in RECORD_FILES}
    return content_hash({n: hashlib.sha256(c).hexdigest() for n, c in contents.items() if c is not None}, 64)


def key_of(folder: TrialFolder) -> str:
    """`records/ID` or `search/ID`."""
    return f"{folder.path.parent.name}/{folder.trial_id}"


def _update(store: RecordStore, change: Callable[[Digests | None], Digests]) -> Digests:
    """Change the digests, which other workers on the folder change as well; nothing is written if nothing changes."""

    def changed(known: Digests | None) -> Digests:
        made = change(known)
        return made.model_copy(update={"experiment": made.whole})

    known = read_digests(store)
    whole = changed(known)
    if whole != known:
        with locked(store.path, DIGESTING):
            now = read_digests(store)
            whole = whole if now == known else changed(now)  # all records are read for it: not twice without need
            write_json(store.path / DIGESTS, whole.model_dump(mode="json"))
    return whole

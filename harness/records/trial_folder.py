"""The record of one trial on disk: `RESULTS/EXPERIMENT/records/TRIAL_ID/`, in a search `search/TRIAL_ID/`.

Files of a record: config.json (first), log.jsonl (one line an epoch), summary.json (last: a trial with a summary is
finished), provenance.json, predictions.jsonl, attention.json of a fusion, the weights that were trained, and while it
runs checkpoint.safetensors.

A published record is a line of `RESULTS/EXPERIMENT/records.jsonl` instead (packed.py). `TrialFolder` reads both forms:
no other code needs to know which one a record has. Training always writes a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.config.places import place_recorded
from harness.disk import append_line, json_bytes, parse_lines, write_atomically, write_json, write_together
from harness.disk.network import look_again
from harness.errors import UserError
from harness.records.files import FolderFiles, RecordFiles
from harness.records.leases import RETRY_S, Lease, take
from harness.records.packed import FOLDERS, PackedTrial, packed_records
from harness.records.schema import Provenance, Record, Summary, TrialState, check_config

KEPT_FILES = ("config.json", "log.jsonl", "predictions.jsonl", "attention.json", "adapter.json")  # weights: `finish`
FORGOTTEN_FILES = ("summary.json", "traceback.txt")  # how a trial ended


class TrialFolder:
    """One trial's folder, made when something is first written to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lease: Lease | None = None  # while it is locked

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of a trial that is running, or was cut short."""
        return self.path / "checkpoint.safetensors"

    @property
    def log(self) -> Path:
        """One line an epoch."""
        return self.path / "log.jsonl"

    @property
    def num_deaths(self) -> int:
        """How many processes that trained the trial died, one after another, before this one took its lease."""
        return 0 if self.lease is None else self.lease.deaths

    @property
    def trial_id(self) -> str:
        return self.path.name

    @property
    def files(self) -> RecordFiles:
        """The record's files: those of the folder, or of the published line where the folder has no record.

        A folder with a config has one, be it unfinished: the config is the first file that a training writes, and the
        first that publishing takes away.

        Raises:
            UserError: the published records are corrupt.
        """
        return self._packed() or FolderFiles(str(self.path))

    def _packed(self) -> PackedTrial | None:
        path = str(self.path)
        parent, trial_id = os.path.split(path)
        experiment, folder = os.path.split(parent)
        if folder not in FOLDERS:
            return None
        records = packed_records(experiment)
        if records is None or (folder, trial_id) not in records or os.path.exists(f"{path}/config.json"):
            return None
        return records.trial((folder, trial_id))

    def read(self, name: str) -> bytes | None:
        """A file of the record or, as weights are not published, a file in the folder of a published record.

        Raises:
            UserError: it cannot be read.
        """
        content = self.files.read(name)
        return FolderFiles(str(self.path)).read(name) if content is None else content

    @property
    def place(self) -> str:
        """Where the record is, for people: its folder, or the file and line that it was published in."""
        return self.files.place

    def summary(self) -> Summary | None:
        """The summary, or None while there is none.

        Raises:
            UserError: the file is corrupt.
        """
        return self._new_files().model("summary.json", Summary)

    def config(self) -> dict[str, Any]:
        """The trial's config.

        Raises:
            UserError: it is missing or corrupt.
        """
        return _config_of(self.files)

    def record(self) -> Record | None:
        """The whole record, or None while the trial is unfinished.

        Raises:
            UserError: a file is corrupt.
        """
        files = self._new_files()
        summary = files.model("summary.json", Summary)
        if summary is None:
            return None
        provenance = files.model("provenance.json", Provenance)
        config = place_recorded(_config_of(files), provenance.places if provenance else {}, self.path)
        return Record(trial_id=self.trial_id, config=config, summary=summary, provenance=provenance)

    def whole_record(self) -> Record | None:
        """As `record`; its config must have the parts of a trained trial's (`RecordedConfig`), or it is corrupt too."""
        record = self.record()
        if record is not None:
            check_config(record, f"{self.files.place}: config.json")
        return record

    def check_whole(self) -> None:
        """Check, before others build on it, that a finished record is as its training left it (its weights aside).

        Raises:
            UserError: a file differs from the digest in the record's provenance: a damaged disk, or an edit.
        """
        files = self.files
        made = files.model("provenance.json", Provenance)
        for name, digest in ({} if made is None else made.files).items():
            content = None if name.endswith(".safetensors") else files.read(name)
            if content is not None and hashlib.sha256(content).hexdigest() != digest:
                raise UserError(
                    f"{files.place}: {name} is not as the training left it (a damaged disk, or an edit?); "
                    f"delete {files.place} to train the trial again"
                )

    def is_finished(self) -> bool:
        """Whether there is a summary (it is not read)."""
        return self._new_files().has("summary.json")

    def _new_files(self) -> RecordFiles:
        """As `files`, but a summary that another machine has just written is seen."""
        files = self.files
        if not files.has("summary.json"):
            look_again(self.path)
        return files

    def has_started(self) -> bool:
        """Whether the trial was started here before."""
        return self.files.has("config.json")

    def start(self, config: dict[str, Any]) -> None:
        """Write the config. It need not be on the disk before `finish`: until then every start writes it again."""
        write_json(self.path / "config.json", config, sync=False)

    def restart_log(self, entries: Sequence[dict[str, Any]]) -> None:
        """Make the log hold just these entries: a killed trial may have logged more than its checkpoint holds."""
        self._renew()
        if not entries and not self.log.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            self.log.touch()  # nothing that a power cut could take: no need to wait for the disk
            return
        text = "".join(json.dumps(entry, sort_keys=True, allow_nan=False) + "\n" for entry in entries)
        write_atomically(self.log, text.encode())

    def append_log(self, entry: dict[str, Any]) -> None:
        self._renew()
        append_line(self.log, entry)

    def num_logged(self) -> int:
        """How many epochs the log has, by its line ends: it may be growing."""
        return (self.files.read("log.jsonl") or b"").count(b"\n")

    def read_log(self) -> list[Any]:
        """The log's entries; none where there is no log.

        Raises:
            TrialError: a line is not JSON (reason `error`).
        """
        files = self.files
        return parse_lines(files.read("log.jsonl") or b"", f"{files.place}/log.jsonl")

    def finish(self, summary: Summary, provenance: Provenance) -> None:
        """Write provenance, then the summary (it says that the trial is finished), then drop the checkpoint.

        The provenance gets the SHA-256 of all other files, the summary's included. Where the summary is, all of
        them are, even after a power cut: they are on the disk before the summary is renamed to its name.
        """
        summary_bytes = json_bytes(summary.model_dump(mode="json"))
        files = self._digests() | {"summary.json": hashlib.sha256(summary_bytes).hexdigest()}
        made = provenance.model_copy(update={"files": files})
        self._renew()
        contents = {
            self.path / "provenance.json": json_bytes(made.model_dump(mode="json")),
            self.path / "summary.json": summary_bytes,
        }
        unsynced = [path for path in (self.path / "config.json", self.log) if path.name in files]
        write_together(contents, sync=[*contents, *unsynced])
        if summary.state != "failed":
            self.checkpoint.unlink(missing_ok=True)

    def park(self, message: str) -> Summary:
        """Write down that the trial is not tried again, as nothing is left of those who tried: without provenance."""
        log = self.read_log()
        summary = Summary(
            trial_id=self.trial_id, state=TrialState.FAILED, reason="killed", message=message, epochs_run=len(log)
        )
        write_json(self.path / "summary.json", summary.model_dump(mode="json"))
        return summary

    def _digests(self) -> dict[str, str]:
        """Name -> SHA-256 of the files that a finished trial leaves, without summary and provenance."""
        names = [*KEPT_FILES, *sorted(path.name for path in self.path.glob("*.safetensors"))]
        paths = [self.path / name for name in names if name != self.checkpoint.name]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}

    def clear(self) -> None:
        """Forget how the trial ended, so that it can train again (its checkpoint stays).

        What was published of it comes back into the folder first. Files that a kill left half written go too, so hold
        the lock.
        """
        packed = self._packed()
        if packed is not None:
            self.write_packed(packed, without=FORGOTTEN_FILES)
        half_written = [path.name for path in self.path.glob(".*.tmp")]
        for name in (*FORGOTTEN_FILES, *half_written):
            (self.path / name).unlink(missing_ok=True)

    def write_packed(self, packed: PackedTrial, *, without: Sequence[str] = (), sync: bool = False) -> None:
        """Write the files of a published record into the folder; the config last, as it makes the folder the record.

        Raises:
            UserError: the published record is corrupt.
            TrialError: the disk is full or not writable (reason `disk`).
        """
        names = sorted(set(packed.names()) - set(without), key=lambda name: (name == "config.json", name))
        contents = {self.path / name: packed.read(name) or b"" for name in names}
        write_together(contents, sync=[*contents] if sync else [])

    @contextmanager
    def lock(self, wait: bool) -> Iterator[bool]:
        """Lock the trial for this process, so that two launches never train one trial twice (harness.records.leases).

        Args:
            wait: wait for whoever holds it; otherwise yield False at once.

        Raises:
            LeaseLost: from a later write to the record, through this object, where another process has taken it over.
            TrialError: the folder cannot be written to (reason `disk`).
        """
        lease = take(self.path)
        while lease is None and wait:
            time.sleep(RETRY_S)
            lease = take(self.path)
        if lease is None:
            yield False
            return
        self.lease = lease
        try:
            yield True
        finally:
            self.lease = None
            lease.release()

    def _renew(self) -> None:
        """Renew the lease before a write, if this object holds one: whoever has lost it must not write."""
        if self.lease is not None:
            self.lease.renew()


def _config_of(files: RecordFiles) -> dict[str, Any]:
    config = files.json("config.json")
    if not isinstance(config, dict):
        raise UserError(f"{files.place}: config.json: expected a JSON object")
    return config

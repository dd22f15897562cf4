"""The records of one experiment on disk: `RESULTS/EXPERIMENT/records/TRIAL_ID/`.

Files of a record: config.json (first), log.jsonl (one line an epoch), summary.json (last: a trial with a summary is
finished), provenance.json, predictions.jsonl, the weights that were trained, and while it runs checkpoint.safetensors.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.disk import append_line, json_bytes, read_lines, write_atomically, write_json, write_together
from harness.errors import UserError
from harness.records.schema import Manifest, Provenance, Record, Summary

MANIFEST = "experiment.json"
KEPT_FILES = ("config.json", "log.jsonl", "predictions.jsonl", "adapter.json")  # and weights; see `TrialFolder.finish`
ModelT = TypeVar("ModelT", bound=BaseModel)


class TrialFolder:
    """One trial's folder, made when something is first written to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of a trial that is running, or was cut short."""
        return self.path / "checkpoint.safetensors"

    @property
    def log(self) -> Path:
        """One line an epoch."""
        return self.path / "log.jsonl"

    @property
    def trial_id(self) -> str:
        return self.path.name

    def summary(self) -> Summary | None:
        """The summary, or None while there is none.

        Raises:
            UserError: the file is corrupt.
        """
        return _read_model(f"{self.path}/summary.json", Summary)

    def record(self) -> Record | None:
        """The whole record, or None while the trial is unfinished."""
        summary = self.summary()
        if summary is None:
            return None
        provenance = _read_model(f"{self.path}/provenance.json", Provenance)
        config = read_json(f"{self.path}/config.json")
        return Record(trial_id=self.trial_id, config=config, summary=summary, provenance=provenance)

    def has_started(self) -> bool:
        """Whether the trial was started here before."""
        return (self.path / "config.json").exists()

    def start(self, config: dict[str, Any]) -> None:
        """Write the config. It need not be on the disk before `finish`: until then every start writes it again."""
        write_json(self.path / "config.json", config, sync=False)

    def restart_log(self, entries: Sequence[dict[str, Any]]) -> None:
        """Make the log hold just these entries: a killed trial may have logged more than its checkpoint holds."""
        if not entries and not self.log.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            self.log.touch()  # nothing that a power cut could take: no need to wait for the disk
            return
        text = "".join(json.dumps(entry, sort_keys=True, allow_nan=False) + "\n" for entry in entries)
        write_atomically(self.log, text.encode())

    def append_log(self, entry: dict[str, Any]) -> None:
        append_line(self.log, entry)

    def read_log(self) -> list[Any]:
        return read_lines(self.log)

    def finish(self, summary: Summary, provenance: Provenance) -> None:
        """Write provenance, then the summary (it says that the trial is finished), then drop the checkpoint.

        The provenance gets the digests of all other files, the summary's included. Whoever finds the summary finds them
        all, even after a power cut: they are on the disk before it has its name.
        """
        summary_bytes = json_bytes(summary.model_dump(mode="json"))
        files = self._digests() | {"summary.json": hashlib.sha256(summary_bytes).hexdigest()}
        made = provenance.model_copy(update={"files": files})
        contents = {
            self.path / "provenance.json": json_bytes(made.model_dump(mode="json")),
            self.path / "summary.json": summary_bytes,
        }
        unsynced = [path for path in (self.path / "config.json", self.log) if path.name in files]
        write_together(contents, sync=[*contents, *unsynced])
        if summary.state != "failed":
            self.checkpoint.unlink(missing_ok=True)

    def _digests(self) -> dict[str, str]:
        """Name -> SHA-256 of what a finished trial leaves, the summary and the provenance aside."""
        names = [*KEPT_FILES, *sorted(path.name for path in self.path.glob("*.safetensors"))]
        paths = [self.path / name for name in names if name != self.checkpoint.name]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}

    def clear(self) -> None:
        """Forget how the trial ended, so that it can train again (its checkpoint stays).

        Files that a kill left half written go too, so hold the lock.
        """
        half_written = [path.name for path in self.path.glob(".*.tmp")]
        for name in ("summary.json", "traceback.txt", *half_written):
            (self.path / name).unlink(missing_ok=True)

    @contextmanager
    def lock(self, wait: bool) -> Iterator[bool]:
        """Hold the trial for this process: two launches never train one trial twice.

        Args:
            wait: wait for whoever holds it; otherwise yield False at once.

        The lock is the operating system's, so it ends with its holder, however that ends.
        """
        import fcntl

        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)


class RecordStore:
    """All records of one experiment."""

    def __init__(self, results: Path, experiment: str) -> None:
        self.path = results / experiment
        self.name = experiment
        self._records = self.path / "records"

    def trial(self, trial_id: str) -> TrialFolder:
        return TrialFolder(self._records / trial_id)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write which trials make the experiment (only when it changed)."""
        path = self.path / MANIFEST
        content = manifest.content()
        # Compared as text: the order of the arms is the order of the table's rows.
        if not path.exists() or json.dumps(read_json(path)) != json.dumps(content):
            write_json(path, content)

    def manifest(self) -> Manifest:
        """Which trials make the experiment.

        Raises:
            UserError: nothing has been run under this name (the choices are named), or the file is corrupt.
        """
        found = _read_model(f"{self.path}/{MANIFEST}", Manifest)
        if found is None:
            choices = sorted(path.parent.name for path in self.path.parent.glob(f"*/{MANIFEST}"))
            known = f"choices: {', '.join(choices)}" if choices else "nothing has been run there"
            raise UserError(f"no results of {self.name!r} in {self.path.parent}; {known}")
        return found


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        UserError: it is unreadable or corrupt.
    """
    try:
        with open(path, "rb") as file:
            return json.loads(file.read())
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not valid JSON"
        raise UserError(f"{path}: {cause}; delete it to make it anew") from error


def _read_model(path: str, model: type[ModelT]) -> ModelT | None:
    """Read and validate in one go: with ten thousand records, every path object and every second parse is felt."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; delete it to make it anew") from error
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["type"] == "json_invalid":
            raise UserError(f"{path}: not valid JSON; delete it to make it anew") from error
        place = "".join(f"{part}: " for part in problem["loc"])
        raise UserError(f"{path}: {place}{problem['msg']}; delete it to make it anew") from error

"""The records of one experiment on disk: its trials (trial_folder.py) and its manifest, `experiment.json`."""

from __future__ import annotations

import json
import os
from pathlib import Path

from harness.config.trees import check_text, check_tree
from harness.disk import write_json
from harness.errors import UserError, must_be_in
from harness.records.files import RESTORE, read_model
from harness.records.packed import packed_records
from harness.records.schema import Manifest
from harness.records.trial_folder import TrialFolder

MANIFEST = "experiment.json"


class RecordStore:
    """All records of one experiment."""

    def __init__(self, results: Path, experiment: str) -> None:
        self.results = results
        self.path = results / experiment
        self.name = experiment
        self._records = self.path / "records"

    def check_place(self) -> None:
        """Check, before anything is trained, that records can be written here.

        Raises:
            UserError: something else has the name of the folder, it may not be written, or its manifest is corrupt.
        """
        there = self.path
        while not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir():
            raise UserError(f"{there}: is a file and no folder, so give another folder with --results")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"{there}: may not be written, so give another folder with --results")
        if (self.path / MANIFEST).exists():
            self.manifest()

    def trial(self, trial_id: str) -> TrialFolder:
        """A trial of the table; those of a sweep's search are in another folder."""
        return TrialFolder(self._records / trial_id)

    def finished(self, folder: str = "records") -> list[TrialFolder]:
        """The finished trials, published or not, by their ids.

        Args:
            folder: `records`, or `search` for those of a sweep's search.

        Raises:
            UserError: the published records are corrupt.
        """
        packed = packed_records(str(self.path))
        ids = {path.name for path in (self.path / folder).glob("*")}
        ids |= set() if packed is None else {trial_id for kept_in, trial_id in packed.keys if kept_in == folder}
        found = [TrialFolder(self.path / folder / trial_id) for trial_id in sorted(ids)]
        return [trial for trial in found if trial.is_finished()]

    def write_manifest(self, manifest: Manifest) -> bool:
        """Write which trials make the experiment, only when that changed; return whether it did."""
        changed = self.is_new_manifest(manifest)
        if changed:
            write_json(self.path / MANIFEST, manifest.content())
        return changed

    def is_new_manifest(self, manifest: Manifest) -> bool:
        """Whether a manifest says something else than the one that is there, if any is."""
        return not (self.path / MANIFEST).exists() or not _same(self.manifest(), manifest)

    def manifest(self) -> Manifest:
        """Which trials make the experiment.

        Raises:
            UserError: nothing has been run under this name (the choices are named), or the file is corrupt.
        """
        found = read_model(f"{self.path}/{MANIFEST}", Manifest, RESTORE)
        if found is None:
            self._refuse_name()
            raise UserError(f"{self.path / MANIFEST}: cannot be read: No such file or directory")
        # Names of somebody else's results are printed as those of one's own: into terminals, pages and figures.
        for name in found.arms:
            check_text(name, f"{self.path}/{MANIFEST}: arm {name!r}")
        read = {"description": found.description, "table": found.table, "design": found.design or {}}
        check_tree(read, f"{self.path}/{MANIFEST}")
        return found

    def _refuse_name(self) -> None:
        """Say what may have been meant by a name that has no results.

        Raises:
            UserError: always, unless the results came while it looked.
        """
        written = Path(self.name)
        if written.suffix in (".yaml", ".yml"):
            raise UserError(f"{self.name}: expected the name of results, which stands in the file as `name`")
        if (written / MANIFEST).is_file():
            raise UserError(
                f"{written}: expected a name and no folder: {written.name}, with --results {written.parent}"
            )
        if (self.path / "search").is_dir() or (self.path / "search.json").is_file():
            raise UserError(f"{self.path}: the sweep has no winners yet; harness status {self.name} shows how it goes")
        choices = sorted(path.parent.name for path in self.results.glob(f"*/{MANIFEST}"))
        missing = f"no results of {self.name!r} in {self.results}"
        if not choices:
            raise UserError(f"{missing}; nothing has been run there")
        must_be_in(self.name, choices, missing)


def _same(one: Manifest, other: Manifest) -> bool:
    """Whether two manifests say the same, in the same order: that of the arms is the order of the table's rows."""
    ordered = [json.dumps([manifest.arms, manifest.table, manifest.design]) for manifest in (one, other)]
    return one == other and ordered[0] == ordered[1]

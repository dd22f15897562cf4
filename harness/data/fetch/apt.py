"""Debian packages as files, without root and without installing them: `apt-get download`, hash checked, unpacked.

Where the machine has no package lists (a slim container, say), private ones are downloaded into a scratch folder.
"""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

from harness.data.cache import verify_sha256
from harness.data.errors import DataError
from harness.data.fetch.tar_files import extract_all

AR_MAGIC = b"!<arch>\n"
NO_APT = "needs apt-get (Debian or Ubuntu), which is not here; use the synthetic corpus nanotts, or point {hint}"


def download_package(
    package: str, expected: str, folder: Path, *, hint: str, allow_other_version: bool
) -> tuple[Path, str]:
    """Download the Debian package `package` into `folder`; return its path and sha256.

    `hint` completes the sentence shown where apt is missing. Raises DataError when there is no apt-get, when
    it knows no such package, or when the sha256 is not `expected` and another version is not allowed.
    """
    if shutil.which("apt-get") is None:
        raise DataError(f"{package} {NO_APT.format(hint=hint)}")
    files, reason = _apt_download(package, folder, [])
    if not files:
        options = _private_lists(folder)
        files, reason = _apt_download(package, folder, options)
    if not files:
        raise DataError(
            f"apt-get download {package} failed: {reason}; use the synthetic corpus nanotts, or point {hint}"
        )
    return files[0], verify_sha256(files[0], expected, allow_other_version=allow_other_version)


def _apt_download(package: str, folder: Path, options: list[str]) -> tuple[list[Path], str]:
    # As root apt would drop to a user that cannot write into the folder, and warn.
    command = ["apt-get", "-o", "APT::Sandbox::User=root", *options, "--quiet=2", "download", package]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    return sorted(folder.glob(f"{package}_*.deb")), lines[-1] if lines else f"exit code {result.returncode}"


def _private_lists(folder: Path) -> list[str]:
    """Download package lists under `folder` (once) and return the apt options that use them."""
    state, cache = folder / "apt-state", folder / "apt-cache"
    options = ["-o", f"Dir::State={state}", "-o", "Dir::State::lists=lists", "-o", f"Dir::Cache={cache}"]
    options += ["-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "APT::Get::List-Cleanup=0"]
    if not (state / "lists").exists():
        (state / "lists" / "partial").mkdir(parents=True)
        (cache / "archives" / "partial").mkdir(parents=True)
        # The exit code is not looked at: one dead third-party source must not stop the others.
        subprocess.run(["apt-get", "-o", "APT::Sandbox::User=root", *options, "--quiet=2", "update"],
                       capture_output=True, check=False)  # fmt: skip
    return options


def unpack_deb(deb: Path, folder: Path) -> None:
    """Unpack the files of a Debian package into `folder`; raises DataError when it is damaged.

    `dpkg-deb` is used where there is one; otherwise the archive is read here (any compression tarfile knows).
    """
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.which("dpkg-deb"):
        result = subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise DataError(f"{deb}: cannot be unpacked: {result.stderr.strip().splitlines()[-1:]}")
        return
    unpack_deb_in_python(deb, folder)


def unpack_deb_in_python(deb: Path, folder: Path) -> None:
    """Unpack `deb` without dpkg: an ar archive whose member `data.tar.*` holds the files."""
    content = deb.read_bytes()
    if not content.startswith(AR_MAGIC):
        raise DataError(f"{deb}: not a Debian package")
    position = len(AR_MAGIC)
    while position + 60 <= len(content):
        # An ar header: name 16, time 12, owner 6, group 6, mode 8, size 10, end 2 bytes; members start at
        # even offsets.
        header = content[position : position + 60]
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        body = content[position + 60 : position + 60 + size]
        position += 60 + size + size % 2
        if name.startswith("data.tar"):
            if name.endswith(".zst"):
                raise DataError(f"{deb}: packed with zstd; install dpkg to unpack it")
            try:
                with tarfile.open(fileobj=io.BytesIO(body)) as tar:
                    extract_all(tar, folder)
            except (tarfile.TarError, EOFError, OSError) as error:
                raise DataError(f"{deb}: cannot be unpacked: {error}") from error
            return
    raise DataError(f"{deb}: holds no data.tar")

"""Programs of Debian's packages for tests, unpacked into a folder: nothing is installed, and no service is started."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

IN_USR = ("bin", "sbin", "lib")  # of a system these are links into usr


class Runs(Protocol):
    """What is started and stopped as a whole."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


RunsT = TypeVar("RunsT", bound=Runs)


def cache_folder(name: str) -> Path:
    """Where the packages of a program are unpacked."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / f"harness-{name}"


def unpack(packages: Sequence[str], place: Path, *options: str) -> Path:
    """Fetch packages and the libraries that this machine lacks, and unpack them; returns the folder.

    Args:
        place: the folder, which is made anew.
        options: of `apt-get install`, which tells what is lacking.
    """
    asked = ["apt-get", "install", "--simulate", *options, "--no-install-recommends", *packages]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    names = [line.split()[1] for line in told.splitlines() if line.startswith("Inst ")]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        subprocess.run(["apt-get", "download", "-qq", *names], cwd=folder, check=True)
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
        for name in IN_USR:
            if (root / name).is_dir():  # as a folder it would hide the system's link where it lies over it
                shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
                shutil.rmtree(root / name)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        shutil.move(root, place)
    return place


@contextmanager
def running(make: Callable[[Path, Path], RunsT], root: Path, prefix: str) -> Iterator[RunsT]:
    """What is made of unpacked packages and a new folder, while the block runs."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    made = make(root, folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)

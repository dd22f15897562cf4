"""The wheel, built from the sdist: it has every file that the commands need, and works outside the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from harness import __version__

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = (".*", "build", "results", "tests", "benchmarks", "docs", "*.egg-info", "__pycache__")
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
pytestmark = pytest.mark.slow


def build(what: str, source: Path, folder: Path) -> Path:
    """Build an sdist or a wheel of a source tree, as pip does; the file."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BUILD, f"build_{what}", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installed wheel puts into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*LEFT_OUT))
    gone = folder / "tree/build/lib/harness/gone.py"  # left by a build before a module was renamed
    gone.parent.mkdir(parents=True)
    gone.touch()
    with tarfile.open(build("sdist", folder / "tree", folder / "sdist")) as archive:
        archive.extractall(folder, filter="data")
    wheels = [
        build("wheel", folder / source, folder / name)
        for source, name in ((f"harness-{__version__}", "from_sdist"), ("tree", "from_tree"))
    ]
    names = [sorted(zipfile.ZipFile(wheel).namelist()) for wheel in wheels]
    assert names[0] == names[1]
    assert "harness/gone.py" not in names[0]
    zipfile.ZipFile(wheels[0]).extractall(folder / "site")
    return folder / "site"


def harness(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site), "HARNESS_DATA": str(cwd / "data"), "WANDB_MODE": "disabled"}
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_every_file_is_in_it(installed: Path) -> None:
    files = [path for path in (ROOT / "harness").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(files) > 200
    assert [path for path in files if not (installed / path.relative_to(ROOT)).is_file()] == []
    for folder in ("experiments", "sweeps", "tables", "schemas"):
        assert contents(installed / "harness/shipped" / folder) == contents(ROOT / folder)
    assert (installed / "harness/shipped/constraints.txt").is_file()


def contents(folder: Path) -> dict[Path, bytes]:
    """The files of a folder and of those below it."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_shipped_files_are_found_by_name(installed: Path, tmp_path: Path) -> None:
    assert harness(installed, tmp_path, "--version").stdout == f"harness {__version__}\n"
    done = harness(installed, tmp_path, "sweep", "quickstart")  # all is found but the corpus, which nobody fetched here
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "run: harness data fetch vader" in done.stderr
    assert "text_strategies" in harness(installed, tmp_path, "table", "two_families").stderr


def test_a_project_runs(installed: Path, tmp_path: Path) -> None:
    assert harness(installed, tmp_path, "init", "mine").returncode == 0
    only = ("--arm", "gated", "--seed", "0")
    done = harness(installed, tmp_path / "mine", "run", "experiment.yaml", "loop.epochs=1", *only)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 to train" in done.stdout and "│ gated" in done.stdout
    (provenance,) = tmp_path.glob("mine/results/*/records/*/provenance.json")
    assert '"git_commit": null' in provenance.read_text(encoding="utf-8")

"""Files that are cut short, emptied or have a bit flipped: noticed in one line, or harmless; never a wrong table."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_tests.conftest import Cli, Result, cli
from end_to_end.conftest import kill_group
from tiny_speech import write_files

from .conftest import NUM_KILLS, TALLY, Victim, is_over, odd_lines, rng_of

__all__ = ["cli"]

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(0)]


def damage(path: Path, rng: random.Random, where: Path) -> str:
    """Damage a file; what was done, for whoever reads of a failure."""
    content = path.read_bytes()
    place = rng.randrange(len(content))
    flipped = content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    how, left = rng.choice([
        (f"a bit flipped in byte {place}", flipped), (f"cut at {place}", content[:place]), ("emptied", b""),
        (f"zeros from {place}", content[:place] + bytes(len(content) - place)),
    ])  # fmt: skip
    path.write_bytes(left)
    return f"{path.relative_to(where)}: {how}"


def rounds(num_least: int) -> Iterator[int]:
    """As many as there is time for."""
    for number in range(max(num_least, NUM_KILLS // 3)):
        if is_over():
            return
        yield number


def files_below(*folders: Path) -> dict[str, list[Path]]:
    """Name -> the files of that name that hold something; figures and tables are made anew by each launch."""
    found: dict[str, list[Path]] = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        if path.is_file() and path.stat().st_size and not path.name.startswith(("study.db", "table.")):
            found.setdefault(path.name, []).append(path)
    return found


def assert_one_line(result: Result, what: str) -> None:
    one_line = result.err.startswith("harness: ") and result.err.count("\n") == 1 and "internal error" not in result.err
    assert result.code in (1, 2) and one_line, (what, result.code, result.err)
    assert "Traceback" not in result.out, what


def mend(error: str, results: Path, cwd: Path) -> None:
    """Do what the line says: delete the file that it names, or the record that the file is of."""
    named = [(cwd / found).resolve() for found in re.findall(r"[\w./-]*/[\w.-]+", error)]
    path = next(path for path in named if path.exists() and path.is_relative_to(results))
    inside = path.relative_to(results).parts
    if len(inside) > 1 and inside[0] in ("records", "search"):
        shutil.rmtree(results.joinpath(*inside[:2]))
    else:
        assert path.is_file(), error
        path.unlink()


@pytest.mark.chaos
def test_a_file_of_the_results(victim: Callable[..., Victim], cli: Cli, tmp_path: Path) -> None:
    """Of a sweep that was killed half way, or of a whole one; then the same command, and what it says to do."""
    rng, half = rng_of("damage"), victim()
    process = half.begin()
    assert half.wait(process, rng.randint(6, 16))
    kill_group(process)
    for number in rounds(6):
        sweep = victim(results=tmp_path / f"damaged{number}")
        shutil.copytree((half.results, half.reference)[number % 2], sweep.results)
        what = damage(rng.choice(rng.choice([*files_below(sweep.results).values()])), rng, sweep.results)
        TALLY["damaged file of results"] += 1
        result = cli(*sweep.command)
        if result.code:
            assert_one_line(result, what)
            mend(result.err, sweep.results, tmp_path)
            result = cli(*sweep.command)
        assert result.code == 0 and not odd_lines(result.err), (what, result.err)
        sweep.check()


def test_a_file_of_the_data(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings, their manifest, cached features, the backbone: damaged between two launches, and then mended."""
    rng, files = rng_of("data"), write_files(tmp_path / "files")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    assert cli("pretrain", files.recipe).code == 0
    assert cli("run", files.experiment, "--results", "whole").code == 0
    assert cli("run", files.experiment, "--arm", "frozen").code == 0
    caches = [[path for paths in files_below(tmp_path / name).values() for path in paths] for name in ("cache", "data")]
    places = [sorted((tmp_path / "files" / "clips").iterdir()), [files.manifest], *caches]
    for number in rounds(8):
        path = rng.choice(places[number % len(places)])
        whole, results = path.read_bytes(), tmp_path / f"r{number}"
        shutil.copytree(tmp_path / "results", results)
        what = damage(path, rng, tmp_path)
        TALLY["damaged file of data or caches"] += 1
        result = cli("run", files.experiment, "--results", results)
        if result.code:
            assert_one_line(result, what)
        path.write_bytes(whole)
        result = cli("run", files.experiment, "--results", results)
        assert (result.code, result.err) == (0, ""), what
        tables = [folder / "tiny_tones" / "table.json" for folder in (results, tmp_path / "whole")]
        assert tables[0].read_bytes() == tables[1].read_bytes(), what

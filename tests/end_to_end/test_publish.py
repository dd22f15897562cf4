"""Every command gives the same for folders, for published records and for a mixture; a published trial is reused."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from cli_tests.conftest import Cli, cli
from tiny_text import TinyText
from trained_results import SWEEP

from harness.records.packed import RECORDS, packed_records
from harness.records.store import RecordStore
from harness.tables.render.formats import FORMATS
from harness.tracking.local_runs import read_local_runs

__all__ = ["cli"]

NAMES = ("tiny_strategies", "tiny_sweep")


@pytest.fixture
def results(tiny_results: Path, tmp_path: Path) -> Path:
    """A copy of the trained results, with their weights."""
    return Path(shutil.copytree(tiny_results, tmp_path / "results"))


def answers(cli: Cli, results: Path, tiny: TinyText, sweep: Path) -> Mapping[str, object]:
    """What the commands say, by what was asked."""
    compared = [f"{name}:{arm}" for name, arm in (("tiny_strategies", "residual_add"), ("tiny_strategies", "frozen"))]
    asked: list[tuple[str | Path, ...]] = [
        *(("table", name, "--format", format) for name in NAMES for format in FORMATS),
        *(("verify", name) for name in NAMES),
        ("compare", *compared, "--items", "2"),
        ("compare", "tiny_strategies:residual_add", "tiny_sweep:residual_add (best, one_se)"),
        ("status",),
        ("plan", tiny.experiment),
        ("plan", tiny.write_experiment(sweep.with_name("more.yaml"), seeds=[0, 1, 2])),  # priced by the records
        ("plan", sweep),
    ]
    found: dict[str, object] = {}
    for command in asked:
        result = cli(*command)
        assert result.code == 0, (command, result.err)
        found[" ".join(map(str, command))] = result.out
    for name in NAMES:
        assert cli("report", name, "--out", results.parent / "page.html").code == 0
        found[f"report {name}"] = (results.parent / "page.html").read_bytes()
        found[f"sync {name}"] = read_local_runs(results, name)
    return found


def write_sweep(tiny: TinyText, folder: Path) -> Path:
    """The file of the tiny sweep, with its experiment beside it."""
    shutil.copy(tiny.experiment, folder / "tiny_strategies.yaml")
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(SWEEP, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.long
def test_all_commands_give_the_same(cli: Cli, results: Path, tiny_text_files: TinyText, tmp_path: Path) -> None:
    sweep = write_sweep(tiny_text_files, tmp_path)
    expected = answers(cli, results, tiny_text_files, sweep)
    for name in NAMES:
        assert cli("publish", name).code == 0
        assert not list((results / name).rglob("config.json"))
    assert list(results.rglob("adapter.safetensors"))  # weights stay where they are
    assert answers(cli, results, tiny_text_files, sweep) == expected
    for name in NAMES:  # every other trial a folder again
        packed = packed_records(str(results / name))
        assert packed is not None
        folders = [*RecordStore(results, name).finished(), *RecordStore(results, name).finished("search")]
        for folder in folders[::2]:
            folder.write_packed(packed.trial((folder.path.parent.name, folder.trial_id)))
    assert answers(cli, results, tiny_text_files, sweep) == expected
    for name in NAMES:
        assert cli("publish", name).code == 0
        assert cli("publish", name, "--unpack").code == 0
    assert answers(cli, results, tiny_text_files, sweep) == expected


def test_an_explanation_names_the_line(cli: Cli, results: Path) -> None:
    assert cli("publish", "tiny_strategies").code == 0
    result = cli("table", "tiny_strategies", "--explain", "residual_add", "target_accuracy")
    store = RecordStore(Path("results"), "tiny_strategies")
    for trial_id in store.manifest().arms["residual_add"].values():
        assert f"results/tiny_strategies/{RECORDS}:" in store.trial(trial_id).place
        assert store.trial(trial_id).place in result.out


def test_a_published_trial_is_trained_again_and_compared(cli: Cli, results: Path) -> None:
    assert cli("publish", "tiny_strategies").code == 0
    result = cli("verify", "tiny_strategies", "--retrain", "--cell", "residual_add/1")
    assert result.code == 0, result.err
    assert "target_macro_f1: " in result.out and "(the same)" in result.out
    before, total = result.out.partition("predictions: ")[2].split()[0:3:2]
    assert before == total != "0"


def test_run_reuses_what_is_published(cli: Cli, results: Path, tiny_text_files: TinyText, tmp_path: Path) -> None:
    assert cli("publish", "tiny_strategies").code == 0
    more = tiny_text_files.write_experiment(tmp_path / "more.yaml", seeds=[0, 1, 2])
    result = cli("run", more, "--arm", "residual_add")
    assert result.out.splitlines()[0] == "tiny_strategies: 3 trials, 2 finished, 1 to train", result.err
    assert len(list((results / "tiny_strategies").rglob("config.json"))) == 1  # only what is new becomes a folder
    assert "6 trials" in cli("publish", "tiny_strategies").out
    result = cli("run", tiny_text_files.experiment)
    assert result.out.splitlines()[0].endswith("5 finished, 0 to train")
    assert not list((results / "tiny_strategies").rglob("config.json"))


def test_a_search_goes_through_what_is_published(
    cli: Cli, results: Path, tiny_text_files: TinyText, tmp_path: Path
) -> None:
    """The study's database is not published: the search is done again from the records, and trains nothing."""
    sweep = write_sweep(tiny_text_files, tmp_path)
    folder = results / "tiny_sweep"
    before = {name: (folder / name).read_bytes() for name in ("search.json", "frozen.json", "table.md")}
    assert cli("publish", "tiny_sweep").code == 0
    packed = (folder / RECORDS).read_bytes()
    for path in folder.glob("study.db*"):
        path.unlink()
    result = cli("sweep", sweep, "--engine", "plain")
    assert result.code == 0, result.err
    assert not list(folder.rglob("summary.json"))
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert cli("publish", "tiny_sweep").code == 0
    assert (folder / RECORDS).read_bytes() == packed

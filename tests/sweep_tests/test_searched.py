"""A published sweep, whose study is not here: it is finished, costs nothing, and a launch changes no byte of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from cli_tests.conftest import Cli, cli
from tiny_text import TinyText
from trained_results import SWEEP

from harness.records.publishing import publish
from harness.records.store import RecordStore
from harness.search.sweep_files import load_sweep
from harness.sweep.plan import plan_sweep
from harness.sweep.searched import published_search
from harness.sweep.status import read_status

__all__ = ["cli"]


@pytest.fixture
def published(tiny_results: Path, tiny_text_files: TinyText, tmp_path: Path) -> RecordStore:
    """The tiny sweep as somebody else gets it, and its file."""
    shutil.copytree(tiny_results / "tiny_sweep", tmp_path / "results" / "tiny_sweep")
    store = RecordStore(tmp_path / "results", "tiny_sweep")
    publish(store)
    for path in store.path.glob("study.db*"):
        path.unlink()
    shutil.copy(tiny_text_files.experiment, tmp_path / "tiny_strategies.yaml")
    write_sweep(tmp_path)
    return store


def write_sweep(folder: Path, **changes: object) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(SWEEP | changes, sort_keys=False), encoding="utf-8")
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_it_is_finished(published: RecordStore) -> None:
    status = read_status("tiny_sweep", published.path.parent)
    assert (status.phase, [arm.num_finished for arm in status.arms]) == ("finished", [9])
    assert status.confirm[0] == status.confirm[1]


def test_it_costs_nothing(published: RecordStore, tmp_path: Path) -> None:
    plan = plan_sweep(load_sweep(tmp_path / "sweep.yaml"), published.path.parent, 1)
    assert plan.num_new == 0
    assert [arm.search.finished for arm in plan.arms if arm.searches] == [9]


def test_a_greater_budget_costs_what_is_new(published: RecordStore, tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path, budget={"trials": 12}))
    counts = [arm.search for arm in plan_sweep(sweep, published.path.parent, 1).arms if arm.searches]
    assert [(count.finished, count.new) for count in counts] == [(9, 3)]
    assert published_search(sweep, published.path.parent) is None


@pytest.mark.parametrize("changes", [{"search": {"seeds": [1002], "lag": 1}}, {"settings": {"loop.epochs": 4}}])
def test_another_sweep_of_the_name_is_new(published: RecordStore, tmp_path: Path, changes: dict[str, object]) -> None:
    sweep = load_sweep(write_sweep(tmp_path, **changes))
    assert [arm.search.finished for arm in plan_sweep(sweep, published.path.parent, 1).arms] == [0, 0]
    assert published_search(sweep, published.path.parent) is None


def test_without_a_record_it_is_not_finished(published: RecordStore, tmp_path: Path) -> None:
    lines = (published.path / "records.jsonl").read_text(encoding="utf-8").splitlines()
    points = json.loads((published.path / "search.json").read_text(encoding="utf-8"))["points"]
    kept = [line for line in lines if json.loads(line)["trial_id"] != points[0]["trial_ids"][0]]
    (published.path / "records.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    assert published_search(load_sweep(tmp_path / "sweep.yaml"), published.path.parent) is None


def test_a_launch_changes_no_byte(published: RecordStore, cli: Cli) -> None:
    assert cli("sweep", "sweep.yaml").code == 0  # draws the figures
    before = files_of(published.path)
    result = cli("sweep", "sweep.yaml")
    assert result.code == 0, result.err
    assert "everything is finished" in result.out and "0 to train" in result.out
    assert files_of(published.path) == before
    assert not list(published.path.glob("study.db*"))

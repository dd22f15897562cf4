"""What is known of a search: of a published one, of one whose points are lost, of one with an older database."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cli_tests.conftest import Cli, cli
from tiny_text import TinyText
from trained_results import SWEEP

from harness.config.execution import PLAIN
from harness.engines.choice import EngineChoice
from harness.errors import UserError
from harness.records.publishing import publish
from harness.records.search import read_search
from harness.records.store import RecordStore
from harness.search.old_study import read_old
from harness.search.sweep_files import load_sweep
from harness.sweep.plan import plan_sweep
from harness.sweep.run_sweep import open_arms
from harness.sweep.searched import published_search
from harness.sweep.status import read_status

__all__ = ["cli"]

OLD_STUDY = Path(__file__).with_name("old_study.db.gz")  # the tiny sweep's, as the version before points wrote it


@pytest.fixture
def published(tiny_results: Path, tiny_text_files: TinyText, tmp_path: Path) -> RecordStore:
    """The tiny sweep as somebody else gets it, and its file."""
    shutil.copytree(tiny_results / "tiny_sweep", tmp_path / "results" / "tiny_sweep")
    store = RecordStore(tmp_path / "results", "tiny_sweep")
    publish(store)
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
    assert not (published.path / "points").exists()


@pytest.fixture
def finished(tiny_results: Path, tiny_text_files: TinyText, tmp_path: Path) -> Path:
    """The folder of the tiny sweep, and its file beside the results."""
    shutil.copytree(tiny_results / "tiny_sweep", tmp_path / "results" / "tiny_sweep")
    shutil.copy(tiny_text_files.experiment, tmp_path / "tiny_strategies.yaml")
    write_sweep(tmp_path)
    return tmp_path / "results" / "tiny_sweep"


def test_points_are_made_again_from_the_records(finished: Path, tmp_path: Path) -> None:
    """All of them, pruned ones too, byte for byte; and nothing else is written."""
    before = files_of(finished)
    points = {name: content for name, content in before.items() if name.startswith("points/")}
    states = {json.loads(content)["state"] for content in points.values()}
    assert len(points) == 9 and states == {"complete", "pruned"}
    (finished / "points" / "residual_add" / "3.json").unlink()
    for _ in range(2):
        (arm,) = open_arms(load_sweep(tmp_path / "sweep.yaml"), finished.parent, EngineChoice("plain"))
        assert not arm.finished()
        arm.refresh()
        assert arm.finished() and not arm.due()
        assert {name: content for name, content in files_of(finished).items() if name != "sweep.json"} == {
            name: content for name, content in before.items() if name != "sweep.json"
        }
        shutil.rmtree(finished / "points")


def test_the_points_of_a_finished_search_are_not_missed(finished: Path, cli: Cli) -> None:
    """Nothing makes them again: search.json has every trial."""
    shutil.rmtree(finished / "points")
    before = read_status("tiny_sweep", finished.parent)
    result = cli("sweep", "sweep.yaml")
    assert result.code == 0 and "0 to train" in result.out, result.err
    assert not (finished / "points").exists()
    assert (before.phase, [arm.num_finished for arm in before.arms]) == ("finished", [9])


def test_an_open_trial_is_the_same_by_points_and_by_records(finished: Path, tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path, budget={"trials": 12}))
    drawn = []
    for _ in range(2):
        (arm,) = open_arms(sweep, finished.parent, EngineChoice("plain"))
        arm.refresh()
        (flight,) = arm.due()
        drawn.append((flight.number, flight.values, flight.trial_id))
        shutil.rmtree(finished / "points")
    assert drawn[0] == drawn[1] and drawn[0][0] == 9


def make_older(finished: Path) -> Path:
    """Make of finished results those of a search that was begun before there were points; its database."""
    result = read_search(finished)
    assert result is not None
    fingerprint = json.loads((finished / "sweep.json").read_text(encoding="utf-8"))["fingerprint"]
    for path in (*finished.glob("*.json"), *finished.glob("study.db*")):
        path.unlink()
    for folder in ("points", "records"):
        shutil.rmtree(finished / folder)
    (finished / "sweep.json").write_text(json.dumps({"name": "tiny_sweep", "arms": ["residual_add"]}))
    database = finished / "study.db"
    database.write_bytes(gzip.decompress(OLD_STUDY.read_bytes()))
    connection = sqlite3.connect(database)
    connection.execute("UPDATE study_user_attributes SET value_json=? WHERE key='fingerprint'", [f'"{fingerprint}"'])
    for point in result.points:  # paths are part of an id, and those of the tests lie elsewhere
        connection.execute(
            "UPDATE trial_user_attributes SET value_json=? WHERE key='trial_ids' AND trial_id="
            "(SELECT trial_id FROM trials WHERE number=? AND study_id="
            "(SELECT study_id FROM studies WHERE study_name='tiny_sweep/residual_add'))",
            [json.dumps(point.trial_ids), point.number],
        )
    connection.commit()
    connection.close()
    return database


def test_a_search_with_an_older_database_goes_on(finished: Path, tmp_path: Path) -> None:
    """What it holds is taken over, its engine as well; then the trials go on as if the search were one of today."""
    (today,) = open_arms(load_sweep(tmp_path / "sweep.yaml"), finished.parent, EngineChoice("plain"))
    database = make_older(finished)
    before = files_of(finished)
    sweep = load_sweep(write_sweep(tmp_path, budget={"trials": 12}))
    counts = [arm.search for arm in plan_sweep(sweep, finished.parent, 1).arms if arm.searches]
    assert [(count.finished, count.new) for count in counts] == [(9, 3)]
    assert [arm.num_finished for arm in read_status("tiny_sweep", finished.parent).arms] == [9]
    assert files_of(finished) == before  # looking changes nothing
    with pytest.raises(UserError, match="was begun with engine plain"):
        open_arms(sweep, finished.parent, EngineChoice("cut"))
    (arm,) = open_arms(sweep, finished.parent, EngineChoice())
    assert {n: p.params for n, p in arm.ended.items()} == {n: p.params for n, p in today.ended.items()}
    assert {n: p.drawn for n, p in arm.ended.items()} == {n: p.drawn for n, p in today.ended.items()}
    (old,) = read_old(database, "tiny_sweep", ["residual_add"]).values()
    assert tuple(arm.ended.values()) == old.ended and arm.execution == PLAIN
    arm.refresh()
    assert [flight.number for flight in arm.due()] == [9]
    assert database.read_bytes() == before["study.db"]
    other = load_sweep(write_sweep(tmp_path, search={"seeds": [1002], "lag": 1}))
    with pytest.raises(UserError, match="begun with other settings"):
        open_arms(other, finished.parent, EngineChoice())


def test_an_older_database_that_cannot_be_read_is_one_line(finished: Path, tmp_path: Path) -> None:
    make_older(finished).write_bytes(b"This is no database. " * 100)
    with pytest.raises(UserError, match=r"study\.db: cannot be read: file is not a database$"):
        open_arms(load_sweep(tmp_path / "sweep.yaml"), finished.parent, EngineChoice())


def test_what_a_killed_launch_left_in_the_folder_goes_with_the_next_one(finished: Path, tmp_path: Path) -> None:
    """Its exporter's lease, though nothing is left to search, and what it was writing."""
    code = "import os, sys; from pathlib import Path; from harness.records.leases import take; "
    code += "from harness.disk.temporary import temporary_beside; folder = Path(sys.argv[1]); "
    code += "temporary_beside(folder / 'frozen.json').touch(); assert take(folder, 'export'); os._exit(1)"
    subprocess.run([sys.executable, "-c", code, str(finished)], check=False)
    assert len([*finished.glob(".*")]) >= 2
    open_arms(load_sweep(tmp_path / "sweep.yaml"), finished.parent, EngineChoice("plain"))
    assert [path.name for path in finished.glob(".*") if path.name != ".lock"] == []

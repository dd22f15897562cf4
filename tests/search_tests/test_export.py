"""Optuna's view of a search, read as an Optuna user reads it, in SQLite files and on a real PostgreSQL server."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from trained_results import STRATEGY, SWEEP

from harness.errors import UserError
from harness.records.leases import take
from harness.records.points import EndedTrial, Points, read_points
from harness.records.search import read_search
from harness.search import live_export
from harness.search.export import Export
from harness.search.live_export import LiveExport, export_once
from harness.search.storage_url import shown_storage, storage_url
from harness.sweep.selection import choose_contenders

LR, DEPTH, L2 = "optim.lr", f"{STRATEGY}.stochastic_depth", f"{STRATEGY}.l2_lambda"
SPACE: dict[str, Any] = {
    "lr": {"type": "log_float", "low": 1e-4, "high": 1e-1},
    "l2": {"type": "zero_or_log", "low": 1e-6, "high": 1e-2},
    "n": {"type": "int", "low": 1, "high": 9},
    "kind": {"type": "categorical", "choices": ["a", None, 2.5]},
}
ABOUT: dict[str, Any] = {
    "name": "mine",
    "objectives": [{"metric": "valid_target/loss", "direction": "minimize"}],
    "space": {"one": SPACE},
    "constraints": [{"metric": "valid_forgetting", "at_most": 0.03}],
    "sampler": {"name": "tpe"},
    "fingerprint": "f0",
}
LOSSES = (0.5, 0.25, 1 / 3, 0.125)
SOLD = [0.0, -0.1, 0.2, 1e-9]  # violations: 0 holds, as -0.1 does


def ended(number: int, **changes: Any) -> EndedTrial:
    params = {"lr": 0.0123456, "l2": [0.0, 7.31e-6][number % 2], "n": number + 1, "kind": ["a", None, 2.5][number % 3]}
    content: dict[str, Any] = {"state": "complete", "values": (LOSSES[number],), "violations": (SOLD[number],)}
    content |= {"params": params, "trial_ids": (f"id{number}",), "steps": {1: 0.9, 2: 1 / 7}, "seconds": 1.5}
    return EndedTrial.model_validate({"arm": "one", "number": number} | content | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sweep that has begun."""
    path = tmp_path / "results" / "mine"
    path.mkdir(parents=True)
    (path / "sweep.json").write_text(json.dumps(ABOUT), encoding="utf-8")
    return path


def write(folder: Path, *trials: EndedTrial) -> None:
    for trial in trials:
        Points(folder, "one").write(trial)


def study_of(path: Path, name: str = "mine/one") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{path}")


def test_a_real_sweep_as_an_optuna_user_sees_it(tiny_results: Path, tmp_path: Path) -> None:
    """What was trained, what meets the constraint, and the winner of the rule that has no race behind it."""
    results = tmp_path / "tiny_sweep"
    shutil.copytree(tiny_results / "tiny_sweep", results)
    search = read_search(results)
    assert search is not None
    studies = [study_of(results / "study.db", "tiny_sweep/residual_add")]
    export_once(results, tmp_path / "other.db")
    studies.append(study_of(tmp_path / "other.db", "tiny_sweep/residual_add"))
    for study in studies:
        assert study.metric_names == ["valid_target/loss"] and study.direction.name == "MINIMIZE"
        assert study.user_attrs["arm"] == "residual_add"
        assert [trial.params for trial in study.trials] == [point.params for point in search.points]
        assert [trial.state.name for trial in study.trials] == [point.state.upper() for point in search.points]
        for trial, point in zip(study.trials, search.points, strict=True):
            assert trial.user_attrs["trial_ids"] == list(point.trial_ids)
            log = results / "search" / point.trial_ids[0] / "log.jsonl"
            lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
            steps = {line["epoch"]: line["metrics"]["valid_target/loss"] for line in lines}
            assert trial.intermediate_values == steps
            (bound,) = SWEEP["constraints"]
            missed = point.valid["valid_forgetting"] - bound["at_most"]
            violation = {f"valid_forgetting <= {bound['at_most']}": missed, "0": missed}
            assert trial.constraints == (pytest.approx(violation) if point.state == "complete" else {})
        assert study.trials[0].distributions[L2] == FloatDistribution(0.0, 1e-2)
        assert study.trials[0].distributions[LR] == FloatDistribution(1e-3, 1e-1, log=True)
        durations = [trial.duration.total_seconds() for trial in study.trials if trial.duration is not None]
        assert durations == pytest.approx([point.seconds for point in search.points], abs=2e-6)


@pytest.mark.slow
def test_the_best_trials_of_a_published_sweep(tmp_path: Path) -> None:
    """Optuna's best trial of each arm is the one that the rules put first before the race, under the constraints."""
    results = Path(__file__).parents[2] / "results" / "text_depth_x_l2"
    search = read_search(results)
    assert search is not None and export_once(copied(results, tmp_path), tmp_path / "s.db") is not None
    for arm in search.axes:
        points = [point for point in search.points if point.arm == arm]
        study = study_of(tmp_path / "s.db", f"text_depth_x_l2/{arm}")
        assert [trial.params for trial in study.trials] == [point.params for point in points]
        is_kept = [all(value <= 0 for value in trial.constraints.values()) for trial in study.trials]
        assert is_kept == [point.feasible for point in points]
        (first,) = choose_contenders([p for p in points if p.feasible], search.objectives[0], ("best",), 1)
        assert (study.best_trial.number, study.best_params) == (first.number, first.params)


def copied(results: Path, folder: Path) -> Path:
    """The small files of published results."""
    (folder / results.name).mkdir()
    for name in ("sweep.json", "search.json", "frozen.json"):
        shutil.copy(results / name, folder / results.name)
    return folder / results.name


def test_values_states_and_reasons(folder: Path, tmp_path: Path) -> None:
    lost: dict[str, Any] = {"values": (), "violations": ()}
    failed = ended(2, state="failed", reason="nan", message="the loss is nan", **lost)
    write(folder, ended(0), ended(1), failed, ended(3, state="pruned", **lost))
    done = export_once(folder, tmp_path / "s.db")
    assert done is not None and (done.num_new, done.num_trials) == (4, 4)
    study = study_of(tmp_path / "s.db")
    states = [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED]
    assert [trial.state for trial in study.trials] == states
    assert [trial.params["l2"] for trial in study.trials] == [0.0, 7.31e-6, 0.0, 7.31e-6]
    assert study.trials[0].distributions == {
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "l2": FloatDistribution(0.0, 1e-2),
        "n": IntDistribution(1, 9),
        "kind": CategoricalDistribution(["a", None, 2.5]),
    }
    assert (study.trials[2].user_attrs["reason"], study.trials[2].user_attrs["message"]) == ("nan", "the loss is nan")
    assert study.best_trial.number == 1 and study.best_params["l2"] == 7.31e-6
    assert study.trials[1].intermediate_values == {1: 0.9, 2: 1 / 7}


def test_it_grows_and_is_made_again_where_it_is_of_other_trials(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    write(folder, ended(0), ended(2))  # trial 1 is still in training
    assert [done and done.num_trials for done in (export_once(folder, path),)] == [1]
    write(folder, ended(1))
    done = export_once(folder, path)
    assert done is not None and (done.num_new, done.num_trials) == (2, 3)
    done = export_once(folder, path)
    assert done is not None and done.num_new == 0
    shutil.rmtree(folder / "points")
    write(folder, *(ended(number, values=(0.9,)) for number in range(3)))  # begun anew
    done = export_once(folder, path)
    assert done is not None and done.num_new == 3
    assert [trial.value for trial in study_of(path).trials] == [0.9] * 3
    lease = take(folder, live_export.NAME)
    assert lease is not None and export_once(folder, path) is None  # somebody else is at it
    lease.release()


def test_other_studies_stay_as_they_are(folder: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 's.db'}"
    for name in ("mine/one", "mine"):
        optuna.create_study(study_name=name, storage=storage).add_trial(optuna.trial.create_trial(value=3.0))
    write(folder, ended(0))
    export_once(folder, tmp_path / "s.db")
    assert [study_of(tmp_path / "s.db", name).best_value for name in ("mine/one", "mine")] == [3.0, 3.0]
    assert study_of(tmp_path / "s.db", "mine/one (export)").best_value == 0.5


def wait_for(path: Path, number: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline
        try:
            if len(study_of(path).trials) == number:
                return
        except (KeyError, sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError):
            pass
        time.sleep(0.2)


@pytest.mark.slow
def test_it_follows_a_search(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    path = folder / "study.db"
    monkeypatch.setattr(live_export, "DELAY_S", 0.0)
    with LiveExport(folder, path):
        for number in range(2):
            write(folder, ended(number))
            wait_for(path, number + 1)
        write(folder, ended(2))
    assert len(study_of(path).trials) == 3  # the end brought it up to date
    assert capfd.readouterr().err == "" and not list(folder.glob(".export.*"))


@pytest.mark.slow
def test_what_follows_the_search_does_not_wait_for_the_export(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "study.db"
    monkeypatch.setattr(live_export, "DELAY_S", 0.0)
    monkeypatch.setattr(live_export, "END_S", 300.0)
    with ExitStack() as at_end:
        with LiveExport(folder, path, at_end) as live:
            write(folder, ended(0))
            wait_for(path, 1)
            write(folder, ended(1))
        process = live._process
        assert process is not None and process.returncode is None  # nobody has waited for it
    assert process.returncode == 0 and len(study_of(path).trials) == 2
    assert not list(folder.glob(".export.*"))


def test_a_search_that_is_over_at_once_is_exported_at_its_end(folder: Path) -> None:
    with LiveExport(folder, folder / "study.db"):
        write(folder, ended(0))
    assert len(study_of(folder / "study.db").trials) == 1


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [True, False])
def test_an_export_that_fails_stops_nothing_and_is_told_once(
    folder: Path, at_once: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live_export, "DELAY_S", 0.0 if at_once else 60.0)
    monkeypatch.setattr(live_export, "END_S", 300.0)  # the process says what failed, however slow the machine
    with LiveExport(folder, "postgresql://me:secret@localhost:1/none"):
        write(folder, ended(0))
        time.sleep(0.3 * at_once)
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "secret" not in err
    assert "postgresql+psycopg://me:***@localhost:1/none: the export to it failed: connection" in err


@pytest.mark.slow
def test_a_search_does_not_wait_for_an_export_that_takes_long(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live_export, "END_S", 0.0)
    with LiveExport(folder, "postgresql://me:secret@localhost:1/none"):
        write(folder, ended(0))
    (late,) = live_export._LATE[-1:]
    assert isinstance(late, subprocess.Popen)
    assert "harness: the export of mine is not done; harness export mine makes it\n" in capfd.readouterr().err
    assert late.wait(300) == 0


def test_a_file_that_cannot_be_written_is_told(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "study.db").write_text("This is no database. " * 100, encoding="utf-8")
    with LiveExport(folder, folder / "study.db"):
        write(folder, ended(0))
    assert capfd.readouterr().err == f"harness: {folder}/study.db: the export to it failed: file is not a database\n"


def test_to_a_real_server(folder: Path, postgres_database: str) -> None:
    write(folder, *(ended(number) for number in range(3)))
    place = postgres_database.replace("+psycopg", "")  # takes the driver that we name
    done = export_once(folder, place)
    assert done is not None and done.num_trials == 3
    storage = optuna.storages.RDBStorage(postgres_database)
    study = optuna.load_study(study_name="mine/one", storage=storage)
    assert [trial.params["l2"] for trial in study.trials] == [0.0, 7.31e-6, 0.0]
    assert study.best_trial.number == 1 and study.best_value == 0.25
    storage.remove_session()
    storage.engine.dispose()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("oracle://me:secret@host/db", "storage: unknown kind of storage 'oracle'; give postgresql://"),
        ("sqlite://", "storage: a search cannot be kept in memory; give postgresql://"),
        ("postgresql://me:secret@host:port/db", r"storage: it is not a URL of the right form \(it is not shown"),
        ("postgresql://me:secret@host:70000/db", "storage: its port is not between 1 and 65535"),
        ("postgresql://me:a@secret@host/db", "storage: it has several @; write %40"),
        ("postgresql://me:a?@secret@host/db", "storage: it has several @; write %40"),
        ("me:secret@host/db", "storage: it is neither a URL nor the path of a SQLite file"),
        ("me:secret@host.db", "storage: it is neither a URL nor the path of a SQLite file"),
        ("host=h password=secret", "storage: it is neither a URL nor the path of a SQLite file"),
        ("postgresql://me:secret@host/db\n", "storage: it begins or ends with a blank"),
        ("", "storage: it is neither a URL nor the path of a SQLite file"),
        ("env:", "storage: after env: comes the name"),
        ("env:NO_SUCH_STORAGE", "storage env:NO_SUCH_STORAGE: the environment variable NO_SUCH_STORAGE is not set"),
        ("env:BAD_STORAGE", "storage env:BAD_STORAGE: it has several @"),
        ("postgresql+pg9://me:secret@host/db", "the driver pg9 is missing: write postgresql\\+psycopg://"),
        ("sqlite:///{tmp}", "the export to it failed: unable to open database file"),
        ("{tmp}/text.db", "the export to it failed: file is not a database"),
        ("{tmp}/text.db/search.db", "the export to it failed: "),
    ],
)
def test_what_cannot_be_a_storage_is_one_line(
    given: str, message: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAD_STORAGE", "mysql://me:secret@secret@host/db")
    (tmp_path / "text.db").write_text("This is no database. " * 100, encoding="utf-8")
    with pytest.raises(UserError, match=message) as raised:
        Export(folder, given.replace("{tmp}", str(tmp_path)))
    assert "\n" not in str(raised.value) and "secret" not in str(raised.value)


def test_a_storage_from_an_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_STORAGE", str(tmp_path / "search.db"))
    assert storage_url("env:THE_STORAGE").database == str(tmp_path / "search.db")
    assert shown_storage("env:THE_STORAGE") == "env:THE_STORAGE"
    assert shown_storage("mysql://me:secret@host/db?password=secret") == "mysql+pymysql://me:***@host/db"


def test_a_missing_driver_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(UserError, match=r"^mysql\+pymysql://me:\*\*\*@host/db: .* pip install 'pymysql'$"):
        Export(folder, "mysql://me:secret@host/db")


def test_servers_that_do_not_let_us_in_are_one_line(folder: Path, postgres_url: str) -> None:
    url = sqlalchemy.make_url(postgres_url)
    assert url.port is not None
    for changed, message in [
        (url.set(password="secret"), "password authentication failed"),
        (url.set(database="nowhere"), 'database "nowhere" does not exist'),
        (url.set(port=1), "Connection refused"),
        (url.set(port=1, password=None).update_query_dict({"password": "secret"}), "Connection refused"),
        (url.update_query_dict({"colour": "secret"}), "invalid connection option"),
    ]:
        with pytest.raises(UserError, match=f": the export to it failed: .*{message}") as raised:
            Export(folder, changed.render_as_string(hide_password=False))
        text = str(raised.value)
        assert "\n" not in text and str(url.password) not in text
        assert "secret" not in text or "colour=secret" in text


@pytest.mark.parametrize("content", [None, "[]", '{"name": "mine"}'])
def test_a_sweep_that_tells_too_little_is_one_line(folder: Path, content: str | None, tmp_path: Path) -> None:
    (folder / "sweep.json").unlink()
    if content is not None:
        (folder / "sweep.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"sweep\.json: ") as raised:
        Export(folder, tmp_path / "s.db")
    assert "\n" not in str(raised.value)


class TestPoints:
    def test_the_first_one_counts(self, tmp_path: Path) -> None:
        points = Points(tmp_path, "an arm/of mine")
        first = ended(0, arm="an arm/of mine", steps={1: math.inf, 2: -0.1})
        assert points.write(first) == first
        assert points.write(first.model_copy(update={"seconds": 9.0})) == first == points.read(0)
        assert read_points(tmp_path, ["an arm/of mine"]) == {"an arm/of mine": [first]}
        assert os.listdir(tmp_path / "points") == ["an arm%2Fof mine"] and os.listdir(points.path) == ["0.json"]

    def test_what_has_changed_is_read_again_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        points, read = Points(tmp_path, "one"), list[int]()
        points.write(ended(0))
        points.write(ended(1))
        assert [*points.read_all()] == [0, 1]
        whole = Points.read

        def counted(self: Points, number: int) -> EndedTrial | None:
            read.append(number)
            return whole(self, number)

        monkeypatch.setattr(Points, "read", counted)
        points.write(ended(2))
        os.replace(points.path / "2.json", points.path / "1.json")  # which is that of another trial then
        (points.path / "notes.json").touch()
        assert Points(tmp_path, "one").read_all() == {0: ended(0)} and read == [1]

    @pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"arm": "other", "number": 0, "state": "pruned"}'])
    def test_one_that_cannot_be_read_is_made_again(self, tmp_path: Path, content: bytes) -> None:
        points = Points(tmp_path, "one")
        points.write(ended(0))
        (points.path / "0.json").write_bytes(content)
        assert points.read(0) is None and points.read_all() == {}
        assert points.write(ended(0)) == ended(0) == points.read(0)

    def test_without_hard_links(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*args: Any) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(os, "link", refuse)
        points = Points(tmp_path, "one")
        assert points.write(ended(0)) == ended(0)
        assert points.write(ended(0, seconds=9.0)) == ended(0)

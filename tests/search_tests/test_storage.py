"""The store of a search, with real processes, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import struct
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from harness.errors import UserError
from harness.search import owners
from harness.search.storage import StudyStore
from harness.search.storage_url import shown_storage
from harness.search.stored_study import read_study

FLOATS = [0.1 + 0.2, 1e-300, 5e-324, 2.2250738585072014e-308 / 3, 1.7976931348623157e308, 1 / 3, 1e22, -7.3e-5]
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A storage that does not exist yet."""
    if request.param == "sqlite":
        return str(tmp_path / "results" / "search.db")
    return str(request.getfixturevalue("postgres_database"))


def open_store(url: str, **options: Any) -> StudyStore:
    return StudyStore(url, "sweep/arm", ["maximize"], **options)


def start(function: Callable[..., None], *args: Any) -> SpawnProcess:
    process = SPAWN.Process(target=function, args=args, daemon=True)
    process.start()
    return process


def join(processes: list[SpawnProcess]) -> None:
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


def work(url: str, limit: int, told: Queue[Any]) -> None:
    """Claim and tell trials until none is left."""
    try:
        with open_store(url) as store:
            while (trial := store.claim(limit)) is not None:
                store.set_params(trial._trial_id, {"x": trial.number / 3}, {"x": FloatDistribution(0, 100)})
                for step in range(3):
                    store.report(trial._trial_id, step, step * 0.1)
                store.set_user_attrs(trial._trial_id, {"pid": os.getpid(), "valid": {"f1": 0.1}})
                store.trials()
                told.put((trial.number, store.tell(trial._trial_id, TrialState.COMPLETE, [trial.number / 7])))
                told.put(None) if store.tell(trial._trial_id, TrialState.FAIL, None) else None
    except UserError as error:
        told.put(error)
    told.put("end")


@pytest.mark.slow
def test_four_processes_tell_each_trial_once(url: str) -> None:
    """They also make the tables and the study at once; with 25 trials first, the rest comes with a larger budget."""
    numbers = []
    for limit in (25, 60):
        told: Queue[Any] = SPAWN.Queue()
        processes = [start(work, url, limit, told) for _ in range(4)]
        ends = 0
        while ends < len(processes):
            answer = told.get(timeout=120)
            if answer == "end":
                ends += 1
                continue
            number, was_told = answer  # anything else: an error, or a trial that was told twice
            assert was_told
            numbers.append(number)
        join(processes)
        assert sorted(numbers) == list(range(limit))
    with open_store(url) as store:
        trials = store.trials()
        assert [trial.number for trial in trials] == list(range(60))
        assert all(trial.state == TrialState.COMPLETE for trial in trials)
        assert [trial.value for trial in trials] == [number / 7 for number in range(60)]
        assert [trial.params["x"] for trial in trials] == [number / 3 for number in range(60)]
        assert all(trial.intermediate_values == {0: 0.0, 1: 0.1, 2: 0.2} for trial in trials)
        assert store.claim(60) is None and store.orphans() == []


def claim_and_die(url: str) -> None:
    store = open_store(url)
    trial = store.claim(1)
    assert trial is not None
    store.report(trial._trial_id, 1, 0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def take_over(url: str, ready: Any, taken: Queue[bool]) -> None:
    with open_store(url) as store:
        (orphan,) = store.orphans()
        ready.wait(60)  # all of them have seen the orphan
        taken.put(store.take_over(orphan))
        ready.wait(60)  # none has ended, which would make an orphan of its trial
        assert store.orphans() == []


@pytest.mark.slow
def test_a_killed_owner_s_trial_is_taken_over_by_one(url: str) -> None:
    victim = start(claim_and_die, url)
    victim.join(60)
    assert victim.exitcode == -signal.SIGKILL
    ready, taken = SPAWN.Barrier(3), SPAWN.Queue()
    processes = [start(take_over, url, ready, taken) for _ in range(3)]
    assert sorted(taken.get(timeout=60) for _ in processes) == [False, False, True]
    join(processes)
    with open_store(url) as store:
        (orphan,) = store.orphans()  # the new owner is gone too
        assert orphan.intermediate_values == {1: 0.5}
        assert store.take_over(orphan) and not store.take_over(orphan)
        assert store.tell(orphan._trial_id, TrialState.PRUNED, None)


def claimed(store: StudyStore, limit: int = 1) -> FrozenTrial:
    trial = store.claim(limit)
    assert trial is not None
    return trial


def owned_by(store: StudyStore, trial: FrozenTrial, **changes: Any) -> None:
    """Let the trial be somebody else's."""
    store.set_user_attrs(trial._trial_id, {"owner": {**trial.user_attrs["owner"], **changes}})


@pytest.mark.slow
def test_an_owner_is_a_process_and_not_a_pid(url: str) -> None:
    with open_store(url) as store:
        trial = claimed(store)
        parent = {"pid": os.getppid(), "started": owners.start_of(os.getppid())}
        owned_by(store, trial, **parent)
        assert store.orphans() == []
        owned_by(store, trial, **parent | {"started": "1"})  # its pid was given to another process
        assert [orphan.number for orphan in store.orphans()] == [0]


def test_a_zombie_is_gone() -> None:
    process = start(time.sleep, 60)
    assert process.pid is not None and owners.start_of(process.pid) is not None
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped
    assert owners.start_of(process.pid) is None
    process.join()


@pytest.mark.slow
def test_another_machine_s_owner_is_judged_by_its_heartbeat(url: str) -> None:
    with open_store(url, heartbeat_s=1, grace_s=3) as store:
        trial = claimed(store)
        owned_by(store, trial, host="elsewhere", pid=1)
        deadline = time.monotonic() + 4.5
        while time.monotonic() < deadline:  # this process's thread is its heart, for longer than the grace period
            assert store.orphans() == []
            time.sleep(0.3)
        store._held.clear()
        while not (orphans := store.orphans()):
            assert time.monotonic() < deadline + 10
            time.sleep(0.3)
        assert store.take_over(orphans[0])
        assert store.orphans() == []


def test_floats_come_back_bit_for_bit(url: str) -> None:
    wide = FloatDistribution(-1e308, 1.7976931348623157e308)
    distributions: dict[str, Any] = {f"x{index}": wide for index in range(len(FLOATS))}
    distributions |= {"kind": CategoricalDistribution(["a", None, 2.5]), "n": IntDistribution(1, 9)}
    params = {f"x{index}": value for index, value in enumerate(FLOATS)} | {"kind": 2.5, "n": 7}
    with open_store(url) as store:
        trial = claimed(store)
        assert store.set_params(trial._trial_id, params, distributions)
        assert store.set_params(trial._trial_id, params | {"n": 8}, distributions)  # again: what is there stays
        for step, value in enumerate([*FLOATS, float("inf"), float("nan")]):
            store.report(trial._trial_id, step, value)
        store.set_user_attrs(trial._trial_id, {"floats": FLOATS})
        store.tell(trial._trial_id, TrialState.COMPLETE, [FLOATS[2]])
        store.set_attr("sweep", {"hash": "abc", "floats": FLOATS})
    with open_store(url) as store:
        (found,) = store.trials()
        assert store.attrs() == {"sweep": {"hash": "abc", "floats": FLOATS}}
    assert found.params == params and type(found.params["n"]) is int
    bits = [struct.pack("d", value) for value in FLOATS]
    assert [struct.pack("d", found.params[f"x{index}"]) for index in range(len(FLOATS))] == bits
    assert [struct.pack("d", found.intermediate_values[step]) for step in range(len(FLOATS))] == bits
    assert found.intermediate_values[len(FLOATS)] == float("inf")
    assert str(found.intermediate_values[len(FLOATS) + 1]) == "nan"
    assert found.user_attrs["floats"] == FLOATS and found.values == [FLOATS[2]]


def test_a_finished_trial_stays_as_it_is(url: str) -> None:
    with open_store(url) as store, open_store(url) as other:
        trial = claimed(store)
        before = other.trials()
        assert store.tell(trial._trial_id, TrialState.COMPLETE, [0.5])
        assert not other.tell(trial._trial_id, TrialState.FAIL, None)
        assert not other.report(trial._trial_id, 1, 0.1)
        assert not other.set_user_attrs(trial._trial_id, {"reason": "killed"})
        assert not other.set_params(trial._trial_id, {"x": 1.0}, {"x": FloatDistribution(0, 1)})
        assert not other.take_over(trial)
        assert before[0].state == TrialState.RUNNING
        assert other.trials()[0].state == TrialState.COMPLETE and other.trials() == store.trials()
        assert (other.trials()[0].value, other.trials()[0].params) == (0.5, {})


def test_a_closed_store_s_trial_is_an_orphan_in_the_same_process(url: str) -> None:
    store = open_store(url)
    claimed(store)
    with open_store(url) as other:
        assert other.orphans() == []
        store.close()
        assert [orphan.number for orphan in other.orphans()] == [0]


def test_a_waiting_trial_is_claimed_first(url: str) -> None:
    with open_store(url) as store, open_store(url) as other:
        first, second = claimed(store, 2), claimed(store, 2)
        store.storage.set_trial_state_values(first._trial_id, TrialState.WAITING)
        assert claimed(other, 2).number == 0 and other.claim(2) is None
        assert not store.take_over(first)  # it is another's by now, as this view of it does not know
        assert second.number == 1


def test_other_directions_are_refused(url: str) -> None:
    open_store(url).close()
    with pytest.raises(UserError, match="study sweep/arm exists with the directions maximize, not minimize, maximize"):
        StudyStore(url, "sweep/arm", ["minimize", "maximize"])
    with StudyStore(url, "sweep/other", ["minimize", "maximize"]) as other:
        trial = claimed(other)
        assert trial.number == 0
        assert other.tell(trial._trial_id, TrialState.COMPLETE, [1.0, 2.0]) and other.trials()[0].values == [1.0, 2.0]


def test_no_statement_goes_through_a_whole_study(tmp_path: Path) -> None:
    """A trial of a long study costs what one of a short study does: every row is found by a key."""
    path = tmp_path / "search.db"
    executed: list[tuple[str, Any]] = []
    with open_store(str(path)) as store, open_store(str(path)) as other:
        for _ in range(3):
            store.tell(claimed(store, 9)._trial_id, TrialState.COMPLETE, [0.5])
        store.trials()

        def note(connection: Any, cursor: Any, statement: str, parameters: Any, *others: Any) -> None:
            executed.append((statement, parameters))

        sqlalchemy.event.listen(store.storage.engine, "before_cursor_execute", note)
        trial = claimed(store, 9)
        store.set_params(trial._trial_id, {"x": 0.5}, {"x": FloatDistribution(0, 1)}, {"settings": {}})
        store.report(trial._trial_id, 1, 0.5)
        store.tell(trial._trial_id, TrialState.COMPLETE, [0.5], {"seconds": 1.0})
        other.storage.set_trial_state_values(claimed(other, 9)._trial_id, TrialState.WAITING)
        assert len(store.trials()) == 5 and claimed(store, 9).number == 4
    tables = sqlite3.connect(path)
    for statement, parameters in executed:
        if statement.split()[0] in ("SELECT", "UPDATE", "DELETE"):
            plan = tables.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            assert not [row for row in plan if row[-1].startswith("SCAN")], (statement, plan)
    tables.close()
    assert len({statement for statement, _ in executed}) > 12  # it has seen them


def test_a_trial_reads_as_optuna_reads_it(url: str) -> None:
    """The statements are our own, the tables are Optuna's."""
    with open_store(url) as store:
        first, second = claimed(store, 3), claimed(store, 3)
        distributions: dict[str, Any] = {"x": FloatDistribution(0, 1), "k": CategoricalDistribution(["a", None])}
        store.set_params(first._trial_id, {"x": 0.25, "k": None}, distributions, {"settings": {"x": 0.25}})
        store.report(first._trial_id, 3, float("nan"))
        store.report(first._trial_id, 3, float("-inf"))  # again: the last one counts
        store.storage.set_trial_system_attr(first._trial_id, "mark", [1])
        store.tell(first._trial_id, TrialState.COMPLETE, [float("inf")], {"seconds": 1.5})
        store.storage.set_trial_state_values(second._trial_id, TrialState.WAITING)
        assert store.trials() == store.storage.get_all_trials(store.study_id)
        assert store.trials()[0].intermediate_values == {3: float("-inf")} and store.trials()[0].values == [
            float("inf")
        ]
        started, ended = store.trials()[0].datetime_start, store.trials()[0].datetime_complete
        assert started is not None and ended is not None and abs((datetime.now() - ended).total_seconds()) < 600
        assert started <= ended


@pytest.mark.slow
def test_a_writer_is_waited_for_and_a_reader_waits_for_nobody(tmp_path: Path) -> None:
    path = tmp_path / "{odd}?name#.db"
    with open_store(str(path)) as store:
        assert path.exists()
        claimed(store)
        blocker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        blocker.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert len(store.trials()) == 1 and time.monotonic() - began < 2
        timer = threading.Timer(1.0, lambda: blocker.execute("COMMIT"))
        timer.start()
        assert claimed(store, 2).number == 1 and time.monotonic() - began > 0.9
        timer.join()
        blocker.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


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
        ("sqlite:///{tmp}", "cannot be opened as a SQLite file: unable to open database file"),
        ("{tmp}/text.db", "cannot be opened as a SQLite file: file is not a database; name another one"),
        ("{tmp}/text.db/search.db", "cannot be opened as a SQLite file: "),
    ],
)
def test_what_cannot_be_a_storage_is_one_line(
    given: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAD_STORAGE", "mysql://me:secret@secret@host/db")
    (tmp_path / "text.db").write_text("This is no database. " * 100, encoding="utf-8")
    with pytest.raises(UserError, match=message) as raised:
        open_store(given.replace("{tmp}", str(tmp_path)))
    assert "\n" not in str(raised.value) and "secret" not in str(raised.value)


def test_a_storage_from_an_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_STORAGE", str(tmp_path / "search.db"))
    with open_store("env:THE_STORAGE") as store:
        assert store.shown_url == str(tmp_path / "search.db")
    assert read_study("env:THE_STORAGE", "sweep", ["arm"]).keys() == {"arm"} and (tmp_path / "search.db").exists()
    assert shown_storage("env:THE_STORAGE") == "env:THE_STORAGE"
    assert shown_storage("mysql://me:secret@host/db?password=secret") == "mysql+pymysql://me:***@host/db"


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(UserError, match=r"^storage mysql\+pymysql://me:\*\*\*@host/db: .* pip install 'pymysql'$"):
        open_store("mysql://me:secret@host/db")


def test_servers_that_do_not_let_us_in_are_one_line(postgres_url: str) -> None:
    url = sqlalchemy.make_url(postgres_url)
    assert url.port is not None
    for changed, message in [
        (url.set(password="secret"), "password authentication failed"),
        (url.set(database="nowhere"), 'database "nowhere" does not exist'),
        (url.set(port=1), "Connection refused"),
        (url.set(port=1, password=None).update_query_dict({"password": "secret"}), "Connection refused"),
        (url.update_query_dict({"colour": "secret"}), "invalid connection option"),
    ]:
        with pytest.raises(UserError, match=f": no connection: .*{message}.*; check host, port") as raised:
            open_store(changed.render_as_string(hide_password=False))
        text = str(raised.value)
        assert "\n" not in text and str(url.password) not in text
        assert "secret" not in text or "colour=secret" in text


def test_a_plain_postgresql_url_takes_the_driver_that_we_name(postgres_database: str) -> None:
    with open_store(postgres_database.replace("+psycopg", "")) as store:
        assert store.storage.engine.driver == "psycopg"


def test_a_server_that_goes_away_is_one_line_later_too(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounded retries end; a failure that passes is not even noticed."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with open_store(url) as store:
        trial = claimed(store)
        failing = [3]

        def fail(*args: Any) -> None:
            failing[0] -= 1
            if failing[0] >= 0:
                raise sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("database is locked"))

        sqlalchemy.event.listen(store.storage.engine, "before_cursor_execute", fail)
        assert store.tell(trial._trial_id, TrialState.COMPLETE, [0.5]) and failing[0] < 0
        failing[0] = 1000
        with pytest.raises(UserError, match=r"the storage of the search failed: database is locked$"):
            store.claim(2)
        failing[0] = 0

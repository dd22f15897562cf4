"""Leases: one holder at a time among real processes, and what becomes of those whose holder is gone."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.disk.process_identity import start_of, this_process
from harness.errors import TrialError, UserError
from harness.records import leases
from harness.records.leases import Lease, LeaseLost, holder, lease_files, take
from harness.records.left_over import drop_all_left_over
from harness.records.schema import Provenance, Summary, TrialState
from harness.records.trial_folder import TrialFolder

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "records" / "t0"  # made by who takes the lease


def taken(folder: Path) -> Lease:
    lease = take(folder)
    assert lease is not None
    return lease


def rewrite(lease: Lease, age_s: float = 0.0, **changes: Any) -> None:
    """Let a lease be somebody else's, last renewed some time ago."""
    content = json.loads(lease.path.read_text(encoding="utf-8"))
    lease.path.write_text(json.dumps(content | changes), encoding="utf-8")
    os.utime(lease.path, (time.time() - age_s,) * 2)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_one_holder_and_nothing_left(folder: Path) -> None:
    lease = taken(folder)
    assert take(folder) is None and take(folder, "other") is not None
    told = holder(folder)
    assert told is not None and (told.pid, told.alive, told.deaths) == (os.getpid(), True, 0)
    assert abs(told.renewed - time.time()) < 5 and not told.is_gone(time.time())
    lease.release()
    assert holder(folder) is None and names(folder) == {".other.1"}
    taken(folder).release()


RIVAL = """
import os, sys, time
from pathlib import Path
from harness.records.leases import take

folder, shared, rounds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
won = 0
while won < rounds:
    lease = take(folder)
    if lease is None:
        time.sleep(0.0001)  # on a busy machine the holder needs the core
        continue
    mine = os.open(shared, os.O_CREAT | os.O_EXCL)  # FileExistsError: another process thinks that it is the holder
    os.close(mine)
    time.sleep(0.0005)
    os.unlink(shared)
    won += 1
    if won < rounds or len(sys.argv) < 5:
        lease.release()
"""


def rivals(folder: Path, number: int, rounds: int, *more: str) -> list[subprocess.Popen[str]]:
    command = [sys.executable, "-c", RIVAL, str(folder), str(folder.parent.parent / "mine"), str(rounds), *more]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True) for _ in range(number)]
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return started


@pytest.mark.slow
@pytest.mark.parametrize("dies", [False, True], ids=["all release", "each dies with its last lease"])
def test_rivals_never_hold_it_together(folder: Path, dies: bool) -> None:
    for process in (processes := rivals(folder, 4, 100, *["dies"] * dies)):
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    try:
        for process in processes:
            process.communicate(timeout=200)
            assert process.returncode == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    left = holder(folder)
    assert (left is None) != dies
    lease = taken(folder)
    assert names(folder) == {lease.path.name} and (lease.deaths > 0) == dies


@pytest.mark.parametrize("seen", ["nobody", "a dead holder"])
def test_who_comes_late_gives_way(folder: Path, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the making of the file, others have taken the lease, let it go, and taken it again."""
    if seen == "a dead holder":
        rewrite(taken(folder), started="another time")
    make, living = Lease.make, {**this_process(), "host": "elsewhere", "token": "t", "lease_s": 90.0}
    between = [".lease.2" if seen == "nobody" else ".lease.1"]

    def make_late(lease: Lease) -> None:
        if between:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / between.pop()).write_text(json.dumps(living), encoding="utf-8")
        make(lease)

    monkeypatch.setattr(Lease, "make", make_late)
    assert take(folder) is None
    assert names(folder) == {".lease.2" if seen == "nobody" else ".lease.1"}


@contextmanager
def other_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease until it is killed."""
    code = "import sys; from pathlib import Path; from harness.records.leases import take; "
    code += "lease = take(Path(sys.argv[1])); print(lease.deaths, flush=True); sys.stdin.read()"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline().strip().isdigit()
            yield process
        finally:
            process.kill()


def test_a_killed_holder_is_gone_at_once_and_counted(folder: Path) -> None:
    for deaths in (0, 1):
        with other_process(folder) as process:
            assert take(folder) is None
            told = holder(folder)
            assert told is not None and (told.pid, told.alive, told.deaths) == (process.pid, True, deaths)
            process.send_signal(signal.SIGKILL)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie: dead, and not reaped
            assert start_of(process.pid) is None
    lease = taken(folder)
    assert lease.deaths == 2 and [path.name for path in lease_files(folder)] == [".lease.3"]
    lease.release()
    assert taken(folder).deaths == 0  # who releases has not died


def test_a_process_is_more_than_its_pid(folder: Path) -> None:
    lease = taken(folder)
    parent: dict[str, Any] = {"pid": os.getppid(), "started": start_of(os.getppid()), "token": ""}
    rewrite(lease, age_s=1e6, **parent)
    assert take(folder) is None  # it lives, so it is believed, however busy it is
    rewrite(lease, **parent | {"started": "1"})  # its pid was given to another process
    assert taken(folder).deaths == 1


@pytest.mark.parametrize(
    ("age_s", "is_over"), [(0.0, False), (80.0, False), (100.0, True), (-80.0, False), (-100.0, True)]
)
def test_another_machine_s_holder_is_judged_by_its_renewals(folder: Path, age_s: float, is_over: bool) -> None:
    rewrite(taken(folder), age_s, host="elsewhere", pid=1, lease_s=90.0)
    told = holder(folder)
    assert told is not None and told.alive is None and told.is_gone(time.time()) == is_over
    assert (take(folder) is not None) == is_over
    assert not list(folder.glob("*.tmp"))


def test_ages_are_told_by_the_folder_s_clock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's clock is a day ahead; a holder elsewhere that has just renewed keeps its lease."""
    rewrite(taken(folder), host="elsewhere")
    ahead = time.time() + 86400
    monkeypatch.setattr(time, "time", lambda: ahead)
    assert take(folder) is None


@pytest.mark.parametrize("content", ["", '{"host": "cut', "[1]", '{"host": "h", "pid": "x", "lease_s": 1}'])
def test_a_file_that_tells_nothing_is_judged_by_its_time(folder: Path, content: str) -> None:
    lease = taken(folder)
    lease.path.write_text(content, encoding="utf-8")
    assert take(folder) is None
    os.utime(lease.path, (time.time() - leases.LEASE_S - 5,) * 2)
    assert taken(folder).deaths == 1


def test_the_thread_renews_what_is_held(folder: Path) -> None:
    code = """
import os, sys, time
from pathlib import Path
from harness.records.leases import take
lease = take(Path(sys.argv[1]))
os.utime(lease.path, (1, 1))
deadline = time.monotonic() + 20
while lease.path.stat().st_mtime == 1 and time.monotonic() < deadline:
    time.sleep(0.05)
print(time.time() - lease.path.stat().st_mtime < 20)
if os.fork() == 0:  # a child holds nothing of what its parent holds
    print(take(Path(sys.argv[1])) is None, len(__import__("harness.records.leases").records.leases._HELD._leases))
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "HARNESS_LEASE_S": "1"}
    run = subprocess.run([sys.executable, "-c", code, str(folder)], env=env, capture_output=True, text=True)
    assert run.stdout.split() == ["True", "0", "True"] or run.stdout.split() == ["True", "True", "0"], run


@pytest.mark.parametrize("given", ["soon", "0", "nan", "1e9"])
def test_a_lease_time_that_is_none(folder: Path, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_LEASE_S", given)
    with pytest.raises(UserError, match=f"HARNESS_LEASE_S: '{given}' is no number of seconds from 1 to 1000000"):
        take(folder)


def test_a_place_that_cannot_be_written_is_one_line(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.touch()
    with pytest.raises(TrialError, match="t0: cannot be written: ") as caught:
        take(folder)
    assert caught.value.reason == "disk"


@pytest.mark.parametrize("num_refused", [3, 1000])
def test_a_file_system_that_says_no_where_a_file_exists(
    folder: Path, num_refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sshfs does, whose protocol knows no better; one that always says no may not be written."""
    make, left = os.open, [num_refused]

    def refuse(path: Any, flags: int, *args: Any) -> int:
        left[0] -= bool(flags & os.O_EXCL)
        if flags & os.O_EXCL and left[0] >= 0:
            raise PermissionError(1, "Operation not permitted")
        return make(path, flags, *args)

    def no_link(*args: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "link", no_link)
    if num_refused < leases.MAX_REFUSED:
        assert taken(folder).deaths == 0
    else:
        with pytest.raises(TrialError, match="t0: cannot be written: Operation not permitted"):
            take(folder)


def test_who_is_killed_while_it_makes_one_keeps_nobody_out(folder: Path) -> None:
    """Its file had no content yet, so nothing told that its holder was dead, and its time was waited for."""
    code = "import os, pathlib; from harness.records import leases; os.link = lambda *a: os.kill(os.getpid(), 9); "
    code += f"leases.take(pathlib.Path({str(folder)!r}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert len(names(folder)) == 1 and holder(folder) is None
    lease = taken(folder)
    assert lease.deaths == 0 and names(folder) == {".lease.1"}
    lease.release()


def test_a_link_whose_answer_was_lost_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of NFS that is asked twice says the second time that the file exists."""
    link = os.link

    def twice(*args: Any) -> None:
        link(*args)
        link(*args)

    monkeypatch.setattr(os, "link", twice)
    lease = taken(folder)
    assert names(folder) == {".lease.1"} and take(folder) is None
    lease.release()


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    (folder / ".lease.1").symlink_to(tmp_path / "nowhere")
    with pytest.raises(TrialError, match="t0: cannot be written: "):
        take(folder)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("how", ["taken over", "taken over and released", "folder gone"])
def test_who_has_lost_it_writes_no_more(folder: Path, how: str) -> None:
    record = TrialFolder(folder)
    with record.lock(wait=False) as held:
        assert held
        record.append_log({"epoch": 1})
        assert record.lease is not None
        if how == "folder gone":
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        else:
            rewrite(record.lease, age_s=1e6, host="elsewhere")
            other = taken(folder)
            if how == "taken over and released":
                other.release()
        before = names(folder) if folder.exists() else set()
        with pytest.raises(LeaseLost):
            record.append_log({"epoch": 2})
        with pytest.raises(LeaseLost):
            record.restart_log([{"epoch": 1}])
        with pytest.raises(LeaseLost):
            record.finish(Summary(trial_id="t0", state=TrialState.COMPLETE), Provenance.model_construct())
        assert (names(folder) if folder.exists() else set()) == before
    if how == "taken over":
        other.renew()  # letting go of what was lost takes nothing from the other
    assert record.lease is None


@pytest.mark.parametrize(
    ("is_finished", "age_s", "left"), [(True, 500.0, set()), (True, 0.0, {".lease.2"}), (False, 500.0, {".lease.2"})]
)
def test_what_the_dead_left_at_finished_records_goes(
    folder: Path, is_finished: bool, age_s: float, left: set[str]
) -> None:
    """A machine took the lease over and died, while the record was finished by the one that was silent for too long."""
    stolen = Lease(folder, "lease", 2)
    folder.mkdir(parents=True)
    stolen.make()
    rewrite(stolen, age_s, host="elsewhere")
    if is_finished:
        (folder / "summary.json").write_text("{}", encoding="utf-8")
    drop_all_left_over(folder.parents[1])
    assert names(folder) - {"summary.json"} == left
    leases._HELD.remove(stolen)


@pytest.mark.parametrize(("is_finished", "left"), [(True, set()), (False, {".lease.1"})])
@pytest.mark.parametrize("content", [b"", b'{"host": "here", "pid', b'{"pid": 1}', b"\xff\x00"])
def test_a_damaged_lease_at_a_finished_record_goes_too(
    folder: Path, is_finished: bool, left: set[str], content: bytes
) -> None:
    """It does not tell whose it was; at another record it counts as held until it is old enough."""
    lease = take(folder)
    assert lease is not None
    lease.path.write_bytes(content)
    if is_finished:
        (folder / "summary.json").write_text("{}", encoding="utf-8")
    drop_all_left_over(folder.parents[1])
    assert names(folder) - {"summary.json"} == left
    leases._HELD.remove(lease)


@pytest.mark.parametrize("call", ["fstat", "link"])
def test_a_file_that_another_machine_has_taken_away_meanwhile(
    folder: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over NFS that is a stale handle: of a lease that is read, it is let go; of one that is made, it is made again."""
    rewrite(taken(folder), started="another time")
    real, left = getattr(os, call), [1]

    def stale(*args: Any, **given: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(*args, **given)

    monkeypatch.setattr(os, call, stale)
    lease = taken(folder)
    assert left[0] < 0 and names(folder) == {lease.path.name}
    lease.release()


def test_a_higher_lease_that_this_machine_believes_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over NFS a client may believe so for half a minute; when it opens the folder, it asks the server."""
    lease = taken(folder)
    (folder / ".lease.2").touch()
    exists, opened = os.path.exists, list[str]()
    real = os.open

    def note(path: Any, flags: int, *args: Any, **given: Any) -> int:
        opened.append(str(path))
        return real(path, flags, *args, **given)

    monkeypatch.setattr(os, "open", note)
    monkeypatch.setattr(os.path, "exists", lambda path: exists(path) and str(folder) in opened)
    with pytest.raises(LeaseLost):
        lease.renew()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE], ids=["ENOENT", "ESTALE"])
def test_a_clock_file_that_the_holder_takes_away(folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has just taken the lease removes what is half written in the folder, also what another machine writes."""
    rewrite(taken(folder), host="elsewhere")
    write = Path.write_bytes

    def write_and_lose(path: Path, content: bytes) -> int:
        size = write(path, content)
        if path.suffix == ".tmp":
            path.unlink()
            if number == errno.ESTALE:
                raise OSError(number, os.strerror(number))
        return size

    monkeypatch.setattr(Path, "write_bytes", write_and_lose)
    assert take(folder) is None
    assert names(folder) == {".lease.1"}

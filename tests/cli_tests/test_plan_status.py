"""`harness plan`, `harness status`, and the progress of a sweep."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_records import make_experiment, write_sentences
from rich.console import Console

from cli_tests.conftest import Cli
from cli_tests.test_progress import task
from harness.cli.progress import BestSoFar, Progress, score_text, search_line, sweep_progress
from harness.cli.views import status as status_view
from harness.cli.views.plan import print_preview
from harness.cli.views.status import phase_lines, render_status, show_status
from harness.errors import UserError
from harness.launch.events import Done, Epoch, Failed, Note
from harness.launch.launchers import choose_launcher
from harness.records.leases import Lease, take
from harness.records.points import EndedTrial, Points
from harness.records.schema import Summary
from harness.records.schema import TrialState as RecordState
from harness.records.search import Objective, PointState
from harness.records.starts import note_start
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun
from harness.sweep.status import read_status
from harness.sweep.workers import PLAN

F1 = Objective(metric="valid_target/macro_f1", direction="maximize")
ABOUT = {
    "name": "mine",
    "path": "mine.yaml",
    "storage": None,
    "arms": ["one", "two"],
    "objectives": [F1.model_dump(mode="json")],
    "budget": {"trials": 4, "seconds": None},
    "race": {"candidates": 1, "seeds": [7]},
    "confirm": {"seeds": [0], "rules": ["best"]},
}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def add(results: Path, arm: str, state: PointState, value: float = 0.0, reason: str | None = None) -> None:
    """Add a trial that has ended, as a search does."""
    points = Points(results / "mine", arm)
    about: dict[str, Any] = {"params": {"optim.lr": 0.01}, "valid": {"valid_forgetting": 0.021}, "seconds": 10.0}
    values = (value,) if state == "complete" else ()
    number = len(points.read_all())
    points.write(EndedTrial(arm=arm, number=number, state=state, values=values, reason=reason, **about))


def begin(results: Path, arm: str, number: int, num_epochs: int) -> Lease:
    """Start a trial that goes on, as a worker does; the lease of who trains it."""
    record = TrialFolder(results / "mine" / "search" / f"{arm}{number}")
    lease = take(record.path)
    assert lease is not None
    note_start(record.path, TrialRun(record.trial_id, "mine", arm, 1000, "search", number=number))
    for epoch in range(num_epochs):
        record.append_log({"epoch": epoch + 1})
    return lease


@pytest.fixture
def searching(tmp_path: Path) -> Iterator[Path]:
    """A sweep in its search: the results folder."""
    results = tmp_path / "results"
    write(results / "mine" / "sweep.json", ABOUT)
    add(results, "one", "complete", 0.4)
    add(results, "one", "complete", 0.512)
    add(results, "one", "failed", reason="nan")
    add(results, "two", "pruned", 0.3)
    begin(results, "two", 0, 5).release()
    lease = begin(results, "two", 1, 3)
    yield results
    lease.release()


def test_a_search_that_runs(searching: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in (searching / "mine").rglob("*") if path.is_file()}
    status = read_status("mine", searching)
    one, two = status.arms
    assert (status.phase, status.num_workers) == ("search", 1)
    assert (one.num_finished, one.planned, one.reasons) == (3, 4, {"nan": 1})
    assert one.best is not None and (one.best.number, one.best.values) == (1, (0.512,))
    assert (two.count("pruned"), two.best) == (1, None)
    assert [(r.number, r.step, r.alive) for r in two.running] == [(1, 3, True)]
    assert (one.left_s, two.left_s) == (10.0, 30.0)
    assert status.left_s == 40.0
    show_status("mine", searching, watch=False)
    out = capsys.readouterr().out
    assert "trial 1: valid_target/macro_f1 51.2 %, forgetting 2.1 points" in out
    assert "1 nan" in out
    assert "1 (epoch 3)" in out
    assert "search: 4 trials have ended; with one worker, about 40 s left" in out
    assert {path: path.read_bytes() for path in (searching / "mine").rglob("*") if path.is_file()} == before


def test_the_peak_memory_of_its_launches(searching: Path, cli: Cli) -> None:
    assert "peak memory" not in cli("status", "mine", "--results", searching).out
    line = {"at": "", "jobs": 2, "peak_mb": 812.4, "processes": 3, "measure": "proportional set size"}
    file = searching / "mine" / "memory.jsonl"
    file.write_text(json.dumps(line) + "\n")
    expected = "peak memory: 812 MB in 3 processes together (sum of proportional set sizes)"
    assert f"  {expected}\n" in cli("status", "mine", "--results", searching).out
    file.write_text(json.dumps(line) + "\n" + json.dumps(line | {"peak_mb": 300, "processes": 1}) + "\n")
    assert f"  {expected}; the highest of 2 launches\n" in cli("status", "mine", "--results", searching).out
    file.write_text("{\n\n")
    assert cli("status", "mine", "--results", searching).error == f"{file}:1: not a JSON line"


def test_a_list_of_sweeps(searching: Path, cli: Cli) -> None:
    result = cli("status", "--results", searching)
    assert result.code == 0
    row = next(line for line in result.out.splitlines() if "mine" in line)
    assert "4 of 8" in row
    assert "one: valid_target/macro_f1 51.2 %, forgetting 2.1 points" in row


def test_a_process_that_ended(searching: Path) -> None:
    (path,) = (searching / "mine" / "search" / "two1").glob(".lease.*")
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"started": "another time"}))
    status = read_status("mine", searching)
    assert status.num_workers == 0
    file = io.StringIO()
    Console(file=file, width=400).print(render_status(status))
    assert "mine: search (no worker is seen)" in file.getvalue()
    assert "run the sweep again to go on with them: two/trial1" in file.getvalue()


def test_a_process_that_ended_while_a_launch_is_under_way(searching: Path) -> None:
    """A command that follows starts workers again: nobody needs to."""
    (path,) = (searching / "mine" / "search" / "two1").glob(".lease.*")
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"started": "another time"}))
    launch = take(searching / "mine", f"{PLAN}hash-token")
    assert launch is not None
    for is_under_way, next_step in ((True, "the launch under way goes on"), (False, "run the sweep again")):
        status = read_status("mine", searching)
        assert (status.is_under_way, status.num_workers) == (is_under_way, 0)
        (line,) = [line for line in phase_lines(status) if "two/trial1" in line]
        assert next_step in line
        launch.release()


def test_the_phases_after_the_search(searching: Path) -> None:
    folder = searching / "mine"
    write(folder / "sweep.json", {**ABOUT, "arms": ["one"], "budget": {"trials": 3, "seconds": None}})
    assert read_status("mine", searching).phase == "race"
    for number, seed in enumerate((7, 1000)):
        write(folder / "search" / str(number) / "config.json", {"seed": seed})
        write(folder / "search" / str(number) / "summary.json", {})
    assert read_status("mine", searching).race == (1, 1)
    write(folder / "frozen.json", {"budget": {"trials": 3, "seconds": None}, "race": ABOUT["race"]})
    write(folder / "experiment.json", {"name": "mine", "arms": {"one": {"0": "a", "1": "b"}}})
    write(folder / "records" / "a" / "summary.json", {})
    status = read_status("mine", searching)
    assert (status.phase, status.confirm) == ("confirm", (1, 2))
    write(folder / "records" / "b" / "summary.json", {})
    assert read_status("mine", searching).phase == "finished"


def test_before_the_study_is_made(tmp_path: Path) -> None:
    write(tmp_path / "mine" / "sweep.json", {"arms": ["one"]})  # and whatever else is missing
    status = read_status("mine", tmp_path)
    assert (status.phase, status.arms[0].num_finished, status.left_s) == ("search", 0, None)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["sweep.json"]


def test_wrong_names_are_one_line(searching: Path, tmp_path: Path, cli: Cli) -> None:
    assert (
        cli("status", "yours", "--results", searching).error == f"no results of 'yours' in {searching}; choices: mine"
    )
    assert cli("status", "--results", tmp_path / "none").error == f"{tmp_path / 'none'}: nothing has been run there"
    (searching / "mine" / "starts.jsonl").write_text("no line\n")
    assert "not the start of a trial" in cli("status", "mine", "--results", searching).error


@pytest.mark.parametrize("content", ["{", "[1]", '{"objectives": [{"metric": 3}]}', '{"arms": 5}', '{"arms": [{}]}'])
def test_a_corrupt_file_of_the_sweep_is_one_line(searching: Path, cli: Cli, content: str) -> None:
    (searching / "mine" / "sweep.json").write_text(content, encoding="utf-8")
    result = cli("status", "mine", "--results", searching)
    assert (result.code, "sweep.json: " in result.error) == (2, True)


def test_a_corrupt_file_hides_no_other_row_of_the_list(searching: Path, cli: Cli) -> None:
    (searching / "bad").mkdir()
    (searching / "bad" / "experiment.json").write_text("{", encoding="utf-8")
    result = cli("status", "--results", searching)
    assert result.code == 1
    assert re.search(r"bad +│ - +│ cannot be read ", result.out) and "4 of 8" in result.out
    assert "bad/experiment.json: not valid JSON; restore it" in result.error
    assert "delete it" not in result.error  # it holds the history of the launches


def test_an_experiment_in_training(tmp_path: Path, cli: Cli) -> None:
    write_sentences(tmp_path / "sentences.jsonl")
    store = make_experiment(tmp_path / "results", tmp_path / "sentences.jsonl")
    assert re.search(r"made +│ experiment │ finished │ 9 of 9 ", cli("status").out)
    better, worse = (store.trial(store.manifest().arms[arm][2]) for arm in ("better", "worse"))
    (better.path / "summary.json").unlink()
    shutil.rmtree(worse.path)
    summary = store.trial(store.manifest().arms["worse"][0]).path / "summary.json"
    write(summary, json.loads(summary.read_text(encoding="utf-8")) | {"state": "failed", "reason": "nan"})
    out = cli("status", "made").out
    assert "made: training" in out
    assert re.search(r"│ frozen +│ 3 of 3 +│ 0 +│ 0 +│", out)
    assert re.search(r"│ better +│ 2 of 3 +│ 0 +│ 1 +│", out)
    assert re.search(r"│ worse +│ 2 of 3 +│ 1 nan +│ 0 +│", out)


def test_a_server_that_does_not_answer(searching: Path) -> None:
    """The one that an older search has on it is not needed where search.json tells the same."""
    shutil.rmtree(searching / "mine" / "points")
    write(searching / "mine" / "sweep.json", {**ABOUT, "storage": "postgresql://me:***@localhost:1/none"})
    with pytest.raises(UserError, match="the storage of mine: cannot be read"):
        read_status("mine", searching)
    points = [{"arm": "one", "number": 0, "state": "complete", "params": {}, "values": [0.5]}]
    content = {"name": "mine", "objectives": ABOUT["objectives"], "axes": {}, "points": points}
    write(searching / "mine" / "search.json", content)
    assert read_status("mine", searching).arms[0].num_finished == 1


@pytest.mark.slow
def test_watching_ends_with_the_sweep(searching: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    monkeypatch.setattr(status_view, "time", SimpleNamespace(sleep=lambda seconds: None))
    looks: list[int] = []

    def read(name: str, results: Path) -> Any:
        looks.append(1)
        status = read_status(name, results)
        return replace(status, phase="finished") if len(looks) == 3 else status

    monkeypatch.setattr(status_view, "read_status", read)
    show_status("mine", searching, True, console)
    assert len(looks) == 3


@pytest.mark.parametrize("name", ["mine", None])
def test_watching_without_a_terminal_tells_each_change_until_the_end(
    searching: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str | None
) -> None:
    folder, pauses = searching / "mine", [0]

    def go_on(seconds: float) -> None:
        pauses[0] += 1
        if pauses[0] == 2:
            add(searching, "one", "pruned")
        if pauses[0] == 3:
            write(folder / "sweep.json", {**ABOUT, "arms": ["one"]})
            write(folder / "frozen.json", {"budget": ABOUT["budget"], "race": ABOUT["race"]})
            write(folder / "experiment.json", {"name": "mine", "arms": {"one": {}}})

    monkeypatch.setattr(status_view, "time", SimpleNamespace(sleep=go_on))
    show_status(name, searching, watch=True)
    first, second, *grid = capsys.readouterr().out.splitlines()
    assert first == "mine: search, 4 of 8 trials of the search have ended"
    assert second == "mine: search, 5 of 8 trials of the search have ended"
    assert pauses == [3] and any("finished" in line for line in grid)


@pytest.mark.slow
def test_status_loads_no_torch(searching: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from harness.cli.status import status; "
        f"status('mine', Path({str(searching)!r})); assert 'torch' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


def test_a_preview_has_no_more_workers_than_trials(capsys: pytest.CaptureFixture[str]) -> None:
    launcher = choose_launcher("slurm", 8)
    for num_left, told in ((2, ["#SBATCH --array=0-1"]), (20, ["#SBATCH --array=0-7"]), (0, [])):
        print_preview(launcher, ("work", "f.yaml"), num_left)
        assert [line for line in capsys.readouterr().out.splitlines() if "array" in line] == told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: x\ndescription: y\n", "wrong.yaml: it is neither a sweep"),
        ("name: x\ndesign: {type: add_one, components: {}}\nseeds: [0]\n", "design.components: "),
        ("[1]\n", "wrong.yaml"),
        ("name: x\narms: {a: {}}\nseeds: [0]\n", "arms.a: "),
        ("space: {}\n", "wrong.yaml: "),
    ],
)
def test_a_plan_of_a_wrong_file(tmp_path: Path, cli: Cli, content: str, message: str) -> None:
    (tmp_path / "wrong.yaml").write_text(content, encoding="utf-8")
    result = cli("plan", "wrong.yaml")
    assert result.code == 2
    assert message in result.error


def epoch() -> Epoch:
    return Epoch(task(0), {"epoch": 2})


def done(state: str = "complete", **changes: Any) -> Done:
    summary = Summary(
        trial_id="x",
        state=RecordState(state),
        valid={"valid_target/macro_f1": 0.512, "valid_forgetting": 0.021, "valid_source/macro_f1": 0.4},
        epochs_run=changes.pop("epochs_run", 8),
        costs={"seconds": 13.2},
        **changes,
    )
    return Done(task(0), summary)


def test_lines_of_a_search() -> None:
    assert search_line(done(), (F1,)) == "valid_target/macro_f1 51.2 %, forgetting 2.1 points (8 epochs, 13 s)"
    assert search_line(done("pruned", epochs_run=5), (F1,)) == "pruned at epoch 5"
    failed = done("failed", reason="nan", message="the loss is nan")
    assert search_line(failed, (F1,)) == "failed: nan: the loss is nan"
    assert search_line(Failed(task(0), "it was killed"), (F1,)) == "failed: it was killed"
    assert score_text("valid_target/loss", 1.5) == "valid_target/loss 1.500"


def describe(event: Done | Failed) -> str:
    return search_line(event, (F1,))


def test_sweep_progress_in_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 130.0, 140.0])
    monkeypatch.setattr("harness.cli.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    with Progress(describe, num_done=3, num_planned=5) as progress:
        progress.hear(epoch())
        progress.hear(done())
        progress.hear(done("pruned", epochs_run=2))
    assert capsys.readouterr().out.splitlines() == [
        "[4/5] arm/seed0: valid_target/macro_f1 51.2 %, forgetting 2.1 points (8 epochs, 13 s); "
        "at most about 10 s left",
        "[5/5] arm/seed0: pruned at epoch 2; at most about 0 s left",
    ]
    with Progress(describe, num_done=3) as progress:  # a budget in seconds
        progress.hear(done("pruned", epochs_run=2))
        progress.hear(Note(task(0), "offline"))
    assert capsys.readouterr() == ("[4] arm/seed0: pruned at epoch 2\noffline\n", "")


def test_sweep_progress_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(describe, bars=True, num_done=3, num_planned=5, best=BestSoFar(F1)) as progress:
        bar = progress.rich.tasks[0]
        assert (bar.total, bar.completed) == (5, 3)
        progress.hear(epoch())
        assert (bar.description, bar.completed) == ("arm/seed0 epoch 2", pytest.approx(3 + 1 / 3))
        progress.hear(done())
        progress.hear(Note(task(0), "[red]not markup[/red]"))
        assert (bar.completed, bar.fields["best"]) == (4, "best valid_target/macro_f1 51.2 % (arm/seed0)")
    out = capsys.readouterr().out
    assert "arm/seed0: valid_target/macro_f1 51.2 %" in out
    assert "[red]not markup[/red]" in out


@pytest.mark.parametrize(("terminal", "quiet", "bars"), [(True, False, True), (True, True, False), (False,) * 3])
def test_which_sweep_progress(monkeypatch: pytest.MonkeyPatch, terminal: bool, quiet: bool, bars: bool) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    sweep: Any = SimpleNamespace(objectives=(F1,), config=SimpleNamespace(budget=SimpleNamespace(trials=4)))
    plan: Any = SimpleNamespace(num_finished=1, num_searching=9)
    progress = sweep_progress(sweep, plan, quiet)
    assert (progress.bars, progress.num_done, progress.num_planned) == (bars, 1, 9)

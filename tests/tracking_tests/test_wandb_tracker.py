"""W&B for real, offline: what lands in its transaction log, and that its failures never reach a training."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.records.schema import Summary, TrialState
from harness.tracking import wandb_tracker
from harness.tracking.tracker import TrialRun
from harness.tracking.wandb_tracker import WandbTracker, choose_mode

from .transaction_log import LoggedRun, read_finished_run

CONFIG = {"optim": {"lr": 1e-3}, "seed": 3, "adapter": {"_target_": "harness.adapters.LinearAdapter", "dim": 4}}


@pytest.fixture
def complaints() -> list[str]:
    return []


def run_of(trial_id: str, arm: str = "residual_add", phase: str = "confirm") -> TrialRun:
    return TrialRun(trial_id, "text_strategies", arm, 3, phase, CONFIG)


def entry(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "metrics": {"train/loss": 1 / epoch, "valid_target/accuracy": 0.5}, "seconds": 1.0}


def complete(trial_id: str) -> Summary:
    return Summary(
        trial_id=trial_id,
        state=TrialState.COMPLETE,
        metrics={"target_accuracy": 0.625, "forgetting": -0.01},
        costs={"seconds": 12.5},
    )


def failed(trial_id: str) -> Summary:
    return Summary(trial_id=trial_id, state=TrialState.FAILED, reason="nan", message="the loss is nan")


def logs(directory: Path) -> list[Path]:
    return sorted(directory.glob("wandb/offline-run-*/run-*.wandb"))


def track(tracker: WandbTracker, run: TrialRun, num_epochs: int, summary: Summary) -> None:
    tracker.start(run)
    for epoch in range(1, num_epochs + 1):
        tracker.log(entry(epoch))
    tracker.finish(summary)


def only_run(directory: Path) -> LoggedRun:
    (path,) = logs(directory)
    return read_finished_run(path)


def told(values: dict[str, Any]) -> dict[str, Any]:
    """Without wandb's own keys."""
    return {key: value for key, value in values.items() if not key.startswith("_")}


class TestOffline:
    def test_a_complete_trial(self, tmp_path: Path, complaints: list[str], capfd: pytest.CaptureFixture[str]) -> None:
        track(WandbTracker(tmp_path, "offline", complaints.append), run_of("abc123"), 3, complete("abc123"))
        run = only_run(tmp_path)
        assert (run.run_id, run.group, run.job_type) == ("abc123", "text_strategies", "confirm")
        assert (run.name, run.project, run.exit_code) == ("residual_add/seed3", "harness", 0)
        assert run.tags == ("residual_add", "complete")
        assert told(run.config) == CONFIG | {"arm": "residual_add", "experiment": "text_strategies"}
        assert [told(row) for row in run.history] == [entry(n)["metrics"] | {"epoch": n} for n in (1, 2, 3)]
        assert [row["_step"] for row in run.history] == [1, 2, 3]
        final = {"state": "complete", "final/target_accuracy": 0.625, "final/forgetting": -0.01, "final/seconds": 12.5}
        assert final.items() <= run.summary.items()
        assert complaints == []
        assert capfd.readouterr() == ("", "")

    def test_a_failed_trial(self, tmp_path: Path, complaints: list[str]) -> None:
        track(WandbTracker(tmp_path, "offline", complaints.append), run_of("abc"), 1, failed("abc"))
        run = only_run(tmp_path)
        assert run.tags == ("residual_add", "failed:nan")
        assert run.summary["state"] == "failed:nan"
        assert run.exit_code == 1
        assert len(run.history) == 1
        assert complaints == []

    def test_a_pruned_trial_of_a_search(self, tmp_path: Path, complaints: list[str]) -> None:
        run = TrialRun("abc", "sweep", "depth", 100, "search", CONFIG, number=7, params={"optim.lr": 1e-3})
        pruned = Summary(trial_id="abc", state=TrialState.PRUNED, epochs_run=3)
        track(WandbTracker(tmp_path, "offline", complaints.append), run, 3, pruned)
        logged = only_run(tmp_path)
        assert (logged.name, logged.group, logged.job_type) == ("depth/trial7", "sweep", "search")
        assert (logged.tags, logged.summary["state"]) == (("depth", "pruned@3"), "pruned@3")
        assert (logged.config["number"], logged.config["search/optim.lr"]) == (7, 1e-3)
        assert logged.exit_code == 0
        assert complaints == []

    def test_two_runs_at_once_in_one_process(self, tmp_path: Path, complaints: list[str]) -> None:
        first, second = (WandbTracker(tmp_path, "offline", complaints.append) for _ in range(2))
        first.start(run_of("one", arm="first"))
        second.start(run_of("two", arm="second", phase="baseline"))
        for epoch in (1, 2):
            first.log(entry(epoch))
            second.log(entry(epoch + 10))
        second.finish(failed("two"))
        first.log(entry(3))
        first.finish(complete("one"))
        runs = {run.run_id: run for run in map(read_finished_run, logs(tmp_path))}
        assert [row["epoch"] for row in runs["one"].history] == [1, 2, 3]
        assert [row["epoch"] for row in runs["two"].history] == [11, 12]
        assert runs["one"].tags == ("first", "complete")
        assert (runs["two"].tags, runs["two"].job_type) == (("second", "failed:nan"), "baseline")
        assert complaints == []

    def test_one_tracker_for_two_trials_in_turn(self, tmp_path: Path, complaints: list[str]) -> None:
        tracker = WandbTracker(tmp_path, "offline", complaints.append)
        track(tracker, run_of("one"), 1, complete("one"))
        track(tracker, run_of("two"), 2, complete("two"))
        assert {run.run_id: len(run.history) for run in map(read_finished_run, logs(tmp_path))} == {"one": 1, "two": 2}
        assert complaints == []

    def test_a_trial_that_starts_again_leaves_one_run(self, tmp_path: Path, complaints: list[str]) -> None:
        """The part that a killed process left would be a second run with the same id when it is synced."""
        track(WandbTracker(tmp_path, "offline", complaints.append), run_of("other"), 1, complete("other"))
        stale = tmp_path / "wandb" / "offline-run-20260101_000000-abc"
        stale.mkdir()
        (stale / "run-abc.wandb").write_bytes(b"cut")
        again = replace(run_of("abc"), again=True)
        track(WandbTracker(tmp_path, "offline", complaints.append), again, 2, complete("abc"))
        track(WandbTracker(tmp_path, "offline", complaints.append), run_of("abc"), 3, complete("abc"))
        runs = {run.run_id: run for run in map(read_finished_run, logs(tmp_path))}
        assert len(logs(tmp_path)) == len(list(tmp_path.glob("wandb/offline-run-*"))) == 2
        assert len(runs["abc"].history) == 3
        assert set(runs) == {"abc", "other"}
        assert complaints == []

    def test_a_relative_folder_is_that_of_this_process(
        self, tmp_path: Path, complaints: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """wandb's service is another process, and keeps the folder in which the first run was started."""
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            monkeypatch.chdir(tmp_path / name)
            track(WandbTracker(Path("results"), "offline", complaints.append), run_of(name), 1, complete(name))
        assert only_run(tmp_path / "first" / "results").run_id == "first"
        assert only_run(tmp_path / "second" / "results").run_id == "second"
        assert complaints == []

    def test_project_by_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_PROJECT", "mine")
        track(WandbTracker(tmp_path, "offline"), run_of("abc"), 0, complete("abc"))
        assert only_run(tmp_path).project == "mine"


class TestFailures:
    """Whatever wandb does, the training hears nothing of it, and the user one line."""

    def test_init_raises(self, tmp_path: Path, complaints: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(**settings: Any) -> None:
            raise RuntimeError("no service\nand a second line")

        monkeypatch.setattr("wandb.init", refuse)
        track(WandbTracker(tmp_path, "offline", complaints.append), run_of("abc"), 3, complete("abc"))
        assert complaints == ["wandb failed: RuntimeError: no service; the records on disk are complete"]

    def test_log_raises(self, tmp_path: Path, complaints: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        class Broken:
            def log(self, *arguments: Any, **settings: Any) -> None:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr("wandb.init", lambda **settings: Broken())
        track(WandbTracker(tmp_path, "offline", complaints.append), run_of("abc"), 3, complete("abc"))
        (line,) = complaints
        assert line.startswith("wandb failed: OSError: [Errno 28] No space left on device; ")

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path, complaints: list[str]) -> None:
        (tmp_path / "taken").write_bytes(b"")
        tracker = WandbTracker(tmp_path / "taken" / "results", "offline", complaints.append)
        track(tracker, run_of("abc"), 3, complete("abc"))
        (line,) = complaints
        assert line.startswith("wandb failed: NotADirectoryError: ")

    def test_the_next_trial_is_tried_again(
        self, tmp_path: Path, complaints: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**settings: Any) -> None:
            raise RuntimeError("no")

        tracker = WandbTracker(tmp_path, "offline", complaints.append)
        with monkeypatch.context() as patch:
            patch.setattr("wandb.init", refuse)
            track(tracker, run_of("one"), 1, complete("one"))
            track(tracker, run_of("two"), 1, complete("two"))
        track(tracker, run_of("three"), 1, complete("three"))
        assert len(complaints) == 2  # one a trial
        assert only_run(tmp_path).run_id == "three"

    def test_unused(self, tmp_path: Path, complaints: list[str]) -> None:
        tracker = WandbTracker(tmp_path, "offline", complaints.append)
        tracker.log(entry(1))
        tracker.finish(complete("abc"))
        assert (complaints, list(tmp_path.iterdir())) == ([], [])


class TestSlowness:
    """A wandb that hangs holds the training up for the timeout at the end, and not at all before."""

    @pytest.fixture
    def release(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
        """wandb.init hangs until the fixture's function is called."""
        opened = threading.Event()

        class Fake:
            tags: tuple[str, ...] = ()

            def __init__(self) -> None:
                self.summary: dict[str, Any] = {}

            def log(self, *arguments: Any, **settings: Any) -> None:
                pass

            def finish(self, exit_code: int) -> None:
                pass

        def hang(**settings: Any) -> Fake:
            opened.wait(30)
            return Fake()

        monkeypatch.setattr("wandb.init", hang)
        monkeypatch.setattr(wandb_tracker, "FINISH_TIMEOUT_S", 0.2)
        yield opened.set
        opened.set()

    def test_log_does_not_wait_and_finish_not_for_long(
        self, tmp_path: Path, complaints: list[str], release: Callable[[], None]
    ) -> None:
        tracker = WandbTracker(tmp_path, "offline", complaints.append)
        began = time.monotonic()
        tracker.start(run_of("abc"))
        for epoch in range(1, 101):
            tracker.log(entry(epoch))
        assert time.monotonic() - began < 5  # wandb.init hangs for 30
        assert complaints == []
        tracker.finish(complete("abc"))
        assert 0.2 <= time.monotonic() - began < 10
        assert complaints == ["wandb did not finish within 0 s and was left behind; the records on disk are complete"]

    def test_a_full_queue_drops_epochs_and_says_so_once(
        self, tmp_path: Path, complaints: list[str], release: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wandb_tracker, "QUEUE_LENGTH", 10)
        tracker = WandbTracker(tmp_path, "offline", complaints.append)
        track(tracker, run_of("abc"), 50, complete("abc"))
        assert complaints == [
            "wandb is slower than the training: some epochs were not sent to it; the records on disk are complete"
        ]

    def test_a_full_queue_still_lets_the_run_be_finished(
        self, tmp_path: Path, complaints: list[str], release: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wandb_tracker, "QUEUE_LENGTH", 10)
        monkeypatch.setattr(wandb_tracker, "FINISH_TIMEOUT_S", 10.0)
        closed: list[Summary] = []
        monkeypatch.setattr(wandb_tracker, "close_trial", lambda run, arm, summary, content: closed.append(summary))
        tracker = WandbTracker(tmp_path, "offline", complaints.append)
        tracker.start(run_of("abc"))
        for epoch in range(1, 51):
            tracker.log(entry(epoch))
        release()
        tracker.finish(complete("abc"))
        assert closed == [complete("abc")]
        assert len(complaints) == 1


class TestMode:
    @pytest.fixture(autouse=True)
    def nobody(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A home without a login."""
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("NETRC", "WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
            monkeypatch.delenv(name, raising=False)
        return tmp_path

    def write_netrc(self, path: Path, machine: str) -> None:
        path.write_text(f"machine {machine}\n  login user\n  password {'0' * 40}\n", encoding="utf-8")
        path.chmod(0o600)

    def test_nobody_is_logged_in(self) -> None:
        assert choose_mode() == "offline"

    def test_a_key_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        assert choose_mode() == "online"
        monkeypatch.setenv("WANDB_API_KEY", "")
        assert choose_mode() == "offline"

    def test_a_login_at_home(self, nobody: Path) -> None:
        self.write_netrc(nobody / ".netrc", "api.wandb.ai")
        assert choose_mode() == "online"

    def test_a_login_elsewhere(self, nobody: Path) -> None:
        self.write_netrc(nobody / ".netrc", "github.com")
        assert choose_mode() == "offline"

    def test_a_login_in_the_file_that_netrc_names(self, nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write_netrc(nobody / "mine", "api.wandb.ai")
        assert choose_mode() == "offline"
        monkeypatch.setenv("NETRC", str(nobody / "mine"))
        assert choose_mode() == "online"
        monkeypatch.setenv("NETRC", str(nobody / "missing"))
        assert choose_mode() == "offline"

    def test_a_server_of_ones_own(self, nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write_netrc(nobody / ".netrc", "wandb.example:8080")  # as `wandb login` writes it
        assert choose_mode() == "offline"
        monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.example:8080/")
        assert choose_mode() == "online"

    def test_a_login_at_the_servers_new_name(self, nobody: Path) -> None:
        self.write_netrc(nobody / ".netrc", "api.forge.coreweave.com")
        assert choose_mode() == "online"

    def test_a_broken_file(self, nobody: Path) -> None:
        (nobody / ".netrc").write_text("machine\n", encoding="utf-8")
        assert choose_mode() == "offline"

    @pytest.mark.parametrize("mode", ["offline", "online", "disabled"])
    def test_the_environment_wins(self, nobody: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
        self.write_netrc(nobody / ".netrc", "api.wandb.ai")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_MODE", mode)
        assert choose_mode() == mode

    def test_it_is_the_default(self, tmp_path: Path) -> None:
        assert WandbTracker(tmp_path).mode == "offline"
        assert WandbTracker(tmp_path, "disabled").mode == "disabled"

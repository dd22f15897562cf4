"""The follower: what a tracker is told of a launch's records, whatever is killed, hangs or fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.records.schema import Summary
from harness.records.starts import end_of_starts
from harness.tracking.follower import Follower, TrackerFailed
from harness.tracking.study import Study
from harness.tracking.tracker import Entry, TrackedTrial, Tracker, TrialRefused, trial_content

from .launched import CONFIG, LaunchedTrial, entry
from .local_records import write_sweep

Line = tuple[Any, ...]


class Diary(Tracker):
    """Writes down what it is told; fails or hangs where it is asked to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lines: list[Line] = []
        self.trials: dict[str, TrackedTrial] = {}
        self.num_held: dict[str, int] = {}  # epochs that the tracker has of a trial from an earlier launch
        self.failure: Callable[[str, str], object] = lambda verb, trial_id: None
        self.other_way: str | None = None

    def _hear(self, verb: str, trial_id: str, *what: Any) -> None:
        self.failure(verb, trial_id)
        self.lines.append((verb, trial_id, *what))

    def open(self, trial: TrackedTrial) -> int:
        self._hear("open", trial.trial_id)
        self.trials[trial.trial_id] = trial
        return self.num_held.get(trial.trial_id, 0)

    def log(self, trial: TrackedTrial, entries: Sequence[Entry]) -> None:
        self._hear("log", trial.trial_id, *(entry["epoch"] for entry in entries))

    def close(self, trial: TrackedTrial, summary: Summary, content: str | None) -> None:
        self._hear("close", trial.trial_id, summary.state.value, content)

    def show_study(self, study: Study) -> None:
        self._hear("study", study.name)

    def fall_back(self) -> str | None:
        return self.other_way


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    return tmp_path / "results" / "small"


@pytest.fixture
def diary(experiment: Path) -> Diary:
    return Diary(experiment)


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def follow(diary: Diary, experiment: Path, complaints: list[str]) -> Callable[[], Follower]:
    """A function that starts to follow, as for a launch that begins now."""

    def begin() -> Follower:
        follower = Follower(experiment, "diary", diary, end_of_starts(experiment), complaints.append)
        assert follower.begin()
        return follower

    return begin


def settle(follower: Follower) -> None:
    """Poll until nothing is left to tell."""
    follower.poll()
    while follower.jobs:
        follower.wait()
        follower.poll()


def closed(diary: Diary) -> dict[str, str]:
    return {line[1]: line[2] for line in diary.lines if line[0] == "close"}


def test_a_trial_is_told_while_it_trains(
    follow: Callable[[], Follower], diary: Diary, experiment: Path, complaints: list[str]
) -> None:
    follower = follow()
    trial = LaunchedTrial(experiment, "abc").start().log(1)
    settle(follower)
    assert diary.lines == [("open", "abc"), ("log", "abc", 1)]
    settle(follower)
    trial.log(2, 3)
    summary = trial.end()
    settle(follower)
    content = trial_content([entry(1), entry(2), entry(3)], summary)
    assert diary.lines[2:] == [("log", "abc", 2, 3), ("close", "abc", "complete", content)]
    assert diary.trials["abc"] == TrackedTrial(trial.run, CONFIG)
    follower.end(is_finished=True)
    assert follower.trials == {} and complaints == []


def test_each_state_is_told(follow: Callable[[], Follower], diary: Diary, experiment: Path) -> None:
    follower = follow()
    for state in ("complete", "pruned", "failed"):
        LaunchedTrial(experiment, state, phase="search", number=1).start().log(1).end(state)
    settle(follower)
    assert closed(diary) == {state: state for state in ("complete", "pruned", "failed")}


def test_what_was_finished_before_the_launch_is_left_alone(
    follow: Callable[[], Follower], diary: Diary, experiment: Path
) -> None:
    LaunchedTrial(experiment, "before").start().log(1).end()
    LaunchedTrial(experiment, "killed").start().log(1)  # and never started again
    follower = follow()
    settle(follower)
    assert diary.lines == []
    LaunchedTrial(experiment, "before").start().log(1).end("pruned")
    settle(follower)
    assert closed(diary) == {"before": "pruned"}


def test_a_trial_that_starts_again_is_one_run(follow: Callable[[], Follower], diary: Diary, experiment: Path) -> None:
    """A worker was killed: the epochs that are repeated from the checkpoint are not told twice."""
    follower = follow()
    trial = LaunchedTrial(experiment, "abc").start().log(1, 2)
    settle(follower)
    trial.start().log(1)
    settle(follower)
    trial.log(2, 3).end()
    settle(follower)
    assert [line[:2] for line in diary.lines] == [("open", "abc"), ("log", "abc"), ("log", "abc"), ("close", "abc")]
    assert diary.lines[2] == ("log", "abc", 3) and diary.lines[3][3] is not None


def test_other_epochs_after_a_restart_are_not_taken_for_the_same(
    follow: Callable[[], Follower], diary: Diary, experiment: Path
) -> None:
    follower = follow()
    trial = LaunchedTrial(experiment, "abc").start().log(1)
    settle(follower)
    trial.start()
    trial.folder.append_log({**entry(1), "metrics": {"train/loss": 7.0}})
    trial.end()
    settle(follower)
    assert diary.lines[-1] == ("close", "abc", "complete", None)


def test_a_failed_trial_that_is_tried_again_is_opened_again(
    follow: Callable[[], Follower], diary: Diary, experiment: Path
) -> None:
    follower = follow()
    trial = LaunchedTrial(experiment, "abc").start()
    trial.end("failed", "oom")
    settle(follower)
    trial.start().log(1).end()
    settle(follower)
    assert [line[:3] for line in diary.lines] == [
        *(("open", "abc"), ("close", "abc", "failed")),
        *(("open", "abc"), ("log", "abc", 1), ("close", "abc", "complete")),
    ]


class TestKilled:
    """The next follower goes on where a killed one stopped: its journal tells."""

    def kill(self, follower: Follower) -> None:
        """What a kill does to the lock; the journal stays as it is."""
        follower.journal.unlock()

    def test_what_was_told_to_its_end_is_not_told_again(
        self, follow: Callable[[], Follower], diary: Diary, experiment: Path
    ) -> None:
        first = follow()
        LaunchedTrial(experiment, "told").start().log(1).end()
        settle(first)
        late = LaunchedTrial(experiment, "late").start().log(1)
        settle(first)
        self.kill(first)
        late.log(2).end()
        LaunchedTrial(experiment, "after").start().log(1).end()
        diary.num_held["late"] = 1
        diary.lines.clear()
        second = follow()
        settle(second)
        assert closed(diary) == {"late": "complete", "after": "complete"}
        assert ("log", "late", 2) in diary.lines
        # What the tracker held from before may be other epochs than these.
        assert {line[1]: line[3] is None for line in diary.lines if line[0] == "close"} == {
            "late": True,
            "after": False,
        }
        second.end(is_finished=True)
        self.kill(second)
        diary.lines.clear()
        settle(follow())
        assert diary.lines == []

    def test_an_unfinished_trial_keeps_its_place(
        self, follow: Callable[[], Follower], diary: Diary, experiment: Path
    ) -> None:
        """Of a launch that was killed: the same command goes on with it, and the journal stays short."""
        first = follow()
        for number in range(5):
            LaunchedTrial(experiment, f"told{number}").start().end()
        cut = LaunchedTrial(experiment, "cut").start().log(1)
        LaunchedTrial(experiment, "told5").start().end()
        settle(first)
        first.end(is_finished=False)
        assert len(first.trials) == 1
        assert len(first.journal.path.read_text().splitlines()) == 2
        self.kill(first)
        second = follow()
        cut.start().log(1, 2).end()
        diary.lines.clear()
        settle(second)
        second.end(is_finished=True)
        assert closed(diary) == {"cut": "complete"}
        assert len(second.journal.path.read_text().splitlines()) == 1

    def test_results_that_were_deleted(self, follow: Callable[[], Follower], diary: Diary, experiment: Path) -> None:
        first = follow()
        LaunchedTrial(experiment, "abc").start().end()
        settle(first)
        first.end(is_finished=True)
        self.kill(first)
        (experiment / "starts.jsonl").unlink()
        second = follow()
        LaunchedTrial(experiment, "xyz").start().end()
        settle(second)
        assert closed(diary) == {"abc": "complete", "xyz": "complete"}


def test_one_of_two_launches_tells_both_their_trials(
    follow: Callable[[], Follower], diary: Diary, experiment: Path, complaints: list[str]
) -> None:
    first = follow()
    second = Follower(experiment, "diary", Diary(experiment), end_of_starts(experiment), complaints.append)
    assert not second.begin()
    LaunchedTrial(experiment, "abc").start().end()
    settle(first)
    assert closed(diary) == {"abc": "complete"}
    first.journal.unlock()
    assert second.begin()
    settle(second)
    assert closed(second.tracker) == {}  # type: ignore[arg-type]


class TestFailures:
    def test_a_trial_s_failure_ends_nothing_else(
        self, follow: Callable[[], Follower], diary: Diary, experiment: Path, complaints: list[str]
    ) -> None:
        def fail(verb: str, trial_id: str) -> None:
            if (verb, trial_id) == ("log", "one"):
                raise OSError(28, "No space left on device")

        diary.failure = fail
        follower = follow()
        for name in ("one", "two"):
            LaunchedTrial(experiment, name).start().log(1).end()
        settle(follower)
        assert closed(diary) == {"two": "complete"}
        (line,) = complaints
        assert line.startswith("diary failed: OSError: [Errno 28]") and line.endswith(
            "; the records on disk are complete"
        )
        diary.failure = lambda verb, trial_id: None
        follower.end(is_finished=True)
        follower.journal.unlock()
        again = follow()  # the same command tells what is missing
        settle(again)
        assert closed(diary) == {"one": "complete", "two": "complete"}

    def test_a_tracker_that_falls_back_is_told_everything_that_is_open_again(
        self, follow: Callable[[], Follower], diary: Diary, experiment: Path, complaints: list[str]
    ) -> None:
        """By a new process, as after a kill; for the same launch."""
        since = end_of_starts(experiment)
        follower = follow()
        LaunchedTrial(experiment, "ended").start().end()
        trials = {name: LaunchedTrial(experiment, name).start().log(1) for name in ("one", "two")}
        settle(follower)

        def fail(verb: str, trial_id: str) -> None:
            if verb == "close":
                raise ConnectionError("gone")

        diary.failure, diary.other_way = fail, "it goes on offline"
        trials["one"].end()
        with pytest.raises(TrackerFailed):
            settle(follower)
        (line,) = complaints
        assert line.startswith("diary failed: ConnectionError: gone; ") and line.endswith("; it goes on offline")
        follower.journal.unlock()
        offline = Diary(experiment)
        second = Follower(experiment, "diary", offline, since, complaints.append)
        assert second.begin()
        settle(second)
        assert sorted(line[:2] for line in offline.lines) == [
            *(("close", "one"), ("log", "one"), ("log", "two"), ("open", "one"), ("open", "two")),
        ]

    def test_a_refused_trial_is_said_and_left(
        self, follow: Callable[[], Follower], diary: Diary, experiment: Path, complaints: list[str]
    ) -> None:
        def refuse(verb: str, trial_id: str) -> None:
            if trial_id == "one":
                raise TrialRefused("no such place")

        diary.failure, diary.other_way = refuse, "unused"
        follower = follow()
        for name in ("one", "two"):
            LaunchedTrial(experiment, name).start().end()
        settle(follower)
        assert closed(diary) == {"two": "complete"}
        assert complaints == ["diary: no such place, so this trial is not shown there"]

    def test_a_tracker_that_hangs_ends_the_process(
        self, follow: Callable[[], Follower], diary: Diary, experiment: Path, complaints: list[str]
    ) -> None:
        """Which is started again then, as after a kill."""
        release = threading.Event()
        diary.failure, diary.timeout_s = lambda verb, trial_id: release.wait(60), 0.3
        follower = follow()
        LaunchedTrial(experiment, "one").start().end()
        with pytest.raises(TrackerFailed):
            settle(follower)
        assert complaints == ["diary failed: TimeoutError: no answer within 0.3 s; the records on disk are complete"]
        release.set()

    def test_a_corrupt_record_is_one_line(
        self, follow: Callable[[], Follower], diary: Diary, experiment: Path, complaints: list[str]
    ) -> None:
        follower = follow()
        trial = LaunchedTrial(experiment, "abc").start()
        (trial.folder.path / "summary.json").write_bytes(b"{")
        settle(follower)
        assert len(complaints) == 1 and "summary.json" in complaints[0]


class TestStudy:
    @pytest.fixture
    def experiment(self, tmp_path: Path) -> Path:
        return write_sweep(tmp_path)

    def test_it_is_shown_once(
        self, follow: Callable[[], Follower], diary: Diary, experiment: Path, complaints: list[str]
    ) -> None:
        for _ in range(2):
            follower = follow()
            follower.end(is_finished=True)
            follower.journal.unlock()
        assert diary.lines == [("study", "sweep")]
        frozen = json.loads((experiment / "frozen.json").read_text())
        (experiment / "frozen.json").write_text(json.dumps(frozen | {"note": "more trials"}))
        follow().end(is_finished=True)
        assert diary.lines == [("study", "sweep")] * 2 and complaints == []

    def test_not_after_a_kill(self, follow: Callable[[], Follower], diary: Diary) -> None:
        follow().end(is_finished=False)
        assert diary.lines == []

    def test_a_failure_is_one_line(self, follow: Callable[[], Follower], diary: Diary, complaints: list[str]) -> None:
        def fail(verb: str, trial_id: str) -> None:
            raise RuntimeError("no\nsecond line")

        diary.failure = fail
        follow().end(is_finished=True)
        assert complaints == ["diary failed: RuntimeError: no; the records on disk are complete"]

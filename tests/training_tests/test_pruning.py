"""A trial that its reporter stops: at the same epoch however often it was killed, and with a record of its own kind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trial_configs import MakeConfig

from harness.records.schema import Summary
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun
from harness.training.fit_plan import FitState
from harness.training.resources import Resources
from harness.training.run_trial import run_trial

from .test_loop import assert_same_bits, prepare, scripted

Entry = dict[str, Any]
SCORES = (0.5, 0.7, 0.6, 0.9, 0.8)  # the best of all is neither the last nor the best of the first three


def stop_at(epoch: int) -> Callable[[Entry], bool | None]:
    return lambda entry: entry["epoch"] >= epoch


@pytest.mark.parametrize(
    "answer, pruned, epochs_run",
    [(stop_at(1), True, 1), (stop_at(3), True, 3), (stop_at(5), True, 5), (lambda e: False, False, 5)],
    ids=["first", "third", "last", "never"],
)
def test_true_stops_the_training(
    answer: Callable[[Entry], bool | None], pruned: bool, epochs_run: int, make_config: MakeConfig, resources: Resources
) -> None:
    entries: list[Entry] = []

    def report(entry: Entry) -> bool | None:
        entries.append(entry)
        return answer(entry)

    config = make_config(loop={"epochs": 5})
    state = prepare(config, resources, scripted(*SCORES), report=report).run()
    assert (state.pruned, state.epoch, len(state.history)) == (pruned, epochs_run, epochs_run)
    assert entries == state.history
    assert state.best_score == max(SCORES[:epochs_run]) == SCORES[state.best_epoch - 1]


def comparable(state: FitState) -> Entry:
    """A state without the times, which differ from run to run."""
    history = [(entry["epoch"], entry["metrics"]) for entry in state.history]
    return {"state": (state.epoch, state.best_epoch, state.best_score, state.pruned), "history": history}


def test_a_resumed_training_stops_where_a_whole_one_does(
    make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """Killed after any epoch, pruned at any epoch: also when the checkpoint holds epochs after the one that prunes."""
    config, path = make_config(loop={"epochs": 5}), tmp_path / "checkpoint.safetensors"

    def keep(entry: Entry) -> None:
        shutil.copy(path, tmp_path / f"{entry['epoch']}.safetensors")

    prepare(config, resources, scripted(*SCORES), checkpoint=path, report=keep).run()
    path.unlink()
    for stop in range(1, 6):
        whole = prepare(config, resources, scripted(*SCORES), report=stop_at(stop))
        expected = whole.run()
        assert expected.pruned and expected.epoch == stop
        for killed_at in range(1, 6):
            shutil.copy(tmp_path / f"{killed_at}.safetensors", path)
            entries: list[Entry] = []

            def report(entry: Entry, stop: int = stop, entries: list[Entry] = entries) -> bool | None:
                entries.append(entry)
                return entry["epoch"] == stop  # once: whatever comes after it is not asked about

            resumed = prepare(config, resources, scripted(*SCORES[killed_at:]), checkpoint=path, report=report)
            state = resumed.run()
            assert comparable(state) == comparable(expected) and entries == state.history
            assert state.elapsed_s == pytest.approx(sum(entry["seconds"] for entry in entries))
            if killed_at <= stop:
                assert_same_bits(resumed.weights(), whole.weights())


def test_an_answer_of_no_leaves_the_training_as_it_was(make_config: MakeConfig, resources: Resources) -> None:
    silent, asked = prepare(make_config(), resources), prepare(make_config(), resources, report=lambda entry: False)
    assert comparable(silent.run()) == comparable(asked.run())
    assert_same_bits(asked.weights(), silent.weights())


# --- the record -------------------------------------------------------------------------------------------------------


@pytest.fixture
def train(tmp_path: Path, resources: Resources) -> Callable[..., Summary]:
    """A function that trains into `tmp_path / NAME`, as a worker does."""
    shared = {"search": Resources(sealed=True), "confirm": resources}

    def run(config: Any, phase: str, report: Callable[[Entry], bool | None], name: str = "record") -> Summary:
        folder = TrialFolder(tmp_path / name)
        folder.clear()
        about = TrialRun(config.trial_id, "e", "a", config.seed, phase)
        return run_trial(config, about, folder, shared[phase], report)

    return run


@pytest.mark.parametrize("phase", ["search", "confirm"])
def test_the_record_of_a_pruned_trial(
    phase: str, train: Callable[..., Summary], make_config: MakeConfig, tmp_path: Path
) -> None:
    """In no phase are there test numbers or weights: it is no result."""
    summary = train(make_config(loop={"epochs": 5}), phase, stop_at(2))
    folder = TrialFolder(tmp_path / "record")
    assert (summary.state, summary.reason, summary.epochs_run) == ("pruned", None, 2)
    assert summary.metrics.keys() == {"trainable_parameters", "trainable_share"}
    assert (summary.by_domain, summary.base) == ({}, {})
    log = folder.read_log()
    assert len(log) == 2 and summary.best_epoch in (1, 2)
    best = log[summary.best_epoch - 1]["metrics"]
    assert summary.valid == {name: value for name, value in best.items() if name.startswith("valid_")}
    assert summary.costs["seconds"] > 0 and summary.costs["peak_memory_mb"] > 10
    assert summary.checks.keys() == {"base_restored"}
    assert folder.summary() == summary
    left = {"config.json", "log.jsonl", "summary.json", "provenance.json", "starts.jsonl"}
    assert {path.name for path in folder.path.iterdir()} == left


def test_no_test_example_of_a_pruned_trial_is_scored(
    train: Callable[..., Summary], make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("scored")

    monkeypatch.setattr("harness.training.trial.Trial._open_test", refuse)
    assert train(make_config(), "confirm", stop_at(1)).state == "pruned"
    summary = train(make_config(), "confirm", lambda entry: None, "whole")
    assert (summary.state, summary.message and summary.message.split(" (see")[0]) == (
        "failed",
        "AssertionError: scored",
    )


@pytest.mark.parametrize("killed_at", [1, 2, 3])
def test_a_killed_trial_is_pruned_into_the_same_record(
    killed_at: int, train: Callable[..., Summary], make_config: MakeConfig, tmp_path: Path
) -> None:
    """Killed before, at, and after the epoch that prunes it; the log ends there too."""
    config = make_config(loop={"epochs": 4})

    def kill(entry: Entry) -> None:
        if entry["epoch"] == killed_at:
            raise KeyboardInterrupt

    whole = train(config, "search", stop_at(2), "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, "search", kill)
    resumed = train(config, "search", stop_at(2))
    different = {"costs", "trial_id"}
    assert resumed.model_dump(exclude=different) == whole.model_dump(exclude=different)
    logs = [TrialFolder(tmp_path / name).read_log() for name in ("record", "whole")]
    metrics = [[(entry["epoch"], entry["metrics"]) for entry in log] for log in logs]
    assert metrics[0] == metrics[1] and len(metrics[0]) == 2
    assert not TrialFolder(tmp_path / "record").checkpoint.exists()


def test_pruning_leaves_torchs_generator_alone(make_config: MakeConfig, resources: Resources) -> None:
    before = torch.get_rng_state()
    prepare(make_config(), resources, report=stop_at(1)).run()
    assert torch.equal(torch.get_rng_state(), before)

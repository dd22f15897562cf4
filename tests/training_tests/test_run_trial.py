"""A trial's record: what it holds when all went well, and what it says when something did not."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trial_configs import MakeConfig

from harness.config.trial import TrialConfig
from harness.errors import Interrupted, TrialError, UserError, telling_interrupts
from harness.records.schema import Summary
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun
from harness.training.checkpoint import save_checkpoint
from harness.training.resources import Resources
from harness.training.run_trial import run_trial

Entry = dict[str, Any]
RECORD_FILES = {
    *("config.json", "log.jsonl", "summary.json", "provenance.json", "predictions.jsonl", "starts.jsonl"),
    *("adapter.json", "adapter.safetensors"),
}


@pytest.fixture
def train(tmp_path: Path, resources: Resources) -> Callable[..., Summary]:
    """A function that trains into `tmp_path / "record"`, as a worker does."""

    def run(config: TrialConfig, report: Callable[[Entry], None] = lambda entry: None) -> Summary:
        folder = TrialFolder(tmp_path / "record")
        folder.clear()
        about = TrialRun(config.trial_id, "e", "a", config.seed, "confirm")
        return run_trial(config, about, folder, resources, report)

    return run


def read_lines(path: Path) -> list[Entry]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def without_costs(folder: Path) -> dict[str, Any]:
    """Everything of a record that has to be the same whenever and however often it was started."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    del summary["costs"], summary["trial_id"]
    log = [(entry["epoch"], entry["metrics"]) for entry in read_lines(folder / "log.jsonl")]
    files = {name: (folder / name).read_bytes() for name in ("predictions.jsonl", "config.json", "adapter.safetensors")}
    return {"summary": summary, "log": log, **files}


def test_a_finished_record_is_whole(
    train: Callable[..., Summary], make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    entries = list[Entry]()
    config = make_config()
    summary = train(config, entries.append)
    folder = tmp_path / "record"
    assert {path.name for path in folder.iterdir()} == RECORD_FILES
    assert TrialFolder(folder).summary() == summary and summary.state == "complete"
    assert read_lines(folder / "log.jsonl") == entries and [entry["epoch"] for entry in entries] == [1, 2, 3]
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert TrialConfig.model_validate(saved) == config
    record = TrialFolder(folder).record()
    assert record is not None and record.provenance is not None
    domains = resources.domains(config)
    assert record.provenance.backbone_fingerprint == domains.backbone.fingerprint
    assert record.provenance.corpus_fingerprint == domains.corpus.fingerprint
    assert record.provenance.num_starts == 1
    assert summary.costs["seconds"] > 0 and summary.costs["peak_memory_mb"] > 10


@pytest.mark.parametrize("adapter", [{}, {"_target_": "stateful.Remembering", "dim": 4, "outside": False}])
def test_the_saved_adapter_gives_the_recorded_predictions(
    adapter: dict[str, Any],
    train: Callable[..., Summary],
    make_config: MakeConfig,
    resources: Resources,
    tmp_path: Path,
) -> None:
    """Also one with buffers, a weight that does not learn, and extra state, whose best epoch is not its last."""
    config = make_config(adapter=adapter, optim={"lr": 0.1}, loop={"epochs": 6})
    train(config)
    domains = resources.domains(config)
    model = copy.deepcopy(domains.backbone.model)
    path, classes = tmp_path / "record" / "adapter", ["stateful.Remembering"]
    model.load_adapters(path, base_fingerprint=domains.backbone.fingerprint, allow=classes)
    recorded = [entry["prediction"] for entry in read_lines(tmp_path / "record" / "predictions.jsonl")]
    items = [domains.items(name, "test") for name in ("away", "home")]
    found = [p for members in items for p in domains.score(model, members, config.loop).predictions]
    plain = [p for m in items for p in domains.score(domains.backbone.model, m, config.loop).predictions]
    assert recorded == found != plain


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_trial_that_was_killed_goes_on_to_the_same_record(
    epoch: int, train: Callable[..., Summary], make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config()
    train(config)
    (tmp_path / "record").rename(tmp_path / "whole")

    def kill(entry: Entry) -> None:
        if entry["epoch"] == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, kill)
    folder = TrialFolder(tmp_path / "record")
    assert folder.summary() is None and folder.checkpoint.exists() and len(folder.read_log()) == epoch
    folder.path.joinpath(".checkpoint.safetensors.123.tmp").write_bytes(b"half")  # as a kill while writing leaves it
    entries = list[Entry]()
    train(config, entries.append)
    assert without_costs(tmp_path / "record") == without_costs(tmp_path / "whole")
    assert [entry["epoch"] for entry in entries] == [1, 2, 3]  # those before the kill, too
    assert {path.name for path in (tmp_path / "record").iterdir()} == RECORD_FILES
    record = folder.record()
    assert record is not None and record.provenance is not None and record.provenance.num_starts == 2


def misbehaving(how: str, **options: Any) -> dict[str, Any]:
    return {"adapter_strategy": {"_target_": "misbehaving.Misbehaving", "how": how, **options}}


def test_a_bug_in_a_users_strategy_is_on_record(
    train: Callable[..., Summary], make_config: MakeConfig, tmp_path: Path
) -> None:
    """With its traceback; the next start that goes well leaves no trace of it."""
    config = make_config(adapter=misbehaving("raise", call=5, marker=str(tmp_path / "once")))  # three calls an epoch
    summary = train(config)
    folder = tmp_path / "record"
    assert (summary.state, summary.reason, summary.epochs_run) == ("failed", "error", 1)
    assert summary.message == f"ZeroDivisionError: a bug (see {folder / 'traceback.txt'})"
    text = (folder / "traceback.txt").read_text(encoding="utf-8")
    assert text.startswith("Traceback (most recent call last):") and "misbehaving.py" in text and "go_wrong" in text
    assert summary.metrics == {} and set(summary.valid) >= {"valid_target/accuracy"}
    assert TrialFolder(folder).summary() == summary and TrialFolder(folder).record() is not None
    again = train(config)
    assert again.state == "complete"
    assert {path.name for path in folder.iterdir()} == RECORD_FILES


def test_too_little_memory_is_on_record(train: Callable[..., Summary], make_config: MakeConfig) -> None:
    summary = train(make_config(adapter=misbehaving("memory")))
    assert (summary.state, summary.reason) == ("failed", "oom")
    assert summary.message == "out of memory: a tensor too many"


def test_a_nan_is_on_record_with_what_came_before(
    train: Callable[..., Summary], make_config: MakeConfig, tmp_path: Path
) -> None:
    summary = train(make_config(adapter=misbehaving("nan", call=8)))
    assert (summary.state, summary.reason, summary.epochs_run) == ("failed", "nan", 2)
    assert summary.message == "the loss is nan at epoch 3, step 2"
    log = read_lines(tmp_path / "record" / "log.jsonl")
    valid = {name: value for name, value in log[1]["metrics"].items() if name.startswith("valid_")}
    assert len(log) == 2 and summary.valid == valid
    assert not (tmp_path / "record" / "predictions.jsonl").exists()


def test_a_rate_beyond_all_bounds_ends_as_a_nan(train: Callable[..., Summary], make_config: MakeConfig) -> None:
    summary = train(make_config(optim={"lr": 1e30, "warmup": 0}))
    assert (summary.state, summary.reason) == ("failed", "nan")
    assert str(summary.message).startswith("the loss is ") and " at epoch 1, step " in str(summary.message)


def test_a_damaged_checkpoint_is_on_record_and_untouched(
    train: Callable[..., Summary], make_config: MakeConfig, tmp_path: Path
) -> None:
    path = tmp_path / "record" / "checkpoint.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"nonsense")
    summary = train(make_config())
    assert (summary.state, summary.reason) == ("failed", "damaged")
    assert str(summary.message).startswith(f"{path}: damaged checkpoint")
    assert path.read_bytes() == b"nonsense"
    path.unlink()
    assert train(make_config()).state == "complete"


@pytest.mark.parametrize(("interval_s", "synced"), [(0.0, [True, True, True]), (1e9, [False, False, False])])
def test_training_waits_for_the_disk_now_and_then(
    train: Callable[..., Summary], make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch,
    interval_s: float, synced: list[bool],
) -> None:  # fmt: skip
    """A checkpoint of each epoch is there after a kill, and one in every two seconds after a power cut."""
    asked = list[bool]()

    def note(path: Path, checkpoint: Any, *, sync: bool) -> None:
        asked.append(sync)
        save_checkpoint(path, checkpoint, sync=sync)

    monkeypatch.setattr("harness.training.loop.save_checkpoint", note)
    monkeypatch.setattr("harness.training.loop.SYNC_S", interval_s)
    assert train(make_config()).state == "complete" and asked == synced


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("exit", "SystemExit: 0"),
        ("generator", "GeneratorExit"),
        ("interrupt", "KeyboardInterrupt"),
        ("odd", "Odd: neither"),
        ("surrogate", r"ValueError: half \ud800 of a pair"),
        ("escape", r"ValueError: \x1b[31mred\u202e"),
        ("mute", "Mute: (its message cannot be made: KeyError)"),
        ("deep", "RecursionError: too deep"),
        ("warning", "UserWarning: turned into an error"),
    ],
)
def test_whatever_a_strategy_raises_is_its_trials_failure(
    how: str, message: str, train: Callable[..., Summary], make_config: MakeConfig, tmp_path: Path
) -> None:
    with telling_interrupts():  # as the command line does
        summary = train(make_config(adapter=misbehaving(how)))
    traceback = tmp_path / "record" / "traceback.txt"
    assert (summary.state, summary.reason) == ("failed", "error")
    assert summary.message == f"{message} (see {traceback})"
    assert TrialFolder(tmp_path / "record").summary() == summary
    assert "go_wrong" in traceback.read_text(encoding="utf-8")


def test_ctrl_c_is_no_failure_of_the_trial(
    train: Callable[..., Summary], make_config: MakeConfig, tmp_path: Path
) -> None:
    def press(entry: Entry) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with telling_interrupts(), pytest.raises(Interrupted):
        train(make_config(), press)
    assert TrialFolder(tmp_path / "record").summary() is None
    with pytest.raises(KeyboardInterrupt):  # where the caller hears Ctrl-C itself, one is taken for the other
        train(make_config(adapter=misbehaving("interrupt")))


def test_a_full_disk_leaves_the_trial_unfinished(
    train: Callable[..., Summary], make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = list[Any]()

    def fill_disk(path: Path, checkpoint: Any, *, sync: bool) -> None:
        saved.append(path)
        if len(saved) == 2:
            raise TrialError("disk", f"{path}: cannot be written: No space left on device")
        save_checkpoint(path, checkpoint, sync=sync)

    with monkeypatch.context() as patch:
        patch.setattr("harness.training.loop.save_checkpoint", fill_disk)
        with pytest.raises(TrialError, match="No space left on device") as caught:
            train(make_config())
    folder = TrialFolder(tmp_path / "record")
    assert caught.value.reason == "disk" and folder.summary() is None and folder.checkpoint.exists()
    assert train(make_config()).state == "complete"


def test_a_launch_that_stops_listening_is_no_failure_of_the_trial(
    train: Callable[..., Summary], make_config: MakeConfig, tmp_path: Path
) -> None:
    """Its parent process is gone, say: the trial stays unfinished, without a traceback of the user's code."""

    def gone(entry: Entry) -> None:
        if entry["epoch"] == 2:
            raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError, match="nobody reads"):
        train(make_config(), gone)
    folder = TrialFolder(tmp_path / "record")
    assert folder.summary() is None and not (folder.path / "traceback.txt").exists()
    assert train(make_config()).epochs_run == 3


def test_a_mistake_of_the_user_is_not_a_record(
    train: Callable[..., Summary], make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="matches no layer"):
        train(make_config(backbone={"layers": [7]}))
    folder = tmp_path / "record"
    assert not (folder / "summary.json").exists() and not (folder / "traceback.txt").exists()


def test_a_trial_sets_its_number_of_threads(train: Callable[..., Summary], make_config: MakeConfig) -> None:
    before = torch.get_num_threads()
    try:
        train(make_config("frozen", loop={"threads": 2}))
        assert torch.get_num_threads() == 2
        train(make_config("frozen"))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)

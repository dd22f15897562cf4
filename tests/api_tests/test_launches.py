"""`harness.run` and `harness.run_sweep`, as a script or a notebook calls them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_text import TinyText
from trained_results import SWEEP

import harness
from harness.api.inputs import as_arguments
from harness.config.trees import merge

SMALL = {"data.train_limit": 24, "loop.epochs": 1}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings(tiny_text_files: TinyText) -> dict[str, Any]:
    """The tiny experiment as a mapping."""
    content: dict[str, Any] = yaml.safe_load(tiny_text_files.experiment.read_text(encoding="utf-8"))
    return content


def test_a_file_with_overrides_trains_once(tiny_text_files: TinyText, tmp_path: Path) -> None:
    lines: list[str] = []
    arguments: dict[str, Any] = {"arms": ["frozen", "residual_add"], "seeds": [1], "results": tmp_path}
    first = harness.run(tiny_text_files.experiment, SMALL, **arguments, tell=lines.append)
    assert (first.num_trained, first.num_reused, first.failures) == (2, 0, ())
    assert first.name.startswith("tiny_strategies-")  # changed trials never mix with the others
    assert sorted(lines) == ["frozen/seed1: complete", "residual_add/seed1: complete"]
    again = harness.run(tiny_text_files.experiment, [f"{key}={value}" for key, value in SMALL.items()], **arguments)
    assert (again.name, again.num_trained, again.num_reused) == (first.name, 0, 2)
    assert first.table().rows == ("frozen", "head_only", "residual_add")
    assert set(first.records()["state"]) == {"complete", "missing"}
    assert (tmp_path / first.name / "table.md").is_file() and (tmp_path / first.name / "table.json").is_file()
    assert harness.verify(first.name, results=tmp_path).findings.drifts == []


def test_what_the_checks_have_loaded_trains(
    tiny_text_files: TinyText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process a corpus and a backbone are read once: by the checks before anything is trained."""
    from harness.data import loaded
    from harness.training import resources

    read: list[str] = []
    for module, name in ((loaded, "load_corpus"), (resources, "load_backbone")):
        real = getattr(module, name)

        def load(*args: Any, real: Any = real, name: str = name, **options: Any) -> Any:
            read.append(name)
            return real(*args, **options)

        monkeypatch.setattr(module, name, load)
    result = harness.run(tiny_text_files.experiment, SMALL, arms=["residual_add"], seeds=[0, 1], results=tmp_path)
    assert result.num_trained == 2
    assert read == ["load_corpus", "load_backbone"]


def test_a_mapping_is_an_experiment(settings: dict[str, Any], tiny_text_files: TinyText, tmp_path: Path) -> None:
    """It is not changed, and its trials are those of the file."""
    before = yaml.safe_dump(settings)
    result = harness.run(settings, SMALL, arms=["frozen"], seeds=[0], results=tmp_path / "one")
    from_file = harness.run(tiny_text_files.experiment, SMALL, arms=["frozen"], seeds=[0], results=tmp_path / "two")
    assert yaml.safe_dump(settings) == before
    assert list(result.records()["trial_id"]) == list(from_file.records()["trial_id"])


@pytest.mark.parametrize(
    ("changes", "arguments", "told"),
    [
        ({"base": {"optim": {"lr": "fast"}}}, {}, ["experiment: arms.frozen", "optim.lr", "'fast'"]),
        ({}, {"arms": ["nobody"]}, ["'nobody'", "frozen, head_only, residual_add"]),
        ({}, {"seeds": [7]}, ["7", "0, 1"]),
        ({}, {"overrides": "optim.lr=1"}, ["'optim.lr=1'", "mapping"]),
        ({}, {"overrides": {"optim.lr": object()}}, ["optim.lr", "object"]),
        ({}, {"overrides": {"optim.rl": 1}}, ["optim.rl"]),
        ({}, {"overrides": [("optim.lr", 1)]}, ["('optim.lr', 1)", "mapping"]),
        ({}, {"arms": "frozen"}, ["arms=['frozen']"]),
        ({}, {"seeds": 0}, ["seeds=[0]"]),
        ({}, {"jobs": 0}, ["jobs=0"]),
        ({}, {"jobs": "2"}, ["jobs='2'"]),
        ({}, {"engine": "fast"}, ["'fast'", "plain, cut, packed"]),
    ],
)
def test_a_wrong_input_is_one_line(
    settings: dict[str, Any], tmp_path: Path, changes: dict[str, Any], arguments: dict[str, Any], told: list[str]
) -> None:
    with pytest.raises(harness.UserError) as caught:
        harness.run(merge(settings, changes), results=tmp_path / "r", **arguments)
    assert "\n" not in str(caught.value) and all(part in str(caught.value) for part in told)
    assert not (tmp_path / "r").exists()


def test_numbers_of_numpy_are_numbers() -> None:
    import numpy as np

    assert as_arguments({"loop.epochs": np.int64(1), "optim.lr": np.float32(0.5)}) == ["loop.epochs=1", "optim.lr=0.5"]
    with pytest.raises(harness.UserError, match=r"override data\.source: array.* is not a number"):
        as_arguments({"data.source": np.zeros(2)})


@pytest.mark.parametrize("call", [harness.run, harness.run_sweep])
def test_no_such_name(call: Any, tmp_path: Path) -> None:
    with pytest.raises(harness.UserError, match=r"'nobody'.*text_"):
        call("nobody", results=tmp_path)
    with pytest.raises(harness.UserError, match="3"):
        call(3, results=tmp_path)


@pytest.mark.parametrize("launcher", ["slurm", {"name": "slurm", "partition": "gpu"}, "shell"])
def test_workers_elsewhere_get_the_whole_command(
    launcher: Any, tiny_text_files: TinyText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.config.execution import PLAIN
    from harness.launch import run_experiment
    from harness.launch.launchers import LauncherChoice
    from harness.launch.slurm import SlurmLauncher

    monkeypatch.setattr(SlurmLauncher, "needs", classmethod(lambda cls: None))
    made: list[LauncherChoice] = []

    def train(plan: run_experiment.RunPlan, num_jobs: int, hear: Any, launching: LauncherChoice) -> Any:
        assert {task.execution for task in plan.pending} == {PLAIN}  # its workers choose the engine
        made.append(launching)
        raise KeyboardInterrupt  # before any worker is started

    monkeypatch.setattr(run_experiment, "run_experiment", train)
    file = tiny_text_files.experiment
    options: dict[str, Any] = {"arms": ["residual_add"], "seeds": [0], "engine": "cut"}
    with pytest.raises(KeyboardInterrupt):
        harness.run(file, SMALL, results=tmp_path / "r", launcher=launcher, **options)
    changed = [f"{key}={value}" for key, value in SMALL.items()]
    work = ("work", str(file), *changed, f"--results={tmp_path / 'r'}", "--engine=cut", "--arm=residual_add")
    assert [choice.work for choice in made] == [(*work, "--seed=0")]


@pytest.mark.parametrize("call", [harness.run, harness.run_sweep])
def test_workers_elsewhere_are_refused_where_they_cannot_start(
    call: Any, tiny_text_files: TinyText, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the commands: otherwise the launch waits for ever, for workers that do nothing."""
    file, content = tiny_text_files.experiment, settings
    if call is harness.run_sweep:
        content = {**SWEEP, "experiment": str(file)}
        file = tmp_path / "sweep.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(harness.UserError, match=r"launcher shell: it starts .* so give a file, not settings"):
        call(content, results=tmp_path / "r", launcher="shell")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(harness.UserError, match=r"^launcher slurm: sbatch and squeue not on the PATH"):
        call(file, results=tmp_path / "r", launcher="slurm")
    with pytest.raises(harness.UserError, match=r"^launcher 'nope'; choices: in_process, "):
        call(file, results=tmp_path / "r", launcher="nope")
    assert not (tmp_path / "r").exists()


def test_some_arms_of_a_factorial_are_trained_before_there_are_effects(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    factors = {"dim": {"key": "adapter.dim", "levels": [2, 4]}, "lr": {"key": "optim.lr", "levels": [0.01, 0.02]}}
    design = {"type": "factorial", "arm": "residual_add", "factors": factors}
    content = {**settings, "design": design, "table": {"layout": "effects"}}
    told: list[str] = []
    some = harness.run(content, SMALL, arms=["dim=2, lr=0.01"], seeds=[0], results=tmp_path, tell=told.append)
    assert (some.num_trained, some.failures) == (1, ())
    assert told[-1].startswith("no table yet: ")
    with pytest.raises(harness.UserError, match="is finished for every combination of its factors"):
        some.table()


def test_a_failed_trial(settings: dict[str, Any], tmp_path: Path) -> None:
    strategy = {"_target_": "misbehaving.Misbehaving", "how": "nan"}
    arms = {"frozen": {"train": "none", "adapter": None}, "broken": {"adapter": {"adapter_strategy": strategy}}}
    changed = {**settings, "name": "failing", "arms": arms, "seeds": [0], "table": {}}
    with pytest.raises(harness.TrialError, match="broken/seed0") as caught:
        harness.run(changed, results=tmp_path)
    result = harness.run(changed, results=tmp_path, check=False)
    assert len(result.failures) == 1 and str(caught.value) == result.failures[0]
    reasons = result.records().set_index("arm")["reason"]
    assert reasons["broken"] == "nan" and reasons.isna()["frozen"]


SCRIPT = """
import pathlib
import yaml
import harness

with open("marks", "a") as marks:
    marks.write("ran\\n")
settings = yaml.safe_load(pathlib.Path({experiment!r}).read_text())
done = harness.run(settings, {small!r}, arms=["residual_add"], jobs={jobs}, results="results")
print(done.num_trained, "trained")
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_script_without_a_main_guard(jobs: int, tiny_text_files: TinyText, tmp_path: Path) -> None:
    """With one job it just works, and starts nothing that would run it again; with two, a line says what is wrong."""
    script = SCRIPT.format(experiment=str(tiny_text_files.experiment), small=SMALL, jobs=jobs)
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    environment = os.environ | dict(tiny_text_files.env) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "script.py"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    if jobs == 1:
        assert (ran.returncode, ran.stdout) == (0, "2 trained\n"), ran.stderr
        assert (tmp_path / "marks").read_text(encoding="utf-8") == "ran\n"
    else:
        assert ran.returncode == 1
        assert "jobs=2" in ran.stderr and "if __name__ == '__main__':" in ran.stderr


@pytest.mark.slow
def test_a_sweep(tiny_text_files: TinyText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a mapping that names a file in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("tiny_strategies.yaml").write_text(tiny_text_files.experiment.read_text(encoding="utf-8"), encoding="utf-8")
    result = harness.run_sweep(SWEEP, {"budget.trials": 4}, engine="plain", results="r")
    assert result.name == "tiny_sweep" and result.winners is not None
    assert set(result.winners["residual_add"]) == {"best", "one_se"}
    assert set(result.winners["residual_add"]["best"]) == {key for key in SWEEP["space"]}
    assert result.figures and all(path.is_file() for path in result.figures)
    records = result.records()
    assert set(records["phase"]) == {"confirm", "search"} and set(records["arm"]) == {"frozen", "residual_add"}
    assert records.loc[records["phase"] == "search", "target_accuracy"].isna().all()  # sealed until it is confirmed
    again = harness.run_sweep(SWEEP, {"budget.trials": 4}, engine="plain", results="r")
    assert again.num_trained == 0 and again.winners == result.winners

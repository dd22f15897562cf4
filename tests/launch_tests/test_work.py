"""The launcher of a launch and the command of its workers, as the commands and the API ask for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.launch.launchers import choose_launcher
from harness.launch.slurm import SlurmLauncher, SlurmOptions
from harness.launch.work import launching_of, work_arguments

WORK = ("work", "sweep.yaml", "--results=results", "--engine=auto")
GPU = {"name": "slurm", "partition": "gpu"}


def test_the_command_of_a_worker() -> None:
    given = ("f.yaml", ["optim.lr=1", "launcher.partition=gpu"], Path("r"), "packed", 4, True)
    assert work_arguments(*given, arm=["a"], seed=[0, 1], retry_failed=True) == (
        *("work", "f.yaml", "optim.lr=1", "--results=r", "--engine=packed"),
        *("--arm=a", "--seed=0", "--seed=1", "--retry-failed", "--pack=4", "--capture"),
    )
    assert work_arguments({"name": "mine"}, [], "results", "plain", None) == ()


@pytest.mark.parametrize("given", [None, "slurm", GPU])
def test_the_options_of_slurm_are_kept(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlurmLauncher, "needs", classmethod(lambda cls: None))
    choice = launching_of(given, None if given is GPU else GPU, 2, "f.yaml: launcher", WORK, is_command=False)
    assert (choice.options, choice.work, choice.num_workers) == (SlurmOptions(partition="gpu"), WORK, 2)


@pytest.mark.parametrize(
    ("given", "is_command", "message"),
    [
        ("slurn", True, "^--launcher 'slurn'; choices: "),
        ("slurn", False, "^launcher 'slurn'; choices: "),
        ({"name": "slurn"}, False, "^launcher: unknown launcher 'slurn'; choices: "),
        ({"name": "processes", "pinn": 1}, False, "^launcher: pinn: unknown key 'pinn'; choices: "),
        ("in_process", False, "^jobs 2: the launcher in_process runs at most 1"),
    ],
)
def test_what_was_given_is_blamed_and_not_the_file(given: Any, is_command: bool, message: str) -> None:
    with pytest.raises(UserError, match=message):
        launching_of(given, None, 2, "f.yaml: launcher", WORK, is_command=is_command)


@pytest.mark.parametrize(
    ("name", "setting", "overrides", "message"),
    [
        (
            "slurm",
            {"partitio": "x"},
            ["launcher.partitio=x"],
            r"^override launcher\.partitio: unknown key 'partitio'; cho",
        ),
        ("slurm", {"cpus": "x"}, ["launcher.cpus=x"], r"^override launcher\.cpus: expected a number, got 'x'$"),
        (None, {"cpus": 2}, ["launcher.cpus=2"], "^override launcher: name: missing; choices: in_process, "),
        (
            None,
            {"name": "slurn"},
            ["launcher={name: slurn}"],
            "^override launcher: unknown launcher 'slurn'; choices: ",
        ),
        (
            None,
            {"name": "slurn", "cpus": 2},
            ["launcher.cpus=2"],
            "^f.yaml: launcher: unknown launcher 'slurn'; choices: ",
        ),
        (
            None,
            {"name": "slurm", "cpus": 0, "gpu": 2},
            ["launcher.cpus=0"],
            r"^f\.yaml: launcher: gpu: unknown key 'gpu'; ",
        ),
        (None, {"name": "slurm", "cpus": 0}, ["optim.lr=1"], r"^f\.yaml: launcher: cpus: .* greater than 0, got 0$"),
    ],
)
def test_an_override_is_blamed_for_what_it_gave_and_the_file_for_the_rest(
    name: str | None, setting: dict[str, Any], overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        choose_launcher(name, 1, setting, "f.yaml: launcher", overrides=overrides)


def test_overrides_of_options_are_for_the_launcher_that_the_command_names() -> None:
    given = {"name": "processes", "pin": "cores", "cpus": 3}
    choice = choose_launcher("slurm", 1, given, overrides=["launcher.cpus=3"])
    assert choice.options == SlurmOptions(cpus=3)  # pin, which the file has for its own launcher, is not

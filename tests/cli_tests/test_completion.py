"""Completion in a shell: commands, options, the names of shipped files and of what has been run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_text import RunCli


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("s", {"sweep", "status", "sync"}),
        ("run demo_t", {"demo_text"}),
        ("plan quick", {"quickstart"}),
        ("run --eng", {"--engine"}),
        ("verify m", {"mine"}),
        ("verify --results elsewhere o", {"other"}),
    ],
)
def test_what_is_offered(run_cli: RunCli, tmp_path: Path, words: str, expected: set[str]) -> None:
    (tmp_path / "results" / "mine").mkdir(parents=True)
    (tmp_path / "elsewhere" / "other").mkdir(parents=True)
    line = f"harness {words}"
    asked = {"_HARNESS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    assert set(run_cli(env=asked).stdout.split()) == expected


def test_the_script_for_bash(run_cli: RunCli) -> None:
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # the tests may have no shell above them
    assert "complete -o default -F" in run_cli("--show-completion", "bash", env=named).stdout

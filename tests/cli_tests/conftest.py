"""The command line in this process: imports are shared, so a command costs milliseconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cli import main


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The only line on stderr, without `harness: `."""
        assert self.err.startswith("harness: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith("\n")
        return self.err.removeprefix("harness: ").removesuffix("\n")


Cli = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """A function that runs `harness ARGS` in this process, in tmp_path, without W&B unless it is asked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # `run` adds the experiment's folder
    monkeypatch.setenv("HARNESS_DEBUG", "")  # `--debug` sets it
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def run(*args: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        code = caught.value.code
        assert code is None or isinstance(code, int)
        printed = capsys.readouterr()
        return Result(code or 0, printed.out, printed.err)

    return run

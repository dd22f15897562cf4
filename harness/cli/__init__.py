"""The command line: `harness run`, `table`, `pretrain`, `data`, `doctor`. Heavy imports happen inside the commands."""

from harness.cli.main import main

__all__ = ["main"]

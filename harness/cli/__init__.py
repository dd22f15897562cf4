"""The command line: one file a command, registered in main.py. Heavy imports happen inside the commands."""

from harness.cli.main import enter, main

__all__ = ["enter", "main"]

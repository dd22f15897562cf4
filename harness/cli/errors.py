"""Prints a failure as one line on stderr, whatever the message holds."""

from __future__ import annotations

import sys

from harness.cli.output import throw_away
from harness.errors import hide_passwords, printable


def print_error(message: str) -> None:
    """Print a failure as one line."""
    line = " ".join(line.strip() for line in message.splitlines())
    try:
        print(f"harness: {printable(hide_passwords(line))}", file=sys.stderr, flush=True)
    except OSError:  # it cannot be told; the exit code still says it
        throw_away(sys.stderr)

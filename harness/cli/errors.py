"""Prints a failure as one line on stderr, whatever the message holds."""

from __future__ import annotations

import sys


def print_error(message: str) -> None:
    """Print a failure as one line."""
    print(f"harness: {' '.join(line.strip() for line in message.splitlines())}", file=sys.stderr, flush=True)

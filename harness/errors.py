"""The two ways in which a command can fail, and the exit code that each one gives.

Every message is one line that names the value, the place and the choices; the command line prints it
without a traceback (`--debug` shows the traceback too).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection


class UserError(ValueError):
    """The user's input is wrong (config, data, file): exit code 2."""


class TrialError(RuntimeError):
    """A trial or a check failed: exit code 1.

    Args:
        reason: one word for the record and for retry rules (`nan`, `oom`, `disk`, `checkpoint`, `error`,
            `killed`, `not_restored`).
        message: one line for the user.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[TrialError], tuple[str, str]]:
        """Let a worker process raise it in its parent: both arguments travel."""
        return type(self), (self.reason, str(self))


def must_be_in(name: str, choices: Collection[str], start: str, kind: type[UserError] = UserError) -> None:
    """Refuse a name that is not among the choices.

    Raises:
        UserError: (or its subclass `kind`) `start`, then the choices, then the nearest one.
    """
    if name not in choices:
        near = difflib.get_close_matches(name, list(choices), n=1)
        hint = f". Did you mean {near[0]}?" if near else ""
        raise kind(f"{start}; choices: {', '.join(choices)}{hint}")


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; its class where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0].strip()

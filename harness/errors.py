"""The two ways in which a command can fail, and the exit code that each one gives.

Every message is one line that names the value, the place and the choices; the command line prints it
without a traceback (`--debug` shows the traceback too).
"""


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

    def __reduce__(self) -> tuple[type["TrialError"], tuple[str, str]]:
        """Let a worker process raise it in its parent: both arguments travel."""
        return type(self), (self.reason, str(self))

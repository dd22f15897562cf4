"""The two ways in which a command can fail, the exit code that each one gives, and how errors become one line.

Every message is one line that names the value, the place and the choices; the command line prints it
without a traceback (`--debug` shows the traceback too).
"""

from __future__ import annotations

import difflib
import re
import signal
import threading
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


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


def refuse_twice(names: Iterable[str], what: str) -> None:
    """Refuse a list that names something twice.

    Raises:
        UserError: it does; `what` is the list's.
    """
    counts = Counter(names)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise UserError(f"{what}: {twice[0]!r} is named twice")


class Passing(BaseException):
    """What goes through a trial on its way: the launch ends, and that is no failure of the trial."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or a request to end, as it is raised while `telling_interrupts`.

    A user's code can only raise a plain KeyboardInterrupt.
    """


class EndedByCode(RuntimeError):
    """A user's code raised what ends a program (SystemExit, GeneratorExit ...) rather than what reports a mistake."""


@contextmanager
def telling_interrupts(*others: signal.Signals) -> Iterator[None]:
    """While the block runs, Ctrl-C raises `Interrupted`; in other threads than the main one nothing changes.

    Args:
        others: signals that raise it too, unless this process ignores them (nohup has it ignore SIGHUP).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [number for number in others if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, *heeded)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupted_by() -> signal.Signals:
    """The signal that raised `Interrupted` last; SIGINT where none has."""
    return _LAST[-1]


_LAST = [signal.SIGINT]


def _interrupt(number: int, frame: FrameType | None) -> None:
    _LAST[:] = [signal.Signals(number)]
    raise Interrupted


def as_failure(error: BaseException) -> BaseException:
    """What a user's code raised, as a failure of what it was called for: an Exception, unless it is no failure.

    Left as they are: exceptions, Ctrl-C, and what is `Passing`.
    """
    is_ctrl_c = isinstance(error, KeyboardInterrupt) and (
        isinstance(error, Interrupted) or signal.getsignal(signal.SIGINT) is not _interrupt
    )
    if isinstance(error, (Exception, Passing)) or is_ctrl_c:
        return error
    ended = EndedByCode(f"{type(error).__name__}: {text_of(error)}".removesuffix(": "))
    ended.__cause__ = error
    return ended.with_traceback(error.__traceback__)


@contextmanager
def no_exits() -> Iterator[None]:
    """Whatever a user's code raises in the block, it is an Exception; see `as_failure`."""
    try:
        yield
    except BaseException as error:
        if (failure := as_failure(error)) is error:
            raise
        raise failure from error


def text_of(error: BaseException) -> str:
    """An exception's message, also where its class cannot give one."""
    try:
        return printable(str(error), keep="\n")
    except Exception as failure:
        return f"(its message cannot be made: {type(failure).__name__})"


# Besides control characters and surrogates: line ends, what turns the direction of the text after it, so that a name
# reads as another one, and what is no character at all (XML refuses it). Joiners stay: Persian and emoji need them.
_HARMFUL = re.compile("[\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufdd0-\ufdef\ufffe\uffff]")


def is_harmful(sign: str) -> bool:
    """Whether a character steers the terminal or the page, or cannot be written, rather than being seen."""
    return unicodedata.category(sign) in ("Cc", "Cs") or _HARMFUL.match(sign) is not None


def printable(text: str, keep: str = "") -> str:
    """Text with every harmful character as its escape, `\\x1b` for an escape character; `keep` stays."""
    if text.isprintable():
        return text
    return "".join(
        sign.encode("unicode_escape").decode() if is_harmful(sign) and sign not in keep else sign for sign in text
    )


_PASSWORDS = (
    re.compile(r"(://[^:/?#\s@]*:)\S+@"),
    re.compile(r"((?:passw(?:or)?d|pwd)[\"']?\s*[=:]\s*)[^\s&]+", re.IGNORECASE),
)


def hide_passwords(text: str) -> str:
    """Text with `***` for what looks like a password: in a URL, or after `password=`."""
    for pattern in _PASSWORDS:
        text = pattern.sub(lambda found: f"{found[1]}***{'@' if found[0].endswith('@') else ''}", text)
    return text


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; its class where it has none."""
    return (text_of(error).splitlines() or [type(error).__name__])[0].strip()

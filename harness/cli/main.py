"""The `harness` command: its list of commands, exit codes, and one line for every failure.

Exit codes: 0 done, 1 a trial or check failed, 2 the user's input was wrong, 130 interrupted.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer

from harness.cli.adapters import adapters
from harness.cli.compare import compare
from harness.cli.data import data
from harness.cli.demo import demo
from harness.cli.doctor import doctor
from harness.cli.environment import check_environment
from harness.cli.errors import print_error
from harness.cli.export import export
from harness.cli.init import init
from harness.cli.output import nobody_reads, use_any_encoding
from harness.cli.plan import plan
from harness.cli.pretrain import pretrain
from harness.cli.publish import publish
from harness.cli.report import report
from harness.cli.run import run
from harness.cli.status import status
from harness.cli.sweep import sweep
from harness.cli.sync import sync
from harness.cli.table import table
from harness.cli.verify import verify
from harness.cli.work import work
from harness.errors import (
    TrialError,
    UserError,
    first_line,
    hide_passwords,
    interrupted_by,
    telling_interrupts,
    text_of,
)
from harness.garbage import look_for_garbage_rarely

# In the order of `harness --help`. A new command: a file with one function, and its name here.
COMMANDS: tuple[Callable[..., None], ...] = (
    *(init, run, sweep, work, plan, status),
    *(table, report, compare, verify, publish, export),
    *(sync, pretrain, demo, doctor),
)

_SECRET = re.compile(r"^(storage[^=]*=)(?!env:).*", re.DOTALL)
AGAIN = "run the same command again to go on from where it stopped"
# What asks a program to end: `kill`, systemd, Slurm and Kubernetes by the first, a terminal that closes by the second.
ENDING = (signal.SIGTERM, signal.SIGHUP)

app = typer.Typer(
    name="harness",
    help="Train adapters on frozen speech and text models, compare strategies, tabulate the ablations.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(adapters, name="adapters")
app.add_typer(data, name="data")


def _print_version(asked: bool) -> None:
    if asked:
        from harness import __version__

        print(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version, and end.")
    ] = False,
) -> None:
    if debug:
        os.environ["HARNESS_DEBUG"] = "1"
    check_environment()


def enter() -> NoReturn:
    """Entry point of a process of its own: `main`, and a short end.

    Python would take down all objects one by one, which is over a second after a sweep; the system frees them at once.
    What has to be done at an exit is done, in its order: threads end, child processes, temporary files, what is not
    written out yet.
    """
    look_for_garbage_rarely()
    code: Any = 1
    try:
        main()
    except SystemExit as end:
        code = end.code
    if not isinstance(code, int):
        sys.exit(code)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # nobody reads it, or there is none: `main` has said so
            stream.flush()
    os._exit(code)


def main() -> None:
    """Run the command, turn errors into one line, and end with an exit code."""
    use_any_encoding()
    code = _run()
    try:
        ended = nobody_reads()
        sys.exit(code or int(ended))
    except OSError as error:
        sys.exit(code or _end(_told(error), 1))


def _run() -> int:
    """Run the command that the arguments name; its exit code, after a line about what went wrong."""
    arguments = sys.argv[1:]
    # W&B keeps the command line of a run, and worker processes are told it.
    sys.argv[1:] = [_SECRET.sub(r"\1***", hide_passwords(argument)) for argument in arguments]
    try:
        # A command's exit code comes back from here; typer does not exit with it.
        with telling_interrupts(*ENDING):
            code = app(arguments, prog_name="harness", standalone_mode=False)
    except KeyboardInterrupt:
        return _end_interrupted()
    except UserError as error:
        return _end(str(error), 2)
    except TrialError as error:
        return _end(str(error), 1)
    except OSError as error:
        return _end(_told(error), 1)
    except Exception as error:  # typer's own errors, and bugs: never a bare traceback
        return _end_with_other(error)
    return _end_interrupted() if code == 130 else code or 0  # typer makes 130 of Ctrl-C


def _end_interrupted() -> int:
    number = interrupted_by()
    return _end(f"{'interrupted' if number == signal.SIGINT else f'ended by {number.name}'}; {AGAIN}", 128 + number)


def _told(error: OSError) -> str:
    return f"{error.filename or 'file system'}: {error.strerror or error}"


def _end_with_other(error: Exception) -> int:
    # Older versions of typer take these classes from click, newer ones from a copy of it.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "Abort" in kinds:
        return _end_interrupted()
    if isinstance(error, typer.Exit):
        return error.exit_code
    if "NoArgsIsHelpError" in kinds:  # no mistake: its text is the help
        print(str(error))
        return 2
    if "ClickException" in kinds:
        return _end(_usage_message(error), 2)
    cause = first_line(error) if text_of(error) else ""
    return _end(f"internal error: {type(error).__name__}: {cause} (harness --debug shows where)", 1)


def _usage_message(error: Any) -> str:
    """typer's message about a wrong command, option or argument, and where the right ones are listed."""
    context = getattr(error, "ctx", None)
    command = "harness" if context is None else context.command_path
    return f"{error.format_message().rstrip('.')} (see {command} --help)"


def _end(message: str, code: int) -> int:
    """Print the line (with `--debug` the traceback too); returns the code."""
    if os.environ.get("HARNESS_DEBUG") and sys.exc_info()[0] is not None:
        import traceback

        print(hide_passwords(traceback.format_exc()), end="", file=sys.stderr)
    print_error(message)
    return code

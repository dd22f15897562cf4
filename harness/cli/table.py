"""The command `harness table`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.config.table import check_layout
from harness.errors import UserError, must_be_in
from harness.tables.model import Table


def table_command(
    names: Sequence[str],
    results: Path,
    format: str,
    metrics: str | None,
    spec: Path | None,
    layout: str | None,
    out: Path | None,
    standalone: bool,
) -> None:
    """Print a table, or write it to a file.

    Raises:
        UserError: unknown experiment, format, layout or metric, or a wrong spec.
    """
    from harness.tables.render.formats import CHOICES

    must_be_in(format, CHOICES, f"--format {format!r}")
    table = make_table(names, results, metrics, spec, layout)
    if standalone and format != "tex":
        raise UserError(f"--standalone is for --format tex, not {format}")
    if format == "terminal" and out is None:
        from harness.tables.render.terminal import print_terminal

        print_terminal(table)
        return
    text = table_text(table, format, standalone)
    if out is None:
        print(text, end="")
        return
    from harness.disk import write_atomically

    write_atomically(out, text.encode())


def make_table(
    names: Sequence[str], results: Path, metrics: str | None, spec: Path | None, layout: str | None
) -> Table:
    """The table of one experiment or several, or of a table file.

    Raises:
        UserError: as `table_command`.
    """
    from harness.config.table import load_table_settings, load_table_spec
    from harness.tables.build import build_experiments, recorded_settings

    chosen = None if metrics is None else tuple(item.strip() for item in metrics.split(",") if item.strip())
    settings = None
    title = None
    files = [name for name in names if Path(name).suffix in (".yaml", ".yml")]
    if files:
        if len(names) > 1 or spec is not None:
            raise UserError(f"{files[0]}: a table file stands alone: no other name, no --spec")
        path = Path(files[0])
        title = load_table_spec(path)
        names, settings = title.experiments, load_table_settings(path)
    elif spec is not None:
        settings = load_table_settings(spec)
    if layout is not None:
        check_layout(layout, "--layout")
        settings = (settings or recorded_settings(results, names)).model_copy(update={"layout": layout})
    return build_experiments(results, names, settings, chosen, name=None if title is None else title.name)


def table_text(table: Table, format: str, standalone: bool = False) -> str:
    """A table in any format, the terminal's as it is in a pipe."""
    if format == "terminal":
        import io

        from rich.console import Console

        from harness.tables.render.terminal import print_terminal

        output = io.StringIO()
        print_terminal(table, Console(file=output))
        return output.getvalue()
    if standalone:
        from harness.tables.render.latex import latex_document

        return latex_document(table)
    from harness.tables.render.formats import render

    return render(table, format)

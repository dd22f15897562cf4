"""A table as Markdown (GitHub's pipes)."""

from __future__ import annotations

from harness.tables.build import Cell, Column, Table


def render_markdown(table: Table) -> str:
    """The table with its title, then its footnotes as a list."""
    header = ["arm", "n", *(column.header for column in table.columns)]
    lines = [f"**{table.title}**", "", _row(header), _row([":---", *["---:"] * (len(header) - 1)])]
    for arm, cells in table.cells.items():
        shown = [format_cell(cells[column.metric], column, "**{}**") for column in table.columns]
        lines.append(_row([arm, str(num_seeds(cells)), *shown]))
    return "\n".join([*lines, "", *(f"- {note}" for note in legend(table, "bold"))]) + "\n"


def legend(table: Table, mark: str) -> tuple[str, ...]:
    """The footnotes, the first one with how the best mean is marked here (if any is)."""
    marked = any(cell is not None and cell.best for row in table.cells.values() for cell in row.values())
    first, *others = table.footnotes
    return (f"{first}; {mark}: best mean" if marked else first, *others)


def num_seeds(cells: dict[str, Cell | None]) -> int:
    """The number of seeds behind a row."""
    return max((cell.count for cell in cells.values() if cell is not None), default=0)


def format_cell(cell: Cell | None, column: Column, bold: str) -> str:
    """`12.3 ± 0.4`, the mean in bold where it is best; a dash where nothing is finished."""
    if cell is None:
        return "–"
    mean = f"{cell.mean:,.{column.decimals}f}"
    if mean.strip("-0.,") == "":
        mean = mean.lstrip("-")  # no minus zero
    mean = bold.format(mean) if cell.best else mean
    return mean if cell.sd is None else f"{mean} ± {cell.sd:,.{column.decimals}f}"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

"""One table by hand that has everything a table can have, and names that mean something in every format."""

from __future__ import annotations

from dataclasses import replace

from harness.statistics.samples import Interval
from harness.tables.model import Cell, Column, Comparison, Footnote, JudgedClaim, Row, Table, TrialRef

HOSTILE = r"""a_b & 50% $x$ #1 {c} ~ ^ \d <e> |f| "g" * [h] `i`, 'j'; k"""
SEEDS = (0, 1, 2)


def cell(arm: str, *values: float, rank: int | None = None, verdict: str | None = None, planned: int = 3) -> Cell:
    """A mean over seeds, with what it is compared with where a verdict is given."""
    mean = sum(values) / len(values)
    sd = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else None
    interval = None if sd is None else Interval(mean - 2 * sd, mean + 2 * sd, 0.95, "t")
    comparison = None
    if verdict is not None:
        comparison = Comparison(
            "frozen",
            3,
            mean - 50.0,
            interval,
            12.3,
            None,
            0.01,
            0.0456,
            1.5,
            sd,
            3.0,
            verdict,  # type: ignore[arg-type]
        )
    refs = tuple(TrialRef("made", arm, seed, f"{arm[:3]}-{seed}") for seed in SEEDS[: len(values)])
    return Cell(mean, sd, len(values), planned, interval, None, rank, comparison, refs, tuple(values))


def companions(main: Cell) -> dict[str, Cell]:
    """The columns that stand beside a value."""
    against = main.comparison
    difference = None if against is None else against.difference
    delta = replace(main, value=difference, rank=None, trials=(), values=()) if difference is not None else Cell()
    relative = Cell(12.3, None, 3, 3) if against is not None else Cell()
    p = Cell(against.p_adjusted) if against is not None else Cell()
    return {"f1": main, "f1:delta": delta, "f1:relative": relative, "f1:interval": main, "f1:p_value": p}


def data_row(name: str, main: Cell, forgetting: Cell, group: str | None = None, notes: tuple[str, ...] = ()) -> Row:
    """A row of an arm."""
    cells = {
        "n": Cell(float(main.num_seeds), num_seeds=main.num_seeds, num_planned=main.num_planned),
        "lr": Cell(0.0001) if main.rank != 1 else Cell(text="cosine"),
        **companions(main),
        "forgetting": forgetting,
        "weights": Cell(1234567.0, 0.0, main.num_seeds, main.num_planned),
        "paper": Cell(48.25),
        "verdict": Cell(text="not distinguishable (interval ± 3.0)"),
    }
    return Row(name, name, cells, group, "data", notes)


F1 = ("movie", "target macro F1")
COLUMNS = (
    Column("n", "n", "count", decimals=0),
    Column("lr", "lr", "setting", decimals=None),
    Column("f1", "mean", "value", F1, "target_macro_f1", "%", "higher", 1, "all"),
    Column("f1:delta", "Δ", "delta", F1, "target_macro_f1", "points", "higher", 1),
    Column("f1:relative", "error reduction", "relative", F1, "target_macro_f1", "%", "higher"),
    Column("f1:interval", "95 % interval", "interval", F1, "target_macro_f1", "%"),
    Column("f1:p_value", "adjusted p", "p_value", F1, "target_macro_f1", decimals=None),
    Column("forgetting", "forgetting", "value", ("product",), "forgetting", "points", "lower", 2, footnotes=("b",)),
    Column("weights", "trainable parameters", "value", (), "trainable_parameters", "", None, 0),
    Column("paper", "paper", "paper", (), None, "%", None, None),
    Column("verdict", "verdict", "verdict", (), None, "", None, None),
)


def feature_table() -> Table:
    """Groups, two header rows, ranks, marks, a missing cell, uneven seeds, footnotes, a summary row, claims."""
    best = cell("add", 55.0, 56.0, 54.3, rank=1, verdict="better")
    uneven = replace(cell("odd", 49.0, 48.0), footnotes=("a",))
    rows = (
        data_row("frozen", cell("frozen", 50.0, 50.0, 50.0), cell("frozen", 0.0, 0.0, 0.0)),
        data_row("add (best)", best, cell("add", -0.75, 0.5), "Ours"),
        data_row(HOSTILE, cell("odd", 51.0, 52.5, 53.0, rank=2), cell("odd", 1.25, 1.0, 2.0, verdict="worse"), "Ours"),
        data_row("half", uneven, Cell(num_planned=3), f"Group {HOSTILE}", ("a",)),
    )
    mean = {column.id: Cell() for column in COLUMNS} | {"f1": cell("frozen", 51.2, 51.9, 50.5, rank=1)}
    claim = JudgedClaim(
        "c1", f"adapters help {HOSTILE}", "F1: add is higher than frozen", "upheld", 5.1, Interval(2.0, 8.2, 0.95, "t"),
        "points", 3, "2026-01-02T03:04:05+00:00", True,
    )  # fmt: skip
    undecided = JudgedClaim("c2", "less is lost", "forgetting falls", "undecided", None, None, "points", 0)
    return Table(
        name="features/of it",
        title=f"Features {HOSTILE}",
        columns=COLUMNS,
        rows=(*rows, Row("mean", "mean", mean, kind="summary")),
        footnotes=(
            Footnote("mean ± sample standard deviation over the finished seeds (n)", kind="seeds"),
            Footnote("half: n = 2 of 3: seed 2 failed (nan)", "a", "missing"),
            Footnote(f"note {HOSTILE}", "b", "data"),
        ),
        claims=(claim, undecided),
        experiments=("made",),
        baseline="frozen",
        spec={"metrics": ["target_macro_f1"]},
    )

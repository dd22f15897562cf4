"""Tables as pure functions of records, for the command line and as a library. Loads neither torch nor pandas.

    table = build_table(RecordStore(Path("results"), "text_strategies"))
    table.cell("residual_add", "target_macro_f1").comparison.p_adjusted
    render(table, "tex"), to_frame(table), print_terminal(table)

`model` says what a table is; `build` makes one from records and settings; every format is rendered from the model.
"""

from harness.config.table import MetricSettings, TableSettings, TableSpec, load_table_spec
from harness.tables.build import build_experiments, build_spec, build_table
from harness.tables.model import Cell, Column, Comparison, Interval, JudgedClaim, Row, Table, TrialRef
from harness.tables.plain_forms import parse_json, to_frame
from harness.tables.render.formats import FORMATS, render
from harness.tables.render.html import render_html
from harness.tables.render.latex import latex_document
from harness.tables.render.terminal import print_terminal

__all__ = [
    "FORMATS",
    "Cell",
    "Column",
    "Comparison",
    "Interval",
    "JudgedClaim",
    "MetricSettings",
    "Row",
    "Table",
    "TableSettings",
    "TableSpec",
    "TrialRef",
    "build_experiments",
    "build_spec",
    "build_table",
    "latex_document",
    "load_table_spec",
    "parse_json",
    "print_terminal",
    "render",
    "render_html",
    "to_frame",
]

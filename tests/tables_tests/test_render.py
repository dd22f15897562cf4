"""One table in every format: the same numbers everywhere, each format valid in itself."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from harness.checks.findings import Findings
from harness.checks.table_checks import check_rendering
from harness.config.table import TableSettings
from harness.errors import UserError
from harness.metrics import RECORDED
from harness.tables.build import build_experiments, build_table
from harness.tables.format import CellText, Formatter, format_number, format_p
from harness.tables.model import Cell, Column, Table
from harness.tables.plain_forms import flat_rows, to_frame
from harness.tables.render.formats import FORMATS, format_for, render
from harness.tables.render.html import render_html
from harness.tables.render.json import read_json
from harness.tables.render.latex import latex_document, render_latex
from harness.tables.render.latex_text import escape
from harness.tables.render.markdown import render_markdown
from harness.tables.render.terminal import print_terminal

from .features import HOSTILE, feature_table
from .golden_experiments import write_all
from .latex_braces import unbalanced
from .records_by_hand import Outcome, text_metrics, write_records

GOLDEN = Path(__file__).parent / "golden"
REFERENCE = {
    "paper": "simadapter",
    "rows": {"relative_reduction": "Relative reduction"},
    "columns": {"simadapter": "SimAdapter", "meta_adapter": "MetaAdapter"},
}
TRENDS = {
    "type": "trend",
    "text": "adapters gain most where data is least",
    "metric": "target_wer",
    "arm": "simadapter",
    "than": "full_fine_tuning",
    "along": "data.train_limit",
    "log": True,
    "expect": "decreasing",
}
TARGETS = ("speech_ro", "speech_cs", "speech_ar")
STATISTICS = {"metric": "target_wer", "show": ["value", "delta", "relative", "interval", "p_value"]}
GROUPS = {"Baselines": ["frozen", "full_fine_tuning"], "Fusion & co. (50% of _all_)": ["adapter", "simadapter"]}
SPECS: dict[str, tuple[tuple[str, ...], dict[str, object] | None]] = {
    "arms": (("speech_ar",), None),
    "ablation": (("components",), None),
    "effects": (("grid",), {"layout": "effects"}),
    "adapterfusion": (TARGETS, {"layout": "adapterfusion", "baseline": "frozen"}),
    "simadapter": (TARGETS, {"layout": "simadapter", "claims": [TRENDS], "title": "WER on three targets"}),
    "reference": (TARGETS, {"layout": "simadapter", "reference": REFERENCE}),
    "reference_rows": (TARGETS, {"layout": "simadapter", "reference": {**REFERENCE, "show": "rows"}}),
    "damage_control": (("tuned",), {"layout": "damage_control", "baseline": "frozen"}),
    "nemo_grid": (("searched",), {"layout": "nemo_grid"}),
    "statistics": (
        ("speech_cs",),
        {"metrics": [STATISTICS], "baseline": "frozen", "groups": GROUPS, "settings": ["adapter.dim", "optim.lr"]},
    ),
    "intervals": (("tuned",), {"spread": "interval", "count": "always", "metrics": ["target_cer", "forgetting"]}),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_all(folder)
    return folder


@pytest.fixture(scope="module")
def tables(results: Path) -> dict[str, Table]:
    return {
        name: build_experiments(
            results, names, None if spec is None else TableSettings.model_validate(spec), name=f"golden_{name}"
        )
        for name, (names, spec) in SPECS.items()
    }


@pytest.fixture(params=SPECS)
def results_table(request: pytest.FixtureRequest, tables: dict[str, Table]) -> Table:
    return tables[request.param]


@pytest.fixture(params=[*SPECS, "features"])
def table(request: pytest.FixtureRequest, tables: dict[str, Table]) -> Table:
    return feature_table() if request.param == "features" else tables[request.param]


def on_terminal(table: Table, width: int | None = None) -> str:
    """What is printed into a pipe, or on a terminal of some width."""
    output = io.StringIO()
    print_terminal(table, Console(file=output, force_terminal=width is not None, width=width, color_system=None))
    return output.getvalue()


def shown(table: Table) -> list[list[str]]:
    """What every row must show: label, then each cell's text without marks of rank and footnotes."""
    formatter = Formatter(table)
    return [
        [row.label, *(formatter.cell(row.cells[column.id], column).plain for column in table.columns)]
        for row in table.rows
    ]


# Golden files: regenerate with `python -m tables_tests.write_golden` in tests/, and read the difference. The numbers of
# every table are in its JSON; one table that has everything stands for each format.


def test_golden(results_table: Table) -> None:
    path = GOLDEN / f"{results_table.name.removeprefix('golden_')}.json"
    found = Findings()  # as `verify` compares: the last digits of intervals and p-values are the processor's
    check_rendering(path.name, path.read_bytes(), results_table, FORMATS["json"], found)
    assert found.drifts == []


@pytest.mark.parametrize("format", FORMATS)
def test_golden_format(format: str) -> None:
    path = GOLDEN / f"features.{FORMATS[format].suffix}"
    assert render(feature_table(), format) == path.read_text(encoding="utf-8")


def test_every_golden_file_belongs_to_a_table() -> None:
    own = {f"{name}.json" for name in SPECS} | {f"features.{format.suffix}" for format in FORMATS.values()}
    assert {path.name for path in GOLDEN.iterdir()} == own


# What holds for every format.


def test_suffixes_are_distinct() -> None:
    suffixes = [format.suffix for format in FORMATS.values()]
    assert len(set(suffixes)) == len(suffixes)


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_gives_the_same_text_again(table: Table, format: str) -> None:
    text = render(table, format)
    assert text.endswith("\n") and text == render(read_json(render(table, "json")), format)


@pytest.mark.parametrize("format", FORMATS)
def test_names_cannot_change_a_formats_structure(table: Table, format: str) -> None:
    """Names that mean something in a format take as many lines as names of letters."""
    plain, hostile = renamed(table, "x" * len(HOSTILE)), renamed(table, HOSTILE)
    assert render(hostile, format).count("\n") == render(plain, format).count("\n")


def renamed(table: Table, by: str) -> Table:
    """The table with other labels, groups, headers, title and footnotes; different ones stay different."""
    numbers: dict[str, int] = {}

    def name(text: str) -> str:
        return f"{by}{numbers.setdefault(text, len(numbers))}" if text else ""

    rows = tuple(replace(r, label=name(r.label), group=None if r.group is None else name(r.group)) for r in table.rows)
    columns = tuple(
        replace(c, header=name(c.header), groups=tuple(map(name, c.groups)), unit=name(c.unit)) for c in table.columns
    )
    notes = tuple(replace(note, text=name(note.text)) for note in table.footnotes)
    return replace(
        table, rows=rows, columns=columns, footnotes=notes, title=name(table.title), corner=name(table.corner)
    )


def test_a_format_is_chosen_by_name_or_by_the_files_suffix() -> None:
    assert format_for(None, None) == "terminal"
    for name, format in FORMATS.items():
        assert format_for(name, "table.other") == format_for(None, f"my.{format.suffix}") == name
    for wrong in ((None, "table.pdf"), ("pdf", None), (None, "md")):
        with pytest.raises(UserError) as caught:
            format_for(*wrong)
        assert all(format.suffix in str(caught.value) or name in str(caught.value) for name, format in FORMATS.items())


# The same numbers in every format.


def test_markdown_shows_the_numbers(table: Table) -> None:
    lines = [line for line in render_markdown(table).splitlines() if line.startswith("|")]
    lines = lines[: 2 + len(table.rows) + sum(group is not None for group, _ in table.row_groups)]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    assert {len(row) for row in rows} == {1 + len(table.columns)}
    assert all(re.fullmatch(r" :?-{3,}:? ", cell) for cell in rows[1])
    bodies = [row for row in rows[2:] if any(cell.strip() for cell in row[1:])]
    unmarked = [[re.sub(r"<sup>.*?</sup>|</?ins>|(?<!\\)\*+", "", cell).strip() for cell in row] for row in bodies]
    assert [[re.sub(r"\\(.)", r"\1", cell) for cell in row] for row in unmarked] == shown(table)


def test_terminal_shows_the_numbers(table: Table) -> None:
    lines = [line[1:-1].split("│") for line in on_terminal(table).splitlines() if line.startswith("│")]
    bodies = [[cell.strip() for cell in line] for line in lines if any(cell.strip() for cell in line[1:])]
    assert len(bodies) == len(table.rows)
    superscripts = str.maketrans("", "", "ᵃᵇᶜᵈᵉ\u00a0")
    for line, expected in zip(bodies, shown(table), strict=True):
        for found, text in zip(line, expected, strict=True):
            bare = found.translate(superscripts)
            bare = re.sub(r"^\[([-+\d,.]+)\]|^\(([-+\d,.]+)\)", lambda m: m.group(1) or m.group(2), bare)
            assert " ".join(bare.split()) == text


class CellReader(HTMLParser):
    """Reads ids, and the text of each cell of the first table's body."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.values: list[dict[str, str | None]] = []
        self._skipped = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if "id" in attributes:
            self.ids.append(str(attributes["id"]))
        if tag in ("meta", "br"):
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self.values.append(attributes)
        self._skipped += tag == "sup"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"
        self._skipped -= tag == "sup"

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and {"td", "th"} & set(self.open) and not self._skipped:
            self.rows[-1][-1] += data


def test_html_shows_the_numbers_and_is_valid(table: Table) -> None:
    reader = CellReader()
    reader.feed(render_html(table))
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    bodies = [row for row in reader.rows if len(row) == 1 + len(table.columns)]
    rows = [row for row in bodies if row[0] in {row.label for row in table.rows}][: len(table.rows)]
    assert rows == shown(table)
    values = {
        (v["data-row"], v["data-column"]): v.get("data-value")
        for v in reader.values
        if "data-column" in v and "data-row" in v
    }
    for row, column, cell in table:
        found = values[row.id, column.id]
        assert (None if found is None else float(found)) == cell.value
    text = render_html(table)
    assert text.count("<caption") >= 1
    assert '<th scope="row"' in text and 'scope="col"' in text


def test_csv_has_the_numbers(table: Table) -> None:
    lines = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert [line["row"] for line in lines] == [row.id for row in table.rows]
    for line, row in zip(lines, table.rows, strict=True):
        for column in table.columns:
            cell = row.cells[column.id]
            if column.kind in ("value", "delta", "relative", "paper"):
                assert line[column.id] == ("" if cell.value is None else repr(cell.value))
            if column.kind in ("value", "delta", "relative"):
                assert line[f"{column.id} n"] == str(cell.num_seeds)
                assert line[f"{column.id} low"] == ("" if cell.interval is None else repr(cell.interval.low))


def test_json_reads_back_into_the_same_table(table: Table) -> None:
    assert read_json(render(table, "json")) == table
    assert "NaN" not in render(table, "json")


def test_json_of_another_version_is_refused(tables: dict[str, Table]) -> None:
    content = json.loads(render(tables["arms"], "json"))
    with pytest.raises(UserError, match="version 99, but this harness reads version 1"):
        read_json(json.dumps({**content, "version": 99}))
    del content["rows"]
    with pytest.raises(UserError, match=r"table\.json: rows: "):
        read_json(json.dumps(content))


def test_the_data_frame_has_the_numbers(table: Table) -> None:
    frame = to_frame(table)
    names, lines = flat_rows(table)
    assert list(frame.index) == [row.id for row in table.rows]
    assert list(frame.columns) == names[1:]
    for column in table.columns:
        if column.kind == "value":
            found = [None if value != value else value for value in frame[column.id].tolist()]
            assert found == [row.cells[column.id].value for row in table.rows]
    assert len(lines) == len(frame)


def test_latex_shows_the_numbers(table: Table) -> None:
    text = render_latex(table)
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if " & " in line]
    assert len(lines) == len(table.rows)
    for found, expected in zip(lines, shown(table), strict=True):
        line = found.replace(r"\textasteriskcentered", "")
        plain = re.sub(r"\\textsuperscript\{\w+\}|\\(h|v)?phantom\{[^}]*\}|\\underline|\\bfseries|\\quad", "", line)
        plain = plain.replace(r"$\pm$", "±").replace("$-$", "-").replace("$+$", "+").replace(r"\textendash", "–")
        plain = re.sub(r"\\textsuperscript\{\*\}", "*", plain).replace(r"\,", " ")
        plain = re.sub(r"[{}\\$&~ ]", "", plain)
        wanted = escape("".join(expected).replace("*", "")).replace(r"\textendash", "–").replace(r"$\times$", "times")
        wanted = re.sub(r"[{}\\$&~ ,]", "", wanted.replace(r"$\pm$", "±"))
        assert plain.replace("*", "").replace(",", "") == wanted


def test_latex_balances(table: Table) -> None:
    assert unbalanced(render_latex(table)) is None
    assert unbalanced(latex_document(table)) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "1 braces are not closed"),
        ("}", "line 1: a brace is closed that was not opened"),
        ("\\{", None),
        ("\\\\{}", None),
        ("% {", None),
        ("\\%{", "1 braces are not closed"),
        ("\\begin{a}", "\\begin{a} is not ended"),
        ("\\begin{a}\\end{b}", "\\end{b} closes no environment"),
        ("\\end{a}", "\\end{a} closes no environment"),
    ],
)
def test_the_brace_check_can_fail(text: str, problem: str | None) -> None:
    assert unbalanced(text) == problem


@pytest.mark.latex
def test_latex_compiles(table: Table, tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(latex_document(table), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, errors="replace")
    assert result.returncode == 0, result.stdout[-2000:]
    assert "Overfull" not in result.stdout
    assert (tmp_path / "table.pdf").stat().st_size > 1000


@pytest.mark.latex
def test_any_text_compiles(tmp_path: Path) -> None:
    nasty = r"""a_b & 50% $x$ #1 {c} ~ ^ \d <e> |f| "g" * [h] ± × ↑ ↓ → Δ λ – — − ≤ ≥ … é"""
    arms: dict[str, dict[int, Outcome]] = {nasty: {0: text_metrics(0.5)}, "[b]": {0: text_metrics(0.6)}}
    ids = {nasty: {0: "first"}, "[b]": {0: "[b]-0"}}
    store = write_records(tmp_path / "results", {"[b]": arms["[b]"], "first": arms[nasty]})
    manifest = store.manifest().model_copy(update={"arms": {nasty: {0: "first-0"}, "[b]": ids["[b]"]}})
    store.write_manifest(manifest)
    table = build_table(store, None, TableSettings(title=nasty, groups={nasty: (nasty, "[b]")}))
    (tmp_path / "table.tex").write_text(latex_document(table), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, errors="replace")
    assert result.returncode == 0, result.stdout[-2000:]


# What each format does with marks.


ARMS: dict[str, dict[int, Outcome]] = {
    "frozen": {0: text_metrics(0.5, trainable_share=0.0), 1: text_metrics(0.5, trainable_share=0.0)},
    "residual|add": {0: text_metrics(0.7, forgetting=-0.01), 1: text_metrics(0.74, forgetting=-0.02)},
    "[half]": {0: text_metrics(0.7), 1: "failed:nan"},
    "nothing": {0: None, 1: None},
}


@pytest.fixture
def odd(tmp_path: Path) -> Table:
    return build_table(write_records(tmp_path, ARMS, notes={"frozen-0": ("made with [synthetic] speech",)}))


def test_terminal_names_arms_and_notes_as_they_are(odd: Table) -> None:
    """Brackets are rich's markup; here they are text."""
    text = on_terminal(odd)
    assert "│ [half]ᵃ " in text
    assert "  made with [synthetic] speech\n" in text
    assert "  ᵃ [half]: n = 1 of 2: seed 1 failed (nan)\n" in text
    assert "│ 1/2 │" in text and "│ 0/2 │" in text


def test_a_pipe_marks_the_best_and_says_how(odd: Table) -> None:
    text = on_terminal(odd)
    assert " [72.0] ± 2.8 │" in text
    assert "; [x]: best mean, (x): second best (a ranking of the printed means, no test)" in text
    assert "[bold]" not in text


def test_a_terminal_shows_the_best_in_bold(odd: Table) -> None:
    output = io.StringIO()
    print_terminal(odd, Console(file=output, force_terminal=True, width=250, color_system="standard"))
    assert "\x1b[1m72.0\x1b[0m ± 2.8" in output.getvalue()
    assert "\x1b[4m70.0\x1b[0m" in output.getvalue()
    assert "[72.0]" not in output.getvalue()
    assert "; bold: best mean, underlined: second best (a ranking of the printed means, no test)" in output.getvalue()


def test_no_best_no_legend(tmp_path: Path) -> None:
    alone = build_table(write_records(tmp_path, {"a": {0: text_metrics(0.5), 1: text_metrics(0.6)}}))
    seeds = next(line for line in render_markdown(alone).splitlines() if line.startswith("- "))
    assert seeds.endswith("n = 2 seeds") and "best" not in seeds


def test_a_wide_table_in_a_pipe_is_not_cut(tmp_path: Path) -> None:
    every = {metric: 0.456 for metric in RECORDED if metric not in ("seconds", "peak_memory_mb", "best_epoch")}
    store = write_records(tmp_path, {"a": {0: every, 1: every}, "b": {0: every, 1: every}})
    wide = build_table(store, tuple(RECORDED))
    text = on_terminal(wide)
    assert "…" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("│ a ")]
    assert row.count("│") == len(RECORDED) + 2
    percent = sum(RECORDED[m].unit in ("%", "points") for m in RECORDED)
    assert row.count("45.6 ± 0.0") == percent - 1  # the share of weights is a cost: no spread where it never varies


def test_a_narrow_terminal_folds_and_cuts_nothing(odd: Table) -> None:
    text = on_terminal(odd, width=72)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 72


@pytest.mark.parametrize(
    ("value", "decimals", "signed", "text"),
    [
        (12.345, 1, False, "12.3"),
        (12.345, 2, False, "12.35"),
        (-0.04, 1, False, "0.0"),
        (-0.04, 1, True, "0.0"),
        (-0.06, 1, False, "-0.1"),
        (0.06, 1, True, "+0.1"),
        (-0.0, 1, False, "0.0"),
        (1234567.0, 0, False, "1,234,567"),
        (0.001, None, False, "0.001"),
        (100.0, 1, False, "100.0"),
    ],
)
def test_format_number(value: float, decimals: int | None, signed: bool, text: str) -> None:
    assert format_number(value, decimals, signed=signed) == text


@pytest.mark.parametrize(("p", "text"), [(0.0004, "<0.001"), (0.001, "0.001"), (0.0499, "0.050"), (1.0, "1.000")])
def test_format_p(p: float, text: str) -> None:
    assert format_p(p) == text


def test_a_missing_cell_is_a_dash(odd: Table) -> None:
    formatter = Formatter(odd)
    assert formatter.cell(Cell(num_planned=2), Column("m", "m")) == CellText("–")


def test_unknown_format(odd: Table) -> None:
    with pytest.raises(UserError) as caught:
        render(odd, "pdf")
    assert all(word in str(caught.value) for word in ("'pdf'", *FORMATS))


def test_a_format_without_a_document_of_its_own(odd: Table) -> None:
    assert render(odd, "tex", standalone=True) == latex_document(odd)
    with pytest.raises(UserError) as caught:
        render(odd, "csv", standalone=True)
    assert "csv" in str(caught.value) and "tex" in str(caught.value)


FORMULAS = ("=1+1", "+HYPERLINK(1)", "-2+3", "@SUM(A1)")


def test_a_spreadsheet_runs_no_name_as_a_formula() -> None:
    table = feature_table()
    rows = [replace(row, label=label) for row, label in zip(table.rows, FORMULAS, strict=False)]
    (lines,) = [list(csv.reader(io.StringIO(render(replace(table, rows=tuple(rows)), "csv"))))]
    assert [line[1] for line in lines[1:]] == [f"'{label}" for label in FORMULAS]
    cells = [cell for line in lines for cell in line]
    assert not any(cell.startswith(("=", "+", "@")) for cell in cells)
    assert all(re.fullmatch(r"-[0-9.e-]+", cell) for cell in cells if cell.startswith("-"))  # numbers stay numbers


def test_a_name_is_no_link_and_no_formula_in_markdown() -> None:
    table = feature_table()
    label = "[me](javascript:x) $\\frac{1}{2$ ~~no~~"
    rows = (replace(table.rows[0], label=label), *table.rows[1:])
    assert "[me\\](javascript:x) \\$\\\\frac{1}{2\\$ \\~~no\\~~ |" in render(replace(table, rows=rows), "md")


def test_a_name_does_not_steer_the_terminal() -> None:
    table = feature_table()
    rows = (replace(table.rows[0], label="\x1b[31mred\u202eder\x07"), *table.rows[1:])
    text = on_terminal(replace(table, title="\x1b]0;title\x07", rows=rows))
    assert r"\x1b[31mred\u202eder\x07" in text and r"\x1b]0;title\x07" in text
    assert not set(text) & set("\x1b\x07\u202e")

"""Build one self-contained HTML page: no network, no server, and the same bytes for the same records.

The page has one style element and one script element; both are named by their digests in its Content-Security-Policy,
which forbids everything else: no request can leave the page, and text from records or corpora can never run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.disk import write_atomically
from harness.errors import UserError
from harness.figures.style import save
from harness.metrics import metric_words
from harness.report.drawings import Drawing, make_drawings
from harness.report.example_texts import ExampleTexts, find_examples
from harness.report.inline_svg import StyleSheet, inline_svg, to_svg
from harness.report.methods import write_methods
from harness.report.settings_view import Grid, arms_grid, space_grid, winners_grid
from harness.report.sources import Sources
from harness.report.trial_lists import provenance_grid, search_counts, search_grid, unfinished_grid
from harness.tables.model import Table

HERE = Path(__file__).parent
STATISTICS_NOTES = ("seeds", "interval", "test")


@dataclass(frozen=True)
class Section:
    """A section of the page, for its navigation."""

    id: str
    title: str


@dataclass(frozen=True)
class InlineFigure:
    """A figure as it stands on the page."""

    name: str
    title: str
    caption: str
    svg: Markup


def build_page(sources: Sources, figures_folder: Path | None = None) -> str:
    """The whole page.

    Args:
        figures_folder: where every figure is also written as SVG and PDF; None for nowhere.
    """
    sheet = StyleSheet()
    drawings = [(drawing, to_svg(drawing.figure)) for drawing in make_drawings(sources)]
    if figures_folder is not None:
        for drawing, document in drawings:
            save(drawing.figure, figures_folder, drawing.name, ("pdf",))
            write_atomically(figures_folder / f"{drawing.name}.svg", document.encode())
    figures = {
        section: inline_figures(drawings, section, sheet) for section in ("curves", "tradeoff", "search", "attention")
    }
    table, fragment = results_table(sources)
    notes = [note.text for note in table.footnotes if note.kind in STATISTICS_NOTES] if table is not None else []
    context: dict[str, Any] = {
        "sources": sources,
        "title": title_of(sources, table),
        "facts": facts_of(sources),
        "table": table,
        "fragment": fragment,
        "methods": write_methods(sources, notes),
        "grids": setting_grids(sources),
        "figures": figures,
        "examples": find_examples(sources) if sources.manifest is not None else ExampleTexts(SEALED, ()),
        "unfinished": [
            grid for grid in (unfinished_grid(sources), search_counts(sources), search_grid(sources)) if grid
        ],
        "provenance": provenance_grid(sources),
    }
    context["sections"] = sections_of(context)
    return fill(context, sheet)


SEALED = "No test data is read before the confirm phase, so no test example is shown."


def fill(context: dict[str, Any], sheet: StyleSheet) -> str:
    """Fill the template; every text is escaped, and style and script get their digests into the policy."""
    style = (HERE / "report.css").read_text(encoding="utf-8") + sheet.css
    script = (HERE / "report.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"breakable": breakable, "typeset": typeset}
    policy = (
        f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    template = environment.get_template("report.html.j2")
    return template.render(**context, style=Markup(style), script=Markup(script), policy=policy)


def breakable(text: str) -> Markup:
    """Allow line breaks after underscores, slashes and dots within a name (of an arm, a setting, a metric)."""
    return Markup(re.sub(r"(?<=\w)([_/.])(?=[A-Za-z])", r"\1<wbr>", str(escape(text))))


def typeset(text: str) -> str:
    """Typeset running text: no line break before a unit, curly apostrophes, a real minus sign."""
    text = re.sub(r"(?<=\d) (?=%|s\b|MB\b)", "\u00a0", text)
    text = re.sub(r"(?<=\w)'(?=\w|\s)", "’", text)
    return re.sub(r"(?<![\w-])-(?=\d)", "−", text)


def digest(text: str) -> str:
    """A source expression of a Content-Security-Policy that allows exactly this inline text."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def inline_figures(drawings: Sequence[tuple[Drawing, str]], section: str, sheet: StyleSheet) -> list[InlineFigure]:
    """The section's figures; each drawing comes with its SVG document."""
    return [
        InlineFigure(
            drawing.name,
            drawing.title,
            drawing.caption,
            Markup(inline_svg(document, f"f{number}-", drawing.words, sheet, drawing.themed)),
        )
        for number, (drawing, document) in enumerate(drawings)
        if drawing.section == section
    ]


def results_table(sources: Sources) -> tuple[Table | None, Markup]:
    """The table of the confirm phase, and its HTML."""
    if sources.manifest is None:
        return None, Markup("")
    from harness.tables.build import build_table
    from harness.tables.render.html import render_html

    table = build_table(sources.store)
    return table, Markup(render_html(replace(table, claims=())))  # the page has a section for claims


def title_of(sources: Sources, table: Table | None) -> str:
    """The page's title."""
    if table is not None:
        return table.title
    return f"{sources.name}: the search, before its winners are confirmed"


def facts_of(sources: Sources) -> list[tuple[str, str]]:
    """A line of figures under the title."""
    facts = []
    if sources.manifest is not None:
        complete = sum(1 for _ in sources.complete())
        facts += [("rows", str(len(sources.arms))), ("seeds", str(len(sources.seeds))), ("trials", f"{complete:,}")]
    if sources.search is not None:
        facts.append(("search trials", f"{len(sources.search.points):,}"))
    return facts


def setting_grids(sources: Sources) -> list[Grid]:
    """Tables of settings: the winners, the search space, the differences between arms."""
    grids = []
    if sources.frozen is not None and sources.search is not None:
        goal = sources.search.objectives[0].metric
        grids.append(winners_grid(sources.frozen, goal, metric_words(goal)))
    if sources.search is not None:
        grids.append(space_grid(sources.search.axes))
    arms = arms_grid(sources.configs)
    return [*grids, arms] if arms is not None else grids


def sections_of(context: dict[str, Any]) -> list[Section]:
    """The sections that have something in them, in order."""
    figures = context["figures"]
    table = context["table"]
    candidates = [
        ("results", "Results", table is not None),
        ("claims", "Claims", table is not None and bool(table.claims)),
        ("methods", "How it was made", bool(context["methods"] or context["grids"])),
        ("curves", "Learning curves", bool(figures["curves"])),
        ("tradeoff", "Forgetting against gain", bool(figures["tradeoff"])),
        ("search", "The search", bool(figures["search"])),
        ("examples", "What changed", True),
        ("attention", "Attention", bool(figures["attention"])),
        ("unfinished", "Failed and pruned trials", bool(context["unfinished"])),
        ("provenance", "Provenance", True),
    ]
    return [Section(id, title) for id, title, there in candidates if there]


def write_report(sources: Sources, out: Path | None) -> tuple[Path, Path]:
    """Write the page and its figures.

    Args:
        out: the page's file; None for `report.html` in the results folder.

    Returns:
        the page's file, and the folder of the figures (beside the records).

    Raises:
        UserError: `out` is a folder, or its folder does not exist.
    """
    path = out or sources.store.path / "report.html"
    if path.is_dir():
        raise UserError(f"--out {path}: is a folder; name a file, as in {path / 'report.html'}")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: no folder {path.parent}")
    figures = sources.store.path / "figures"
    page = build_page(sources, figures)
    write_atomically(path, page.encode())
    return path, figures

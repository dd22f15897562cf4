"""From records to a table: trials into cells, cells compared and ranked, rows and columns laid out, footnotes written.

A cell is never a bare number: it knows its seeds, its interval, its trials and its comparison with the baseline; the
footnotes say what is missing, what failed, and what a reader must know of the data. The same records and settings give
the same table, whatever machine builds it. Loads neither pandas nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.config.messages import validated
from harness.config.rows import find_rows
from harness.config.table import TableSettings, check_layout, check_statements, metric_name
from harness.config.trees import MISSING
from harness.errors import UserError, must_be_in
from harness.garbage import no_search_for_garbage
from harness.records.store import MANIFEST, RecordStore
from harness.tables.claims import judge_claims
from harness.tables.columns import expand_columns, row_cells
from harness.tables.effects import effects_table
from harness.tables.footnotes import write_footnotes
from harness.tables.layouts import apply_layout
from harness.tables.left_out import dropped_claims
from harness.tables.load import Loaded, load_experiments
from harness.tables.model import Footnote, Row, Table
from harness.tables.names import dimension_header, key_id, part_label, part_text
from harness.tables.pivot import Key, Pivot, make_pivot, setting_choices
from harness.tables.plans import plan_columns
from harness.tables.references import add_reference
from harness.tables.select import select_trials
from harness.tables.summary_rows import mean_weights, summary_rows
from harness.tables.value_cells import make_value_cells


def build_table(
    store: RecordStore, metrics: Sequence[str] | None = None, settings: TableSettings | None = None
) -> Table:
    """Build one experiment's table from its records.

    Args:
        metrics: the columns; None takes those of the settings, or the task's usual ones.
        settings: None takes what the experiment was launched with.

    Raises:
        UserError: no such experiment, no finished trial, or settings that do not fit its records (the choices are
            named).
    """
    return build_experiments(store.path.parent, (store.name,), settings, metrics)


def build_experiments(
    results: Path,
    names: Sequence[str],
    settings: TableSettings | None = None,
    metrics: Sequence[str] | None = None,
    *,
    name: str | None = None,
) -> Table:
    """Build one table from one or several experiments.

    Args:
        name: the table's name; by default the experiments'.

    Raises:
        UserError: as `build_table`.
    """
    with no_search_for_garbage():  # it would look at every record again and again: a third of the time
        return _build(results, names, settings, metrics, name)


def _build(
    results: Path,
    names: Sequence[str],
    settings: TableSettings | None,
    metrics: Sequence[str] | None,
    name: str | None,
) -> Table:
    if settings is None:
        settings = recorded_settings(results, names)
    if metrics:
        settings = settings.model_copy(update={"metrics": tuple(metrics)})
    check_layout(settings.layout, "table.layout")
    if settings.layout is not None and shows_search(settings.layout, results, names):
        settings = settings.model_copy(update={"phase": "search"})
    loaded = load_experiments(results, names, settings.phase)
    if not any(trial.complete for trial in loaded.trials):
        raise UserError(f"{loaded.path}: no trial of {loaded.names} is finished, so there is nothing to tabulate")
    settings = apply_layout(settings, loaded)
    shown = loaded.by_method((*settings.rows, *settings.columns))
    settings, remarks = _with_baseline_row(settings, shown)
    check_settings(settings, shown)
    table_name = name or "-".join(names)
    if settings.layout == "effects":
        table = effects_table(shown, settings, table_name)
    else:
        table = _pivot_table(shown, settings, table_name)
    table = replace(table, footnotes=(*table.footnotes, *remarks))
    if settings.phase == "search":
        return table  # claims are about test metrics, which no trial of a search has
    claims, notes = judge_claims(settings, loaded)
    return replace(table, claims=claims, footnotes=(*table.footnotes, *notes, *dropped_claims(loaded, settings)))


def recorded_settings(results: Path, names: Sequence[str], layout: str | None = None) -> TableSettings:
    """The table settings that an experiment was launched with. Of several experiments, only the first one's baseline.

    Args:
        layout: a layout that was asked for instead of the recorded one. Of a sweep's search nothing recorded is taken
            over: metrics, arms, groups and claims are those of the confirm phase.

    Raises:
        UserError: an experiment has not been run, or its manifest's settings are of another version.
    """
    if layout is not None:
        searched = shows_search(layout, results, names)
        return (TableSettings() if searched else recorded_settings(results, names)).model_copy(
            update={"layout": layout}
        )
    if not (results / names[0] / MANIFEST).exists() and (results / names[0] / "search.json").exists():
        return TableSettings(phase="search")  # a sweep that is still searching, or was never confirmed
    manifest = RecordStore(results, names[0]).manifest()
    settings = validated(TableSettings, manifest.table, f"{results / names[0]}: experiment.json: table")
    return settings if len(names) == 1 else TableSettings(baseline=settings.baseline)


def shows_search(layout: str, results: Path, names: Sequence[str]) -> bool:
    """Whether a layout shows the searches of these sweeps: a grid is the search, as winners alone make none."""
    return layout == "nemo_grid" and all((results / name / "search.json").exists() for name in names)


def _with_baseline_row(settings: TableSettings, loaded: Loaded) -> tuple[TableSettings, tuple[Footnote, ...]]:
    """The settings with the baseline's arm replaced by its row; of an arm with several rules, the first, and a remark.

    A search trains only the arms that search something, so its table can lack the baseline (`frozen`) and some arms.
    """
    if settings.phase == "search":
        known = {name: bool(find_rows(name, loaded.rows)) for name in (*(settings.arms or ()), settings.baseline or "")}
        arms = tuple(name for name in settings.arms or () if known[name]) or None
        baseline = settings.baseline if known[settings.baseline or ""] else None
        settings = settings.model_copy(update={"arms": arms, "baseline": baseline})
    if settings.baseline is None:
        return settings, ()
    row, remark = loaded.row_meant(settings.baseline, "table.baseline")
    remarks = (Footnote(f"baseline: {remark}", kind="test"),) if remark else ()
    return settings.model_copy(update={"baseline": row}), remarks


def check_settings(settings: TableSettings, loaded: Loaded) -> None:
    """Refuse settings that the records do not have.

    Raises:
        UserError: no record has a setting or a metric.
    """
    for setting in settings.settings:
        if all(trial.coordinate(setting) is MISSING for trial in loaded.trials):
            choices = setting_choices(loaded.trials)
            raise UserError(f"table.settings: no trial of {loaded.names} has a setting {setting!r}; {choices}")
    for entry in settings.metrics:
        metric = metric_name(entry)
        check_statements(entry, "table.metrics")
        if not any(trial.metric(metric) is not None for trial in loaded.trials):
            choices = ", ".join(loaded.metric_names())
            raise UserError(f"table: no metric {metric!r} in the records of {loaded.names}; choices: {choices}")


def _pivot_table(loaded: Loaded, settings: TableSettings, name: str) -> Table:
    trials = select_trials(loaded, settings.arms, settings.where)
    pivot = make_pivot(trials, settings, loaded)
    plans = plan_columns(pivot, settings, loaded)
    values = make_value_cells(pivot, plans, settings, mean_weights(pivot, settings))
    columns = expand_columns(pivot, plans, values, settings)
    rows = [
        Row(
            id=key_id(pivot.rows, key),
            label=part_label(pivot.rows[-1], key[-1], settings.labels, named=False),
            cells=row_cells(number, pivot, plans, values, settings, columns),
            group=_group_of(pivot, key, settings) if len(key) > 1 else None,
        )
        for number, key in enumerate(pivot.row_keys)
    ]
    below = summary_rows(pivot, plans, values, settings, columns)
    table = Table(
        name=name,
        title=_title(loaded, settings),
        columns=tuple(columns),
        rows=(*rows, *below),
        corner=settings.labels.get(pivot.rows[-1], dimension_header(pivot.rows[-1])),
        experiments=tuple(manifest.name for manifest in loaded.manifests),
        baseline=settings.baseline,
        alpha=settings.alpha,
        spread=settings.spread,
        spec=settings.recorded(),
    )
    table = write_footnotes(table, loaded, trials, pivot, plans, values, settings)
    marked = table.rows[: len(rows)]
    table = replace(table, rows=(*_in_groups(marked, settings, loaded), *table.rows[len(rows) :]))
    return add_reference(table, settings)


def _group_of(pivot: Pivot, key: Key, settings: TableSettings) -> str:
    parts = zip(pivot.rows[:-1], key[:-1], strict=True)
    return ", ".join(part_label(name, value, settings.labels, named=True) for name, value in parts)


def _in_groups(rows: Sequence[Row], settings: TableSettings, loaded: Loaded) -> Sequence[Row]:
    """The rows ordered by the groups of the settings. Rows of no group come first; a row of two groups is repeated."""
    if not settings.groups:
        return rows
    known = {row.id: row for row in rows}
    grouped: list[Row] = []
    seen: set[str] = set()
    for group, members in settings.groups.items():
        where = f"table.groups.{group}"
        named = (row for name in members for row in _rows_named(name, known, settings, loaded, where))
        for member in dict.fromkeys(named):
            if member not in known:
                continue  # an arm that `arms` or `where` leaves out
            again = f" [{group}]" if member in seen else ""
            seen.add(member)
            grouped.append(replace(known[member], id=f"{member}{again}", group=group))
    return [row for row in rows if row.id not in seen] + grouped


def _rows_named(
    name: str, known: Mapping[str, Row], settings: TableSettings, loaded: Loaded, where: str
) -> Sequence[str]:
    """The rows that a name in a group means: those of an arm, or the row of that name where rows are not arms."""
    if settings.rows == ("arm",):
        return loaded.rows_named(name, where)
    must_be_in(name, known, f"{where}: no row {name!r}")
    return (name,)


def _title(loaded: Loaded, settings: TableSettings) -> str:
    if settings.title:
        return " ".join(settings.title.split())
    titles = [manifest.description or part_text(manifest.name) for manifest in loaded.manifests]
    return "; ".join(" ".join(title.split()) for title in dict.fromkeys(titles))

"""`harness.load_records`, `harness.table`, `harness.verify`: what records say, in pandas and in notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.inputs import as_collection
from harness.config.trees import MISSING, get_dotted
from harness.errors import TrialError, UserError, must_be_in, refuse_twice

if TYPE_CHECKING:
    import pandas as pd

    from harness.checks.verify import Verification
    from harness.config.rows import RowId
    from harness.tables.load import Loaded, LoadedTrial
    from harness.tables.model import Cell, Table

PHASES = ("confirm", "search")


def load_records(*names: str, results: str | Path = "results", phase: str | None = None) -> pd.DataFrame:
    """The records of experiments as a data frame, a row a planned trial, finished or not.

    Args:
        names: experiments or sweeps that were run.
        results: the folder of results.
        phase: `confirm` (an experiment's trials; of a sweep, those on fresh seeds), `search` (a sweep's search, which
            holds validation metrics alone), or None for all that there are.

    Returns:
        The columns `experiment`, `arm`, `row` (of the table: the arm, or of a sweep `ARM (RULE)`), `seed`, `phase`,
        `trial_id`, `state` (`complete`, `failed`, `pruned` or `missing`) and `reason` (`nan`, `oom` ...); then each
        setting that differs between the trials, by dotted key (`optim.lr`); then each recorded number, as recorded:
        metrics as fractions of 1 (`target_wer`, `valid_target/loss`, `DOMAIN/METRIC`), costs in seconds and MB.

    Raises:
        UserError: there is no such experiment, phase or file; the choices are named.

    Example:
        >>> records = harness.load_records("text_strategies")
        >>> records.groupby("arm")["target_accuracy"].mean().idxmax()
        'full_fine_tuning'
    """
    import pandas as pd

    if not names:
        raise UserError(f"load_records: expected the name of an experiment; choices: {_choices(Path(results))}")
    if phase is not None:
        must_be_in(phase, PHASES, f"phase {phase!r}")
    loaded = [part for name in names for part in _phases(Path(results), name, phase)]
    differing = _differing_settings(trial for part in loaded for trial in part.trials)
    rows = []
    for part in loaded:
        arms = {row.name: row.arm for row in part.rows}
        for trial in part.trials:
            config = {} if trial.record is None else trial.record.config
            settings = {key: _plain(get_dotted(config, key)) for key in differing}
            rows.append({**_identity(trial, arms[trial.ref.arm]), **settings, **trial.numbers})
    return pd.DataFrame(rows)


def _phases(results: Path, name: str, phase: str | None) -> list[Loaded]:
    """The trials and the rows of each phase that is asked for, or that is there."""
    from harness.records.store import MANIFEST
    from harness.tables.load import load_experiments

    there = {"confirm": (results / name / MANIFEST).exists(), "search": (results / name / "search.json").exists()}
    wanted = [phase] if phase is not None else [part for part in PHASES if there[part]] or ["confirm"]
    return [load_experiments(results, (name,), part) for part in wanted]


def _identity(trial: LoadedTrial, arm: str) -> dict[str, Any]:
    summary = trial.summary
    return {
        "experiment": trial.ref.experiment,
        "arm": arm,
        "row": trial.ref.arm,
        "seed": trial.ref.seed,
        "phase": trial.ref.phase,
        "trial_id": trial.ref.trial_id,
        "state": "missing" if summary is None else summary.state.value,
        "reason": None if summary is None else summary.reason,
    }


def _differing_settings(trials: Iterable[LoadedTrial]) -> list[str]:
    """The dotted keys at which the finished trials' configs differ; seeds have a column of their own."""
    seen: dict[str, set[str]] = {}
    configs = [trial.record.config for trial in trials if trial.record is not None]
    for config in configs:
        for key, value in _leaves(config):
            seen.setdefault(key, set()).add(repr(value))
    for key, values in seen.items():
        if any(get_dotted(config, key) is MISSING for config in configs):
            values.add("missing")
    return [key for key, values in seen.items() if len(values) > 1 and key != "seed"]


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(value: Any) -> Any:
    """A setting in a cell; None where a trial has no such setting, or a whole mapping of further ones."""
    return None if value is MISSING or isinstance(value, Mapping) else value


def table(
    *names: str,
    results: str | Path = "results",
    metrics: Iterable[str] | None = None,
    settings: str | Path | Mapping[str, Any] | None = None,
    layout: str | None = None,
) -> ResultTable:
    """Build the table of one experiment or several from their records, as `harness table` does. Trains nothing.

    Args:
        names: experiments or sweeps that were run; or one table file (YAML), or the name of one that comes with the
            project.
        results: the folder of results.
        metrics: its columns, as `["target_macro_f1", "forgetting"]`; those that the experiment was run with by default.
        settings: the table's settings as a mapping, or the file or shipped name that has them, instead of the recorded.
        layout: a named layout, as `adapterfusion`.

    Raises:
        UserError: an experiment, metric, layout or setting is unknown (the choices are named), or no trial is finished.

    Example:
        >>> made = harness.table("text_strategies")
        >>> cell = made.cell("residual_add", "target_macro_f1")
        >>> f"{cell.value:.1f} % over {cell.num_seeds} seeds"
        '49.0 % over 5 seeds'
        >>> latex = made.render("tex")
    """
    from harness.config.shipped import find_file, shipped_files
    from harness.config.table import check_layout
    from harness.config.table_files import load_table_settings, load_table_spec
    from harness.tables.build import build_experiments, recorded_settings
    from harness.tables.explain import rows_of

    if not names:
        raise UserError(f"table: expected the name of an experiment; choices: {_choices(Path(results))}")
    refuse_twice(names, "table")
    title, chosen = None, None if settings is None else _table_settings(settings)
    shipped = {name for name in shipped_files("table") if not (Path(results) / name).is_dir()}
    files = [name for name in names if Path(name).suffix in (".yaml", ".yml") or name in shipped]
    if files:
        if len(names) > 1 or settings is not None:
            raise UserError(f"{files[0]}: a table file names its experiments and settings; pass no others with it")
        path = find_file(files[0], "table")
        spec = load_table_spec(path)
        title, names, chosen = spec.name, spec.experiments, load_table_settings(path)
    if layout is not None:
        check_layout(layout, "layout")
        chosen = (
            recorded_settings(Path(results), names, layout)
            if chosen is None
            else chosen.model_copy(update={"layout": layout})
        )
    wanted = None if metrics is None else tuple(as_collection(metrics, "metrics"))
    refuse_twice(wanted or (), "metrics")
    made = build_experiments(Path(results), names, chosen, wanted, name=title)
    return ResultTable(made, rows_of(made, Path(results)))


def _table_settings(settings: str | Path | Mapping[str, Any]) -> Any:

    from harness.config.messages import validated
    from harness.config.shipped import find_file
    from harness.config.table import TableSettings
    from harness.config.table_files import load_table_settings

    if not isinstance(settings, Mapping):
        return load_table_settings(find_file(settings, "table", "experiment", "sweep"))
    return validated(TableSettings, settings, "settings")


def _choices(results: Path) -> str:
    from harness.records.store import MANIFEST

    return ", ".join(sorted(path.parent.name for path in results.glob(f"*/{MANIFEST}"))) or f"none in {results}"


@dataclass(frozen=True)
class ResultTable:
    """A table of results. A notebook shows it as HTML, `print` as the terminal does.

    Attributes:
        model: all that it knows, footnotes and claims included; numbers are in their column's unit (percent, points,
            seconds, MB), never fractions.
        row_ids: what the rows of its experiments are, so that `cell` knows an arm, and `ARM (RULE)`, too.
    """

    model: Table
    row_ids: tuple[RowId, ...] = ()

    @property
    def rows(self) -> tuple[str, ...]:
        """The ids of the rows, in order."""
        return tuple(row.id for row in self.model.rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """The ids of the columns, in order."""
        return tuple(column.id for column in self.model.columns)

    def cell(self, row: str, column: str) -> Cell:
        """A cell: its `value` (mean over the seeds, in the column's unit), `sd`, `interval`, `comparison`, `trials` ...

        Args:
            row, column: ids, or labels and headers as the table shows them; for a row also its arm, or `ARM (RULE)`.

        Raises:
            UserError: there is no such row or column; the choices are named.
        """
        from harness.tables.explain import find_cell

        return find_cell(self.model, row, column, self.row_ids)[2]

    def to_frame(self) -> pd.DataFrame:
        """The table as a data frame, indexed by the rows' ids.

        A column of the table gives several, with full precision and in its unit: the mean `ID`, and `ID sd`, `ID n`
        (seeds), `ID item_error` (standard error over test items), `ID low`, `ID high` (interval), `ID difference`,
        `ID p_adjusted` (against the baseline), `ID rank`.
        """
        from harness.tables.plain_forms import to_frame

        return to_frame(self.model)

    def render(self, format: str, standalone: bool = False) -> str:
        """The table as text.

        Args:
            format: `md`, `tex`, `html` (a page), `csv`, `json`, or `terminal`.
            standalone: a document of its own, where the format has one (`tex`).

        Raises:
            UserError: there is no such format, or it has no document; the choices are named.
        """
        from harness.tables.render.formats import render

        return render(self.model, format, standalone)

    def __str__(self) -> str:
        return self.render("terminal")

    def _repr_html_(self) -> str:
        from harness.tables.render.html import render_html

        return render_html(self.model)


def verify(name: str, *, results: str | Path = "results", check: bool = True) -> Verification:
    """Recompute a published table from its records, and the records from their predictions. Trains nothing.

    Args:
        name: an experiment or a sweep that was run.
        results: the folder of results.
        check: raise when something drifted. With False the drifts are in the result.

    Returns:
        `num_records`, and `findings`: `held` (what was checked -> how often it held), `drifts`, `unchecked`.

    Raises:
        UserError: nothing has been run under this name, or no trial is finished.
        TrialError: something does not follow from the records (reason `drift`).

    Example:
        >>> harness.verify("text_strategies").findings.drifts
        []
    """
    from harness.checks.verify import verify as verify_results

    found = verify_results(Path(results), name)
    if check and found.findings.drifts:
        more = f" (and {len(found.findings.drifts) - 1} more)" if len(found.findings.drifts) > 1 else ""
        raise TrialError("drift", f"{name}: drift: {found.findings.drifts[0]}{more}")
    return found

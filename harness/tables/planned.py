"""Refuse, before anything is trained, a table that could not be made of the records.

The trials are known by then, with all their settings. So the table is looked at as if every one were finished, by the
same checks; only the numbers are not there yet. What a search is still to find is not judged.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from harness.backbones.recipe import load_recipe
from harness.config.design import Design, describe_design
from harness.config.experiment import Experiment, PlannedTrial
from harness.config.rows import RowId
from harness.config.table import TableSettings, metric_name
from harness.config.trees import MISSING
from harness.config.trial import TrialConfig
from harness.errors import UserError, must_be_in
from harness.metrics import METRICS, scored_metric, split_name, validation_metrics
from harness.records.schema import Manifest, Record, Summary, TrialState
from harness.tables.build import check_settings
from harness.tables.layouts import apply_layout
from harness.tables.load import DIMENSIONS, Loaded, LoadedTrial, positions_of
from harness.tables.model import TrialRef
from harness.tables.pivot import make_pivot, setting_choices
from harness.tables.select import select_trials
from harness.tables.summary_rows import mean_weights
from harness.tasks.registry import task_of_recipe

COSTS = ("trainable_parameters", "trainable_share", "seconds", "peak_memory_mb", "trials_a_step", "packing_gain")
COMPARED = ("relative_reduction", "weighted_relative_reduction", "probability_of_improvement")  # with the baseline


def check_experiment_table(experiment: Experiment) -> None:
    """Refuse table settings that no records of an experiment can have.

    Raises:
        UserError: a setting, metric, layout or summary does not fit; one line with the choices.
    """
    table, where = experiment.config.table, str(experiment.path)
    if table.phase == "search":
        raise UserError(f"{where}: table.phase: search shows the search of a sweep, and this is an experiment")
    rows = [RowId(arm) for arm in experiment.config.arms]
    planned = _planned(experiment.name, experiment.trials, rows, experiment.config.design, experiment.path)
    try:
        shown = _check(table, planned)
        if shown.layout != "effects":
            trials = planned.by_method((*shown.rows, *shown.columns))
            mean_weights(make_pivot(select_trials(trials, shown.arms, shown.where), shown, trials), shown)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    check_task_metrics(table, [trial.config for trial in experiment.trials], where)


def check_sweep_table(
    table: TableSettings,
    name: str,
    trials: Sequence[PlannedTrial],
    rows: Sequence[RowId],
    design: Design | None,
    searched: Collection[str],
    path: Path,
) -> None:
    """Refuse table settings that no records of a sweep can have.

    Args:
        trials: one of each arm that the table may show, with any of the values that are searched.
        rows: the rows that it may have (`possible_rows`).
        searched: the settings whose values are not known yet.

    Raises:
        UserError: as `check_experiment_table`.
    """
    is_search = shows_its_search(table)
    planned = _planned(name, trials, rows, None if is_search else design, path)
    known = {key: value for key, value in table.where.items() if key not in searched}
    try:
        shown = _check(table.model_copy(update={"where": known}), planned)
        if shown.layout != "effects":
            select_trials(planned, None, shown.where)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    check_task_metrics(table, [trial.config for trial in trials], str(path), is_search=is_search)


def shows_its_search(table: TableSettings) -> bool:
    """Whether a sweep's table shows its search and not its winners: a grid is the search (see `shows_search`)."""
    return table.phase == "search" or table.layout == "nemo_grid"


def _planned(
    name: str, trials: Sequence[PlannedTrial], rows: Sequence[RowId], design: Design | None, path: Path
) -> Loaded:
    """The trials as if they were finished, but without numbers: one of each row and seed."""
    configs = {trial.arm: trial.config.model_dump(mode="json", by_alias=True) for trial in trials}
    manifest = Manifest(
        name=name,
        description="",
        arms={row.name: {} for row in rows},
        rows={row.name: row for row in rows if row.rules},
        design=None if design is None else describe_design(design),
    )
    positions = positions_of(manifest)
    loaded = []
    for row in rows:
        for trial in trials:
            if trial.arm != row.arm:
                continue
            trial_id = trial.config.trial_id
            summary = Summary(trial_id=trial_id, state=TrialState.COMPLETE)
            config = {**configs[trial.arm], "seed": trial.seed}
            record = Record(trial_id=trial_id, config=config, summary=summary, provenance=None)
            ref = TrialRef(name, row.name, trial.seed, trial_id)
            loaded.append(LoadedTrial(ref, record, positions.get(row.name, {})))
    return Loaded((manifest,), tuple(loaded), path)


def _check(table: TableSettings, planned: Loaded) -> TableSettings:
    """The settings with those of the layout, after checks of what they name."""
    settings = apply_layout(table, planned)
    check_settings(settings.model_copy(update={"metrics": ()}), planned)
    if settings.layout == "effects":
        return settings
    for place in ("rows", "columns", "where"):
        for key in getattr(settings, place):
            if key not in DIMENSIONS and all(trial.coordinate(key) is MISSING for trial in planned.trials):
                choices = setting_choices(planned.trials)
                raise UserError(f"table.{place}: no trial of {planned.names} has a setting {key!r}; {choices}")
    if settings.summary and "arm" in settings.rows:
        raise UserError("table.summary: the rows are arms, and a mean over arms means nothing; set rows: target")
    needing = [name for name in settings.summary if name in COMPARED]
    if needing and (settings.baseline is None or "arm" not in settings.columns):
        raise UserError(f"table.summary: {needing[0]} needs arms as columns and a baseline")
    return settings


def check_task_metrics(
    table: TableSettings, trials: Sequence[TrialConfig], where: str, *, is_search: bool = False
) -> None:
    """Refuse columns of another task, or of a domain that no trial has.

    Args:
        is_search: whether the table shows the trials of a search, which have validation metrics alone.

    Raises:
        UserError: a recipe names no task, or no record can have a metric.
    """
    if not table.metrics:
        return
    tasks = {task_of_recipe(load_recipe(recipe)) for recipe in {trial.backbone.recipe for trial in trials}}
    scores = [name for name in METRICS if any(name in task.metrics for task in tasks)]
    domains = {domain for trial in trials for domain in (trial.data.target, *trial.data.source)}
    domains |= {"valid_target", "valid_source"}
    for name in map(metric_name, table.metrics):
        what = f"{where}: table.metrics: no trial has {name!r}"
        if is_search:
            must_be_in(name, [*validation_metrics(scores), "best_epoch", *COSTS], what)
        elif scored_metric(name) is not None:
            domain, bare = split_name(name)
            must_be_in(bare, scores, f"{what}, as its task is not scored by it")
            if "/" in name:
                must_be_in(domain, sorted(domains), f"{what}, as it has no domain {domain!r}")

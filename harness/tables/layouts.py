"""Layouts by name: each fills in the table settings that the user left out.

A layout is a function of the settings and of the experiments to show, so new arms and tasks need no change here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.config.rows import RowId
from harness.config.table import LAYOUT_NAMES, MetricSettings, TableSettings
from harness.errors import UserError
from harness.metrics import METRICS
from harness.tables.load import Loaded
from harness.tasks.registry import TASKS

Layout = Callable[[Loaded, TableSettings], dict[str, Any]]

P_KEY = "adapter.adapter_strategy.stochastic_depth"


def apply_layout(settings: TableSettings, loaded: Loaded) -> TableSettings:
    """The settings, with the layout's in place of defaults. A layout decides on the baseline itself."""
    name = settings.layout or ("ablation" if _design_type(loaded) in ("leave_one_out", "add_one") else "arms")
    usual = TableSettings()
    filled = {
        field: value
        for field, value in LAYOUTS[name](loaded, settings).items()
        if getattr(settings, field) == getattr(usual, field) or field == "baseline"
    }
    return settings.model_copy(update={"layout": name, **filled})


def _design_type(loaded: Loaded) -> str | None:
    designs = [manifest.design for manifest in loaded.manifests]
    return designs[0]["type"] if len(designs) == 1 and designs[0] else None


def _arms(loaded: Loaded, settings: TableSettings) -> dict[str, Any]:
    """One row an arm, one column a metric."""
    return {}


def _ablation(loaded: Loaded, settings: TableSettings) -> dict[str, Any]:
    """One row an arm; each score with its difference from the whole (or from the bare) arm."""
    names = loaded.arms
    baseline = settings.baseline or next((arm for arm in ("full", "base") if arm in names), names[0])
    metrics = settings.metrics or default_metrics(loaded)
    shown = [
        MetricSettings(metric=entry, show=("value", "delta") if entry in _ABLATED else ("value",))
        if isinstance(entry, str)
        else entry
        for entry in metrics
    ]
    return {"baseline": baseline, "metrics": tuple(shown)}


_ABLATED = (*(f"target_{name}" for name in METRICS), "target_primary", "forgetting")


def _effects(loaded: Loaded, settings: TableSettings) -> dict[str, Any]:
    """Main effects and interactions of a factorial design (see `effects.py`)."""
    if _design_type(loaded) != "factorial":
        raise UserError(f"table.layout: effects needs one experiment with a factorial design, not {loaded.names}")
    return {"spread": "interval"}


def _adapterfusion(loaded: Loaded, settings: TableSettings) -> dict[str, Any]:
    """Table 1 of AdapterFusion (arXiv 2005.00247): tasks by training size x methods, and the mean over tasks."""
    return {
        "rows": ("target",),
        "columns": ("arm",),
        "metrics": ("target_primary",),
        "sort": "size",
        "summary": ("mean",),
    }


def _simadapter(loaded: Loaded, settings: TableSettings) -> dict[str, Any]:
    """The main table of SimAdapter (arXiv 2105.11905): targets x methods, plain and weighted average, relative gain.

    The paper's reduction is against full fine-tuning, so that arm is the baseline where there is one.
    """
    baseline = settings.baseline if settings.baseline not in (None, "frozen") else None
    if baseline is None and "full_fine_tuning" in loaded.arms:
        baseline = "full_fine_tuning"
    summary = ["mean", "weighted_mean"]
    if baseline is not None:
        summary += ["relative_reduction", "weighted_relative_reduction"]
    return {
        "rows": ("target",),
        "columns": ("arm",),
        "metrics": ("target_wer" if _has(loaded, "target_wer") else "target_error",),
        "baseline": baseline,
        "summary": tuple(summary),
    }


def _damage_control(loaded: Loaded, settings: TableSettings) -> dict[str, Any]:
    """The score table of arXiv 2210.03255: gain on the target, loss on the sources, and the score of both.

    A sweep's rows stand under the rule that picked them: `unconstrained` (best on the target) and `constrained`.
    """
    metrics = ("target_error", "relative_gain", "source_error", "forgetting", "original_scale", "constrained_score")
    return {"metrics": metrics, "groups": _rule_groups(loaded.rows)}


def _rule_groups(rows: Sequence[RowId]) -> dict[str, tuple[str, ...]]:
    """Row groups by selection rule; a row of two rules stands in both."""
    titles = {"best": "unconstrained: best on the target", "constrained": "constrained: best within the bound"}
    groups = {title: tuple(row.name for row in rows if rule in row.rules) for rule, title in titles.items()}
    return {title: picked for title, picked in groups.items() if picked}


def _nemo_grid(loaded: Loaded, settings: TableSettings) -> dict[str, Any]:
    """NeMo's grid (asr_adaptation_hp.yaml): learning rate and width down, stochastic depth across; arm by arm."""
    usual = f"valid_target/{next(iter(TASKS.values())).primary}"
    searched = next(iter(_validation_metrics(loaded)), usual)
    return {
        "rows": (*(("arm",) if len(loaded.arms) > 1 else ()), "optim.lr", "adapter.dim"),
        "columns": (P_KEY,),
        "metrics": (searched if settings.phase == "search" else "target_primary",),
        "labels": {P_KEY: "stochastic depth", "optim.lr": "lr", "adapter.dim": "dim"},
    }


def _has(loaded: Loaded, metric: str) -> bool:
    return any(trial.record is not None and metric in trial.numbers for trial in loaded.trials)


COMMON = ("forgetting", "constrained_score", "trainable_share")


def default_metrics(loaded: Loaded) -> tuple[str, ...]:
    """The columns of the records' task; of all their tasks, where the experiments are of several."""
    tasks = [task for task in TASKS.values() if task in loaded.tasks and _has(loaded, task.columns[0])]
    validation = _validation_metrics(loaded)
    if not tasks and validation:  # a search
        return validation
    columns = dict.fromkeys(name for task in tasks or [*TASKS.values()][:1] for name in task.columns)
    return (*columns, *COMMON)


def _validation_metrics(loaded: Loaded) -> tuple[str, ...]:
    """The tasks' primary metrics on validation data, as a search records them."""
    primary = dict.fromkeys(task.primary for task in TASKS.values() if task in loaded.tasks)
    names = (f"valid_{domain}/{name}" for domain in ("target", "source") for name in primary)
    return tuple(name for name in names if _has(loaded, name))


LAYOUTS: Mapping[str, Layout] = {
    "arms": _arms,
    "ablation": _ablation,
    "effects": _effects,
    "adapterfusion": _adapterfusion,
    "simadapter": _simadapter,
    "damage_control": _damage_control,
    "nemo_grid": _nemo_grid,
}
assert tuple(LAYOUTS) == LAYOUT_NAMES

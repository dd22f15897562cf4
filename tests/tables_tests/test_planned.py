"""Tables that no records could give are refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_text import TinyText
from trained_results import SWEEP

from harness.config.experiment import load_experiment, make_experiment
from harness.config.trees import merge
from harness.errors import UserError
from harness.search.sweep_files import load_sweep
from harness.tables.planned import check_experiment_table

STRATEGY = "adapter.adapter_strategy"
BY_TARGET: dict[str, Any] = {"rows": ["target"], "columns": ["arm"]}

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "layout": ({"layout": "effects"}, "table.layout: effects needs one experiment with a factorial design, not tiny_"),
    "rows": (
        {"rows": ["nonsense.key"]},
        "table.rows: no trial of tiny_.* has a setting 'nonsense.key'; choices: arm",
    ),
    "columns": ({"columns": ["optim.lrr"]}, "table.columns: no trial of tiny_.* has a setting 'optim.lrr'; choices: "),
    "settings": ({"settings": ["optim.nope"]}, "table.settings: no trial of tiny_.* 'optim.nope'; choices: .*optim.lr"),
    "where": ({"where": {"train": "everything"}}, "table.where: no trial of tiny_.* has train=everything"),
    "where's key": (
        {"where": {"trainn": "head"}},
        "table.where: no trial of tiny_.* has a setting 'trainn'; choices",
    ),
    "task": (
        {"metrics": ["target_wer"]},
        "table.metrics: no trial has 'target_wer', as its task .*: .*macro_f1",
    ),
    "domain": ({"metrics": ["es/macro_f1"]}, "table.metrics: no trial has 'es/macro_f1', .* choices: away, home"),
    "summary": ({"summary": ["mean"]}, "table.summary: the rows are arms, and a mean over arms means nothing"),
    "no baseline": (
        {**BY_TARGET, "baseline": None, "summary": ["relative_reduction"]},
        "table.summary: relative_reduction needs arms as columns and a baseline",
    ),
}
OF_EXPERIMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "phase": ({"phase": "search"}, "table.phase: search shows the search of a sweep, and this is an experiment"),
    "two arms in a cell": ({"rows": ["target"]}, "table: the cell target away would mix tiny_.* at seed 0"),
    "weights": ({**BY_TARGET, "summary": ["weighted_mean"], "weights": {"home": 1}}, "no weight for row 'away'"),
}
RIGHT: dict[str, dict[str, Any]] = {
    "nothing": {},
    "by target": {**BY_TARGET, "summary": ["mean", "relative_reduction"], "metrics": ["away/macro_f1", "forgetting"]},
    "settings": {"settings": ["optim.lr", f"{STRATEGY}.stochastic_depth"], "metrics": ["target_primary", "seconds"]},
    "where": {"where": {"adapter.dim": 4}, "rows": ["arm", "adapter.dim"]},
    "validation": {"metrics": ["valid_target/macro_f1"]},
}


def experiment_with(files: TinyText, table: dict[str, Any]) -> None:
    content = yaml.safe_load(files.experiment.read_text(encoding="utf-8"))
    check_experiment_table(make_experiment(merge(content, {"table": table}), files.experiment))


@pytest.mark.parametrize("what", WRONG | OF_EXPERIMENTS)
def test_an_experiment(what: str, tiny_text_files: TinyText) -> None:
    table, message = (WRONG | OF_EXPERIMENTS)[what]
    with pytest.raises(UserError, match=message) as caught:
        experiment_with(tiny_text_files, table)
    assert str(caught.value).startswith(f"{tiny_text_files.experiment}: table") and "\n" not in str(caught.value)


@pytest.mark.parametrize("what", RIGHT)
def test_what_records_will_have_is_taken(what: str, tiny_text_files: TinyText) -> None:
    experiment_with(tiny_text_files, RIGHT[what])


def write_sweep(files: TinyText, folder: Path, table: dict[str, Any]) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, "experiment": str(files.experiment), "table": table}), encoding="utf-8")
    return path


@pytest.mark.parametrize("what", WRONG)
def test_a_sweep(what: str, tiny_text_files: TinyText, tmp_path: Path) -> None:
    table, message = WRONG[what]
    path = write_sweep(tiny_text_files, tmp_path, table)
    with pytest.raises(UserError, match=message) as caught:
        load_sweep(path)
    assert str(caught.value).startswith(f"{path}: table") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"where": {"optim.lr": 0.0123}},  # it is searched, so it may be found
        {"rows": ["optim.lr"]},
        {"rows": ["target"], "where": {"train": "adapters"}},  # rules may choose the same winner
        {"phase": "search", "rows": ["optim.lr"], "metrics": ["valid_target/loss", "valid_target/macro_f1"]},
        {"layout": "nemo_grid"},
        {"baseline": "frozen", "arms": ["frozen", "residual_add (one_se)"]},
    ],
)
def test_what_a_sweep_may_find_is_taken(table: dict[str, Any], tiny_text_files: TinyText, tmp_path: Path) -> None:
    load_sweep(write_sweep(tiny_text_files, tmp_path, table))


def test_a_search_has_no_test_metrics(tiny_text_files: TinyText, tmp_path: Path) -> None:
    table = {"phase": "search", "metrics": ["target_macro_f1"]}
    with pytest.raises(UserError, match="no trial has 'target_macro_f1'; choices: valid_target/"):
        load_sweep(write_sweep(tiny_text_files, tmp_path, table))


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "experiments").rglob("*.yaml")), ids=str)
def test_tables_of_shipped_experiments_are_taken(path: Path) -> None:
    check_experiment_table(load_experiment(path))

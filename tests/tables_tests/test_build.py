"""Tables from records written by hand: every number worked out on paper."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from harness.config.table import TableSettings
from harness.errors import UserError
from harness.metrics import RECORDED
from harness.tables.build import build_experiments, build_table
from harness.tables.format import Formatter
from harness.tables.layouts import COMMON
from harness.tables.model import Cell, Table
from harness.tasks.registry import TASKS

from .records_by_hand import Outcome, text_metrics, write_records

CONFIGS = {"a": {"backbone": {"recipe": "text_small"}}}


def table_of(results: Path, arms: dict[str, dict[int, Outcome]], *metrics: str) -> Table:
    return build_table(write_records(results, arms), metrics or None)


def cell(table: Table, arm: str, metric: str = "target_accuracy") -> Cell:
    return table.cell(arm, metric)


def best(table: Table, metric: str) -> list[str]:
    return [row.id for row in table.rows if row.cells[metric].rank == 1]


def notes(table: Table) -> tuple[str, ...]:
    """The notes, without the one on the backbone, which all tables of these records have."""
    return tuple(note.text for note in table.footnotes if not note.text.startswith("one pretrained backbone"))


def test_mean_and_sample_standard_deviation(tmp_path: Path) -> None:
    accuracies = [0.70, 0.74, 0.81]
    table = table_of(tmp_path, {"a": {seed: text_metrics(value) for seed, value in enumerate(accuracies)}})
    found = cell(table, "a")
    assert found.value == pytest.approx(75.0, abs=1e-9)
    # deviations -5, -1, 6: squares 25 + 1 + 36 = 62, over n - 1 = 2
    assert found.sd == pytest.approx(math.sqrt(31.0), abs=1e-9)
    assert found.sd == pytest.approx(100 * statistics.stdev(accuracies), abs=1e-9)
    assert found.num_seeds == 3


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"a": {0: text_metrics(0.5)}, "b": {0: text_metrics(0.6)}})
    found = cell(table, "a")
    assert (found.value, found.sd, found.interval, found.num_seeds) == (50.0, None, None, 1)
    assert notes(table)[0] == "n = 1 seed, so no spread"


def test_one_backbone_is_said(tmp_path: Path) -> None:
    """Seeds do not vary the pretraining: a table whose rows share one says so."""
    store = write_records(tmp_path, {"a": {0: text_metrics(0.5), 1: text_metrics(0.6)}}, config_of=CONFIGS)
    text = "one pretrained backbone (text_small): with another pretraining, differences may be others"
    assert [note.text for note in build_table(store).footnotes if "backbone" in note.text] == [text]
    path = store.trial(store.manifest().arms["a"][0]).path / "provenance.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"backbone"', '"another"'), encoding="utf-8")
    assert all("one pretrained" not in note.text for note in build_table(store).footnotes)


def test_rows_whose_training_changed_nothing_are_named(tmp_path: Path) -> None:
    store = write_records(tmp_path, {"a": {0: text_metrics(0.5), 1: text_metrics(0.6)}, "b": {0: text_metrics(0.5)}})
    for arm, seed in (("a", 0), ("a", 1)):
        path = store.trial(store.manifest().arms[arm][seed]).path / "summary.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["notes"] = [{"kind": "unmoved", "text": "no weight has moved"}]
        path.write_text(json.dumps(content), encoding="utf-8")
    found = [note.text for note in build_table(store).footnotes if note.kind == "unmoved"]
    assert found == ["a, seeds 0, 1: no weight has moved"]


def test_how_rows_were_made_is_told_with_the_rows(tmp_path: Path) -> None:
    """Of a note that all rows have, none is named; notes on the data are about all of them anyhow."""
    scores = {0: text_metrics(0.5), 1: text_metrics(0.6)}
    store = write_records(tmp_path, {"a": scores, "b": scores, "c": scores})
    narrow, wide, common = (
        {"kind": "method", "text": text} for text in ("the width is 5", "the width is 12", "float32")
    )
    data = {"kind": "data", "text": "left out: 3"}
    for arm, told in {"a": [wide, common, data], "b": [narrow, common], "c": [wide, common]}.items():
        for trial_id in store.manifest().arms[arm].values():
            path = store.trial(trial_id).path / "summary.json"
            content = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps(content | {"notes": told}), encoding="utf-8")
    found = [note.text for note in build_table(store).footnotes if note.text.endswith(("5", "12", "float32", ": 3"))]
    assert found == ["float32", "left out: 3", "a, c: the width is 12", "b: the width is 5"]


@pytest.mark.parametrize(("num_seeds", "why"), [(1, "two seeds or more"), (3, "the same amount on all seeds")])
def test_no_test_says_why(tmp_path: Path, num_seeds: int, why: str) -> None:
    arms = {
        arm: {seed: text_metrics(score) for seed in range(num_seeds)} for arm, score in {"a": 0.5, "b": 0.6}.items()
    }
    table = build_table(write_records(tmp_path, arms, table={"baseline": "a", "metrics": ["target_accuracy"]}))
    assert [note.text.endswith(why) for note in table.footnotes if note.kind == "test"] == [True]


def test_units(tmp_path: Path) -> None:
    metrics = ("target_accuracy", "forgetting", "trainable_parameters", "seconds", "peak_memory_mb", "best_epoch")
    table = table_of(tmp_path, {"a": {0: text_metrics(0.5, forgetting=0.021)}}, *metrics)
    means = {metric: round(cell(table, "a", metric).value or 0.0, 6) for metric in metrics}
    assert means == {
        "target_accuracy": 50.0,  # percent
        "forgetting": 2.1,  # points
        "trainable_parameters": 1234.0,
        "seconds": 12.34,
        "peak_memory_mb": 1500.6,
        "best_epoch": 3.0,
    }
    assert [column.title for column in table.columns] == [
        "target accuracy (%) ↑",
        "forgetting (points) ↓",
        "trainable parameters",
        "seconds (s)",
        "peak memory (MB)",
        "best epoch",
    ]
    assert [column.decimals for column in table.columns] == [1, 1, 0, 1, 0, 0]


@pytest.mark.parametrize("metric", RECORDED)
def test_every_header_says_which_way_is_better_or_is_a_cost(tmp_path: Path, metric: str) -> None:
    given = {} if metric in ("seconds", "peak_memory_mb", "best_epoch") else {metric: 0.5}
    table = table_of(tmp_path, {"a": {0: given}}, metric)
    arrows = {"higher": "↑", "lower": "↓"}
    costs = {"trainable_parameters", "trainable_share", "seconds", "peak_memory_mb", "best_epoch"}
    costs |= {"trials_a_step", "packing_gain"}
    expected = "" if metric in costs else arrows[RECORDED[metric].direction]
    assert "".join(sign for sign in table.columns[0].title if sign in "↑↓") == expected


def test_what_trials_shared_is_no_count(tmp_path: Path) -> None:
    table = table_of(
        tmp_path, {"a": {0: {"trials_a_step": 6.54, "packing_gain": 2.345}}}, "trials_a_step", "packing_gain"
    )
    assert [(column.title, column.decimals) for column in table.columns] == [("trials a step", 1), ("packing gain", 2)]


def test_best_follows_the_direction(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        {
            "low": {0: text_metrics(0.5, forgetting=-0.01)},
            "high": {0: text_metrics(0.6, forgetting=0.03)},
        },
    )
    assert best(table, "target_accuracy") == ["high"]
    assert best(table, "forgetting") == ["low"]


def test_means_that_print_the_same_are_all_best(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        {
            "a": {0: text_metrics(0.60041)},
            "b": {0: text_metrics(0.59961)},
            "c": {0: text_metrics(0.5994)},
        },
    )
    assert best(table, "target_accuracy") == ["a", "b"]


def test_best_is_of_means_not_of_single_seeds(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        {"steady": {0: text_metrics(0.6), 1: text_metrics(0.6)}, "lucky": {0: text_metrics(0.9), 1: text_metrics(0.2)}},
    )
    assert best(table, "target_accuracy") == ["steady"]


def test_costs_and_a_single_arm_have_no_best(tmp_path: Path) -> None:
    table = table_of(tmp_path / "two", {"a": {0: text_metrics(0.5)}, "b": {0: text_metrics(0.6)}}, "seconds")
    assert best(table, "seconds") == []
    table = table_of(tmp_path / "one", {"a": {0: text_metrics(0.5)}})
    assert best(table, "target_accuracy") == []


def test_rows_and_columns_keep_their_order(tmp_path: Path) -> None:
    arms: dict[str, dict[int, Outcome]] = {arm: {0: text_metrics(0.5)} for arm in ("zebra", "ant", "mole")}
    table = table_of(tmp_path, arms, "forgetting", "target_accuracy")
    assert [row.id for row in table.rows] == ["zebra", "ant", "mole"]
    assert [column.metric for column in table.columns] == ["forgetting", "target_accuracy"]


def test_missing_and_failed_trials_are_said_and_left_out(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        {
            "whole": {0: text_metrics(0.5), 1: text_metrics(0.6), 2: text_metrics(0.7)},
            "holes": {0: text_metrics(0.5), 1: None, 2: "failed:nan"},
            "gone": {0: "failed:oom", 1: "failed:oom", 2: "pruned"},
        },
    )
    assert (cell(table, "whole").num_seeds, cell(table, "holes").num_seeds) == (3, 1)
    assert cell(table, "holes").num_planned == 3
    assert all(found.missing for column, found in table.row("gone").cells.items() if column != "n")
    assert (cell(table, "gone", "n").value, cell(table, "gone", "n").num_planned) == (0.0, 3)
    assert [table.row(arm).footnotes for arm in ("whole", "holes", "gone")] == [(), ("a",), ("b",)]
    assert "finished seeds" in notes(table)[0]
    assert notes(table)[1:] == (
        "holes: n = 1 of 3: seed 1 missing; seed 2 failed (nan)",
        "gone: n = 0 of 3: seeds 0, 1 failed (oom); seed 2 pruned",
    )


def test_an_arm_of_holes_is_never_hidden_behind_equal_counts(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"a": {0: text_metrics(0.5), 1: None}, "b": {0: text_metrics(0.5), 1: None}})
    assert notes(table)[1:] == ("a: n = 1 of 2: seed 1 missing", "b: n = 1 of 2: seed 1 missing")


def test_arms_with_unequal_seeds_do_not_share_a_count(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"a": {0: text_metrics(0.5), 1: text_metrics(0.5)}, "b": {0: text_metrics(0.5)}})
    assert "finished seeds" in notes(table)[0] and "n =" not in notes(table)[0]


def test_a_metric_that_only_some_records_have(tmp_path: Path) -> None:
    old = {name: value for name, value in text_metrics(0.5).items() if name != "constrained_score"}
    table = table_of(tmp_path, {"a": {0: text_metrics(0.5), 1: old}, "b": {0: old, 1: old}})
    assert cell(table, "a", "constrained_score").num_seeds == 1
    assert cell(table, "b", "constrained_score").missing
    told = notes(table)[1:]
    assert len(told) == 2 and all("constrained_score" in note for note in told)
    assert [note.split(":")[0] for note in told] == ["a", "b"] and "1 of 2" in told[0] and "0 of 2" in told[1]


def test_notes_of_the_data_are_stated_once(tmp_path: Path) -> None:
    store = write_records(
        tmp_path,
        {"a": {0: text_metrics(0.5), 1: text_metrics(0.5), 2: "failed:nan"}},
        notes={"a-0": ("two", "one"), "a-1": ("one",), "a-2": ("of a failed trial",)},
    )
    assert notes(build_table(store))[2:] == ("one", "two")


def test_records_made_with_other_data_are_shouted_about(tmp_path: Path) -> None:
    arms: dict[str, dict[int, Outcome]] = {"a": {0: text_metrics(0.5), 1: text_metrics(0.5)}}
    store = write_records(tmp_path, arms, corpus_of={"a-1": "another"})
    last = notes(build_table(store))[-1]
    assert "MIXED RECORDS" in last and "2 different values of corpus_fingerprint" in last


@pytest.mark.parametrize("name", TASKS)
def test_columns_of_the_task(tmp_path: Path, name: str) -> None:
    columns, primary = (*TASKS[name].columns, *COMMON), f"target_{TASKS[name].primary}"
    found = dict.fromkeys(columns, 0.25)
    table = build_table(write_records(tmp_path, {"a": {0: found}, "b": {0: found | {primary: 0.2}}}, task=name))
    assert tuple(column.metric for column in table.columns) == columns
    assert best(table, primary) == ["a" if RECORDED[primary].direction == "higher" else "b"]


def test_columns_of_the_experiment_and_of_the_caller(tmp_path: Path) -> None:
    store = write_records(tmp_path, {"a": {0: text_metrics(0.5)}}, table={"metrics": ["seconds"]})
    assert [column.metric for column in build_table(store).columns] == ["seconds"]
    assert [column.metric for column in build_table(store, ("forgetting",)).columns] == ["forgetting"]


@pytest.mark.parametrize(
    ("manifest", "title"),
    [
        ({"table": {"title": "Mine"}, "description": "D"}, "Mine"),
        ({"table": {"title": None}, "description": "Two\n lines\n"}, "Two lines"),
        ({"description": ""}, "mine"),
    ],
)
def test_title(tmp_path: Path, manifest: dict[str, Any], title: str) -> None:
    assert build_table(write_records(tmp_path, {"a": {0: text_metrics(0.5)}}, **manifest)).title == title


def test_unknown_metric(tmp_path: Path) -> None:
    store = write_records(tmp_path, {"a": {0: {"target_accuracy": 0.5}}})
    for metric in ("acuracy", "target_cer", "arm", "state"):
        with pytest.raises(UserError) as caught:
            build_table(store, (metric,))
        assert str(caught.value) == (
            f"table: no metric {metric!r} in the records of mine; "
            "choices: target_accuracy, seconds, peak_memory_mb, best_epoch"
        )


def test_nothing_is_finished(tmp_path: Path) -> None:
    store = write_records(tmp_path, {"a": {0: "failed:nan", 1: None}})
    with pytest.raises(UserError, match="no trial of mine is finished, so there is nothing to tabulate"):
        build_table(store)


def test_a_table_is_a_pure_function_of_its_records(tmp_path: Path) -> None:
    arms: dict[str, dict[int, Outcome]] = {arm: {s: text_metrics(0.5 + s / 50) for s in range(5)} for arm in "ab"}
    assert build_table(write_records(tmp_path / "x", arms)) == build_table(write_records(tmp_path / "y", arms))


def test_a_rows_count_is_that_of_one_of_its_cells(tmp_path: Path) -> None:
    """Seeds 0 to 2 and seeds 3 to 7, all finished, are no 3 of 5; where trials are missing, the worst cell counts."""
    outcomes = {seed: text_metrics(0.5 + 0.01 * seed) for seed in range(8)}
    for name, seeds in {"few": range(3), "many": range(3, 8)}.items():
        arms: dict[str, Any] = {"whole": {seed: outcomes[seed] for seed in seeds}}
        arms["holes"] = arms["whole"] | ({4: None, 5: None} if name == "many" else {})
        write_records(tmp_path, arms, name=name)
    table = build_experiments(tmp_path, ("few", "many"), TableSettings(metrics=("target_accuracy",)))
    texts = Formatter(table)
    shown = [texts.cell(table.cell(arm, "n"), table.column("n")).main for arm in ("whole", "holes")]
    assert shown == ["3-5", "3/5"]
    assert not table.cell("whole", "n").uneven


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.00012, 0.00013, 0.00014], "0.00013 ± 0.00001"),
        ([0.5, 0.51, 0.52], "0.510 ± 0.010"),
        ([0.5, 0.5002, 0.5004], "0.5002 ± 0.0002"),
        ([0.5, 0.5, 0.5], "0.500 ± 0.000"),
        ([0.0, 0.0, 0.0], "0.000 ± 0.000"),
        ([4e-9, 5e-9, 6e-9], "0.000000 ± 0.000000"),
    ],
)
def test_an_error_in_a_unit_of_its_own_has_as_many_decimals_as_it_needs(
    values: list[float], expected: str, tmp_path: Path
) -> None:
    seeds: dict[int, Outcome] = {seed: text_metrics(0.5, target_mae=value) for seed, value in enumerate(values)}
    table = table_of(tmp_path, {"a": seeds}, "target_mae")
    assert Formatter(table).cell(cell(table, "a", "target_mae"), table.column("target_mae")).plain == expected


@pytest.mark.parametrize("rows", ["arm", "target"])
def test_a_baseline_that_lacks_a_metric_is_not_said_to_be_missing(tmp_path: Path, rows: str) -> None:
    """A table of two tasks: the baseline is there, and has another task's metrics."""
    other = {"target_pearson": 0.3, "source_pearson": 0.2, "target_mae": 1.0, "trainable_share": 0.1}
    arms: dict[str, dict[int, Outcome]] = {"base": {0: text_metrics(0.5)}, "x": {0: other}}
    config = {arm: {"data": {"target": "ro"}} for arm in arms}
    store = write_records(tmp_path, arms, table={"baseline": "base"}, config_of=config)
    shape = {"rows": rows, "columns": [] if rows == "arm" else "arm"}
    settings = TableSettings.model_validate({"baseline": "base", "metrics": ["target_accuracy", "target_mae"], **shape})
    where = "" if rows == "arm" else " at ro"
    told = f"base has no target MAE{where}, so nothing is compared there"
    assert told in notes(build_table(store, settings=settings))
    assert not [note for note in notes(build_table(store, settings=settings)) if note.startswith("there is no base")]
    failed = write_records(tmp_path, {**arms, "base": {0: None}}, name="failed", config_of=config)
    told = f"there is no base{where}, so nothing is compared there"
    settings = TableSettings.model_validate({"baseline": "base", "metrics": ["target_mae"], **shape})
    assert told in notes(build_table(failed, settings=settings))

"""Tables over seeds and test items: errors and marks computed again from the items, and what footnotes say of them."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.errors import UserError
from harness.records.predictions import prediction_lines
from harness.statistics.shared_variance import PairedSample, compare_all
from harness.tables.build import build_table
from harness.tables.format import Formatter
from harness.tables.model import Cell, Comparison, Table
from harness.tables.render.formats import FORMATS, render

from .items_by_hand import Items, write_items
from .records_by_hand import write_records

ARMS = {"a": 0.62, "b": 0.6, "c": 0.58, "d": 0.55, "e": 0.52, "f": 0.5, "g": 0.48}
NUM_SEEDS = 4


def block_sums(items: Items, domain: str) -> np.ndarray:
    """By how much each block of a domain adds to its accuracy, in points, over the accuracy itself; [blocks]."""
    correct = np.array([item.prediction == item.reference for item in items[domain]], float)
    blocks = [int(item.group.rpartition("-")[2]) for item in items[domain]]
    return np.bincount(blocks, 100 * (correct - correct.mean()) / len(correct))


def error_over_items(rows: np.ndarray) -> float:
    """From what blocks add by seed [seeds, blocks]: the mean squares of a two-way layout, written out."""
    seeds, blocks = rows.shape
    x = rows * blocks
    of_block = x.mean(axis=0)
    ms_blocks = seeds * float((of_block**2).sum()) / (blocks - 1)
    ms_rest = float(((x - of_block) ** 2).sum()) / ((seeds - 1) * (blocks - 1))
    return math.sqrt(max(0.0, (ms_blocks - ms_rest) / (seeds * blocks)))


def compared(table: Table, arm: str, column: str) -> Comparison:
    found = table.cell(arm, column).comparison
    assert found is not None
    return found


def notes(table: Table) -> str:
    return "\n".join(note.text for note in table.footnotes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, dict[str, Items]]:
    store, items = write_items(tmp_path_factory.mktemp("results"), ARMS, num_seeds=NUM_SEEDS)
    metrics = ("target_accuracy", "target_macro_f1", "source_accuracy", "source_macro_f1", "forgetting")
    return build_table(store, (*metrics, "constrained_score")), items


def test_errors_over_seeds_and_items_are_those_of_the_items(made: tuple[Table, dict[str, Items]]) -> None:
    table, items = made
    for arm in ARMS:
        own = np.stack([block_sums(items[f"{arm}-{seed}"], "tweets") for seed in range(NUM_SEEDS)])
        found = compared(table, arm, "target_accuracy")
        difference = own - block_sums(items["frozen-0"], "tweets")
        assert found.item_error == pytest.approx(error_over_items(difference), rel=1e-9)
        assert table.cell(arm, "target_accuracy").item_error == pytest.approx(error_over_items(own), rel=1e-9)
        values = table.cell(arm, "target_accuracy").values
        assert found.seed_error == pytest.approx(np.std(values, ddof=1) / math.sqrt(NUM_SEEDS), rel=1e-9)


def test_a_mean_over_sources_has_its_items_of_both_by_group(made: tuple[Table, dict[str, Items]]) -> None:
    table, items = made

    def both(trial: str) -> np.ndarray:  # the two sources share their groups
        return np.asarray(0.5 * (block_sums(items[trial], "movie") + block_sums(items[trial], "product")))

    difference = np.stack([both(f"b-{seed}") - both("frozen-0") for seed in range(NUM_SEEDS)])
    found = compared(table, "b", "source_accuracy").item_error
    assert found == pytest.approx(error_over_items(difference), rel=1e-9)


def test_all_of_a_table_is_tested_together_and_each_test_once(made: tuple[Table, dict[str, Items]]) -> None:
    table, _ = made
    columns = ("target_accuracy", "target_macro_f1", "source_accuracy", "source_macro_f1")
    samples = {}
    for arm in ARMS:
        for column in columns:
            cell, base = table.cell(arm, column), table.cell("frozen", column).value
            error = compared(table, arm, column).item_error
            assert base is not None and error is not None
            blocks, items = (75, 150) if column.startswith("target") else (30, 120)
            differences = np.array(cell.values) - base
            samples[arm, column] = PairedSample(differences, error**2, blocks - 1, 100.0 / items)
    expected = compare_all(samples)
    for key, found in expected.items():
        assert compared(table, *key).p == pytest.approx(found.p_value, rel=1e-9)
    smallest = min(found.p_value for found in expected.values() if found.p_value is not None)
    adjusted = [c.comparison.p_adjusted for _, _, c in table if c.comparison and c.comparison.p_adjusted is not None]
    assert min(adjusted) == pytest.approx(28 * smallest, rel=1e-9)
    assert "over seeds and test items, Holm-corrected over the 28 distinct tests of this table" in notes(table)


def test_forgetting_and_the_source_score_are_one_test(made: tuple[Table, dict[str, Items]]) -> None:
    table, _ = made
    for arm in ARMS:
        source, lost = compared(table, arm, "source_macro_f1"), compared(table, arm, "forgetting")
        assert source.difference is not None and source.interval is not None and lost.interval is not None
        assert (lost.p, lost.p_adjusted, lost.item_error) == (source.p, source.p_adjusted, source.item_error)
        assert lost.difference == pytest.approx(-source.difference, abs=1e-9)
        assert (lost.interval.low, lost.interval.high) == pytest.approx((-source.interval.high, -source.interval.low))
        assert lost.verdict == source.verdict
    assert all(compared(table, arm, "constrained_score").why == "not_tested" for arm in ARMS)
    assert "constrained score: not tested" in notes(table)


def test_the_smallest_difference_is_that_of_the_first_step_of_the_correction(
    made: tuple[Table, dict[str, Items]],
) -> None:
    table, _ = made
    found = compared(table, "a", "target_accuracy")
    assert found.detectable is not None and found.seed_error is not None and found.item_error is not None
    total = math.hypot(found.seed_error, found.item_error)
    assert found.detectable > 3.0 * total  # z at 5 % / 28, twice: 3.1; and 0.84 for the chance of 80 %
    said = next(note.text for note in table.footnotes if note.text.startswith("smallest true difference"))
    assert "all tests counted" in said and "target accuracy" in said and "constrained score" not in said


def test_an_error_reduction_has_the_error_of_its_ratio(made: tuple[Table, dict[str, Items]]) -> None:
    """100 (1 - e / b): the gradient is -100 / b in the arm's error e, and 100 e / b^2 in the baseline's b."""
    table, items = made
    cell, base = table.cell("c", "target_accuracy"), table.cell("frozen", "target_accuracy").value
    assert cell.value is not None and base is not None
    e, b = 100 - cell.value, 100 - base
    found = compared(table, "c", "target_accuracy")
    assert found.relative == pytest.approx(100 * (1 - e / b))
    frozen = -block_sums(items["frozen-0"], "tweets")  # errors rise where accuracies fall
    own = np.stack([-block_sums(items[f"c-{seed}"], "tweets") for seed in range(NUM_SEEDS)])
    over_items = error_over_items(-100 / b * own + 100 * e / b**2 * frozen)
    over_seeds = np.std(cell.values, ddof=1) * 100 / b / math.sqrt(NUM_SEEDS)
    assert found.relative_interval is not None
    total = math.hypot(over_items, over_seeds)
    assert 1.9 * total < found.relative_interval.half_width < 3.2 * total  # t(3) would be 3.18


def test_without_references_the_marks_are_over_seeds_alone_and_say_so(tmp_path: Path) -> None:
    table = build_table(write_items(tmp_path, ARMS, references=False)[0], ("target_accuracy",))
    assert compared(table, "a", "target_accuracy").item_error is None
    assert "over seeds alone, Holm-corrected over the 7 distinct" in notes(table)
    assert "so another test set may give other marks" in notes(table)
    assert Formatter(table).cell(table.cell("frozen", "target_accuracy"), table.columns[0]).plain == "44.7"  # 67 of 150


def test_items_of_one_group_say_nothing_of_others(tmp_path: Path) -> None:
    store, items = write_items(tmp_path, {"a": 0.6, "b": 0.55})
    for trial_id, of_trial in items.items():
        alike = {domain: [item._replace(group="one") for item in of] for domain, of in of_trial.items()}
        (store.trial(trial_id).path / "predictions.jsonl").write_bytes(prediction_lines(alike))
    table = build_table(store, ("target_accuracy",))
    assert compared(table, "a", "target_accuracy").item_error is None
    assert table.cell("frozen", "target_accuracy").item_error is None
    assert "over seeds alone" in notes(table)


@pytest.mark.parametrize("one_trial", [True, False])
def test_a_row_that_no_seed_changes(tmp_path: Path, one_trial: bool) -> None:
    arms = {"a": 0.3, "b": 0.35}  # worse than the base model
    store, items = write_items(tmp_path, arms, one_trial=one_trial, table={"count": "always"})
    table = build_table(store, ("target_accuracy", "source_macro_f1", "forgetting", "constrained_score"))
    error = math.sqrt(float((block_sums(items["frozen-0"], "tweets") ** 2).sum()) * 75 / 74)
    cell = table.cell("frozen", "target_accuracy")
    assert (cell.sd, cell.num_seeds, cell.deterministic) == (None, 1, True)
    assert cell.item_error == pytest.approx(error, rel=1e-9)
    assert Formatter(table).cell(cell, table.column("target_accuracy")).plain == f"44.7 (SE {error:.1f})"
    assert Formatter(table).cell(table.cell("frozen", "n"), table.column("n")).plain == "1"
    assert Formatter(table).cell(table.cell("frozen", "forgetting"), table.column("forgetting")).plain == "0.0"
    assert (table.cell("frozen", "forgetting").rank, table.cell("frozen", "constrained_score").rank) == (None, None)
    assert table.cell("frozen", "source_macro_f1").rank == 1  # this one is measured
    assert cell.interval is not None
    half = float(stats.t.ppf(0.975, 74)) * error
    assert cell.interval.half_width == pytest.approx(half, rel=1e-3)
    for format in FORMATS:
        if format != "csv":
            assert "0.0 ± 0.0" not in render(table, format).split("frozen")[1].split("\n")[0]
    assert "nothing is trained in frozen, so no seed changes its values and n is 1; (SE ...): standard" in notes(table)


def test_two_rows_that_no_seed_changes_are_compared_over_items_alone(tmp_path: Path) -> None:
    store, items = write_items(tmp_path, {"other": 0.6})
    known = store.manifest()
    store.write_manifest(known.model_copy(update={"arms": known.arms | {"other": dict.fromkeys(range(4), "other-0")}}))
    found = compared(build_table(store, ("target_accuracy",)), "other", "target_accuracy")
    rows = block_sums(items["other-0"], "tweets") - block_sums(items["frozen-0"], "tweets")
    error = math.sqrt(float((rows**2).sum()) * 75 / 74)
    assert (found.num_pairs, found.seed_error, found.why) == (1, None, None)
    assert found.item_error == pytest.approx(error, rel=1e-9)
    assert found.difference is not None
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.difference) / error, 74), rel=1e-3)


def test_another_base_model_makes_forgetting_another_test(tmp_path: Path) -> None:
    """Then its difference from the baseline's is no multiple of the source scores' difference."""
    store, _ = write_items(tmp_path, ARMS)
    for seed in range(NUM_SEEDS):
        path = store.trial(f"a-{seed}").path / "summary.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["metrics"]["forgetting"] += 0.01 * (seed + 1)
        path.write_text(json.dumps(content), encoding="utf-8")
    table = build_table(store, ("source_macro_f1", "forgetting"))
    assert compared(table, "a", "forgetting").p != compared(table, "a", "source_macro_f1").p
    assert compared(table, "b", "forgetting").p == compared(table, "b", "source_macro_f1").p
    assert "over the 8 distinct tests" in notes(table)


@pytest.mark.parametrize("value", [1e300, -1e300, 1e-300])
def test_numbers_that_cannot_be_computed_with_are_refused(tmp_path: Path, value: float) -> None:
    arms = {"a": {0: {"target_accuracy": 0.5}, 1: {"target_accuracy": value}}, "b": {0: {"target_accuracy": 0.5}}}
    store = write_records(tmp_path, arms, table={"baseline": "b", "metrics": []})
    with pytest.raises(UserError) as caught:
        build_table(store, ("target_accuracy",))
    assert "record a-1 of mine: target_accuracy is " in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("noise", "why"), [(1e-11, "constant"), (1e-5, None)])
def test_differences_alike_but_for_rounding_are_not_tested(tmp_path: Path, noise: float, why: str | None) -> None:
    """Without items an accuracy of 60 % on every seed says nothing of its error, whatever the last bits are."""
    arms = {"a": {s: {"target_accuracy": 0.6 + s * noise} for s in range(3)}}
    arms["b"] = {s: {"target_accuracy": 0.5} for s in range(3)}
    table = build_table(write_records(tmp_path, arms, table={"baseline": "b", "metrics": []}), ("target_accuracy",))
    found = compared(table, "a", "target_accuracy")
    assert (found.why, found.p is None) == (why, why is not None)


def test_a_differences_columns_have_its_own_error_and_count(tmp_path: Path) -> None:
    """Beside a trained baseline, `frozen` has one value: its difference still has seeds and another item error."""
    shown = {"metric": "target_accuracy", "show": ["value", "delta", "relative", "p_value"]}
    store, items = write_items(tmp_path, {"b": 0.62}, table={"baseline": "b", "metrics": [shown]})
    table = build_table(store)
    base = np.stack([block_sums(items[f"b-{seed}"], "tweets") for seed in range(NUM_SEEDS)])
    own = block_sums(items["frozen-0"], "tweets")
    errors = {arm: 100 - (table.cell(arm, "target_accuracy").value or 0.0) for arm in ("frozen", "b")}
    ratio = errors["frozen"] / errors["b"]
    expected = {
        "delta": error_over_items(own - base),
        "relative": 100 / errors["b"] * error_over_items(own - ratio * base),
    }
    lines = {row["row"]: row for row in csv.DictReader(io.StringIO(render(table, "csv")))}
    for kind, error in expected.items():
        cell = table.cell("frozen", f"target_accuracy:{kind}")
        assert cell.item_error == pytest.approx(error, rel=1e-9)
        assert (cell.num_seeds, cell.num_planned, cell.deterministic) == (NUM_SEEDS, NUM_SEEDS, False)
        assert lines["frozen"][f"target_accuracy:{kind} n"] == str(NUM_SEEDS)
        assert Formatter(table).cell(cell, table.column(f"target_accuracy:{kind}")).range.startswith("[")
        assert table.cell("b", f"target_accuracy:{kind}") == Cell(num_planned=NUM_SEEDS)
    assert table.cell("frozen", "target_accuracy").num_seeds == 1


@pytest.mark.parametrize(
    ("show", "spread", "expected"),
    [
        (["value"], "sd", []),
        (["value", "delta"], "sd", ["intervals: 95 %, over seeds and test items"]),
        (["value", "relative"], "sd", ["intervals: 95 %, over seeds and test items"]),
        (["value", "delta"], "none", []),
        (["value"], "interval", ["intervals: 95 %, over seeds and test items"]),
    ],
)
def test_a_table_that_shows_an_interval_says_which(
    tmp_path: Path, show: list[str], spread: str, expected: list[str]
) -> None:
    table = {"metrics": [{"metric": "target_accuracy", "show": show}], "spread": spread}
    store, _ = write_items(tmp_path, {"b": 0.62}, table=table)
    built = build_table(store)
    assert [note.text for note in built.footnotes if note.kind == "interval"] == expected
    assert bool(expected) == any(f"{start}[" in render(built, "md") for start in (" ", "| "))

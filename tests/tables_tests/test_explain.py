"""The trials behind a cell, those that are missing from it, and the command that repeats one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cli_tests.conftest import Cli, cli
from made_records import age_results, make_experiment, write_sentences

import harness
from harness.config.rows import RowId
from harness.config.table import TableSettings
from harness.errors import UserError
from harness.records.store import RecordStore
from harness.tables.build import build_table
from harness.tables.explain import explain
from tables_tests.items_by_hand import write_items
from tables_tests.records_by_hand import Outcome, text_metrics, write_records

__all__ = ["cli"]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    arms: dict[str, dict[int, Outcome]] = {
        "frozen": {0: text_metrics(0.5), 1: text_metrics(0.52)},
        "tuned": {0: text_metrics(0.61), 1: "failed:nan", 2: None},
    }
    return write_records(tmp_path / "results", arms, table={"baseline": "frozen"})


def test_runs_of_a_cell(store: RecordStore) -> None:
    found = explain(build_table(store), "frozen", "target_accuracy", store.path.parent)
    assert [(run.trial.trial_id, run.trial.seed, run.state) for run in found.runs] == [
        ("frozen-0", 0, "complete"),
        ("frozen-1", 1, "complete"),
    ]
    assert [run.value for run in found.runs] == pytest.approx([50.0, 52.0])
    assert found.first is not None and found.first.trial.seed == 0


def test_failed_and_missing_trials_are_listed_with_their_state(store: RecordStore) -> None:
    found = explain(build_table(store), "tuned", "target_accuracy", store.path.parent)
    assert [(run.trial.seed, run.state, run.value is None) for run in found.runs] == [
        (0, "complete", False),
        (1, "failed (nan)", True),
        (2, "missing", True),
    ]


def test_a_difference_without_its_values_is_explained_from_the_records(store: RecordStore) -> None:
    metrics = [{"metric": "target_accuracy", "show": ["delta"]}, {"metric": "forgetting", "show": ["relative"]}]
    table = build_table(store, settings=TableSettings.model_validate({"baseline": "frozen", "metrics": metrics}))
    found = explain(table, "tuned", "target_accuracy:delta", store.path.parent).runs
    assert [(run.state, run.value) for run in found] == [
        ("complete", pytest.approx(61.0)),
        ("failed (nan)", None),
        ("missing", None),
    ]
    baseline = explain(table, "frozen", "target_accuracy:delta", store.path.parent).runs
    assert [(run.state, run.value) for run in baseline] == [("complete", None)] * 2
    lacks = replace(table.column("target_accuracy:delta"), metric="target_wer")
    changed = replace(table, columns=(lacks, *table.columns[1:]))
    found = explain(changed, "tuned", "target_accuracy:delta", store.path.parent).runs
    assert found[0].state == "complete, has no such metric"


@pytest.mark.parametrize("column", ["target_accuracy", "target accuracy", "Target Accuracy", "target accuracy (%) ↑"])
def test_columns_by_id_or_by_what_the_table_shows(store: RecordStore, column: str) -> None:
    assert explain(build_table(store), "Frozen", column, store.path.parent).column.id == "target_accuracy"


@pytest.mark.parametrize(
    ("row", "column", "line"),
    [
        ("frozn", "target_accuracy", "table mine: no row 'frozn'; choices: frozen, tuned. Did you mean frozen?"),
        ("frozen", "target_acuracy", "table mine: no column 'target_acuracy'; choices: "),
    ],
)
def test_unknown_cells(store: RecordStore, row: str, column: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        explain(build_table(store), row, column, store.path.parent)
    assert str(caught.value).startswith(line)


def test_the_command(store: RecordStore, cli: Cli) -> None:
    result = cli("table", "mine", "--explain", "tuned", "target_accuracy")
    assert result.code == 0, result.err
    assert "tuned x target_accuracy: 61 %, n = 1" in result.out
    assert "failed (nan)" in result.out and "missing" in result.out
    assert "harness verify mine --retrain --cell tuned/0" in result.out
    assert "harness run" not in result.out  # no experiment file gives this trial
    result = cli("table", "mine", "--explain", "nope", "target_accuracy")
    assert result.code == 2
    assert "no row 'nope'; choices: frozen, tuned" in result.error


def test_a_row_of_a_sweep_by_its_arm_or_by_one_of_its_rules(tmp_path: Path, cli: Cli) -> None:
    """As `harness compare`, `table.baseline` and `harness verify --cell` take them."""
    arms: dict[str, dict[int, Outcome]] = {
        "tuned (best, one_se)": {0: text_metrics(0.61)},
        "other (best)": {0: text_metrics(0.5)},
        "other (one_se)": {0: text_metrics(0.4)},
    }
    rows = {name: RowId(name.split()[0], tuple(name.partition("(")[2][:-1].split(", "))) for name in arms}
    write_records(tmp_path / "results", arms, rows={name: {"arm": r.arm, "rules": r.rules} for name, r in rows.items()})
    for name in ("tuned", "tuned (best)", "tuned (one_se)", "tuned (best, one_se)"):
        assert (
            "tuned (best, one_se) x target_accuracy: 61 %"
            in cli("table", "mine", "--explain", name, "target_accuracy").out
        )
        cell = harness.table("mine", results=tmp_path / "results").cell(name, "target_accuracy")
        assert cell.value == pytest.approx(61.0)
    error = cli("table", "mine", "--explain", "other", "target_accuracy").error
    assert error == "table mine: row 'other' is ambiguous; choices: other (best), other (one_se)"


@pytest.mark.parametrize("option", [("--format", "csv"), ("--out", "cell.csv"), ("--standalone", "--format", "tex")])
def test_options_of_a_table_are_refused_beside_it(
    store: RecordStore, cli: Cli, tmp_path: Path, option: tuple[str, ...]
) -> None:
    result = cli("table", "mine", "--explain", "tuned", "target_accuracy", *option)
    assert (result.code, result.out) == (2, "")
    assert result.error.startswith("--explain prints the trials behind a cell, and no table: give no --format")
    assert not (tmp_path / "cell.csv").exists()


def test_the_errors_behind_a_mark(tmp_path: Path, cli: Cli) -> None:
    arms = {"a": 0.62, "b": 0.6, "c": 0.58, "d": 0.55, "e": 0.52, "f": 0.5, "g": 0.48}
    store, _ = write_items(tmp_path / "results", arms)
    found = build_table(store).cell("a", "target_accuracy").comparison
    assert found is not None and found.seed_error and found.item_error and found.error and found.p
    out = cli("table", "mine", "--explain", "a", "target_accuracy").out
    assert f"standard error {found.seed_error:.3g} over seeds and {found.item_error:.3g} over test items, " in out
    assert f"{found.error:.3g} in all with what the table's other comparisons say" in out
    assert f"p {found.p:.3g} from 4 shared seeds, corrected for the table (Holm) {found.p_adjusted:.3g}" in out
    out = cli("table", "mine", "--explain", "a", "constrained_score").out
    assert "not tested: the score is cut off" in out
    out = cli("table", "mine", "--explain", "frozen", "target_accuracy").out
    assert "n = 1 (no seed changes it)" in out and "standard error over test items 3.7" in out


def test_the_experiment_file_is_named_where_it_gives_the_trial(tmp_path: Path, cli: Cli) -> None:
    sentences = tmp_path / "sentences.jsonl"
    write_sentences(sentences)
    make_experiment(tmp_path / "results", sentences)
    settings = {
        "name": "made",
        "base": {
            "data": {"corpus": f"manifest:{sentences}", "source": ["home"], "target": "away"},
            "backbone": {"recipe": "text_small"},
            "adapter": {"_target_": "harness.adapters.LinearAdapter", "dim": 4},
        },
        "arms": {"better": {"train": "adapters", "optim": {"lr": 0.1}}},
        "seeds": [0, 1],
    }
    path = tmp_path / "experiments" / "made.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    result = cli("table", "made", "--explain", "better", "forgetting")
    assert "harness run experiments/made.yaml --arm better --seed 0 --results elsewhere" in result.out
    path.write_text(path.read_text(encoding="utf-8").replace("lr: 0.1", "lr: 0.2"), encoding="utf-8")
    assert "harness run" not in cli("table", "made", "--explain", "better", "forgetting").out


def test_a_record_of_an_older_version_is_given_by_no_experiment_file(tmp_path: Path, cli: Cli) -> None:
    """Whoever ran the file today would get a trial with other validation sets."""
    results = ROOT / "results" / "text_strategies"
    shutil.copytree(results, tmp_path / "results" / "text_strategies")
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    arguments = ("table", "text_strategies", "--explain", "residual_add", "forgetting")
    assert "harness run" in cli(*arguments).out
    cli("publish", "text_strategies", "--unpack")
    age_results(tmp_path / "results" / "text_strategies")
    result = cli(*arguments)
    assert result.code == 0 and "harness run" not in result.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("table", "mine", "mine"), "table: 'mine' is named twice"),
        (
            ("table", "mine", "--metrics", "forgetting, target_accuracy,forgetting"),
            "--metrics: 'forgetting' is named twice",
        ),
        (
            ("compare", "mine:frozen", "mine:tuned", "--metrics", "forgetting,forgetting"),
            "--metrics: 'forgetting' is named twice",
        ),
    ],
)
def test_what_is_named_twice_is_refused(store: RecordStore, cli: Cli, arguments: tuple[str, ...], line: str) -> None:
    result = cli(*arguments)
    assert (result.code, result.error) == (2, line)
    with pytest.raises(UserError, match="metrics: 'forgetting' is named twice"):
        harness.table("mine", results=store.path.parent, metrics=["forgetting", "forgetting"])

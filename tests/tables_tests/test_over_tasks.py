"""The interquartile mean and the probability of improvement over tasks, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from harness.config.table import TableSettings
from harness.errors import UserError
from harness.records.store import RecordStore
from harness.tables.build import build_experiments, build_table
from harness.tables.explain import explain
from harness.tables.model import Cell, Table
from harness.tables.render.formats import render

from .golden_experiments import trial_config
from .records_by_hand import text_metrics, write_records

# Accuracies in percent: experiment -> arm -> seed -> score. Each arm has 3 tasks x 2 seeds = 6 scores.
SCORES: dict[str, dict[str, tuple[float, ...]]] = {
    "easy": {"frozen": (90.0, 91.0), "adapter": (92.0, 91.0)},
    "middle": {"frozen": (60.0, 62.0), "adapter": (61.0, 66.0)},
    "hard": {"frozen": (10.0, 20.0), "adapter": (30.0, 40.0)},
}
OVER = {"rows": "target", "columns": "arm", "metrics": ["target_accuracy"], "baseline": "frozen"}
BOTH = ["interquartile_mean", "probability_of_improvement"]


def write(results: Path, scores: dict[str, dict[str, tuple[float, ...]]] = SCORES) -> tuple[str, ...]:
    for name, arms in scores.items():
        outcomes = {arm: {s: text_metrics(v / 100) for s, v in enumerate(values)} for arm, values in arms.items()}
        write_records(results, outcomes, name=name, config_of={arm: trial_config(name) for arm in arms})
    return tuple(scores)


def make(results: Path, names: tuple[str, ...], **settings: Any) -> Table:
    return build_experiments(results, names, TableSettings.model_validate({**OVER, **settings}))


@pytest.fixture
def table(tmp_path: Path) -> Table:
    metric = {"metric": "target_accuracy", "show": ["value", "delta", "interval"]}
    return make(tmp_path, write(tmp_path), metrics=[metric], summary=BOTH)


def cell(table: Table, row: str, column: str) -> Cell:
    return table.cell(row, f"{column.partition(':')[0]}/target_accuracy{''.join(column.partition(':')[1:])}")


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end(table: Table) -> None:
    """Of 6 scores the lowest and the highest are left out: (60 + 62 + 90 + 20) / 4 and (40 + 61 + 66 + 91) / 4."""
    assert cell(table, "interquartile_mean", "frozen").value == pytest.approx(58.0)
    adapter = cell(table, "interquartile_mean", "adapter")
    assert adapter.value == pytest.approx(64.5)
    assert (adapter.num_seeds, adapter.num_planned, adapter.rank, len(adapter.trials)) == (2, 2, 1, 6)
    assert adapter.interval is not None
    assert (adapter.interval.contains(64.5), adapter.interval.method) == (True, "expanded_percentile")


def test_its_difference_is_from_the_baseline(table: Table) -> None:
    delta = cell(table, "interquartile_mean", "adapter:delta")
    assert delta.value == pytest.approx(64.5 - 58.0)
    assert delta.interval is not None and delta.interval.contains(6.5)
    assert cell(table, "interquartile_mean", "frozen:delta").missing


def test_the_probability_of_improvement_counts_wins_of_all_pairs(table: Table) -> None:
    """Of the 4 pairs of seeds the adapter wins 3 1/2 on the easy task (a tie counts half), 3 on the middle, 4 of 4."""
    found = cell(table, "probability_of_improvement", "adapter")
    assert found.value == pytest.approx(100 * (3.5 + 3 + 4) / 12)
    assert found.interval is not None and found.value is not None
    assert 0.0 <= found.interval.low <= found.value <= found.interval.high <= 100.0
    assert cell(table, "probability_of_improvement", "frozen").missing


def test_fewer_errors_are_an_improvement(tmp_path: Path) -> None:
    table = make(tmp_path, write(tmp_path), metrics=["forgetting"], summary=["probability_of_improvement"])
    assert table.cell("probability_of_improvement", "adapter/forgetting").value == pytest.approx(50.0)  # all tie
    worse = {task: {"frozen": (1.0, 2.0), "adapter": (3.0, 4.0)} for task in SCORES}
    for name, arms in worse.items():
        config = {arm: trial_config(name) for arm in arms}
        losses = {a: {s: text_metrics(0.5, forgetting=v) for s, v in enumerate(vs)} for a, vs in arms.items()}
        write_records(tmp_path / "worse", losses, name=name, config_of=config)
    table = make(tmp_path / "worse", tuple(worse), metrics=["forgetting"], summary=["probability_of_improvement"])
    assert table.cell("probability_of_improvement", "adapter/forgetting").value == 0.0


def test_a_mean_over_tasks_is_tested_as_the_tasks_are(tmp_path: Path) -> None:
    """Seed 0: (92 + 61 + 30 - 90 - 60 - 10) / 3; seed 1: (91 + 66 + 40 - 91 - 62 - 20) / 3."""
    metric = {"metric": "target_accuracy", "show": ["value", "delta"]}
    table = make(tmp_path, write(tmp_path), metrics=[metric], summary=["mean"])
    found = cell(table, "mean", "adapter").comparison
    assert found is not None and found.difference is not None and found.sd is not None
    assert found.difference == pytest.approx((23 / 3 + 24 / 3) / 2)
    assert found.sd == pytest.approx((1 / 3) / 2**0.5)
    t = found.difference / (found.sd / 2**0.5)
    assert found.p == pytest.approx(2 * stats.t.sf(t, 1), rel=1e-6)
    assert cell(table, "mean", "adapter:delta").value == found.difference
    # The hard task's difference is 20 on both seeds, so it is not tested: two tasks and the mean.
    assert any("over the 3 distinct tests of this table" in note.text for note in table.footnotes)


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    names = write(tmp_path, {name: {arm: values[:1] for arm, values in arms.items()} for name, arms in SCORES.items()})
    table = make(tmp_path, names, summary=BOTH)
    assert cell(table, "interquartile_mean", "adapter").value == pytest.approx(61.0)  # of 3 scores none is left out
    assert [cell(table, row, "adapter").interval for row in BOTH] == [None, None]


def test_a_seed_that_a_task_lacks_is_left_out(tmp_path: Path) -> None:
    table = make(tmp_path, write(tmp_path, {**SCORES, "hard": {"frozen": (10.0,), "adapter": (30.0,)}}), summary=BOTH)
    found = cell(table, "interquartile_mean", "adapter")
    assert (found.num_seeds, found.num_planned) == (1, 2)
    assert found.value == pytest.approx(61.0)


def test_the_same_records_give_the_same_intervals(table: Table, tmp_path: Path) -> None:
    again = make(tmp_path, tuple(SCORES), summary=BOTH)
    for row in BOTH:
        assert cell(again, row, "adapter").interval == cell(table, row, "adapter").interval


def test_every_format_shows_them_and_the_footnotes_say_what_they_are(table: Table) -> None:
    texts = [note.text for note in table.footnotes]
    assert any(text.startswith("interquartile mean: ") for text in texts)
    assert any("frozen" in text and "ties count half" in text for text in texts)
    for format in ("terminal", "md", "tex", "html"):
        text = render(table, format)
        assert "64.5" in text and "87.5" in text and "+6.5" in text


def test_the_trials_behind_them_are_explained(table: Table, tmp_path: Path) -> None:
    found = explain(table, "probability_of_improvement", "adapter/target_accuracy", tmp_path)
    assert len(found.runs) == 12
    assert sorted(run.value for run in found.runs if run.value is not None)[-1] == pytest.approx(92.0)


@pytest.mark.parametrize("change", [{"baseline": None}, {"columns": ["experiment"]}])
def test_without_a_baseline_nothing_improves(change: dict[str, Any], tmp_path: Path) -> None:
    names = write(tmp_path, {name: {"frozen": arms["frozen"]} for name, arms in SCORES.items()})
    assert make(tmp_path, names, summary=["interquartile_mean"], **change).row("interquartile_mean")
    with pytest.raises(UserError, match=r"table\.summary: a probability of improvement needs arms"):
        make(tmp_path, names, summary=["probability_of_improvement"], **change)


def write_repeated(results: Path, seeds: dict[str, dict[int, str | None]]) -> RecordStore:
    """`full` and `a` for two languages, seeds 0 to 2; some of `a` failed (with a state) or are missing (None)."""
    scores = {"full": 0.70, "a": 0.72}
    arms, position, configs = {}, {}, {}
    for place, lang in enumerate(("ro", "cs")):
        for arm, score in scores.items():
            outcomes: dict[int, Any] = {s: text_metrics(score + 0.01 * s + 0.1 * place) for s in range(3)}
            name = f"{arm}, {lang}"
            arms[name] = outcomes | (seeds.get(lang, {}) if arm == "a" else {})
            position[name], configs[name] = {"method": arm, "lang": lang}, trial_config(lang)
    design = {"type": "for_each", "factors": {"method": [*scores], "lang": ["ro", "cs"]}, "arms": position}
    table = {"baseline": "full", "rows": ["lang"], "columns": ["arm"], "metrics": ["target_accuracy"]}
    return write_records(results, arms, name="repeated", config_of=configs, design=design, table=table)


EVERY = ["mean", "relative_reduction", *BOTH]


def test_a_number_over_rows_says_on_how_few_seeds_it_stands(tmp_path: Path) -> None:
    store = write_repeated(tmp_path, {"ro": {2: None}, "cs": {1: "failed:nan"}})
    table = build_table(store, settings=make_settings(store, summary=EVERY))
    marked = {note.mark: note.text for note in table.footnotes if note.mark}
    below = "mean, error reduction (%), interquartile mean, probability of improvement (%)"
    assert marked == {
        "a": "a: n = 4 of 6: ro, seed 2 missing; cs, seed 1 failed (nan)",
        "b": f"{below} of a: 1 of 3 seeds, those with a value in every row",
    }
    for row in EVERY:
        assert table.cell(row, "a/target_accuracy").footnotes == ("b",)
        assert table.cell(row, "full/target_accuracy").footnotes == ()
    assert "**83.0** ± 1.4<sup>a</sup>" in render(table, "md") and "**77.0**<sup>b</sup>" in render(table, "md")


def test_the_mark_of_what_is_missing_stands_where_it_is_missing(tmp_path: Path) -> None:
    store = write_repeated(tmp_path, {"ro": {2: None}})
    table = build_table(store)
    assert table.cell("lang=ro", "a/target_accuracy").footnotes == ("a",)
    assert table.cell("lang=cs", "a/target_accuracy").footnotes == ()
    by_arm = build_table(store, settings=make_settings(store, rows=["lang", "arm"], columns=[]))
    assert [row.id for row in by_arm.rows if row.footnotes] == ["lang=ro, a"]


def test_rows_without_a_common_seed_say_why_there_is_no_mean(tmp_path: Path) -> None:
    scores = {"full": (70.0, 71.0), "a": (72.0, 74.0)}
    for first, name in ((0, "one"), (2, "two")):
        arms = {arm: {first + s: text_metrics(v / 100) for s, v in enumerate(of)} for arm, of in scores.items()}
        write_records(tmp_path, arms, name=name, config_of={arm: trial_config(name) for arm in arms})
    table = make(tmp_path, ("one", "two"), baseline="full", summary=["mean"])
    assert table.cell("mean", "a/target_accuracy").missing
    assert [n.text for n in table.footnotes if n.mark] == ["mean of full, a: no seed has a value in every row"]


@pytest.mark.parametrize("missing", [{2: None}, dict.fromkeys(range(3))])
def test_an_unfinished_trial_of_a_repeated_arm_makes_no_row_of_its_own(
    tmp_path: Path, missing: dict[int, str | None]
) -> None:
    """Its settings are those of its own arm, `a, cs`, and not those of `a, ro`, which the table calls `a` as well."""
    store = write_repeated(tmp_path, {"cs": missing})
    table = build_table(store, settings=make_settings(store, rows=["lang", "target"]))
    assert [row.id for row in table.rows] == ["lang=ro, ro", "lang=cs, cs"]
    assert not [note for note in table.footnotes if note.text.startswith("there is no full")]
    assert ("a, cs is not shown, because it has no target" in str(table.footnotes)) == (len(missing) == 3)
    for lang, other in (("ro", ""), ("cs", f"a: n = {3 - len(missing)} of 3")):
        chosen = build_table(store, settings=make_settings(store, where={"data.target": lang}))
        assert [row.id for row in chosen.rows] == [f"lang={lang}"]
        assert [note.text[:13] for note in chosen.footnotes if note.mark] == ([other] if other else [])


def make_settings(store: RecordStore, **settings: Any) -> TableSettings:
    """An experiment's own settings, and some others."""
    return TableSettings.model_validate({**store.manifest().table, **settings})

"""Table settings against records: pivots, layouts, groups, references; every wrong one is one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import harness
from harness.config.rows import RowId
from harness.config.shipped import find_file
from harness.config.table import LAYOUT_NAMES, TableSettings
from harness.config.table_files import load_table_settings, load_table_spec
from harness.errors import UserError
from harness.tables.build import build_experiments
from harness.tables.layouts import LAYOUTS
from harness.tables.model import Table
from harness.tables.references import load_paper, paper_names

from .golden_experiments import trial_config, write_all, write_search
from .records_by_hand import text_metrics, write_records

TARGETS = ("speech_ro", "speech_cs", "speech_ar")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_all(folder)
    outcomes = {"frozen": {s: text_metrics(0.5) for s in range(5)}, "adapter": {s: text_metrics(0.6) for s in range(5)}}
    write_records(folder, outcomes, name="sentiment")
    return folder


def make(results: Path, names: tuple[str, ...] = TARGETS, **settings: Any) -> Table:
    return build_experiments(results, names, TableSettings.model_validate(settings))


def test_the_layouts_are_those_that_are_checked() -> None:
    assert tuple(LAYOUTS) == LAYOUT_NAMES


def test_several_experiments_stand_side_by_side(results: Path) -> None:
    table = make(results, ("speech_ro", "sentiment"), baseline="frozen")
    assert [column.id for column in table.columns][:2] == ["speech_ro/target_cer", "speech_ro/target_wer"]
    assert [cell.text for cell in table.header_rows[0]] == ["speech_ro", "sentiment"]
    assert table.cell("meta_adapter", "sentiment/target_accuracy").missing
    assert table.cell("adapter", "sentiment/target_accuracy").value == pytest.approx(60.0)


def test_rows_and_columns_can_change_places(results: Path) -> None:
    plain = make(results, rows="target", columns="arm", metrics=["target_cer"], baseline="frozen")
    turned = make(results, rows="arm", columns="target", metrics=["target_cer"], baseline="frozen")
    cells = [place for place in turned if place[1].kind == "value"]
    assert len(cells) == 15
    for row, column, cell in cells:
        other = plain.cell(column.id.split("/")[0], f"{row.id}/target_cer")
        assert (cell.value, cell.rank, cell.comparison) == (other.value, other.rank, other.comparison)


def test_settings_are_rows_in_numeric_order(results: Path) -> None:
    table = make(results, ("grid",), rows=["p", "adapter.dim"], columns="lambda", metrics=["forgetting"])
    assert [(row.group, row.label) for row in table.rows[:4]] == [
        ("p = 0", "16"),
        ("p = 0", "32"),
        ("p = 0", "64"),
        ("p = 0.5", "16"),
    ]
    ranks = [cell.rank for _, _, cell in table if cell.rank]
    assert sorted(ranks) in ([1, 2], [1, 1])  # one best of the whole grid


def test_tasks_in_order_of_their_size(results: Path) -> None:
    assert [row.id for row in make(results, TARGETS[::-1], layout="adapterfusion").rows] == ["ro", "cs", "ar", "mean"]
    assert [row.id for row in make(results, TARGETS[::-1], rows="target", columns="arm").rows] == ["ar", "cs", "ro"]


def test_arms_for_each_target_are_as_those_of_an_experiment_each(tmp_path: Path) -> None:
    """The same numbers in one experiment and in three: the table, its means and what claims say are the same."""
    scores = {
        (arm, target): {s: text_metrics(0.5 + (arm == "wide") * (0.05 + s / 100) + n / 50) for s in range(3)}
        for arm in ("narrow", "wide")
        for n, target in enumerate(TARGETS)
    }
    configs = {place: trial_config(limit=10 ** (1 + TARGETS.index(place[1]))) for place in scores}
    for place, config in configs.items():
        config["data"]["target"] = place[1]
    design = {
        "type": "for_each",
        "factors": {"method": ["narrow", "wide"], "target": list(TARGETS)},
        "arms": {f"{arm}, {target}": {"method": arm, "target": target} for arm, target in scores},
    }
    of_one: dict[str, Any] = {
        "config_of": {f"{a}, {t}": configs[a, t] for a, t in scores},
        "design": design,
        "name": "one",
    }
    write_records(tmp_path, {f"{arm}, {target}": found for (arm, target), found in scores.items()}, **of_one)
    for target in TARGETS:
        arms = {arm: scores[arm, target] for arm in ("narrow", "wide")}
        write_records(tmp_path, arms, config_of={arm: configs[arm, target] for arm in arms}, name=f"of_{target}")
    sides = {"metric": "target_accuracy", "arm": "wide", "than": "narrow"}
    mean = {"type": "contrast", "text": "mean", **sides, "expect": "higher"}
    trend = {"type": "trend", "text": "gain", **sides, "along": "data.train_limit", "log": True, "expect": "increasing"}
    claims = [mean, trend]
    settings = {"layout": "adapterfusion", "baseline": "narrow", "metrics": ["target_accuracy"], "claims": claims}
    one = make(tmp_path, ("one",), **settings)
    several = make(tmp_path, tuple(f"of_{target}" for target in TARGETS), **settings)
    assert [row.id for row in one.rows] == [*TARGETS, "mean"]
    for (row, column, cell), (other_row, other_column, other) in zip(one, several, strict=True):
        assert (row.id, column.id, cell.value, cell.rank) == (other_row.id, other_column.id, other.value, other.rank)
        assert cell.comparison == other.comparison
    assert one.cell("mean", "wide/target_accuracy").value == pytest.approx(58.0, abs=1e-9)  # 52 + 5, 6 and 7 points
    for claim, same in zip(one.claims, several.claims, strict=True):
        assert (claim.estimate, claim.interval, claim.verdict) == (same.estimate, same.interval, same.verdict)
    assert one.claims[0].estimate == pytest.approx(6.0, abs=1e-9) and one.claims[0].verdict == "upheld"
    plain = make(tmp_path, ("one",), claims=[mean | {"arm": "wide, speech_cs", "than": "narrow, speech_cs"}])
    assert [row.id for row in plain.rows] == [f"{arm}, {target}" for arm, target in scores]
    assert plain.claims[0].estimate == pytest.approx(6.0, abs=1e-9)


def test_winners_of_several_rules_stand_where_their_arm_does(tmp_path: Path) -> None:
    rows = {f"adapter, {size} ({rule})": RowId(f"adapter, {size}", (rule,)) for size in (9, 90) for rule in ("a", "b")}
    outcomes = {name: {s: text_metrics(0.5 + n / 100) for s in range(2)} for n, name in enumerate(rows)}
    positions = {f"adapter, {size}": {"method": "adapter", "size": size} for size in (9, 90)}
    design = {"type": "for_each", "factors": {"method": ["adapter"], "size": [9, 90]}, "arms": positions}
    write_records(tmp_path, outcomes, rows=rows, design=design)
    table = make(tmp_path, ("mine",), rows=["size"], columns=["arm"], metrics=["target_accuracy"])
    found = {(row.label, column.id): cell.value for row, column, cell in table}
    assert found == pytest.approx(
        {
            ("9", "adapter (a)/target_accuracy"): 50.0,
            ("9", "adapter (b)/target_accuracy"): 51.0,
            ("90", "adapter (a)/target_accuracy"): 52.0,
            ("90", "adapter (b)/target_accuracy"): 53.0,
        }
    )


def test_means_over_tasks_are_taken_within_each_seed(results: Path) -> None:
    table = make(results, layout="simadapter", metrics=["target_cer"])
    rows = [table.cell(target, "adapter/target_cer") for target in ("ro", "cs", "ar")]
    by_seed = [sum(cell.values[seed] for cell in rows) / 3 for seed in range(5)]
    mean = table.cell("mean", "adapter/target_cer")
    assert mean.values == pytest.approx(by_seed, abs=1e-9)
    weights = (100, 300, 800)
    weighted = [sum(w * cell.values[s] for w, cell in zip(weights, rows, strict=True)) / 1200 for s in range(5)]
    assert table.cell("weighted_mean", "adapter/target_cer").values == pytest.approx(weighted, abs=1e-9)
    base = table.cell("mean", "full_fine_tuning/target_cer").value
    assert base is not None and mean.value is not None
    reduction = table.cell("relative_reduction", "adapter/target_cer").value
    assert reduction == pytest.approx(100 * (base - mean.value) / base, abs=1e-9)
    assert mean.num_seeds == 5
    assert table.cell("mean", "meta_adapter/target_cer").num_seeds == 4  # one seed failed in one task


def test_given_weights(results: Path) -> None:
    weights = {"ro": 1, "cs": 0.5, "ar": 0.5}
    table = make(results, layout="simadapter", metrics=["target_cer"], weights=weights)
    rows = {target: table.cell(target, "adapter/target_cer").value or 0.0 for target in weights}
    expected = sum(weights[target] * value for target, value in rows.items()) / 2
    assert table.cell("weighted_mean", "adapter/target_cer").value == pytest.approx(expected, abs=1e-9)


def test_simadapter_compares_with_full_fine_tuning(results: Path) -> None:
    assert make(results, layout="simadapter").baseline == "full_fine_tuning"
    assert make(results, layout="simadapter", baseline="adapter").baseline == "adapter"


def test_damage_control_groups_by_rule(results: Path) -> None:
    table = make(results, ("tuned",), layout="damage_control", baseline="frozen")
    groups = {group: [row.label for row in rows] for group, rows in table.row_groups}
    assert groups == {
        None: ["frozen"],
        "unconstrained: best on the target": ["plain (best)", "depth (best, constrained)"],
        "constrained: best within the bound": ["plain (constrained)", "depth (best, constrained)"],
    }
    assert len({row.id for row in table.rows}) == 5
    # score = original scale x relative gain (arXiv 2210.03255), seed by seed
    for arm in ("plain (constrained)", "depth (best, constrained)"):
        cells = {name: table.cell(arm, name).values for name in ("original_scale", "relative_gain")}
        product = [a * b / 100 for a, b in zip(cells["original_scale"], cells["relative_gain"], strict=True)]
        assert table.cell(arm, "constrained_score").values == pytest.approx(product, abs=1e-9)


def test_a_search_fills_the_grid(results: Path) -> None:
    table = make(results, ("searched",), layout="nemo_grid")
    assert len(table.rows) == 4 and len(table.columns) == 3
    cell = table.cell("optim.lr=0.001, adapter.dim=64", "adapter.adapter_strategy.stochastic_depth=0/valid_target/cer")
    assert (cell.rank, cell.num_seeds, cell.trials[0].phase) == (1, 1, "search")
    assert "validation data, from the search" in table.footnotes[0].text


def test_the_shipped_grid_is_compared_with_no_arm_that_was_not_searched(tmp_path: Path) -> None:
    write_search(tmp_path)
    settings = load_table_settings(find_file("nemo_grid", "sweep"))
    assert settings.baseline == "frozen"  # which has nothing to search
    frozen = {"frozen": {0: text_metrics(0.5)}}
    write_records(tmp_path, frozen, name="searched", table=settings.recorded() | {"metrics": ["target_cer"]})
    asked = harness.table("searched", results=tmp_path, layout="nemo_grid").model
    given = build_experiments(tmp_path, ("searched",), settings.model_copy(update={"layout": "nemo_grid"}))
    for table in (asked, given):
        assert (len(table.rows), table.baseline, table.claims) == (4, None, ())
        assert {column.metric for column in table.columns} == {"valid_target/cer"}


def test_a_grid_of_several_arms_keeps_them_apart(tmp_path: Path) -> None:
    write_search(tmp_path, ("residual_add", "residual_add_l2"))
    table = make(tmp_path, ("searched",), layout="nemo_grid")
    assert {row.group for row in table.rows} == {
        f"{arm}, lr = {lr}" for arm in ("residual_add", "residual_add_l2") for lr in (0.0001, 0.001)
    }


def test_columns_beside_a_value(results: Path) -> None:
    shown = ["value", "delta", "relative", "interval", "p_value"]
    table = make(results, ("speech_cs",), metrics=[{"metric": "target_wer", "show": shown}], baseline="frozen")
    value = table.cell("adapter", "target_wer")
    comparison = value.comparison
    assert comparison is not None and comparison.p_adjusted is not None
    assert table.cell("adapter", "target_wer:delta").value == comparison.difference
    assert table.cell("adapter", "target_wer:p_value").value == comparison.p_adjusted
    base = table.cell("frozen", "target_wer").value
    assert base is not None and value.value is not None
    werr = table.cell("adapter", "target_wer:relative").value
    assert werr == pytest.approx(100 * (base - value.value) / base, abs=1e-9)
    assert table.cell("frozen", "target_wer:delta").missing


def test_the_holm_family_is_the_table(results: Path) -> None:
    table = make(results, ("speech_cs",), metrics=["target_cer", "forgetting"], baseline="frozen")
    compared = [cell.comparison for _, _, cell in table if cell.comparison is not None]
    raw = sorted(c.p for c in compared if c.p is not None)
    smallest = min(c.p_adjusted for c in compared if c.p_adjusted is not None)
    assert len(raw) == 8 and smallest == pytest.approx(8 * raw[0])
    assert any("over the 8 distinct tests" in note.text for note in table.footnotes)


def test_groups_labels_and_settings(results: Path) -> None:
    table = make(
        results,
        ("speech_ro",),
        groups={"Baselines": ["frozen"]},
        labels={"frozen": "Frozen", "adapter.dim": "width"},
        settings=["adapter.dim", "data.source"],
        arms=["adapter", "frozen"],
    )
    assert [(row.group, row.label) for row in table.rows] == [(None, "adapter"), ("Baselines", "Frozen")]
    assert table.column("adapter.dim").header == "width"
    assert (table.cell("adapter", "adapter.dim").value, table.cell("adapter", "adapter.dim").text) == (32.0, "32")
    assert table.cell("adapter", "data.source").text == "en, fr"


def test_one_domain_of_several(results: Path) -> None:
    table = make(results, ("speech_ro",), metrics=["en/cer", "ro/wer"])
    assert [column.title for column in table.columns] == ["en CER (%) ↓", "ro WER (%) ↓"]
    assert table.cell("frozen", "en/cer").value == pytest.approx(20.0)


def test_a_reference_beside_ours(results: Path) -> None:
    reference = {"paper": "simadapter", "rows": {"relative_reduction": "Relative reduction"},
                 "columns": {"simadapter": "SimAdapter"}}  # fmt: skip
    table = make(results, layout="simadapter", reference=reference)
    ours = table.cell("relative_reduction", "simadapter/target_wer")
    assert ours.value is not None and ours.interval is not None
    assert table.cell("relative_reduction", "simadapter/target_wer:paper").value == 2.55
    assert table.cell("relative_reduction", "simadapter/target_wer:difference").value == ours.value - 2.55
    verdict = table.cell("relative_reduction", "simadapter/target_wer:verdict").text
    assert ours.interval.low > 2.55 and verdict == "higher"
    assert table.cell("ro", "simadapter/target_wer:paper").missing
    assert "arXiv 2105.11905" in table.footnotes[-1].text
    rows = make(results, layout="simadapter", reference=reference | {"show": "rows"})
    assert [row.cells["ours"].value for row in rows.rows] == [ours.value]


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ((0.92,), "one seed, undecided"),
        ((0.92, 0.93, 0.94, 0.93), "not distinguishable (interval ± 1.3)"),  # t(3) sqrt(2 / 3) / 2 = 3.18 x .408
        ((0.94, 0.95, 0.96, 0.95), "higher"),
        ((0.84, 0.85, 0.86, 0.85), "lower"),
    ],
)
def test_a_wide_interval_tells_nothing_apart(tmp_path: Path, scores: tuple[float, ...], verdict: str) -> None:
    """Accuracies beside the paper's 92.39 %."""
    write_records(tmp_path, {"full": {seed: text_metrics(score) for seed, score in enumerate(scores)}})
    reference = {"paper": "adapterfusion", "rows": {"full": "SST"}, "columns": {"target_accuracy": "Full"}}
    table = make(tmp_path, ("mine",), reference=reference)
    assert table.cell("full", "target_accuracy:verdict").text == verdict


@pytest.mark.parametrize(
    ("metric", "ours"),
    [("target_macro_f1", "macro F1"), ("source_macro_f1", "macro F1"), ("target_wer", "WER"), ("movie/cer", "CER")],
)
def test_never_a_verdict_between_different_metrics(tmp_path: Path, metric: str, ours: str) -> None:
    write_records(
        tmp_path,
        {"full": {0: {metric: 0.9}}},
        by_domain_of={"full-0": ({}, {"movie": {"cer": 0.9}})},
    )
    reference = {"paper": "adapterfusion", "rows": {"full": "SST"}, "columns": {metric: "Full"}}
    with pytest.raises(UserError) as caught:
        make(tmp_path, ("mine",), metrics=[metric], reference=reference)
    assert f"is {ours}, but the numbers of adapterfusion are accuracy; only the same metric" in str(caught.value)


def test_a_paper_s_reduction_is_compared_with_reductions_alone(results: Path) -> None:
    reference = {"paper": "simadapter", "rows": {"mean": "Relative reduction"}, "columns": {"simadapter": "SimAdapter"}}
    with pytest.raises(UserError, match="is WER, but the numbers of simadapter are relative reduction of WER"):
        make(results, layout="simadapter", reference=reference)
    cer = {**reference, "rows": {"relative_reduction": "Relative reduction"}}
    with pytest.raises(UserError, match="is relative reduction of CER, but the numbers of simadapter are"):
        make(results, layout="simadapter", metrics=["target_cer"], reference=cer)


def test_the_papers_numbers() -> None:
    assert paper_names() == ["adapterfusion", "simadapter"]
    fusion = load_paper("adapterfusion")
    assert fusion.value("Mean", "Fusion w/ ST-A") == 77.33
    assert fusion.value("RTE", "Full") == 65.41
    assert load_paper("simadapter").value("Relative reduction", "SimAdapter+") == 3.55
    assert all("arXiv" in load_paper(name).numbers.source for name in paper_names())


WRONG: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
    (
        ("speech_ro",),
        {"metrics": ["target_accuracy"]},
        "no metric 'target_accuracy' in the records of speech_ro",
    ),
    (("speech_ro",), {"baseline": "froze"}, "no arm 'froze' in speech_ro; choices: frozen, "),
    (("speech_ro",), {"arms": ["nobody"]}, "table.arms: no arm 'nobody' in speech_ro; choices: "),
    (("speech_ro",), {"where": {"adapter.dim": 7}}, "table.where: no trial of speech_ro has adapter.dim=7"),
    (("speech_ro",), {"groups": {"G": ["x"]}}, "table.groups.G: no arm 'x' in speech_ro; choices: "),
    (
        ("speech_ro",),
        {"settings": ["adapter.dims"]},
        "no trial of speech_ro has a setting 'adapter.dims'; choices: ",
    ),
    (("speech_ro",), {"rows": "adapter.dims"}, "no trial of speech_ro has a setting 'adapter.dims'; choices: "),
    (("speech_ro",), {"layout": "fancy"}, "unknown layout 'fancy'; choices: arms, ablation"),
    (("speech_ro",), {"layout": "effects"}, "effects needs one experiment with a factorial design"),
    (("speech_ro",), {"summary": ["mean"]}, "the rows are arms, and a mean over arms means nothing"),
    (("speech_ro",), {"rows": "target"}, "would mix speech_ro/frozen and speech_ro/full_fine_tuning at seed 0"),
    (TARGETS, {"rows": "target", "columns": "arm", "summary": ["relative_reduction"]}, "needs arms as columns and a"),
    (TARGETS, {"layout": "simadapter", "weights": {"ro": 1}}, "table.weights: no weight for row 'cs'; given: ro"),
    (
        ("speech_ro", "sentiment"),
        {"columns": "arm", "rows": "experiment", "metrics": ["target_primary"]},
        "column frozen: target_primary mixes target_cer (lower is better), target_macro_f1 (higher is better)",
    ),
    (("speech_ro",), {"metrics": [{"metric": "target_cer", "unit": "s"}]}, "target_cer: unit 's', but it is in '%'"),
    (("speech_ro",), {"metrics": [{"metric": "target_cer", "direction": "higher"}]}, "but lower is better"),
    (
        ("speech_ro",),
        {"reference": {"paper": "nobody", "rows": {"a": "b"}, "columns": {"a": "b"}}},
        "no numbers of 'nobody'; choices: adapterfusion, simadapter",
    ),
    (
        ("speech_ro",),
        {"reference": {"paper": "adapterfusion", "rows": {"frozen": "SSST"}, "columns": {"target_cer": "Full"}}},
        "adapterfusion has no row 'SSST'; choices: CB, RTE, MRPC, SST, Mean. Did you mean SST?",
    ),
    (
        ("speech_ro",),
        {"reference": {"paper": "adapterfusion", "rows": {"frozen": "SST"}, "columns": {"forgetting": "Full"}}},
        "our numbers are in 'points', the paper's in '%'",
    ),
]


@pytest.mark.parametrize(("names", "settings", "message"), WRONG)
def test_wrong_settings_are_one_line(
    results: Path, names: tuple[str, ...], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        make(results, names, **settings)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def write_spec(folder: Path, **content: Any) -> Path:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def test_a_table_file(results: Path, tmp_path: Path) -> None:
    path = write_spec(tmp_path, name="mine", experiments=list(TARGETS), layout="simadapter", title="Mine")
    spec = load_table_spec(path)
    table = build_experiments(results, spec.experiments, load_table_settings(path), name=spec.name)
    assert (table.name, table.title, table.experiments) == ("mine", "Mine", TARGETS)
    assert table.spec["layout"] == "simadapter"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "a"}, "experiments: missing"),
        ({"name": "a", "experiments": ["b"], "metric": []}, "unknown key 'metric'; choices: metrics, "),
        ({"name": "a", "experiments": ["b"], "metrics": ["target_wr"]}, "Did you mean target_wer?"),
        ({"name": "a", "experiments": ["b"], "layout": "x"}, "layout: unknown layout 'x'; choices: arms"),
        ({"name": "a", "experiments": ["b"], "metrics": [{"metric": "target_wer", "show": ["all"]}]}, "show.0: "),
        ({"name": "a", "experiments": ["b"], "metrics": [3]}, "metrics.0: Input should be a metric's name, or {"),
        ({"name": "a", "experiments": ["b"], "arms": ["x"], "baseline": "y"}, "baseline 'y' is not among the arms"),
        ({"name": "a", "experiments": ["b"], "arms": ["x", "x"]}, "arms: 'x' is named twice"),
        (
            {"name": "a", "experiments": ["b"], "claims": [{"type": "wish"}]},
            "claims.0.type: unknown type 'wish'",
        ),
    ],
)
def test_wrong_table_files_are_one_line(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_table_spec(write_spec(tmp_path, **content))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'spec.yaml'}: ")

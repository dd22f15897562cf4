"""`harness compare a.tsv b.tsv`: files of outputs from anywhere, paired over items."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tests.conftest import Cli, cli
from scipy import stats

from harness.checks.compare_outputs import OutputDifference, compare_outputs
from harness.errors import UserError

__all__ = ["cli"]


def lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def named(found: Sequence[OutputDifference], metric: str) -> OutputDifference:
    (difference,) = [one for one in found if one.metric == metric]
    return difference


@pytest.fixture
def classes(tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    """Two systems on 200 items of two classes; and which answers are right, [2, items]."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    right = np.stack([rng.random(200) < 0.6, rng.random(200) < 0.85])
    for name, is_right in zip("ab", right, strict=True):
        answers = np.where(is_right, truth, 1 - truth)
        rows = [(f"k{i}", ["bad", "good"][truth[i]], ["bad", "good"][answers[i]]) for i in range(200)]
        table(tmp_path / f"{name}.tsv", [("key", "reference", "hypothesis"), *rows])
    return tmp_path / "a.tsv", tmp_path / "b.tsv", right


def test_accuracy_is_the_paired_t_test_over_items(classes: tuple[Path, Path, np.ndarray]) -> None:
    first, second, right = classes
    found = compare_outputs(first, second)
    accuracy = named(found.differences, "accuracy")
    oracle = stats.ttest_rel(1.0 * right[1], 1.0 * right[0])
    low, high = oracle.confidence_interval()
    assert accuracy.difference == pytest.approx(100 * (right[1].mean() - right[0].mean()))
    assert accuracy.p == pytest.approx(oracle.pvalue, rel=1e-6)
    assert accuracy.interval is not None
    assert (accuracy.interval.low, accuracy.interval.high) == pytest.approx((100 * low, 100 * high), rel=1e-6)
    assert accuracy.verdict == "better" and named(found.differences, "macro_f1").verdict == "better"
    assert (found.num_items, found.num_blocks) == (200, 200)
    assert found.num_changed == int((right[0] != right[1]).sum())


def test_groups_of_items_widen_the_interval(classes: tuple[Path, Path, np.ndarray], tmp_path: Path) -> None:
    alone = named(compare_outputs(*classes[:2]).differences, "accuracy").interval
    for name in "ab":
        rows = [line.split("\t") for line in (tmp_path / f"{name}.tsv").read_text().splitlines()]
        # Ten copies of one item: twenty independent observations.
        copied = [(f"{row[0]}-{n}", row[1], row[2], row[0]) for row in rows[1:21] for n in range(10)]
        table(tmp_path / f"{name}10.tsv", [(*rows[0], "speaker"), *copied])
    found = compare_outputs(tmp_path / "a10.tsv", tmp_path / "b10.tsv")
    grouped = named(found.differences, "accuracy").interval
    assert (found.num_items, found.num_blocks) == (200, 20)
    assert alone is not None and grouped is not None and grouped.half_width > 2.5 * alone.half_width


def test_nemo_manifests_are_matched_by_file_name(tmp_path: Path) -> None:
    texts = [
        ("one two", "one two", "one to"),
        ("three", "tree", "three"),
        ("four five six", "four five six", "four six"),
    ]
    for side, folder in ((1, "x"), (2, "y")):
        lines(tmp_path / f"{folder}.json", [
            {"audio_filepath": f"/data/{folder}/{i}.wav", "duration": 1.0, "text": text[0], "pred_text": text[side]}
            for i, text in enumerate(texts)])  # fmt: skip
    found = compare_outputs(tmp_path / "x.json", tmp_path / "y.json")
    wer = named(found.differences, "wer")
    assert [wer.first, wer.second] == pytest.approx([100 / 6, 200 / 6])
    assert any("file names" in note for note in found.notes) and wer.verdict == "unclear"


def test_own_predictions_are_read(tmp_path: Path) -> None:
    for name, answers in (("a", "0011"), ("b", "0101")):
        lines(tmp_path / f"{name}.jsonl", [
            {"domain": "d", "key": f"d/{i}", "prediction": int(answer), "reference": int("0101"[i]), "group": f"g{i}"}
            for i, answer in enumerate(answers)])  # fmt: skip
    found = compare_outputs(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert named(found.differences, "accuracy").first == 50.0 and named(found.differences, "macro_f1").second == 100.0


def test_scores_of_lm_evaluation_are_taken_as_they_are(tmp_path: Path) -> None:
    for name, right in (("a", [1.0, 0.0, 0.0, 0.0]), ("b", [1.0, 1.0, 1.0, 0.0])):
        lines(tmp_path / f"samples_{name}.jsonl", [
            {"doc_id": i, "target": "x", "resps": [["y"]], "filtered_resps": ["y"], "filter": kind,
             "metrics": ["exact_match", "ppl"], "exact_match": value, "ppl": [1.0, 2]}
            for kind in ("strict", "flexible") for i, value in enumerate(right)])  # fmt: skip
    found = compare_outputs(tmp_path / "samples_a.jsonl", tmp_path / "samples_b.jsonl")
    strict = named(found.differences, "exact_match, strict")
    assert (strict.first, strict.second, len(found.differences)) == (25.0, 75.0, 2)
    assert strict.p == pytest.approx(stats.ttest_rel([1, 1, 1, 0], [1, 0, 0, 0]).pvalue, rel=1e-6)
    assert any("ppl is not compared" in note for note in found.notes)


def test_a_score_that_some_documents_lack_is_told(tmp_path: Path) -> None:
    for name in "ab":
        lines(tmp_path / f"{name}.jsonl", [
            {"doc_id": i, "target": "x", "resps": [["y"]], "metrics": ["acc", *["f1"] * (i > 0)], "acc": 1.0,
             **({"f1": 0.5} if i > 0 else {})} for i in range(4)])  # fmt: skip
    found = compare_outputs(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert [difference.metric for difference in found.differences] == ["acc"]
    assert "a.jsonl: f1 is not compared: 3 of 4 documents have it" in found.notes


def test_what_only_one_file_has_is_told(classes: tuple[Path, Path, np.ndarray]) -> None:
    first, second, _ = classes
    second.write_text("".join(second.read_text().splitlines(keepends=True)[:-30]))
    found = compare_outputs(first, second)
    assert found.num_items == 170
    assert any(f"30 of 200 items are in {first} alone" in note for note in found.notes)


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([("key", "reference", "answer"), ("k0", "good", "good")], ["no column for the hypothesis", "pred_text"]),
        ([("key", "reference", "hypothesis"), ("k0", "good", "x"), ("k0", "bad", "x")], ["line 3", "'k0'", "line 2"]),
        ([("key", "reference", "hypothesis"), ("z", "good", "good")], ["share no item", "'k0'", "'z'"]),
        ([("key", "reference", "hypothesis"), ("k0", "awful", "good")], ["'k0'", "'awful'", "same test set"]),
    ],
)
def test_wrong_files_are_one_line(
    classes: tuple[Path, Path, np.ndarray], tmp_path: Path, rows: Sequence[Sequence[str]], parts: Sequence[str]
) -> None:
    with pytest.raises(UserError) as caught:
        compare_outputs(classes[0], table(tmp_path / "wrong.tsv", rows))
    assert all(part in str(caught.value) for part in parts) and "\n" not in str(caught.value)


def test_the_command(cli: Cli, classes: tuple[Path, Path, np.ndarray]) -> None:
    first, second = map(str, classes[:2])
    shown = cli("compare", first, second)
    assert shown.code == 0 and "B better" in shown.out and "200 shared items" in shown.out
    as_json = cli("compare", first, second, "--format", "json", "--metrics", "accuracy")
    assert [row["metric"] for row in json.loads(as_json.out)["differences"]] == ["accuracy"]
    assert cli("compare", first, second, "--format", "md").out.startswith("| metric |")
    refused = cli("compare", first, "nothing")
    assert refused.code == 2 and "is a file of outputs" in refused.err and len(refused.err.strip().splitlines()) == 1

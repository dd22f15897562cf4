"""Two sides: paired where seeds and items are shared, said where they are not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from cli_tests.conftest import Cli, cli
from made_records import make_experiment, write_sentences
from scipy import stats
from tables_tests.records_by_hand import text_metrics, write_records

from harness.checks.compare import Difference, SideBySide, compare_metrics, compare_sides
from harness.checks.sides import load_side
from harness.errors import UserError
from harness.records.predictions import read_test_items
from harness.records.store import RecordStore

__all__ = ["cli"]


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    write_sentences(tmp_path / "sentences.jsonl")
    return make_experiment(tmp_path / "results", tmp_path / "sentences.jsonl", seeds=(0, 1, 2, 3))


def compare(store: RecordStore, first: str, second: str, *metrics: str) -> SideBySide:
    results = store.path.parent
    return compare_sides(load_side(first, results), load_side(second, results), metrics)


def one(found: SideBySide, metric: str) -> Difference:
    (difference,) = [item for item in found.differences if item.metric == metric]
    return difference


def values(store: RecordStore, arm: str, metric: str) -> list[float]:
    found = [store.trial(i).record() for i in store.manifest().arms[arm].values()]
    return [100 * record.summary.metrics[metric] for record in found if record is not None]


def right_answers(store: RecordStore, arm: str) -> np.ndarray:
    """Which target items each seed of an arm got right, [seeds, items], in percent."""
    rows = []
    for trial_id in store.manifest().arms[arm].values():
        items = read_test_items(store.trial(trial_id))
        assert items is not None
        rows.append([100.0 * (item.prediction == item.reference) for item in items["away"]])
    return np.array(rows)


def test_two_arms_are_paired_by_seed_and_item(store: RecordStore) -> None:
    found = one(compare(store, "made:worse", "made:better"), "target_accuracy")
    first, second = values(store, "worse", "target_accuracy"), values(store, "better", "target_accuracy")
    assert found.num_pairs == 4
    assert found.difference == pytest.approx(fmean(second) - fmean(first))
    # Mean squares of seeds, items and their interaction, by hand; every sentence is a group of its own.
    table = right_answers(store, "better") - right_answers(store, "worse")
    seeds, items = table.shape
    by_item = table.mean(axis=0)
    ms_items = seeds * by_item.var(ddof=1)
    rest = table - by_item - table.mean(axis=1, keepdims=True) + table.mean()
    ms_rest = (rest**2).sum() / ((seeds - 1) * (items - 1))
    item_variance = max(0.0, (ms_items - ms_rest) / (seeds * items))
    seed_variance = table.mean(axis=1).var(ddof=1) / seeds
    assert [found.seed_error, found.item_error] == pytest.approx([seed_variance**0.5, item_variance**0.5])
    # Both variances are integrated out over their chi-squared distributions.
    draws = np.random.default_rng(0).chisquare([seeds - 1, items - 1], size=(400_000, 2))
    errors = np.sqrt(seed_variance * (seeds - 1) / draws[:, 0] + item_variance * (items - 1) / draws[:, 1])
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.difference) / errors).mean(), rel=0.1)
    assert found.interval is not None and found.interval.low > 0
    assert 2 * stats.norm.sf(found.interval.half_width / errors).mean() == pytest.approx(0.05, rel=0.02)
    assert [found.first.mean, found.first.sd] == pytest.approx([fmean(first), stdev(first)])
    assert found.first.count == 4
    assert found.verdict == "better"
    assert found.p_adjusted is not None and found.p is not None and found.p_adjusted >= found.p


def test_the_other_way_round_is_the_mirror(store: RecordStore) -> None:
    there, back = (
        one(compare(store, *pair), "forgetting")
        for pair in (("made:worse", "made:better"), ("made:better", "made:worse"))
    )
    assert there.difference == pytest.approx(-back.difference)
    assert there.p == pytest.approx(back.p)
    assert (there.verdict, back.verdict) == ("better", "worse")


def test_items_that_changed(store: RecordStore) -> None:
    found = compare(store, "made:worse", "made:better")
    (items,) = found.items
    assert (items.domain, items.seeds) == ("away", (0, 1, 2, 3))
    assert 0 < items.num_changed <= items.num_items
    assert items.changes.num_better > items.changes.num_worse


def test_settings_that_differ(store: RecordStore) -> None:
    found = compare(store, "made:worse", "made:better")
    assert found.settings["worse", "better"] == (("adapter.dim", "8", "4"), ("optim.lr", "0.01", "0.1"))


def test_a_copy_differs_in_nothing(store: RecordStore, tmp_path: Path) -> None:
    shutil.copytree(store.path, tmp_path / "elsewhere" / "made")
    found = compare(store, "made", str(tmp_path / "elsewhere" / "made"))
    assert {item.difference for item in found.differences} == {0.0}
    assert {item.verdict for item in found.differences} == {"unclear"}
    assert all(items.num_changed == 0 for items in found.items)
    assert [item.arms for item in found.differences[:: len(found.differences) // 3]] == [
        (a, a) for a in store.manifest().arms
    ]


@pytest.fixture
def two(store: RecordStore, tmp_path: Path) -> Callable[..., RecordStore]:
    """A function that makes an experiment of the same corpus with other seeds."""

    def make(name: str, seeds: Sequence[int]) -> RecordStore:
        return make_experiment(tmp_path / "results", tmp_path / "sentences.jsonl", seeds=seeds, name=name)

    return make


def test_without_a_shared_seed_the_samples_are_independent(store: RecordStore, two: Callable[..., RecordStore]) -> None:
    other = two("other", (5, 6, 7))
    found = compare(store, "made:worse", "other:better", "target_accuracy")
    difference = one(found, "target_accuracy")
    samples = values(other, "better", "target_accuracy"), values(store, "worse", "target_accuracy")
    oracle = stats.ttest_ind(*samples, equal_var=False)
    assert difference.num_pairs == 0
    assert difference.p == pytest.approx(oracle.pvalue)
    assert "test items are not compared: the two sides share no seed" in found.notes


def test_one_shared_seed_has_a_difference_and_no_test(store: RecordStore, two: Callable[..., RecordStore]) -> None:
    two("other", (3, 9))
    found = compare(store, "made:worse", "other:better", "target_accuracy")
    difference = one(found, "target_accuracy")
    assert (difference.num_pairs, difference.p, difference.interval, difference.verdict) == (1, None, None, "unclear")
    (items,) = found.items
    assert items.seeds == (3,)


def test_other_data_is_told_and_not_judged(store: RecordStore, tmp_path: Path) -> None:
    def edit(path: Path, key: str, value: str) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        content.get("data", content)[key] = value
        path.write_text(json.dumps(content), encoding="utf-8")

    shutil.copytree(store.path, tmp_path / "elsewhere" / "made")
    for folder in (tmp_path / "elsewhere" / "made" / "records").iterdir():
        edit(folder / "config.json", "target", "elsewhere")
        edit(folder / "provenance.json", "corpus_fingerprint", "0" * 64)
    found = compare(store, "made:worse", f"{tmp_path / 'elsewhere' / 'made'}:better")
    assert any(note.startswith("DIFFERENT TARGETS: ") for note in found.notes)
    assert any(note.startswith("DIFFERENT CORPUS: ") for note in found.notes)
    assert "test items are not compared: the two sides have different test sets" in found.notes
    assert {item.verdict for item in found.differences} == {"unclear"}


def test_arms_without_a_partner_and_failed_trials_are_told(store: RecordStore, tmp_path: Path) -> None:
    arms = {"frozen": 0.6, "better": 0.2}
    other = make_experiment(tmp_path / "results", tmp_path / "sentences.jsonl", arms, name="other")
    path = other.trial(other.manifest().arms["better"][1]).path / "summary.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"complete"', '"failed"'), encoding="utf-8")
    notes = compare(store, "made", "other", "target_accuracy").notes
    assert "made: worse is not compared: the other side has no such arm" in notes
    assert "other: better: planned trials that are not complete: 1" in notes


@pytest.mark.parametrize(
    ("first", "second", "line"),
    [
        ("nope", "made", "no results of 'nope' in "),
        ("made:nope", "made", "made:nope: no arm 'nope' in made; choices: frozen, better, worse"),
        (
            "made:better",
            "other",
            "made:better and other share no arm; name one arm of each, as in made:ARM; arms: better and x",
        ),
        ("empty", "made", "empty: no trial is finished, so there is nothing to compare"),
    ],
)
def test_wrong_sides(store: RecordStore, first: str, second: str, line: str) -> None:
    write_records(store.path.parent, {"x": {0: text_metrics(0.5)}}, name="other")
    write_records(store.path.parent, {"better": {0: None}}, name="empty")
    with pytest.raises(UserError) as caught:
        compare(store, first, second)
    assert str(caught.value).startswith(line)


def test_unknown_metric(store: RecordStore) -> None:
    with pytest.raises(UserError, match="--metrics: no metric 'target_cer' in the records of both; choices: "):
        compare(store, "made:better", "made:worse", "target_cer")


def test_the_command_in_every_format(store: RecordStore, cli: Cli) -> None:
    result = cli("compare", "made:worse", "made:better", "--items", "1")
    assert result.code == 0, result.err
    assert "B better" in result.out and "better away/" in result.out
    assert "settings of worse -> better: adapter.dim 8 -> 4; optim.lr 0.01 -> 0.1" in result.out
    markdown = cli("compare", "made:worse", "made:better", "--format", "md").out
    assert markdown.startswith("| arm | metric | A | B | B - A | 95 % interval | p (Holm) | pairs |  |\n| :--- |")
    content = json.loads(cli("compare", "made:worse", "made:better", "--format", "json").out)
    found = compare(store, "made:worse", "made:better")
    assert [item["difference"] for item in content["differences"]] == [item.difference for item in found.differences]
    assert content["items"][0]["num_changed"] == found.items[0].num_changed
    assert cli("compare", "made", "made", "--format", "pdf").error == "--format 'pdf'; choices: terminal, md, json"


def test_two_metrics_with_the_same_p_are_two_tests(tmp_path: Path) -> None:
    """Accuracy and macro F1 differ by the same on every seed, as they may by chance."""
    scores = {"one": (0.6, 0.6, 0.6, 0.6), "other": (0.62, 0.63, 0.65, 0.64)}
    arms = {arm: {s: text_metrics(x, target_macro_f1=x) for s, x in enumerate(of)} for arm, of in scores.items()}
    write_records(tmp_path, arms)
    sides = load_side("mine:one", tmp_path), load_side("mine:other", tmp_path)
    found = compare_metrics(*sides, [("one", "other")], ["target_accuracy", "target_macro_f1"])
    assert found[0].p is not None and found[0].p == found[1].p
    assert [each.p_adjusted for each in found] == pytest.approx([2 * found[0].p] * 2)

"""Whatever is changed in finished results by hand is found, be the records folders or published, tables rebuilt or not.

Not found, and told so in docs/explanation/records.md: what is changed consistently, with every digest made again. Only
the experiment's digest, if it was quoted elsewhere, or training again tells that.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_tests.conftest import Cli, cli

from harness.checks.findings import Findings
from harness.checks.verify import verify
from harness.config.base import content_hash
from harness.config.trial import CONFIG_VERSION
from harness.records.digests import key_of, read_digests, record_digest
from harness.records.publishing import publish, unpack
from harness.records.store import RecordStore
from harness.tables.build import build_table
from harness.tables.keep import keep_table

__all__ = ["cli"]

ONE, OTHER = "head_only", "residual_add"
Plant = Callable[[RecordStore], object]


def change(path: Path, edit: Callable[[Any], object]) -> None:
    """Edit a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def folder_of(store: RecordStore, arm: str, seed: int) -> Path:
    return store.trial(store.manifest().arms[arm][seed]).path


def in_manifest(edit: Callable[[Any], object]) -> Plant:
    return lambda store: change(store.path / "experiment.json", edit)


def in_record(name: str, edit: Callable[[Any], object]) -> Plant:
    return lambda store: change(folder_of(store, OTHER, 0) / name, edit)


def raise_score(summary: Any) -> None:
    summary["metrics"]["target_accuracy"] += 0.01


def raise_both(summary: Any) -> None:
    raise_score(summary)
    summary["by_domain"]["away"]["accuracy"] += 0.01


def swap(one: Path, other: Path) -> None:
    """Swap two files or folders."""
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


def seal(folder: Path) -> None:
    """Make a record's own digests again."""
    names = [path.name for path in folder.iterdir() if path.name not in ("provenance.json", "starts.jsonl")]
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sorted(names)}
    change(folder / "provenance.json", lambda content: content.update(files=digests))


def own(folder: Path) -> None:
    """Make results that were put into a folder its own."""
    change(folder / "summary.json", lambda content: content.update(trial_id=folder.name))
    seal(folder)


def swap_results(one: Path, other: Path) -> None:
    """Give two configs each other's results, with names and digests that fit."""
    names = {path.name for path in (*one.iterdir(), *other.iterdir())} - {"config.json"}
    for name in names:
        if (one / name).exists() and (other / name).exists():
            swap(one / name, other / name)
        elif (one / name).exists():
            (one / name).rename(other / name)
        else:
            (other / name).rename(one / name)
    for folder in (one, other):
        own(folder)


def swap_arms_results(store: RecordStore) -> None:
    for seed in (0, 1):
        swap_results(folder_of(store, ONE, seed), folder_of(store, OTHER, seed))


def swap_seeds(manifest: Any) -> None:
    seeds = manifest["arms"][OTHER]
    seeds["0"], seeds["1"] = seeds["1"], seeds["0"]


def swap_names(manifest: Any) -> None:
    arms = manifest["arms"]
    arms[ONE], arms[OTHER] = arms[OTHER], arms[ONE]


def rename(manifest: Any) -> None:
    manifest["arms"]["my_method"] = manifest["arms"].pop(OTHER)


def drop_seed_with_records(store: RecordStore) -> None:
    for seeds in store.manifest().arms.values():
        shutil.rmtree(store.trial(seeds[1]).path, ignore_errors=True)  # arms may share one
    change(store.path / "experiment.json", lambda c: [seeds.pop("1") for seeds in c["arms"].values()])


def add_unused_record(store: RecordStore) -> None:
    """A whole record of another seed, which fits its id."""
    folder = folder_of(store, OTHER, 0)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"seed": 7}
    copy = folder.with_name(content_hash({"version": CONFIG_VERSION, **config}))
    shutil.copytree(folder, copy)
    change(copy / "config.json", lambda content: content.update(seed=7))
    own(copy)


def forge_prediction(store: RecordStore) -> None:
    path = folder_of(store, OTHER, 0) / "predictions.jsonl"
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    line = json.loads(first)
    line["prediction"] = (line["prediction"] + 1) % 3
    path.write_text("\n".join([json.dumps(line, ensure_ascii=False), *rest]) + "\n", encoding="utf-8")


def also_in_launch(edit: Callable[[Any], object]) -> Plant:
    """The change is made to the plan of the launch as well."""

    def plant(manifest: Any) -> None:
        edit(manifest)
        edit(manifest["launches"][-1])

    return in_manifest(plant)


EXPERIMENT: dict[str, Plant] = {
    "a digit of a summary": in_record("summary.json", raise_score),
    "a digit of a summary and its domains": in_record("summary.json", raise_both),
    "seeds swapped in the manifest": in_manifest(swap_seeds),
    "folders swapped": lambda store: swap(folder_of(store, ONE, 0), folder_of(store, OTHER, 0)),
    "results of two seeds swapped": lambda s: swap_results(folder_of(s, OTHER, 0), folder_of(s, OTHER, 1)),
    "results of two arms swapped": swap_arms_results,
    "a seed of an arm dropped, its record kept": in_manifest(lambda c: c["arms"][OTHER].pop("1")),
    "a seed of all arms dropped, the records kept": in_manifest(lambda c: [s.pop("1") for s in c["arms"].values()]),
    "a seed of all arms dropped, with the records": drop_seed_with_records,
    "arm names swapped": in_manifest(swap_names),
    "an arm renamed": in_manifest(rename),
    "an arm dropped": in_manifest(lambda c: c["arms"].pop(ONE)),
    "a record that no row uses": add_unused_record,
    "a record removed": lambda store: shutil.rmtree(folder_of(store, OTHER, 1)),
    "alpha": in_manifest(lambda c: c["table"].update(alpha=0.2)),
    "the baseline": in_manifest(lambda c: c["table"].update(baseline=ONE)),
    "provenance": in_record("provenance.json", lambda c: c.update(git_commit="0" * 40)),
    "one prediction": forge_prediction,
    "a seed dropped, in the launch too": also_in_launch(lambda c: c["arms"][OTHER].pop("1")),
    "arm names swapped, in the launch too": also_in_launch(swap_names),
    "the launches removed": in_manifest(lambda c: c.pop("launches")),
    "the digests removed": lambda store: (store.path / "digests.json").unlink(),
    "one digest": lambda s: change(s.path / "digests.json", lambda c: c["files"].update({"experiment.json": "0" * 64})),
}


def row_of(manifest: Any) -> str:
    """A row that was searched."""
    return next(row for row in manifest["arms"] if row.startswith(OTHER))


def swap_rows(manifest: Any) -> None:
    arms, row = manifest["arms"], row_of(manifest)
    arms["frozen"], arms[row] = arms[row], arms["frozen"]


def point_at_other_seed(manifest: Any) -> None:
    seeds = manifest["arms"][row_of(manifest)]
    seeds["1"] = seeds["0"]


def remove_record(store: RecordStore) -> None:
    row = row_of({"arms": store.manifest().arms})
    shutil.rmtree(folder_of(store, row, 1))


SWEEP: dict[str, Plant] = {
    "row names swapped": in_manifest(swap_rows),
    "a seed of all rows dropped": in_manifest(lambda c: [seeds.pop("1") for seeds in c["arms"].values()]),
    "a seed of a row dropped": in_manifest(lambda c: c["arms"][row_of(c)].pop("1")),
    "a record removed": remove_record,
    "a seed that points at another's record": in_manifest(point_at_other_seed),
    "a record twice": in_manifest(lambda c: c["arms"][row_of(c)].update({"5": c["arms"][row_of(c)]["0"]})),
    "alpha": in_manifest(lambda c: c["table"].update(alpha=0.2)),
    "notes of the tuning removed": in_manifest(lambda c: c.update(notes=[])),
    "the winners' rules": lambda s: change(s.path / "frozen.json", lambda c: c["race"].update(candidates=3)),
    "a searched trial's time": lambda s: change(s.path / "search.json", lambda c: c["points"][0].update(seconds=0.0)),
}


def drifts_of(store: RecordStore) -> list[str]:
    return [str(drift) for drift in findings_of(store).drifts]


def findings_of(store: RecordStore) -> Findings:
    return verify(store.path.parent, store.name).findings


def rebuild(store: RecordStore) -> None:
    keep_table(build_table(store), store.path)


def make_older(store: RecordStore) -> None:
    """Make results as old as those that have neither launches nor digests."""
    (store.path / "digests.json").unlink()
    change(store.path / "experiment.json", lambda content: content.pop("launches"))
    for path in store.path.glob("*/*/provenance.json"):
        change(path, lambda content: content.update(files={}))


def whole_results(results: Path, name: str, older: bool, folder: Path) -> Path:
    """Results that hold; on demand from before there were launches and digests, published since."""
    shutil.copytree(results / name, folder / name)
    if older:
        store = RecordStore(folder, name)
        make_older(store)
        publish(store)
        assert drifts_of(store) == []
        unpack(store)
    return folder / name


@pytest.mark.slow
@pytest.mark.timeout(1800)  # some hundred tables
@pytest.mark.parametrize("form", ["folders", "published", "older"])
@pytest.mark.parametrize("name", ["tiny_strategies", "tiny_sweep"])
def test_planted_faults_are_found(name: str, form: str, tiny_results: Path, tmp_path: Path) -> None:
    """With the table made again; all in one test a form, so that one failure does not hide the others.

    What is found then is found as well beside the table as it was, whose own check tests/checks_tests/test_verify.py
    and test_table_checks.py hold.
    """
    whole, missed = whole_results(tiny_results, name, form == "older", tmp_path / "whole"), []
    for number, (title, fault) in enumerate((EXPERIMENT if name == "tiny_strategies" else SWEEP).items()):
        if form == "older" and ("launch" in title or title == "the digests removed"):
            continue  # these have no launches; without digests they are as they were, and verify says so
        shutil.copytree(whole, tmp_path / str(number) / name)
        store = RecordStore(tmp_path / str(number), name)
        fault(store)
        if form != "folders":
            publish(store)
        rebuild(store)
        if not drifts_of(store):
            missed.append(title)
    assert missed == []


@pytest.mark.parametrize("name", ["tiny_strategies", "tiny_sweep"])
def test_untouched_results_hold_in_both_forms(name: str, tiny_results: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_results / name, tmp_path / name)
    store = RecordStore(tmp_path, name)
    found = findings_of(store)
    assert found.drifts == []
    assert found.held["records have the digest that was taken"] == len(store.finished()) + len(store.finished("search"))
    assert found.held["arms, seeds and table settings are those of the launch"] > 0
    publish(store)
    assert findings_of(store).held == found.held


def swap_labels(rows: Any) -> None:
    rows[0]["label"], rows[1]["label"] = rows[1]["label"], rows[0]["label"]


def add_row(rows: Any) -> None:
    """A second row of the same id, which no look-up by ids sees."""
    cells = {column: {**cell, "value": 99.9} for column, cell in rows[1]["cells"].items()}
    rows.append({**rows[1], "label": "my method", "cells": cells})


ROWS: dict[str, Callable[[Any], object]] = {
    "labels swapped": swap_labels,
    "rows reversed": lambda rows: rows.reverse(),
    "an invented row": add_row,
    "an invented group": lambda rows: rows[1].update(group="best ever"),
    "an invented mark": lambda rows: rows[1].update(footnotes=["z"]),
    "an invented cell": lambda rows: rows[1]["cells"].update(more=rows[1]["cells"]["forgetting"]),
}


@pytest.mark.parametrize("title", ROWS)
def test_whatever_a_row_is_besides_its_cells_is_checked(title: str, tiny_results: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_results / "tiny_strategies", tmp_path / "tiny_strategies")
    store = RecordStore(tmp_path, "tiny_strategies")
    change(store.path / "table.json", lambda content: ROWS[title](content["rows"]))
    (drift,) = findings_of(store).drifts
    assert (drift.place, "records give" in drift.message) == ("table.json", True)


def test_what_all_summaries_lost_alike_is_found(tiny_results: Path, tmp_path: Path) -> None:
    """No record stands out beside the others, and the table was made again: only the digests tell."""
    shutil.copytree(tiny_results / "tiny_strategies", tmp_path / "tiny_strategies")
    store = RecordStore(tmp_path, "tiny_strategies")
    for path in store.path.glob("records/*/summary.json"):
        change(path, lambda content: content.update(checks={}))
    publish(store)
    rebuild(store)
    num_records = len(store.finished())
    assert sum("the record was changed" in drift for drift in drifts_of(store)) == num_records > 3


def test_what_is_forged_with_every_digest_made_again_is_not_found(tiny_results: Path, tmp_path: Path) -> None:
    """The declared limit of digests that lie beside what they are taken of."""
    shutil.copytree(tiny_results / "tiny_strategies", tmp_path / "tiny_strategies")
    store = RecordStore(tmp_path, "tiny_strategies")
    before = verify(tmp_path, "tiny_strategies").digest
    change(folder_of(store, OTHER, 0) / "summary.json", lambda content: content["costs"].update(seconds=0.1))
    seal(folder_of(store, OTHER, 0))
    assert len(drifts_of(store)) == 1  # not with digests.json as it was
    forged = {key_of(folder): record_digest(folder) for folder in store.finished()}
    change(store.path / "digests.json", lambda content: content["taken"][0].update(records=forged))
    digests = read_digests(store)
    assert digests is not None
    change(store.path / "digests.json", lambda content: content.update(experiment=digests.whole))
    found = verify(tmp_path, "tiny_strategies")
    assert found.findings.drifts == []
    assert found.digest != before  # whoever knows the digest from elsewhere sees it


def test_digests_that_were_taken_later_say_so(tiny_results: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_results / "tiny_strategies", tmp_path / "tiny_strategies")
    store = RecordStore(tmp_path, "tiny_strategies")
    make_older(store)
    assert any("there is no digests.json" in reason for reason in findings_of(store).unchecked)
    publish(store)
    found = findings_of(store)
    assert found.drifts == []
    assert any("not when they were made" in reason for reason in found.unchecked)


def test_publishing_begins_no_digests_where_the_launchs_are_lost(tiny_results: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(tiny_results / "tiny_strategies", tmp_path / "results" / "tiny_strategies")
    (tmp_path / "results" / "tiny_strategies" / "digests.json").unlink()
    assert "has lost its digests.json" in cli("publish", "tiny_strategies").out
    result = cli("verify", "tiny_strategies")
    assert (result.code, "digests.json: it is missing" in result.error) == (1, True)

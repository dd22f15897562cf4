"""A published sweep can be checked from what is committed: the trials, the winners, the table, the seal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.checks.sweep_checks import check_sweep
from harness.launch.run_experiment import manifest_of
from harness.records.schema import Record, assert_sealed
from harness.records.search import SearchResult, read_search
from harness.records.store import RecordStore
from harness.records.trial_folder import TrialFolder
from harness.search.declaration import Sweep
from harness.search.sweep_files import load_sweep
from harness.sweep.race import Launch, run_race
from harness.sweep.run_sweep import choose_winners, confirm_experiment, frozen_content
from harness.tables.build import build_table
from harness.tables.render.markdown import render_markdown

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
PUBLISHED = (
    "text_depth_x_l2",
    "speech_whisper_depth_x_l2",
    "papers/merge_text_tuned",
    "papers/adapter_kinds_text_tuned",
    "papers/adapter_kinds_speech_tuned",
    "papers/damage_control_tuned",
)
CHECK_ONLY = Launch(RESULTS, 1, lambda event: False)  # everything is finished, so it trains nothing


@pytest.fixture(params=PUBLISHED)
def sweep(request: pytest.FixtureRequest) -> Sweep:
    """A published sweep's file."""
    return load_sweep(ROOT / "sweeps" / f"{request.param}.yaml")


def search_record(sweep: Sweep, trial_id: str) -> Record:
    """A record of the search phase."""
    record = TrialFolder(RESULTS / sweep.name / "search" / trial_id).record()
    assert record is not None
    return record


def read_search_of(sweep: Sweep) -> SearchResult:
    result = read_search(RESULTS / sweep.name)
    assert result is not None
    return result


def test_every_arm_had_the_same_budget(sweep: Sweep) -> None:
    result = read_search_of(sweep)
    assert result.objectives == sweep.objectives
    for arm in sweep.searched:
        numbers = [point.number for point in result.points if point.arm == arm.name]
        assert numbers == list(range(sweep.config.budget.trials or 0))
        assert result.axes[arm.name] == arm.axes


def test_points_are_what_the_records_say(sweep: Sweep) -> None:
    arms = {arm.name: arm for arm in sweep.searched}
    for point in read_search_of(sweep).points:
        (seed,), (trial_id,) = sweep.config.search.seeds, point.trial_ids
        assert sweep.trial(arms[point.arm], point.params, seed).trial_id == trial_id
        record = search_record(sweep, trial_id)
        assert_sealed(record.summary)
        assert record.provenance is not None and record.provenance.git_dirty is False
        assert record.summary.state == point.state
        if point.state == "complete":
            assert point.values == tuple(record.summary.valid[item.metric] for item in sweep.objectives)


def test_the_published_winners_follow_from_the_published_rules(sweep: Sweep) -> None:
    """By what the results folder says alone, so it holds for older results as well, which had other rules."""
    found = check_sweep(RESULTS / sweep.name, RecordStore(RESULTS, sweep.name).manifest())
    assert found.drifts == []
    assert found.held["winners follow from the named rules"] == len(sweep.searched) * len(sweep.config.confirm.rules)
    assert found.held["confirmed rows are the winners"] >= len(sweep.searched)


def test_winners_follow_from_the_records(sweep: Sweep) -> None:
    result = read_search_of(sweep)
    racing = run_race(sweep, result, CHECK_ONLY)
    frozen = choose_winners(sweep, racing)
    committed: dict[str, Any] = json.loads((RESULTS / sweep.name / "frozen.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(frozen_content(sweep, result, racing, frozen))) == committed
    made, published = (
        manifest_of(confirm_experiment(sweep, result, frozen)),
        RecordStore(RESULTS, sweep.name).manifest(),
    )
    # When it was launched, and when each claim was first declared, is known only to the folder that was run.
    history: dict[str, Any] = {"notes": (), "rows": None, "launches": (), "claims": {}}
    assert made.model_copy(update=history) == published.model_copy(update=history)
    assert {claim.text for claim in published.claims.values()} == {claim.text for claim in sweep.config.table.claims}
    assert made.row_ids == published.row_ids
    # Notes were written in the words of their day; what they are about, and their numbers, are those of today.
    assert [(note.kind, re.findall(r"\d+", note.text)) for note in made.notes] == [
        (note.kind, re.findall(r"\d+", note.text)) for note in published.notes
    ]


def test_table_is_rebuilt_to_the_byte(sweep: Sweep) -> None:
    store = RecordStore(RESULTS, sweep.name)
    assert render_markdown(build_table(store)) == (store.path / "table.md").read_text(encoding="utf-8")
    for seeds in store.manifest().arms.values():
        assert tuple(seeds) == sweep.config.confirm.seeds
        for trial_id in seeds.values():
            record = store.trial(trial_id).record()
            assert record is not None and record.summary.state == "complete"


def test_figures_are_there(sweep: Sweep) -> None:
    figures = {path.stem for path in (RESULTS / sweep.name / "figures").glob("*.svg")}
    assert len(figures) >= 4

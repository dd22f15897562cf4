"""One arm's search, with made-up trainings: what is pruned, what is told, what a duplicate gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sweeps_by_hand import write_sweep
from tiny_text import TinyText

from harness.records.points import EndedTrial
from harness.records.schema import Summary
from harness.records.search import PointState
from harness.records.trial_folder import TrialFolder
from harness.search.arm_search import ArmSearch
from harness.search.sweep_files import load_sweep
from harness.search.tasks import search_folder

F1, FORGETTING = "valid_target/macro_f1", "valid_forgetting"
KEPT, BROKEN = 0.0, 0.2  # forgetting within and beyond the bound
BOUND = [{"metric": FORGETTING, "at_most": 0.03}]
MEDIAN = {"name": "median", "options": {"n_startup_trials": 2, "n_warmup_steps": 0}}
GOOD, BAD = (0.5, 0.6), (0.1, 0.1)  # scores of two epochs


class Bench:
    """An arm whose trainings are curves that a test writes down."""

    def __init__(self, arm: ArmSearch, folder: Path) -> None:
        self.arm, self.folder = arm, folder

    def train(self, scores: Sequence[float], forgetting: Sequence[float] | float) -> str:
        """Claim the next trial, train it along a curve until it is pruned, and tell; how it ended."""
        lost = [forgetting] * len(scores) if isinstance(forgetting, float) else forgetting
        return self.follow([{F1: f1, FORGETTING: lost} for f1, lost in zip(scores, lost, strict=True)])

    def follow(self, metrics: Sequence[Mapping[str, float]]) -> str:
        """As `train`, with the epochs' metrics."""
        self.arm.refresh()
        flight, *_ = self.arm.due()
        ended = False
        while not ended:
            record = TrialFolder(self.folder / f"{flight.number}-{len(flight.summaries)}")
            state = "complete"
            for epoch, values in enumerate(metrics, 1):
                entry = {"epoch": epoch, "metrics": dict(values), "seconds": 1.0}
                record.append_log(entry)
                if self.arm.report(flight, entry):
                    state = "pruned"
                    break
            summary = Summary.model_validate(
                {"trial_id": flight.config.trial_id, "state": state, "epochs_run": epoch, "valid": dict(values)}
            )
            ended = self.arm.land(flight, summary, record)
        return self.arm.ended[flight.number].state


@pytest.fixture
def bench(tiny_text_files: TinyText, tmp_path: Path) -> Any:
    """A function (changes of the sweep) -> Bench of its arm residual_add."""

    def make(**changes: Any) -> Bench:
        settings = {"settings": {"loop.epochs": 2}, "budget": {"trials": 6}, "search": {"lag": 1}, "pruner": MEDIAN}
        sweep = load_sweep(write_sweep(tiny_text_files.experiment, tmp_path, settings | changes))
        (arm,) = [arm for arm in sweep.searched if arm.name == "residual_add"]
        return Bench(ArmSearch(sweep, arm, tmp_path / "results"), tmp_path / "records")

    return make


@pytest.mark.slow
def test_what_is_below_the_median_is_pruned(bench: Any) -> None:
    search = bench()
    states = [search.train(scores, KEPT) for scores in (GOOD, GOOD, BAD, GOOD)]
    assert states == ["complete", "complete", "pruned", "complete"]


def test_what_keeps_the_constraints_is_not_pruned(bench: Any) -> None:
    search = bench(constraints=BOUND)
    states = [
        search.train(GOOD, BROKEN),
        search.train(GOOD, BROKEN),
        search.train(BAD, KEPT),
        search.train(BAD, BROKEN),
    ]
    assert states == ["complete", "complete", "complete", "pruned"]
    assert [point.feasible for point in search.arm.points()[:3]] == [False, False, True]


def test_a_trial_is_pruned_when_it_leaves_the_constraints(bench: Any) -> None:
    search = bench(constraints=BOUND)
    for _ in range(2):
        search.train(GOOD, BROKEN)
    assert search.train(BAD, [KEPT, BROKEN]) == "pruned"
    assert search.arm.ended[2].steps == {1: 0.1, 2: 0.1}  # not at its first epoch


def test_every_constraint_has_to_hold(bench: Any) -> None:
    search = bench(constraints=[*BOUND, {"metric": "valid_source/macro_f1", "at_least": 0.5}])
    low = [{F1: 0.1, FORGETTING: KEPT, "valid_source/macro_f1": 0.4}] * 2
    high = [{F1: 0.6, FORGETTING: KEPT, "valid_source/macro_f1": 0.6}] * 2
    assert [search.follow(high), search.follow(high)] == ["complete", "complete"]
    assert search.follow(low) == "pruned"


@pytest.mark.slow
def test_wilcoxon_spares_a_seed_that_keeps_the_constraints(bench: Any) -> None:
    seeds = list(range(1000, 1008))
    pruner = {"name": "wilcoxon", "options": {"p_threshold": 0.2, "n_startup_steps": 2}}
    search = bench(constraints=BOUND, pruner=pruner, search={"lag": 1, "seeds": seeds})
    assert search.train(GOOD, KEPT) == "complete"
    assert search.train(BAD, KEPT) == "complete"
    assert search.train(BAD, BROKEN) == "pruned"


def test_the_duplicate_of_a_pruned_record_is_judged_for_itself(bench: Any) -> None:
    """Another arm's judge stopped it after one epoch; here nothing is known that would prune it, so it trains on."""
    search = bench()
    search.arm.refresh()
    (flight,) = search.arm.due()
    record = TrialFolder(search.folder / "elsewhere")
    record.append_log({"epoch": 1, "metrics": {F1: 0.1, FORGETTING: KEPT}, "seconds": 1.0})
    pruned = Summary.model_validate({"trial_id": flight.config.trial_id, "state": "pruned", "valid": {F1: 0.1}})
    (record.path / "summary.json").write_text(pruned.model_dump_json(), encoding="utf-8")
    with TrialFolder(record.path).lock(wait=False):
        assert not search.arm.land(flight, pruned, record)
        assert record.summary() == pruned  # another process is about to train it, or does
    assert not search.arm.land(flight, pruned, record)
    assert record.summary() is None
    assert search.arm.due() == [flight] and not search.arm.ended


def test_a_failed_training_keeps_its_reason(bench: Any) -> None:
    search = bench()
    search.arm.refresh()
    (flight,) = search.arm.due()
    broken = Summary.model_validate(
        {"trial_id": flight.config.trial_id, "state": "failed", "reason": "nan", "message": "the loss is nan"}
    )
    assert search.arm.land(flight, broken, TrialFolder(search.folder / "broken"))
    (point,) = search.arm.points()
    assert (point.state, point.reason, point.values) == ("failed", "nan", ())


@pytest.mark.parametrize("lost", [(), (0,), (1,)])
def test_a_trial_whose_record_is_gone_is_trained_again(bench: Any, lost: tuple[int, ...]) -> None:
    """Its folder was moved away, say, under a sweep that still ran; its point alone would hide that."""
    seeds, names = [1000, 1001], list[Path]()
    search = bench(search={"lag": 1, "seeds": seeds})
    for _ in range(2):
        search.train(GOOD, KEPT)
    for trial_id in search.arm.ended[0].trial_ids:
        folder = search_folder(search.arm.results, search.arm.sweep.name, trial_id)
        folder.mkdir(parents=True)
        names.append(folder / "summary.json")
        names[-1].write_text("{}", encoding="utf-8")
    for number in lost:
        names[number].unlink()
    again = ArmSearch(search.arm.sweep, search.arm.arm, search.arm.results)
    assert again.ended == ({} if lost else {0: search.arm.ended[0]})  # no record of trial 1 was ever written
    assert again.points_on_disk.read_all() == again.ended


@pytest.mark.parametrize(
    ("state", "num_records", "recorded"),
    [("complete", None, 3), ("pruned", None, 1), ("failed", None, 0), ("pruned", 2, 2), ("failed", 1, 1)],
)
def test_which_records_a_point_follows_from(state: PointState, num_records: int | None, recorded: int) -> None:
    """Points of older versions do not tell, and a failed one of theirs may have no record."""
    ids = ("a", "b", "c")
    ended = EndedTrial(arm="one", number=0, state=state, params={}, trial_ids=ids, num_records=num_records)
    assert ended.recorded == ids[:recorded]

"""Trials that take weights from others: what is trained first, how often, and what becomes of a failure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_experiments import Plan, misbehaving, num_starts

import harness
from harness.checks.retraining import choose_trial, retrain_trial
from harness.checks.verify import verify
from harness.config.experiment import Experiment, load_experiment
from harness.config.trial import trial_id_of
from harness.errors import UserError
from harness.launch.run_experiment import RunPlan, preflight, run_experiment
from harness.records.publishing import publish
from harness.records.schema import Summary, TrialState
from harness.records.trial_folder import TrialFolder
from harness.search.sweep_files import load_sweep
from harness.sweep.parts import Count
from harness.sweep.plan import plan_sweep
from harness.tables.build import build_table

RESIDUAL = {"_target_": "harness.adapters.ResidualAddAdapterStrategy"}
LINEAR = {"_target_": "harness.adapters.LinearAdapter", "dim": 4, "adapter_strategy": RESIDUAL}
SOURCE = {"optim": {"lr": 0.01}, "loop": {"epochs": 1}}  # a part
STACKED = {
    "adapter": None,
    "adapters": {"source": {"from": {"arm": "giver"}, "trainable": False}, "target": LINEAR},
}
FUSION = {"_target_": "harness.adapters.AdapterFusion", "over": ["source", "target"]}
HEAD_FIRST: dict[str, Any] = {
    "stages": [{"train": "head", "optim": {"lr": 0.05}, "loop": {"epochs": 1}}, {"train": "adapters"}]
}
HEAD_AGAIN = {"stages": [*HEAD_FIRST["stages"][:1], {"train": "adapters_and_head"}]}


@pytest.fixture
def experiment(plan: Plan, tmp_path: Path) -> Any:
    """Load the small experiment with arms and parts."""

    def make(arms: Mapping[str, Any], parts: Mapping[str, Any] | None = None, **changes: Any) -> Experiment:
        plan(arms={"plain": {}})  # writes the file
        path = tmp_path / "small.yaml"
        content = {**yaml.safe_load(path.read_text()), "arms": dict(arms), "parts": dict(parts or {}), **changes}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return load_experiment(path)

    return make


@pytest.fixture
def planned(experiment: Any, tmp_path: Path) -> Any:
    from harness.launch.run_experiment import plan_run

    def make(arms: Mapping[str, Any], parts: Mapping[str, Any] | None = None, **changes: Any) -> RunPlan:
        loaded = experiment(arms, parts, **changes)
        return plan_run(loaded, loaded.trials, tmp_path / "results")

    return make


def run(plan: RunPlan, jobs: int = 1, hear: Any = lambda event: None) -> Any:
    return run_experiment(plan, jobs, hear)


def made_with(folder: TrialFolder) -> dict[str, Any]:
    """The provenance of a record."""
    content: dict[str, Any] = json.loads((folder.path / "provenance.json").read_text())
    return content


class TestExpansion:
    def test_a_trial_names_the_one_that_it_takes_weights_from(self, experiment: Any) -> None:
        loaded = experiment({"stacked": STACKED, "alone": {}}, {"giver": SOURCE}, seeds=[0, 1])
        assert [(part.arm, part.seed) for part in loaded.parts] == [("giver", 0), ("giver", 1)]
        for trial, part in zip(loaded.trials[:2], loaded.parts, strict=True):
            (member, target) = trial.config.members
            assert member.source is not None and member.source.trial == part.config.trial_id
            assert member.settings == part.config.adapter and not member.trainable and target.source is None
            assert trial.config.needs == (part.config.trial_id,)
            assert trial_id_of(trial.config.model_dump(mode="json", by_alias=True)) == trial.config.trial_id
        assert loaded.trials[2].config.needs == ()

    def test_the_id_follows_from_what_it_depends_on(self, experiment: Any) -> None:
        first = experiment({"stacked": STACKED}, {"giver": SOURCE}).trials[0].config
        other = {"giver": {**SOURCE, "optim": {"lr": 0.5}}}
        assert experiment({"stacked": STACKED}, other).trials[0].config.trial_id != first.trial_id
        assert experiment({"stacked": STACKED, "other": {}}, {"giver": SOURCE}).trials[0].config == first

    def test_stages_in_common_are_one_trial(self, experiment: Any) -> None:
        loaded = experiment(
            {"two": HEAD_FIRST, "both": HEAD_AGAIN, "head": {**HEAD_FIRST["stages"][0], "adapter": None}}
        )
        two, both, head = (trial.config for trial in loaded.trials)
        assert two.start == both.start and two.start is not None and two.start.trial == head.trial_id
        assert two.train == "adapters" and two.adapter is not None and two.optim.lr != 0.05
        assert loaded.parts == ()  # the first stage is a row itself
        (part,) = experiment({"two": HEAD_FIRST, "both": HEAD_AGAIN}).parts
        assert part.config == head and part.arm == "two, stage 1"

    def test_overrides_reach_parts_and_stages(self, experiment: Any, tmp_path: Path) -> None:
        experiment({"two": HEAD_FIRST, "stacked": STACKED}, {"giver": SOURCE})
        loaded = load_experiment(tmp_path / "small.yaml", ["optim.lr=0.125", "loop.epochs=2"])
        assert {t.config.optim.lr for t in (*loaded.trials, *loaded.parts)} == {0.125} and len(loaded.parts) == 2
        assert {t.config.loop.epochs for t in (*loaded.trials, *loaded.parts)} == {2}

    @pytest.mark.parametrize(
        "arms, parts, message",
        [
            ({"a": STACKED}, {}, r"a: adapters\.source\.from\.arm: no arm or part 'giver'; choices: a$"),
            ({"a": STACKED, "b": {}}, {"x": {}}, r"no arm or part 'giver'; choices: a, b, x"),
            ({"a": {}}, {"x": {}}, r"parts\.x: no arm takes weights from it"),
            ({"giver": {}}, {"giver": {}}, r"parts\.giver: there is an arm of that name"),
            ({"a": STACKED}, {"giver": {**SOURCE, "seed": 1}}, r"parts\.giver\.seed: all arms share"),
            ({"a": STACKED}, {"giver": {"train": "none", "adapter": None}}, r"train: none trains nothing"),
            ({"a": STACKED}, {"giver": {"train": "head", "adapter": None}}, r"arm giver has no adapter 'source'"),
            ({"a": STACKED}, {"giver": {"backbone": {"layers": [1]}}}, r"adapters in other places"),
            ({"a": {"start": {"arm": "a"}}}, {}, r"start\.arm: a -> a: .* in a circle"),
            (
                {"a": STACKED},
                {
                    "giver": {"adapter": None, "adapters": {"x": {"from": {"arm": "b"}}}},
                    "b": {"start": {"arm": "giver"}},
                },
                r"giver -> b -> giver: they take weights from each other in a circle",
            ),
            (
                {"a": {"adapter": None, "adapters": {"x": {**LINEAR, "trainable": False}, "y": LINEAR}}},
                {},
                r"a: adapters\.x: trainable is false .*, but it takes its weights from nowhere, .* give it `from`, or",
            ),
            (
                {"a": {**STACKED, "fusion": FUSION}},
                {"giver": SOURCE},
                r"a: adapters\.target: trainable is false \(a fusion",
            ),
            ({"a": {"stages": []}}, {}, r"arms\.a\.stages: expected a list of settings"),
            ({"a": {"stages": [{"seed": 1}]}}, {}, r"arms\.a\.stages\.0\.seed: a stage has no seed of its own"),
            (
                {"a": {"stages": [{}, {"train": "head"}]}},
                {},
                r"the adapters that it starts with \(adapted\) would be left",
            ),
            ({"a": {"stages": [{"train": "none"}, {}]}}, {}, r"stages\.0: train: none trains nothing"),
            ({"a": {"stages": [{"optm": 1}]}}, {}, r"arms\.a: optm: unknown key"),
            ({"a": {"stage": [{}]}}, {}, r"arms\.a: stage: unknown key 'stage'; .* Did you mean stages\?$"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, arms: dict[str, Any], parts: dict[str, Any], message: str, experiment: Any
    ) -> None:
        with pytest.raises(UserError, match=message):
            experiment(arms, parts)


class TestLaunch:
    @pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
    def test_what_others_need_is_trained_first_and_once(self, jobs: int, planned: Any) -> None:
        plan = planned({"stacked": STACKED, "two": HEAD_FIRST, "both": HEAD_AGAIN}, {"giver": SOURCE}, seeds=[0, 1])
        assert [task.title for task in plan.pending[:2]] == ["giver/seed0", "stacked/seed0"]
        assert len(plan.pending) == 10  # 6 rows, a part and a first stage for each seed
        preflight(plan)
        report = run(plan, jobs)
        assert report.failures == [] and report.num_trained == 10
        assert {num_starts(task.folder) for task in plan.pending} == {1}
        part, stacked = plan.store.trial(plan.pending[0].run.trial_id), plan.store.trial(plan.pending[1].run.trial_id)
        made, given = (made_with(one)["taken"] for one in (stacked, part)), made_with(part)["files"]
        assert list(made) == [{f"{part.trial_id}/adapter.safetensors": given["adapter.safetensors"]}, {}]
        before, after = (load_file(one.path / "adapter.safetensors") for one in (part, stacked))
        kept = {name: weight for name, weight in after.items() if name.startswith("source/")}
        assert kept and all(torch.equal(weight, before[f"adapted/{n.partition('/')[2]}"]) for n, weight in kept.items())
        table = build_table(plan.store)
        assert [row.id for row in table.rows] == ["stacked", "two", "both"]
        assert any("others gave it weights before" in note.text for note in table.footnotes)
        assert (
            run(
                planned({"stacked": STACKED, "two": HEAD_FIRST, "both": HEAD_AGAIN}, {"giver": SOURCE}, seeds=[0, 1]),
                jobs,
            ).num_trained
            == 0
        )
        assert verify(plan.store.results, plan.store.name).findings.drifts == []

    def test_a_part_reads_no_test_data_until_it_is_a_row(self, planned: Any) -> None:
        plan = planned({"stacked": STACKED}, {"giver": SOURCE})
        run(plan)
        part = TrialFolder(plan.pending[0].folder)
        summary = part.summary()
        assert summary is not None and summary.state == "complete" and summary.by_domain == {} and summary.base == {}
        assert all(name.startswith("trainable_") for name in summary.metrics)
        assert not (part.path / "predictions.jsonl").exists()
        again = planned({"stacked": STACKED, "giver": SOURCE})
        assert [task.title for task in again.pending] == ["giver/seed0"]
        run(again)
        summary = part.summary()
        assert summary is not None and summary.by_domain != {}

    def test_a_later_stage_goes_on_with_all_weights(self, planned: Any) -> None:
        plan = planned({"three": {"stages": [*HEAD_AGAIN["stages"], {"train": "adapters", "loop": {"epochs": 1}}]}})
        run(plan)
        head, both, last = (load_file(task.folder / "weights.safetensors") for task in plan.pending)
        assert all(torch.equal(weight, last[name]) for name, weight in both.items())  # frozen, and kept in each record
        assert head.keys() == both.keys() and any(not torch.equal(weight, both[name]) for name, weight in head.items())
        record = TrialFolder(plan.pending[-1].folder).record()
        assert record is not None and record.provenance is not None
        assert record.summary.checks == {
            "base_restored": "adapters off: the outputs of the model that it started from, bit for bit"
        }
        first = TrialFolder(plan.pending[0].folder).record()
        assert len(record.provenance.taken) == 2 and first is not None
        # Forgetting is told against the pretrained model, as for every other arm.
        plain = planned({"plain": {}})
        run(plain)
        other = TrialFolder(plain.pending[0].folder).summary()
        assert other is not None and record.summary.base == other.base

    def test_a_fusion_merges_adapters_of_other_trials(self, planned: Any) -> None:
        """Of an arm, and of an arm that starts from a meta-trained part; and those of its own first stage."""
        meta = {"data": {"train_limit": None}, "loop": {"epochs": 1, "meta": {"over": ["home"], "limit": 8}}}
        members = {"one": {"from": {"arm": "plain"}}, "two": {"from": {"arm": "tuned"}}}
        fusion = {"_target_": "harness.adapters.SimAdapter", "over": ["one", "two"], "guide": "two"}
        arms = {
            "plain": {},
            "tuned": {"adapter": None, "adapters": {"two": {"from": {"arm": "meta"}}}},
            "fused": {"adapter": None, "adapters": members, "fusion": fusion},
            "staged": {"adapter": None, "adapters": {"one": LINEAR, "two": LINEAR}, "stages": [{}, {"fusion": fusion}]},
        }
        plan = planned(arms, {"meta": meta})
        assert [task.title for task in plan.pending] == [
            *("plain/seed0", "meta/seed0", "tuned/seed0", "fused/seed0", "staged, stage 1/seed0", "staged/seed0")
        ]
        preflight(plan)
        assert run(plan).failures == []
        plain, _, tuned, fused, first, staged = (
            load_file(task.folder / "adapter.safetensors") for task in plan.pending
        )
        given = {name.replace("adapted/", "one/", 1): weight for name, weight in plain.items()} | tuned
        taken = [name for name in fused if name.startswith(("one/", "two/"))]
        assert len(taken) == len(given) - sum(name.startswith("probe/") for name in given)
        assert all(torch.equal(fused[name], given[name]) for name in taken)
        kept = [name for name in first if not name.startswith("probe/")]
        assert kept and all(torch.equal(staged[name], first[name]) for name in kept)
        has_map = [(task.folder / "attention.json").exists() for task in plan.pending]
        assert has_map == [False, False, False, True, False, True]
        assert verify(plan.store.results, plan.store.name).findings.drifts == []

    def test_a_failure_fails_what_depends_on_it(self, planned: Any) -> None:
        plan = planned({"stacked": STACKED}, {"giver": {**SOURCE, **misbehaving("raise")}})
        report = run(plan)
        part, stacked = (TrialFolder(task.folder).summary() for task in plan.pending)
        assert part is not None and stacked is not None and part.state == "failed"
        assert (stacked.state, stacked.reason) == ("failed", "dependency")
        assert f"it takes weights from trial {part.trial_id}, which has none: failed: error:" in str(stacked.message)
        assert [line.partition(":")[0] for line in report.failures] == ["giver/seed0", "stacked/seed0"]
        # The giver was tried twice, and is parked; so nothing is tried in vain. A NaN comes again at once.
        assert planned({"stacked": STACKED}, {"giver": {**SOURCE, **misbehaving("raise")}}).pending == ()
        plan = planned({"stacked": STACKED}, {"giver": {**SOURCE, **misbehaving("nan")}})
        run(plan)
        assert planned({"stacked": STACKED}, {"giver": {**SOURCE, **misbehaving("nan")}}).pending == ()

    def test_lost_weights_are_made_again_and_the_record_stays(self, planned: Any) -> None:
        arms, parts = {"stacked": STACKED}, {"giver": SOURCE}
        run(planned(arms, parts))
        plan = planned({**arms, "more": {**STACKED, "optim": {"lr": 0.003}}}, parts)
        assert [task.title for task in plan.pending] == ["more/seed0"]
        part = plan.store.trial(plan.pending[0].config.needs[0])
        kept = {path.name: path.read_bytes() for path in part.path.iterdir() if path.is_file()}
        publish(plan.store)
        (part.path / "adapter.safetensors").unlink()
        plan = planned({**arms, "more": {**STACKED, "optim": {"lr": 0.003}}}, parts)
        assert [task.title for task in plan.pending] == ["giver/seed0", "more/seed0"]
        assert run(plan).failures == []
        assert (part.path / "adapter.safetensors").read_bytes() == kept["adapter.safetensors"]
        assert part.files.read("summary.json") == kept["summary.json"] and not (part.path / "config.json").exists()
        assert verify(plan.store.results, plan.store.name).findings.drifts == []

    def test_training_again_trains_what_it_depends_on(self, planned: Any) -> None:
        plan = planned({"both": {**STACKED, **HEAD_FIRST}}, {"giver": {**SOURCE, **HEAD_FIRST}})
        run(plan)
        assert len(plan.pending) == 3 and verify(plan.store.results, plan.store.name).findings.drifts == []
        place, record = choose_trial(plan.store.results, plan.store.name, "both/0")
        again = retrain_trial(place, record, 0.0)
        assert again.drifts == [] and any("target_accuracy" in line for line in again.report)

    def test_taken_weights_are_verified(self, planned: Any) -> None:
        plan = planned({"stacked": STACKED}, {"giver": SOURCE})
        run(plan)
        folder = plan.pending[1].folder
        content = json.loads((folder / "provenance.json").read_text())
        content["taken"] = dict.fromkeys(content["taken"], "0" * 64)
        (folder / "provenance.json").write_text(json.dumps(content))
        messages = [drift.message for drift in verify(plan.store.results, plan.store.name).findings.drifts]
        assert any("with SHA-256 000000000000, the record of" in message for message in messages)
        shutil.rmtree(plan.pending[0].folder)
        messages = [drift.message for drift in verify(plan.store.results, plan.store.name).findings.drifts]
        assert any("which has no record" in message for message in messages)

    def test_weights_that_cannot_be_made_again_are_told(self, planned: Any) -> None:
        run(planned({"stacked": STACKED}, {"giver": SOURCE}))
        plan = planned({"more": {**STACKED, "optim": {"lr": 0.003}}}, {"giver": SOURCE})
        folder = plan.store.trial(plan.pending[0].config.needs[0]).path
        content = json.loads((folder / "provenance.json").read_text())
        content["files"]["adapter.safetensors"] = "0" * 64
        (folder / "provenance.json").write_text(json.dumps(content))
        (folder / "adapter.safetensors").unlink()
        report = run(planned({"more": {**STACKED, "optim": {"lr": 0.003}}}, {"giver": SOURCE}))
        assert any("training it again gives others than its record tells of" in line for line in report.failures)


@pytest.mark.slow
def test_an_arm_of_a_search_gives_weights_to_another(experiment: Any, tmp_path: Path) -> None:
    """One of its trials has the settings that the other takes from: it keeps its weights."""
    giver = {"adapter": None, "adapters": {"source": LINEAR}, "optim": {"lr": 0.01}}
    experiment({"giver": giver, "stacked": STACKED})
    sweep: dict[str, Any] = {
        "name": "needy",
        "experiment": str(tmp_path / "small.yaml"),
        "space": {"optim.lr": {"type": "categorical", "choices": [0.02, 0.01]}},
        "objectives": [{"metric": "valid_target/accuracy"}],
        "sampler": {"name": "grid"},
        "budget": {"trials": 2},
        "confirm": {"seeds": [0]},
    }
    results = tmp_path / "results"
    harness.run_sweep(sweep, results=results, engine="cut")
    starts = [json.loads(line) for line in (results / "needy" / "starts.jsonl").read_text().splitlines()]
    searched = [start for start in starts if start["phase"] == "search"]
    assert len({start["record"] for start in starts}) == len(starts) and len(searched) == 4  # none was trained twice
    with_weights = [
        start for start in searched if (results / "needy" / start["record"] / "adapter.safetensors").exists()
    ]
    assert [(start["arm"], start["params"]) for start in with_weights] == [("giver", {"optim.lr": 0.01})]
    assert verify(results, "needy").findings.drifts == []


def test_a_trial_that_was_pruned_gives_no_weights(planned: Any, tmp_path: Path) -> None:
    plan = planned({"stacked": STACKED}, {"giver": SOURCE})
    (giver,) = [task for task in plan.pending if task.gives]
    summary = Summary(trial_id=giver.run.trial_id, state=TrialState.PRUNED, epochs_run=1)
    assert giver.must_train(summary) and not replace(giver, gives=False).must_train(summary)


@pytest.mark.slow
def test_a_sweep_trains_what_its_arms_need_once(experiment: Any, tmp_path: Path, capsys: Any) -> None:
    """Sealed in the search, and with a trial for each seed of the confirm phase."""
    experiment({"stacked": STACKED, "two": HEAD_FIRST, "frozen": {"train": "none", "adapter": None}}, {"giver": SOURCE})
    sweep = {
        "name": "needy",
        "experiment": str(tmp_path / "small.yaml"),
        "space": {"optim.lr": {"type": "log_float", "low": 1e-3, "high": 1e-1}},
        "objectives": [{"metric": "valid_target/accuracy"}],
        "budget": {"trials": 2},
        "confirm": {"seeds": [0, 1]},
    }
    results = tmp_path / "results"
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    plan = plan_sweep(load_sweep(tmp_path / "sweep.yaml"), results, 1)
    assert {arm.name: arm.confirm for arm in plan.arms}["giver"] == Count(3)  # one in the search, two to confirm
    assert {arm.name: arm.confirm for arm in plan.arms}["two, stage 1"] == Count(3)
    done = harness.run_sweep(sweep, results=results, engine="plain")
    folder = results / "needy"
    by_phase: dict[str, list[str]] = {"search": [], "records": []}
    for line in (folder / "starts.jsonl").read_text().splitlines():
        start = json.loads(line)
        if start["phase"] == "part":
            by_phase[start["record"].partition("/")[0]].append(f"{start['arm']} {start['seed']}")
    assert sorted(by_phase["search"]) == ["giver 1000", "two, stage 1 1000"]
    assert sorted(by_phase["records"]) == ["giver 0", "giver 1", "two, stage 1 0", "two, stage 1 1"]
    summaries = [json.loads(path.read_text()) for path in (folder / "search").glob("*/summary.json")]
    assert len(summaries) == 6 and all(summary["by_domain"] == {} for summary in summaries)
    assert done.table().rows == ("stacked", "two", "frozen")
    assert verify(results, "needy").findings.drifts == []
    assert harness.run_sweep(sweep, results=results, engine="plain").num_trained == 0
    left = plan_sweep(load_sweep(tmp_path / "sweep.yaml"), results, 1)
    assert left.num_new == 0
    (tmp_path / "small.yaml").write_text((tmp_path / "small.yaml").read_text().replace("lr: 0.01", "lr: 0.015"))
    with pytest.raises(UserError, match=r"begun with other settings \(a setting of the experiment's arms\)"):
        plan_sweep(load_sweep(tmp_path / "sweep.yaml"), results, 1)


def test_a_trial_that_is_named_by_its_id_has_to_be_there(planned: Any) -> None:
    named = {"source": {**LINEAR, "from": {"trial": "0123456789ab"}, "trainable": False}, "target": LINEAR}
    plan = planned({"taker": {"adapter": None, "adapters": named}})
    with pytest.raises(UserError, match="arm taker: takes weights from trial 0123456789ab, which has no finished"):
        preflight(plan)

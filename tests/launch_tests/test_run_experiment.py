"""What a launch trains, what it reuses, what it refuses, and how it reports failures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from small_experiments import Plan, comparable, misbehaving, num_starts
from tiny_text import TinyText, corpus_rows, write_corpus

from harness.backbones.recipe import load_recipe
from harness.checks.verify import verify
from harness.config.trial import TrialConfig, trial_id_of
from harness.data import load_corpus
from harness.data.samples import test_examples
from harness.errors import UserError
from harness.launch.events import TrialEvent
from harness.launch.run_experiment import RunReport, check_fingerprints, preflight, run_experiment
from harness.records.digests import read_digests
from harness.records.predictions import read_test_items
from harness.records.trial_folder import TrialFolder
from harness.tables.build import build_table
from harness.tables.load import load_experiments
from harness.training.pretrain import pretrain
from harness.training.resources import Resources

FROZEN = {"train": "none", "adapter": None}


def run(plan: Any, **options: Any) -> RunReport:
    return run_experiment(plan(**options), 1, lambda event: None)


def test_the_second_launch_trains_nothing(plan: Plan) -> None:
    first = plan(seeds=(0, 1))
    assert len(first.pending) == 5 and first.reused == {}  # nothing trains in one arm: one trial for both seeds
    assert run_experiment(first, 1, lambda event: None) == RunReport(num_reused=0, num_trained=5)
    again = plan(seeds=(0, 1))
    assert again.pending == () and again.reused.keys() == {task.config.trial_id for task in first.pending}
    files = {path: path.stat().st_mtime_ns for path in first.store.path.rglob("*")}
    assert run_experiment(again, 1, lambda event: None) == RunReport(num_reused=5, num_trained=0)
    assert {path: path.stat().st_mtime_ns for path in first.store.path.rglob("*")} == files


def test_more_seeds_train_only_what_is_missing(plan: Plan) -> None:
    run(plan, arms={"frozen": FROZEN}, seeds=(0, 1))
    more = plan({"frozen": FROZEN, "adapters": {}}, seeds=(0, 1, 2))
    assert [task.title for task in more.pending] == [
        "adapters/seed0",
        "adapters/seed1",
        "adapters/seed2",
    ]


def test_an_old_results_manifest_stays_as_it_is(plan: Plan) -> None:
    """Results from before launches were noted: a launch that changes nothing changes no byte, and adds no file."""
    first = plan(seeds=(0,))
    run_experiment(first, 1, lambda event: None)
    path = first.store.path / "experiment.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in ("launches", "notes"):
        content.pop(name)
    path.write_text(json.dumps(content), encoding="utf-8")
    (first.store.path / "digests.json").unlink()
    files = {path: path.read_bytes() for path in first.store.path.rglob("*") if path.is_file()}
    run(plan, seeds=(0,))
    assert {path: path.read_bytes() for path in first.store.path.rglob("*") if path.is_file()} == files


def test_what_later_launches_add_is_appended(plan: Plan) -> None:
    first = plan({"frozen": FROZEN}, seeds=(0, 1))
    run_experiment(first, 1, lambda event: None)
    (launched,) = first.store.manifest().launches
    assert launched.at is not None and launched.num_finished == 0 and list(launched.arms) == ["frozen"]
    run(plan, arms={"frozen": FROZEN, "adapters": {}}, seeds=(0, 1))
    manifest = first.store.manifest()
    assert manifest.launches[0] == launched and manifest.launches[1].arms == manifest.arms
    assert manifest.launches[1].num_finished == 1 and manifest.notes == ()
    assert verify(first.store.path.parent, "small").findings.drifts == []


def test_what_a_later_launch_leaves_out_is_told(plan: Plan) -> None:
    arms = {"frozen": FROZEN, "adapters": {}}
    first = plan(arms, seeds=(0, 1, 2))
    run_experiment(first, 1, lambda event: None)
    run(plan, arms=arms, seeds=(0, 2))
    manifest = first.store.manifest()
    (note,) = manifest.notes
    assert note.text == "launched earlier, and not in this table: adapters (seed 1)"  # frozen's is every seed's
    assert any(footnote.text == note.text for footnote in build_table(first.store).footnotes)
    assert verify(first.store.path.parent, "small").findings.drifts == []
    first.store.write_manifest(manifest.model_copy(update={"notes": ()}))
    assert any("it lacks the note" in str(drift) for drift in verify(first.store.path.parent, "small").findings.drifts)
    run(plan, arms=arms, seeds=(0, 1, 2))
    assert first.store.manifest().notes == ()  # all are shown again


def test_an_old_plan_is_kept_when_another_is_launched(plan: Plan) -> None:
    first = plan({"frozen": FROZEN, "adapters": {}})
    run_experiment(first, 1, lambda event: None)
    old = first.store.manifest().model_copy(update={"launches": ()})
    first.store.write_manifest(old)
    run(plan, arms={"frozen": FROZEN})
    manifest = first.store.manifest()
    assert [launch.at is None for launch in manifest.launches] == [True, False]
    assert manifest.launches[0].arms == old.arms and "adapters (seed 0)" in manifest.notes[0].text


def test_a_trial_that_is_trained_again_has_a_digest_of_its_own(plan: Plan) -> None:
    first = plan({"frozen": FROZEN, "adapters": {}})
    run_experiment(first, 1, lambda event: None)
    before = read_digests(first.store)
    shutil.rmtree(first.pending[1].folder)
    run(plan, arms={"frozen": FROZEN, "adapters": {}})
    after = read_digests(first.store)
    assert before is not None and after is not None and before.records.keys() == after.records.keys()
    changed = [key for key in after.records if after.records[key] != before.records[key]]
    assert changed == [f"records/{first.pending[1].config.trial_id}"]
    assert verify(first.store.path.parent, "small").findings.drifts == []


def test_equal_configs_in_two_arms_are_one_trial(plan: Plan, events: list[TrialEvent]) -> None:
    twins = plan({"first": {}, "second": {"optim": {"lr": 0.02}}, "other": {"optim": {"lr": 0.03}}})
    assert len({trial.config.trial_id for trial in twins.experiment.trials}) == 2 == len(twins.pending)
    report = run_experiment(twins, 1, events.append)
    assert report.num_trained == 2
    manifest = twins.store.manifest()
    assert manifest.arms["first"] == manifest.arms["second"] != manifest.arms["other"]


def test_the_manifest_names_every_trial_in_the_order_of_the_arms(plan: Plan) -> None:
    planned = plan({"b": FROZEN, "a": {}}, seeds=(3, 1))
    run_experiment(planned, 1, lambda event: None)
    manifest = planned.store.manifest()
    assert list(manifest.arms) == ["b", "a"] and [list(seeds) for seeds in manifest.arms.values()] == [[3, 1]] * 2
    ids = [trial_id for seeds in manifest.arms.values() for trial_id in seeds.values()]
    assert ids == [trial.config.trial_id for trial in planned.experiment.trials]
    assert sorted(path.name for path in (planned.store.path / "records").iterdir()) == sorted(set(ids))
    assert len(set(ids)) == 3  # nothing trains in b: one trial for both seeds


def test_what_trains_nothing_is_run_once_and_stands_at_every_seed(plan: Plan) -> None:
    planned = plan({"frozen": FROZEN, "adapters": {}}, seeds=(3, 1, 2))
    assert [(task.run.arm, task.run.seed) for task in planned.pending] == [
        ("frozen", 3), ("adapters", 3), ("adapters", 1), ("adapters", 2)
    ]  # fmt: skip
    assert run_experiment(planned, 1, lambda event: None) == RunReport(num_trained=4)
    arms = planned.store.manifest().arms
    assert list(arms["frozen"]) == [3, 1, 2] and len(set(arms["frozen"].values())) == 1
    loaded = load_experiments(planned.store.path.parent, ["small"])
    assert [trial.is_deterministic for trial in loaded.trials] == [True] * 3 + [False] * 3
    assert not verify(planned.store.path.parent, "small").findings.drifts
    more = plan({"frozen": FROZEN, "adapters": {}}, seeds=(3, 1, 2, 9))
    assert [(task.run.arm, task.run.seed) for task in more.pending] == [("adapters", 9)]


def test_what_no_seed_trains_on_is_tested_too(plan: Plan) -> None:
    """From the training to the table: predictions, references, scores and notes are of the larger test set."""
    planned = plan(seeds=(0, 1), base={"data": {"train_limit": 12, "pool": 20, "test": "all_unused"}})
    run_experiment(planned, 1, lambda event: None)
    results, config = planned.store.path.parent, planned.pending[-1].config
    corpus = load_corpus(config.data.corpus)
    tested = [example.key for example in test_examples(corpus, config.data, "away")]
    assert len(tested) > len(corpus.split("away", "test"))
    for task in planned.pending:
        items = read_test_items(TrialFolder(task.folder))
        assert items is not None and [item.key for item in items["away"]] == tested
        assert len(items["home"]) == len(corpus.split("home", "test"))
    found = verify(results, "small").findings
    assert not found.drifts and found.held["references and groups of test items are the corpus's"] == 2 * 2 * 3
    notes = [note.text for note in build_table(planned.store).footnotes]
    assert any(note.startswith("away is tested on its test split") for note in notes)


def test_trials_of_an_older_version_are_trained_anew_and_the_reason_is_given(plan: Plan) -> None:
    """Version 1 took the head of the file for a limited validation set: its record is none of the new trial."""
    base = {"loop": {"valid_limit": 5}}
    first = plan({"adapters": {}}, base=base)
    assert first.outdated is None
    run_experiment(first, 1, lambda event: None)
    (task,) = first.pending
    old = first.store.trial(trial_id_of(task.config.model_dump(mode="json", by_alias=True), 1))
    task.folder.rename(old.path)
    again = plan({"adapters": {}}, base=base)
    assert len(again.pending) == 1 and not again.reused
    assert again.outdated == (
        f"{again.store.path}: 1 finished trials are not reused, and are trained anew under new ids: "
        "made before validation sets were drawn as samples: validation was the head of the file "
        "(the first 5 validation examples of each domain), which may lack a class"
    )


# --- failures ---------------------------------------------------------------------------------------------------------


def test_one_failure_stops_nobody_else(plan: Plan) -> None:
    planned = plan({"broken": misbehaving("raise"), "frozen": FROZEN, "adapters": {}})
    report = run_experiment(planned, 1, lambda event: None)
    folder = planned.pending[0].folder
    assert report.failures == [
        f"broken/seed0: failed: error: ZeroDivisionError: a bug (see {folder / 'traceback.txt'}); "
        "it is parked: with --retry-failed, or without its folder, it is tried again"
    ]
    assert report.user_error is None and report.num_trained == 3
    states = [TrialFolder(task.folder).summary() for task in planned.pending]
    assert [summary.state.value for summary in states if summary is not None] == ["failed", "complete", "complete"]


def test_an_error_is_tried_again(plan: Plan, tmp_path: Path) -> None:
    planned = plan({"broken": misbehaving("raise", marker=str(tmp_path / "once"))})
    assert run_experiment(planned, 1, lambda event: None) == RunReport(num_trained=1)
    assert not (planned.pending[0].folder / "traceback.txt").exists()


def test_a_nan_is_tried_again_only_when_asked(plan: Plan, tmp_path: Path) -> None:
    arms = {"wild": misbehaving("nan", call=4, marker=str(tmp_path / "once"))}
    first = plan(arms)
    folder = first.pending[0].folder
    expected = ["wild/seed0: failed: nan: the loss is nan at epoch 2, step 1"]
    assert run_experiment(first, 1, lambda event: None).failures == expected
    again = plan(arms)
    assert again.pending == () and len(again.reused) == 1
    report = run_experiment(again, 1, lambda event: None)
    assert report == RunReport(num_reused=1, failures=expected) and num_starts(folder) == 1
    asked = plan(arms, retry_failed=True)
    assert len(asked.pending) == 1
    assert run_experiment(asked, 1, lambda event: None) == RunReport(num_trained=1)
    assert num_starts(folder) == 2
    # It went on from the epoch before the NaN, to what an untroubled training gives.
    untroubled = plan(arms, results="untroubled")
    run_experiment(untroubled, 1, lambda event: None)
    summaries = [plan_.store.trial(folder.name).summary() for plan_ in (asked, untroubled)]
    assert summaries[0] is not None and summaries[1] is not None
    assert comparable(summaries[0]) == comparable(summaries[1])


def test_a_mistake_that_only_training_finds_is_the_users(plan: Plan) -> None:
    planned = plan({"far": {"backbone": {"layers": [9]}}, "frozen": FROZEN})
    report = run_experiment(planned, 1, lambda event: None)
    assert report.user_error is not None and report.user_error.startswith("backbone.layers: [9] matches no layer")
    assert report.failures == [f"far/seed0: {report.user_error}"] and report.num_trained == 1


# --- before anything is trained ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arm, expected",
    [
        ({"backbone": {"layers": [9]}}, r"backbone\.layers: \[9\] matches no layer"),
        ({"data": {"target": "nowhere"}}, r"corpus manifest:sentences has no domain 'nowhere'; choices: away, home"),
        ({"data": {"train_limit": 9999}}, r"limit of 9999 training examples"),
        ({"data": {"corpus": "manifest:/no/such.csv"}}, r"/no/such\.csv: cannot be read"),
        ({"backbone": {"recipe": "no_such_recipe"}}, r"no backbone recipe 'no_such_recipe'; choices: "),
        ({"adapter": {"_target_": "nosuchmodule.Adapter"}}, r"adapter: .*nosuchmodule"),
        ({"adapter": {"dim": 0}}, r"adapter: .*dim has to be a whole number"),
        (
            {"adapter": {"adapter_strategy": {"stochastic_depth": 1.5}}},
            r"adapter\.adapter_strategy: .*between 0 and 1, but got 1\.5",
        ),
        ({"loop": {"augment": {}}}, r"loop\.augment: SpecAugment masks speech features"),
    ],
)
def test_preflight_names_file_arm_and_cause(arm: dict[str, Any], expected: str, plan: Plan, tmp_path: Path) -> None:
    planned = plan({"fine": {}, "wrong": arm})
    with pytest.raises(UserError, match=rf"^{tmp_path}/small\.yaml: arm wrong: .*{expected}") as caught:
        preflight(planned)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_preflight_of_a_good_experiment_trains_nothing(plan: Plan, tmp_path: Path) -> None:
    preflight(plan(seeds=(0, 1)))
    assert not (tmp_path / "results").exists()


def altered_corpus(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    write_corpus(path, corpus_rows())
    return path


def test_records_of_other_data_are_not_added_to(plan: Plan, tmp_path: Path) -> None:
    corpus = altered_corpus(tmp_path)
    base = {"data": {"corpus": f"manifest:{corpus}"}}
    first = plan({"frozen": FROZEN}, base=base)
    run_experiment(first, 1, lambda event: None)
    trial_id = first.pending[0].config.trial_id
    more = {"frozen": FROZEN, "adapters": {}}
    preflight(plan(more, base=base))
    rows = corpus_rows()
    rows[0]["text"] += " indeed"
    write_corpus(corpus, rows)
    with pytest.raises(UserError, match=rf"/small: record {trial_id} was made with another corpus than the one here; "):
        preflight(plan(more, base=base))


def test_records_of_another_backbone_are_not_added_to(
    plan: Plan, tiny_text_files: TinyText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipe.yaml"
    content = yaml.safe_load(tiny_text_files.recipe.read_text(encoding="utf-8"))
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
    base = {"backbone": {"recipe": str(recipe)}}
    run_experiment(plan({"frozen": FROZEN}, base=base), 1, lambda event: None)
    content["loop"]["epochs"] = 1
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    pretrain(load_recipe(str(recipe)), lambda entry: None)
    with pytest.raises(UserError, match=r"was made with another backbone than the one here; use another --results"):
        preflight(plan({"frozen": FROZEN, "adapters": {}}, base=base))


class ByOptions(Resources):
    """Corpora whose contents depend on their options."""

    def domains(self, config: TrialConfig) -> Any:
        """The real ones, with a fingerprint that names the options."""
        found = super().domains(config)
        return SimpleNamespace(made_with=found.made_with._replace(corpus=str(config.data.options)))


def test_arms_may_read_one_corpus_with_different_options(plan: Plan) -> None:
    """A record is compared with what is loaded for its own options, not with another arm's."""
    longer = {"data": {"options": {"longest_s": 5.0}}}
    first = plan({"short": FROZEN})
    run_experiment(first, 1, lambda event: None)
    path = first.pending[0].folder / "provenance.json"
    provenance = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(provenance | {"corpus_fingerprint": "{}"}), encoding="utf-8")
    more = {"short": FROZEN, "long": longer, "short too": {}}
    check_fingerprints(plan(more), ByOptions())
    path.write_text(json.dumps(provenance | {"corpus_fingerprint": "another"}), encoding="utf-8")
    with pytest.raises(UserError, match="was made with another corpus"):
        check_fingerprints(plan(more), ByOptions())
    check_fingerprints(plan({"short": FROZEN, "long": longer}), ByOptions())  # nothing of its kind is loaded now


def test_a_record_that_is_not_json_is_named(plan: Plan) -> None:
    planned = plan({"frozen": FROZEN})
    run_experiment(planned, 1, lambda event: None)
    path = planned.pending[0].folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")))[:-5], encoding="utf-8")
    with pytest.raises(UserError, match=rf"^{path}: not valid JSON; delete it"):
        plan({"frozen": FROZEN})

"""A search trial cannot read, compute or record a test number; each planted leak works once the seal is off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny_speech import SPLITS, TinySpeech
from trial_configs import MakeConfig

from harness.data.corpora.registry import load_corpus
from harness.errors import TrialError
from harness.metrics import constrained_score, validation_metrics
from harness.records.schema import Summary, TrialState, assert_sealed
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun
from harness.tasks.registry import TASKS
from harness.tasks.task import Evaluation
from harness.training.resources import Resources
from harness.training.run_trial import run_trial
from harness.training.trial import Outcome, Trial

from .leaking import FOUND, WAYS

Train = Callable[..., Summary]
COUNTS = {"trainable_parameters", "trainable_share"}


@pytest.fixture(scope="module")
def sealed() -> Resources:
    """What the trials of a search share."""
    return Resources(sealed=True)


@pytest.fixture
def train(tmp_path: Path, resources: Resources, sealed: Resources) -> Train:
    """A function that trains into a folder named by the phase, with that phase's resources."""

    def run(config: Any, phase: str, report: Callable[[Any], bool | None] = lambda entry: None) -> Summary:
        about = TrialRun(config.trial_id, "e", "a", config.seed, phase)
        shared = sealed if phase == "search" else resources
        return run_trial(config, about, TrialFolder(tmp_path / phase), shared, report)

    return run


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- what a search trial leaves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["frozen", "head_only", "residual_add"])
def test_a_search_record_differs_only_by_what_is_sealed(
    arm: str, train: Train, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(arm)
    search, confirm = train(config, "search"), train(config, "confirm")
    assert search.state == confirm.state == "complete"
    assert (search.by_domain, search.base) == ({}, {}) and confirm.by_domain.keys() == {"away", "home"}
    assert search.metrics == {name: value for name, value in confirm.metrics.items() if name in COUNTS}
    assert search.metrics.keys() == COUNTS and search.costs.keys() == confirm.costs.keys()
    same = {"metrics", "by_domain", "base", "costs", "trial_id"}
    assert search.model_dump(exclude=same) == confirm.model_dump(exclude=same)
    assert search.checks.keys() == {"base_restored"}
    assert names(tmp_path / "search") == {
        *("config.json", "log.jsonl", "summary.json", "provenance.json", "starts.jsonl"),
    }
    logs = [[entry["metrics"] for entry in TrialFolder(tmp_path / n).read_log()] for n in ("search", "confirm")]
    assert logs[0] == logs[1]


def test_a_search_record_names_the_whole_corpus(train: Train, make_config: MakeConfig, tmp_path: Path) -> None:
    for phase in ("search", "confirm"):
        train(make_config("frozen"), phase)
    records = [TrialFolder(tmp_path / phase).record() for phase in ("search", "confirm")]
    fingerprints = [r.provenance.corpus_fingerprint for r in records if r is not None and r.provenance is not None]
    assert len(fingerprints) == 2 and len(set(fingerprints)) == 1


@pytest.mark.parametrize("phase", ["search", "confirm"])
@pytest.mark.parametrize("arm", ["frozen", "residual_add"])
def test_the_validation_metrics_are_those_that_are_promised(
    arm: str, phase: str, train: Train, make_config: MakeConfig, make_speech_config: MakeConfig, tmp_path: Path
) -> None:
    assert (
        train(make_config(arm), phase).valid.keys() == validation_metrics(TASKS["text_classification"].metrics).keys()
    )
    (tmp_path / phase).rename(tmp_path / "text")
    assert train(make_speech_config(arm), phase).valid.keys() == validation_metrics(TASKS["ctc"].metrics).keys()


def test_the_check_before_a_search_asks_for_no_test_data(make_config: MakeConfig, sealed: Resources) -> None:
    Trial(make_config(), sealed).check()


# --- validation forgetting --------------------------------------------------------------------------------------------


def test_validation_forgetting_is_on_the_examples_that_are_scored(make_config: MakeConfig, sealed: Resources) -> None:
    """Every epoch, against the base model on the same sample of each domain."""
    limit = 7
    config = make_config(optim={"lr": 0.1}, loop={"epochs": 4, "valid_limit": limit})
    entries: list[dict[str, Any]] = []
    outcome = Trial(config, sealed, None, entries.append).run()
    domains = sealed.domains(config)
    primary, model = domains.plain_task.primary, domains.backbone.model
    base = {n: domains.score(model, domains.valid_items(n, limit), config.loop) for n in ("away", "home")}
    whole = domains.score(model, domains.items("home", "valid"), config.loop)
    assert len(domains.items("home", "valid")) > limit and whole.scores != base["home"].scores
    target, source = base["away"].scores[primary], base["home"].scores[primary]
    for metrics in (entry["metrics"] for entry in entries):
        after = metrics[f"valid_source/{primary}"]
        expected = constrained_score(primary, target, metrics[f"valid_target/{primary}"], [source], [after])
        assert metrics["valid_forgetting"] == pytest.approx(source - after, abs=1e-12)
        assert metrics["valid_constrained_score"] == expected
    assert len({entry["metrics"]["valid_forgetting"] for entry in entries}) > 1
    best = entries[outcome.best_epoch - 1]["metrics"]
    assert {name: best[name] for name in validation_metrics(TASKS["text_classification"].metrics)} == outcome.valid


def test_the_frozen_arm_forgets_nothing_in_validation(train: Train, make_config: MakeConfig) -> None:
    valid = train(make_config("frozen", loop={"valid_limit": 5}), "search").valid
    assert (valid["valid_forgetting"], valid["valid_constrained_score"]) == (0.0, 0.0)


def test_the_constrained_score_counts_source_by_source(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that improves does not make up for one that is harmed; forgetting is the mean."""
    resources, config = Resources(sealed=True), make_config()
    two = config.model_copy(update={"data": config.data.model_copy(update={"source": ("home", "twin")})})
    domains = resources.domains(config)
    monkeypatch.setattr(resources, "domains", lambda config: domains)
    primary = domains.plain_task.primary

    def scored(value: float) -> Evaluation:
        return Evaluation({primary: value}, 0.0, ())

    before = {"away": scored(0.4), "home": scored(0.8), "twin": scored(0.5)}
    monkeypatch.setattr(domains, "valid_items", lambda domain, limit: domain)
    monkeypatch.setattr(domains, "base_scores", lambda base, domain, loop: before[domain])
    trial = Trial(two, resources)
    after = {"away": scored(0.7), "home": scored(0.77), "twin": scored(0.6)}
    entry = trial.validation.epoch(lambda domain: after[domain])
    found = {name: entry[name] for name in ("valid_forgetting", "valid_constrained_score")}
    # Half of the error on the target is gone; `home` lost all of kappa, `twin` nothing.
    assert found == pytest.approx({"valid_forgetting": -0.035, "valid_constrained_score": 0.5 * (0 + 1) / 2}, abs=1e-9)


def test_unused_examples_are_sealed_like_the_test_split(train: Train, make_config: MakeConfig) -> None:
    """All that a search can reach of a corpus is without them, and its training sample is that of the confirm phase."""
    config = make_config(data={"train_limit": 12, "pool": 20, "test": "all_unused"}, loop={"epochs": 1})
    sealed, whole = Resources(sealed=True).domains(config), Resources().domains(config)
    tested = {item.key for item in whole.test_items(config.data, "away")}
    assert not tested & {example.key for examples in sealed.corpus.domains.values() for example in examples}
    samples = [[item.key for item in domains.train_sample(config.data, 3)] for domains in (sealed, whole)]
    assert samples[0] == samples[1]
    assert train(config, "search").state == train(config, "confirm").state == "complete"
    plain = make_config(data={"train_limit": 12})
    shared = Resources(sealed=True)
    assert shared.domains(plain) is not shared.domains(config) is shared.domains(config)


# --- planted leaks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["away", "home"])
@pytest.mark.parametrize("way", WAYS)
def test_a_users_strategy_finds_no_test_data(way: str, domain: str, train: Train, make_config: MakeConfig) -> None:
    """Asking for the test split fails the trial; going through the examples finds none of it."""
    strategy = {"_target_": "training_tests.leaking.Leaking", "way": way, "domain": domain}
    config = make_config(adapter={"adapter_strategy": strategy}, loop={"epochs": 1})
    FOUND.clear()
    summary = train(config, "search")
    assert not FOUND
    if way in ("examples", "domains"):
        assert summary.state == "complete"
    else:
        assert (summary.state, summary.reason, summary.valid) == ("failed", "sealed", {})
        assert "confirm phase" in str(summary.message)
        assert "\n" not in str(summary.message)
    assert train(config, "confirm").state == "complete" and FOUND


LEAKS: dict[str, tuple[Callable[[Outcome], Outcome], str]] = {
    "metrics": (lambda o: replace(o, metrics={**o.metrics, "target_macro_f1": 0.5}), "target_macro_f1"),
    "forgetting": (lambda o: replace(o, metrics={**o.metrics, "forgetting": 0.1}), "forgetting"),
    "score": (lambda o: replace(o, metrics={**o.metrics, "constrained_score": 0.1}), "constrained_score"),
    "by_domain": (lambda o: replace(o, by_domain={"away": {"accuracy": 0.5}}), "by_domain.away"),
    "base": (lambda o: replace(o, base={"home": {"accuracy": 0.5}}), "base.home"),
    "valid": (lambda o: replace(o, valid={**o.valid, "source_accuracy": 0.5}), "valid.source_accuracy"),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_test_number_in_an_outcome_is_not_recorded(
    leak: str, train: Train, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant, name = LEAKS[leak]
    make = Trial._sealed_outcome
    monkeypatch.setattr(Trial, "_sealed_outcome", lambda *arguments: plant(make(*arguments)))
    summary = train(make_config(), "search")
    assert (summary.state, summary.reason, summary.metrics) == ("failed", "sealed", {})
    assert (summary.by_domain, summary.base) == ({}, {})
    assert summary.valid.keys() == validation_metrics(TASKS["text_classification"].metrics).keys()
    assert summary.message == f"a search record must hold no test number, but it has {name}"
    assert TrialFolder(tmp_path / "search").summary() == summary
    assert train(make_config(), "confirm").state == "complete"


@pytest.mark.parametrize("phase", ["search", "confirm", "baseline"])
def test_resources_of_another_phase_are_refused(
    phase: str, make_config: MakeConfig, resources: Resources, sealed: Resources, tmp_path: Path
) -> None:
    config = make_config("frozen")
    about = TrialRun(config.trial_id, "e", "a", 0, phase)
    wrong = resources if phase == "search" else sealed
    with pytest.raises(TrialError, match=rf"^phase {phase}: .*test examples") as caught:
        run_trial(config, about, TrialFolder(tmp_path), wrong)
    assert caught.value.reason == "sealed" and not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["target_cer", "source_wer", "forgetting", "constrained_score"])
def test_a_sealed_summary(name: str) -> None:
    good = Summary(
        trial_id="t",
        state=TrialState.COMPLETE,
        metrics={"trainable_parameters": 3.0, "trainable_share": 0.1},
        valid={"valid_target/cer": 0.4, "valid_forgetting": 0.1},
    )
    assert_sealed(good)
    with pytest.raises(TrialError, match=f"but it has {name}$") as caught:
        assert_sealed(good.model_copy(update={"metrics": good.metrics | {name: 0.5}}))
    assert caught.value.reason == "sealed"


# --- caches -----------------------------------------------------------------------------------------------------------


def test_sealed_and_open_domains_share_nothing(
    make_config: MakeConfig, resources: Resources, sealed: Resources
) -> None:
    config = make_config()
    opened, closed = resources.domains(config), sealed.domains(config)
    assert len(opened.items("away", "test")) > 0
    assert opened.corpus.fingerprint == closed.corpus.fingerprint and opened is not closed
    assert opened.items("away", "valid") is not closed.items("away", "valid")
    with pytest.raises(TrialError, match="confirm phase"):
        closed.items("away", "test")


def test_a_sealed_corpus_reads_no_features_of_test_clips(
    make_speech_config: MakeConfig, tiny_speech_files: TinySpeech, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not those that an unsealed trial left on disk: one file holds a domain's clips of all splits."""
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    config = make_speech_config()
    opened = Resources().domains(config)
    sizes = [len(opened.items("high", split)) for split in ("train", "valid", "test")]
    assert sizes == [SPLITS.count(split) for split in ("train", "valid", "test")]
    closed = Resources(sealed=True).domains(config)
    assert [i.key for i in closed.items("high", "valid")] == [i.key for i in opened.items("high", "valid")]
    closed.items("high", "train")
    corpus = load_corpus(f"manifest:{tiny_speech_files.manifest}")
    test_keys = {example.key for example in corpus.split("high", "test")}
    (whole,), (rest,) = (list((tmp_path / where).rglob("high.safetensors")) for where in ("features", "sealed"))
    assert test_keys <= load_file(whole).keys()
    assert load_file(rest).keys() == load_file(whole).keys() - test_keys

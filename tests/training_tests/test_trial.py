"""A trial's numbers, recomputed from what it wrote down; its few-shot sample; and the promise that the base is back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import jiwer
import pytest
import torch
from tiny_speech import PITCH, SPLITS, TinySpeech, transcript_of, write_clip
from tiny_text import TinyText
from trial_configs import MakeConfig

from harness.backbones.model import TaskModel
from harness.config.execution import execution_of
from harness.config.notes import Note
from harness.config.trial import TrialConfig
from harness.data import corpus as corpus_module
from harness.data.corpora.registry import load_corpus
from harness.data.corpus import SpeechExample, TextExample, class_of
from harness.engines.registry import Engines
from harness.errors import TrialError, UserError
from harness.records.schema import Summary
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun
from harness.training import base_check
from harness.training.base_check import NUM_PROBES
from harness.training.loop import fit
from harness.training.resources import Resources
from harness.training.run_trial import run_trial
from harness.training.trial import Outcome, Trial

KAPPA = 0.03
LEARNING: dict[str, Any] = {"optim": {"lr": 0.1}, "loop": {"epochs": 6}}  # enough to change predictions


def run(config: TrialConfig, resources: Resources) -> Outcome:
    return Trial(config, resources).run()


def record(config: TrialConfig, resources: Resources, folder: Path) -> tuple[Summary, dict[str, dict[str, Any]]]:
    """Run a trial into a record; its summary, and its predictions by domain and key as the file has them."""
    trial_folder = TrialFolder(folder)
    about = TrialRun(config.trial_id, "e", "a", config.seed, "confirm")
    summary = run_trial(config, about, trial_folder, resources)
    predictions: dict[str, dict[str, Any]] = {}
    for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        predictions.setdefault(entry["domain"], {})[entry["key"]] = entry["prediction"]
    return summary, predictions


def macro_f1_by_hand(pairs: list[tuple[int, int]], num_classes: int) -> float:
    scores = []
    for label in range(num_classes):
        counts = Counter((reference == label, prediction == label) for reference, prediction in pairs)
        precision = counts[True, True] / max(counts[True, True] + counts[False, True], 1)
        recall = counts[True, True] / max(counts[True, True] + counts[True, False], 1)
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return fmean(scores)


def text_scores(corpus: Path, predictions: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, float]]:
    """Scores by domain, from the corpus file and the predictions file alone."""
    loaded = load_corpus(f"manifest:{corpus}")
    scores = {}
    for domain, found in predictions.items():
        examples = [e for e in loaded.split(domain, "test") if isinstance(e, TextExample)]
        assert list(found) == [example.key for example in examples]
        pairs = [(class_of(example), found[example.key]) for example in examples]
        right = sum(reference == prediction for reference, prediction in pairs)
        scores[domain] = {"accuracy": right / len(pairs), "macro_f1": macro_f1_by_hand(pairs, 3)}
    return scores


def test_metrics_are_those_of_the_predictions(
    make_config: MakeConfig, resources: Resources, tiny_text_files: TinyText, tmp_path: Path
) -> None:
    """Every number of the record, from its predictions and those of the frozen arm."""
    frozen, base_predictions = record(make_config("frozen"), resources, tmp_path / "frozen")
    primary = resources.domains(make_config()).plain_task.primary
    trained, predictions = record(make_config(**LEARNING), resources, tmp_path / "trained")
    base, after = (text_scores(tiny_text_files.corpus, found) for found in (base_predictions, predictions))
    assert base["away"] != after["away"]
    for summary, scores in ((frozen, base), (trained, after)):
        assert summary.by_domain == {name: pytest.approx(found) for name, found in scores.items()}
        assert summary.base == {name: pytest.approx(found) for name, found in base.items()}
        lost = base["home"][primary] - scores["home"][primary]
        base_error, error = 1 - base["away"][primary], 1 - scores["away"][primary]
        gained = max(0.0, base_error - error) / base_error
        expected = {
            "target_accuracy": scores["away"]["accuracy"],
            "target_macro_f1": scores["away"]["macro_f1"],
            "source_accuracy": scores["home"]["accuracy"],
            "source_macro_f1": scores["home"]["macro_f1"],
            "forgetting": lost,
            "constrained_score": gained * max(0.0, KAPPA - max(0.0, lost)) / KAPPA,
        }
        found = {name: value for name, value in summary.metrics.items() if not name.startswith("trainable_")}
        assert found == pytest.approx(expected, abs=1e-12)
    num_base = sum(weight.numel() for weight in resources.domains(make_config()).backbone.model.parameters())
    assert trained.metrics["trainable_parameters"] == 2 * (2 * 16 * 4 + 2 * 16) == sum(trained.adapters.values())
    assert trained.metrics["trainable_share"] == pytest.approx(320 / num_base)


def test_the_mean_is_over_all_sources(tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two sources: means of scores and of forgetting, and kappa source by source."""
    resources = Resources()
    config = make_config(**LEARNING)
    domains = resources.domains(config)
    primary = domains.plain_task.primary
    # A second source domain: the first one's examples under another name, half of them.
    twin = tuple(domains.corpus.domains["home"][::2])
    monkeypatch.setitem(domains.corpus.domains, "twin", twin)
    two = config.model_copy(update={"data": config.data.model_copy(update={"source": ("home", "twin")})})
    monkeypatch.setattr(resources, "domains", lambda config: domains)
    outcome = run(two, resources)
    after, base = outcome.by_domain, outcome.base
    names = ("home", "twin")
    assert after["home"]["macro_f1"] != after["twin"]["macro_f1"]
    for metric in ("accuracy", "macro_f1"):
        assert outcome.metrics[f"source_{metric}"] == pytest.approx(fmean(after[name][metric] for name in names))
    lost = [base[name][primary] - after[name][primary] for name in names]
    assert outcome.metrics["forgetting"] == pytest.approx(fmean(lost), abs=1e-12)
    kept = fmean(max(0.0, KAPPA - max(0.0, loss)) / KAPPA for loss in lost)
    gain = (after["away"][primary] - base["away"][primary]) / (1 - base["away"][primary])
    assert outcome.metrics["constrained_score"] == pytest.approx(kept * max(0.0, gain), abs=1e-12)


def test_the_frozen_arm_learns_and_forgets_nothing(make_config: MakeConfig, resources: Resources) -> None:
    outcome = run(make_config("frozen"), resources)
    assert outcome.metrics["trainable_parameters"] == outcome.metrics["trainable_share"] == 0
    assert outcome.metrics["forgetting"] == 0.0 and outcome.metrics["constrained_score"] == 0.0
    assert outcome.by_domain == outcome.base
    assert (outcome.epochs_run, outcome.best_epoch, outcome.adapters) == (0, 0, {})
    assert set(outcome.valid) == {
        *("valid_target/accuracy", "valid_target/macro_f1", "valid_target/loss"),
        *("valid_source/accuracy", "valid_source/macro_f1"),
        *("valid_forgetting", "valid_constrained_score"),
    }


def test_validation_scores_are_those_of_the_best_epoch(make_config: MakeConfig, resources: Resources) -> None:
    entries: list[dict[str, Any]] = []
    config = make_config(**LEARNING)
    primary = resources.domains(config).plain_task.primary
    outcome = Trial(config, resources, None, entries.append).run()
    best = max(entries, key=lambda entry: entry["metrics"][f"valid_target/{primary}"])  # the first of equals
    assert outcome.best_epoch == best["epoch"] and outcome.epochs_run == 6
    assert outcome.valid == {n: v for n, v in best["metrics"].items() if n.startswith("valid_")}
    domains = resources.domains(config)
    again = domains.score(outcome.adapted.model, domains.items("away", "valid"), config.loop)
    assert again.loss == outcome.valid["valid_target/loss"]
    assert again.scores == {name: outcome.valid[f"valid_target/{name}"] for name in again.scores}


def test_the_limit_of_validation_examples_is_not_that_of_the_test_set(
    make_config: MakeConfig, resources: Resources
) -> None:
    few = run(make_config("frozen", loop={"valid_limit": 3}), resources)
    many = run(make_config("frozen"), resources)
    assert few.metrics == many.metrics and few.predictions == many.predictions
    assert round(few.valid["valid_target/accuracy"] * 3, 9) in (0, 1, 2, 3)
    assert few.valid["valid_target/loss"] != many.valid["valid_target/loss"]


# --- trainings that teach nothing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["plain", "cut", "packed"])
@pytest.mark.parametrize("warmup", [0.1, 1.0])
def test_the_only_step_of_a_training_moves_the_weights(
    engine: str, warmup: float, make_config: MakeConfig, resources: Resources
) -> None:
    """One epoch of one batch: with a warm-up from 0, its learning rate would be 0."""
    data, loop = {"train_limit": 16}, {"epochs": 1, "batch_size": 16}
    always = {"adapter_strategy": {"stochastic_depth": 0.0}}
    config = make_config(data=data, loop=loop, optim={"lr": 0.5, "warmup": warmup}, adapter=always)
    trial = Trial(config, resources, engine=Engines().of(execution_of(engine, None)))
    outcome = trial.run()
    assert trial.executed["engine"] == engine
    last = [weight for name, weight in outcome.adapted.model.named_parameters() if name.endswith("module.3.weight")]
    assert last and all(weight.detach().abs().max() > 0 for weight in last)  # 0 before the training
    assert not any(note.kind == "unmoved" for note in outcome.notes)


@pytest.mark.parametrize("engine", ["plain", "cut"])
def test_a_training_that_moves_nothing_is_told(engine: str, make_config: MakeConfig, resources: Resources) -> None:
    config = make_config("head_only", optim={"lr": 1e-30, "weight_decay": 0.0}, loop={"epochs": 2})
    outcome = Trial(config, resources, engine=Engines().of(execution_of(engine, None))).run()
    (note,) = (note for note in outcome.notes if note.kind == "unmoved")
    assert note.text.startswith("training changed nothing")
    assert outcome.metrics["target_macro_f1"] == outcome.base["away"]["macro_f1"]


def test_adapters_that_were_dropped_in_every_step_are_told(make_config: MakeConfig, resources: Resources) -> None:
    """One step in which stochastic depth drops all: weights decay, and the outputs stay the frozen model's."""
    loop, never = {"epochs": 1, "batch_size": 48}, {"adapter_strategy": {"stochastic_depth": 1.0}}
    outcome = run(make_config(optim={"lr": 0.5}, loop=loop, adapter=never), resources)
    assert [note.kind for note in outcome.notes].count("unmoved") == 1


# --- the base model ---------------------------------------------------------------------------------------------------


def test_adapters_off_is_the_base_to_the_bit(make_config: MakeConfig, resources: Resources) -> None:
    config = make_config(**LEARNING)
    outcome = run(config, resources)
    domains = resources.domains(config)
    assert outcome.checks == {"base_restored": "adapters off: the base model's outputs, bit for bit"}
    adapted = outcome.adapted.model.eval()
    for domain in ("away", "home"):
        batch = domains.plain_task.collate(domains.items(domain, "test"), None)
        inputs = batch.inputs, batch.lengths
        expected = domains.backbone.model(*inputs)[0]
        assert not torch.equal(adapted(*inputs)[0], expected)
        with outcome.adapted.switched_off():
            assert torch.equal(adapted(*inputs)[0], expected)
    own, base = outcome.adapted.model.state_dict(), domains.backbone.model.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in base.items())


def nudge(weight: torch.Tensor) -> None:
    """Change one value by a thousandth, as a bug in a strategy might."""
    with torch.no_grad():
        weight.view(-1)[0] += 1e-3


def spoil_fit(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[TaskModel], None]) -> None:
    def spoiling(model: TaskModel, *arguments: Any) -> Any:
        state: Any = fit(model, *arguments)
        spoil(model)
        return state

    monkeypatch.setattr("harness.training.engine.fit", spoiling)


def test_a_base_weight_that_was_changed_fails_the_trial(
    make_config: MakeConfig, resources: Resources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoil_fit(monkeypatch, lambda model: nudge(model.encoder.get_parameter("final_norm.bias")))
    with pytest.raises(TrialError, match="the base model's weights or outputs are not restored") as caught:
        run(make_config(), resources)
    assert caught.value.reason == "not_restored"
    folder, config = TrialFolder(tmp_path), make_config()
    about = TrialRun(config.trial_id, "e", "a", 0, "confirm")
    summary = run_trial(config, about, folder, resources)
    assert (summary.state, summary.reason, summary.metrics) == ("failed", "not_restored", {})
    assert folder.summary() == summary and not (tmp_path / "predictions.jsonl").exists()


def test_a_change_that_only_the_longest_example_shows_is_found(
    make_config: MakeConfig, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outputs are compared in batches of like length, the shortest first: every one of them counts."""
    domains, config = resources.domains(make_config()), make_config(loop={"epochs": 1})
    lengths = {len(item.inputs) for name in ("away", "home") for item in domains.items(name, "valid")[:NUM_PROBES]}
    assert len(lengths) > 1
    monkeypatch.setattr(base_check, "BATCH_COST", 1)  # a batch for each length
    monkeypatch.setattr(domains, "base_probes", {})

    def spoil(model: TaskModel) -> None:
        embedding = model.encoder.get_submodule("embedding")
        embedding.register_forward_hook(lambda _, given, out: out + 1 if given[0].shape[1] == max(lengths) else out)

    spoil_fit(monkeypatch, spoil)
    with pytest.raises(TrialError, match="the base model's weights or outputs are not restored"):
        run(config, resources)


def test_a_changed_weight_that_no_example_shows_is_found(
    make_config: MakeConfig, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedding of a token that no validation example has: outputs cannot show that it is another."""
    domains = resources.domains(make_config())
    seen = {int(token) for name in ("away", "home") for item in domains.items(name, "valid") for token in item.inputs}
    embedding = domains.backbone.model.encoder.get_submodule("embedding")
    assert isinstance(embedding, torch.nn.Embedding)
    unseen = min(set(range(1, embedding.num_embeddings)) - seen)

    def spoil(model: TaskModel) -> None:
        nudge(model.encoder.get_parameter("embedding.weight")[unseen])

    spoil_fit(monkeypatch, spoil)
    with pytest.raises(TrialError, match="the base model's weights or outputs are not restored"):
        run(make_config(loop={"epochs": 1}), resources)


def test_long_examples_are_not_compared_where_there_are_short_ones(
    make_config: MakeConfig, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All four of a domain have more steps than are to be compared: the two shortest are left."""
    domains = resources.domains(make_config())
    monkeypatch.setattr(domains, "base_probes", {})
    monkeypatch.setattr(base_check, "PROBE_STEPS", 1)
    base_check.BaseCheck(make_config(), domains)
    (scores,) = domains.base_probes.values()
    assert sum(map(len, scores)) == 2 * 2


@pytest.mark.parametrize("arm, changes", [("head_only", {}), ("head_only", {"train": "full"})])
def test_a_shared_backbone_that_was_changed_fails_the_trial(
    arm: str, changes: dict[str, Any], make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources, config = Resources(), make_config(arm, **changes)
    outcome = run(config, resources)
    assert outcome.checks["base_restored"].startswith("base weights are trained; the shared backbone still gives")
    shared = resources.domains(config).backbone.model
    spoil_fit(monkeypatch, lambda model: nudge(shared.encoder.get_parameter("final_norm.bias")))
    with pytest.raises(TrialError) as caught:
        run(config, resources)
    assert caught.value.reason == "not_restored"


def test_a_trial_leaves_the_shared_backbone_alone(make_config: MakeConfig, resources: Resources) -> None:
    model = resources.domains(make_config()).backbone.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    arms: list[tuple[str, dict[str, Any]]] = [("residual_add", {}), ("head_only", {}), ("head_only", {"train": "full"})]
    for arm, changes in arms:
        run(make_config(arm, **changes), resources)
        state = model.state_dict()
        assert state.keys() == before.keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in before.items())
        assert not any(module.training for module in model.modules())
        assert not model.is_adapter_available()


# --- what is trained on -----------------------------------------------------------------------------------------------


def sample_of(config: TrialConfig, resources: Resources) -> list[str]:
    return [item.key for item in Trial(config, resources).train_items()]


def test_the_few_shot_sample_belongs_to_the_seed(make_config: MakeConfig, resources: Resources) -> None:
    limit: dict[str, Any] = {"data": {"train_limit": 12}}
    arms: list[tuple[str, dict[str, Any]]] = [
        ("head_only", {}),
        ("residual_add", {}),
        ("residual_add", {"optim": {"lr": 1.0}}),
        ("head_only", {"train": "full"}),
    ]
    samples = {
        seed: [sample_of(make_config(arm, seed=seed, **limit, **changes), resources) for arm, changes in arms]
        for seed in range(4)
    }
    for found in samples.values():
        assert all(sample == found[0] for sample in found) and len(set(found[0])) == 12
    assert len({tuple(sorted(found[0])) for found in samples.values()}) == 4
    whole = sample_of(make_config(data={"train_limit": None}), resources)
    examples = resources.domains(make_config()).corpus.split("away", "train")
    assert whole == [example.key for example in examples] and set(samples[0][0]) < set(whole)


def test_more_examples_than_there_are(make_config: MakeConfig, resources: Resources) -> None:
    with pytest.raises(UserError, match=r"limit of 5000 training examples, outside 1\.\.\d+"):
        Trial(make_config(data={"train_limit": 5000}), resources).check()


def test_no_test_example_is_trained_or_validated_on(make_config: MakeConfig, resources: Resources) -> None:
    domains = resources.domains(make_config())
    splits = [{item.key for item in domains.items("away", split)} for split in corpus_module.SPLITS]
    assert all(splits) and not (splits[0] & splits[1] or splits[0] & splits[2] or splits[1] & splits[2])


@pytest.mark.parametrize(
    "data, expected",
    [
        (
            {"source": ["away"], "target": "home"},
            r"^data\.source: backbone tiny was not trained on 'away'; choices: home$",
        ),
        ({"target": "nowhere"}, r"has no domain 'nowhere'"),
    ],
)
def test_the_check_before_training_names_what_is_wrong(
    data: dict[str, Any], expected: str, make_config: MakeConfig, resources: Resources
) -> None:
    with pytest.raises(UserError, match=expected):
        Trial(make_config(data=data), resources).check()


def test_a_target_that_the_backbone_knows_is_refused(make_config: MakeConfig, resources: Resources) -> None:
    config = make_config()
    known = config.model_copy(update={"data": config.data.model_copy(update={"target": "home"})})
    with pytest.raises(UserError, match=r"^data\.target: backbone tiny .*'home'"):
        Trial(known, resources).check()


def test_the_check_before_training_trains_nothing(
    make_config: MakeConfig, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr("harness.training.engine.fit", refuse)
    for arm in ("frozen", "head_only", "residual_add"):
        Trial(make_config(arm), resources).check()
    with pytest.raises(AssertionError, match="trained"):
        Trial(make_config(), resources).run()


# --- seeds and precision ----------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_bits_again(make_config: MakeConfig, resources: Resources) -> None:
    first, again, other = (
        run(make_config(seed=seed), source) for seed, source in ((0, resources), (0, Resources()), (1, resources))
    )
    assert first.metrics == again.metrics and first.valid == again.valid and first.predictions == again.predictions
    state, its = first.adapted.model.state_dict(), again.adapted.model.state_dict()
    assert all(torch.equal(its[name], tensor) for name, tensor in state.items())
    changed = [
        name for name, tensor in other.adapted.model.state_dict().items() if not torch.equal(tensor, state[name])
    ]
    assert changed and all(".adapter_layer." in name for name in changed)


def test_a_trial_in_float64(make_config: MakeConfig, resources: Resources) -> None:
    outcome = run(make_config(loop={"precision": "float64"}), resources)
    assert {weight.dtype for weight in outcome.adapted.model.parameters()} == {torch.float64}
    assert resources.domains(make_config()).backbone.model.head.output.weight.dtype == torch.float32


def test_a_trial_in_bfloat16(make_config: MakeConfig, resources: Resources) -> None:
    exact, coarse = (run(make_config(loop={"precision": name}), resources) for name in ("float32", "bfloat16"))
    assert coarse.checks == exact.checks and coarse.base == exact.base
    loss, its = (outcome.valid["valid_target/loss"] for outcome in (exact, coarse))
    assert its == pytest.approx(loss, rel=0.05) and its != loss


# --- speech -----------------------------------------------------------------------------------------------------------


def test_speech_from_clips_to_error_rates(
    make_speech_config: MakeConfig, resources: Resources, tiny_speech_files: TinySpeech, tmp_path: Path
) -> None:
    frozen, base_predictions = record(make_speech_config("frozen"), resources, tmp_path / "frozen")
    trained, predictions = record(make_speech_config(), resources, tmp_path / "trained")
    corpus = load_corpus(f"manifest:{tiny_speech_files.manifest}")
    for summary, found in ((frozen, base_predictions), (trained, predictions)):
        for domain in ("low", "high"):
            examples = [e for e in corpus.split(domain, "test") if isinstance(e, SpeechExample)]
            assert list(found[domain]) == [example.key for example in examples] and len(examples) == 4
            references = [example.transcript for example in examples]
            assert references == [transcript_of(n) for n, split in enumerate(SPLITS) if split == "test"]
            hypotheses = list(found[domain].values())
            assert summary.by_domain[domain] == {
                "cer": pytest.approx(jiwer.cer(references, hypotheses)),
                "wer": pytest.approx(jiwer.wer(references, hypotheses)),
            }
    # The tones were learnt, and another pitch is harder.
    assert frozen.metrics["source_cer"] < 0.2 < frozen.metrics["target_cer"]
    assert frozen.metrics["forgetting"] == 0.0
    lost = trained.by_domain["low"]["cer"] - frozen.by_domain["low"]["cer"]
    assert trained.metrics["forgetting"] == pytest.approx(lost, abs=1e-12)
    assert trained.adapters.keys() == {"layers.0.insertion", "layers.1.insertion"}
    assert trained.notes == ()


def test_specaugment_changes_the_training_and_not_the_scoring(
    make_speech_config: MakeConfig, resources: Resources
) -> None:
    masked, plain = run(make_speech_config(), resources), run(make_speech_config(loop={"augment": None}), resources)
    assert masked.base == plain.base
    weights = [outcome.adapted.model.state_dict() for outcome in (masked, plain)]
    assert any(not torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())


def add_clip(files: TinySpeech, root: Path, transcript: str, letter_s: float) -> Path:
    """A manifest of the same clips and one more training clip of the target."""
    lines = files.manifest.read_text(encoding="utf-8").splitlines()
    rows = [line.replace(",clips/", f",{files.root}/clips/") for line in lines]
    write_clip(root / "more.wav", transcript, "high", letter_s)
    path = root / "clips.csv"
    path.write_text("\n".join([*rows, f"high,{root}/more.wav,{transcript},more,train"]) + "\n", encoding="utf-8")
    return path


def test_a_clip_too_short_for_its_transcript_is_dropped_with_a_note(
    make_speech_config: MakeConfig, tiny_speech_files: TinySpeech, tmp_path: Path
) -> None:
    """Eight equal letters in 0.4 s: the encoder gives 11 steps, and CTC needs 15 to tell them apart."""
    assert "a" in PITCH
    manifest = add_clip(tiny_speech_files, tmp_path, "aaaaaaaa", 0.05)
    data = {"corpus": f"manifest:{manifest}", "train_limit": None}
    config = make_speech_config(data=data, loop={"epochs": 1})
    resources = Resources()
    assert len(resources.domains(config).items("high", "train")) == 9
    trial = Trial(config, resources)
    assert len(trial.train_items()) == 8
    summary, _ = record(config, resources, tmp_path / "record")
    assert summary.state == "complete"
    assert summary.notes == (Note("data", "1 training clips are too short for their transcript"),)


def test_nothing_but_clips_too_short_is_the_users_mistake(
    make_speech_config: MakeConfig, tiny_speech_files: TinySpeech, tmp_path: Path
) -> None:
    lines = tiny_speech_files.manifest.read_text(encoding="utf-8").splitlines()
    rows = [line.replace(",clips/", f",{tiny_speech_files.root}/clips/") for line in lines]
    kept = [row for row in rows if not (row.startswith("high,") and row.endswith(",train"))]
    write_clip(tmp_path / "short.wav", "aaaaaaaa", "high", 0.05)
    manifest = tmp_path / "clips.csv"
    manifest.write_text("\n".join([*kept, f"high,{tmp_path}/short.wav,aaaaaaaa,short,train"]) + "\n", encoding="utf-8")
    config = make_speech_config(data={"corpus": f"manifest:{manifest}", "train_limit": None})
    with pytest.raises(UserError, match=r"domain 'high': all 1 training clips are too short for their transcript$"):
        Trial(config, Resources()).check()

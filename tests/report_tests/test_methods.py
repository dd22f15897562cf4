"""The methods paragraphs say what the configs say, and follow a change in them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from harness.config.trees import show
from harness.report.methods import backbone_text, join, sentence, training_text, write_methods
from harness.report.settings_view import arms_grid, differing, winners_grid
from harness.report.sources import Sources, load_sources

ROOT = Path(__file__).resolve().parents[2]


def text_of(sources: Sources) -> dict[str, str]:
    return {paragraph.heading: paragraph.text for paragraph in write_methods(sources, ["n = 5 seeds"])}


def test_published_text() -> None:
    found = text_of(load_sources(ROOT / "results", "text_strategies"))
    assert list(found) == ["Data", "Backbone", "Training", "Arms and seeds", "Statistics"]
    assert "The target is “tweets”, with 600 training examples" in found["Data"]
    assert "Test items: 2,597 (“tweets”), 1,577 (“movie”) and 581 (“product”)." in found["Data"]
    assert "4-layer Transformer" in found["Backbone"]
    assert "nothing is trained in frozen" in found["Backbone"].lower()
    assert "adapters are trained in the frozen model in the other 5 rows" in found["Backbone"]
    assert "learning rate 0.003 (0.0005 in full fine tuning), weight decay 0.01" in found["Training"]
    assert "At most 12 epochs in batches of 16, stopped after 4 epochs" in found["Training"]
    assert "SpecAugment" not in found["Training"]
    assert "8 rows, seeds 0, 1, 2, 3, 4; 40 of 40 planned trials are complete" in found["Arms and seeds"]
    assert "The baseline is frozen." in found["Arms and seeds"]
    assert found["Statistics"] == "N = 5 seeds."


def test_published_speech() -> None:
    found = text_of(load_sources(ROOT / "results", "speech_whisper_strategies"))
    assert "The target is “it”" in found["Data"]
    assert (
        "SpecAugment: 2 time masks of at most 20 frames, 1 mel masks of at most 8 channels, drawn once: 4 views"
        in found["Training"]
    )
    assert "stopped after" not in found["Training"]


def test_layers_and_weights_of_earlier_trainings_are_told() -> None:
    configs = {**load_sources(ROOT / "results", "text_strategies").configs}
    config = copy.deepcopy(dict(configs["residual_add"]))
    config["backbone"]["layers"] = {"from": 2}
    started = {**config, "start": {"trial": "0123456789ab"}}
    text = backbone_text({"plain": config, "started": started})
    assert "Layers with adapters: 2 and above. Started starts with weights of earlier trainings" in text
    assert "(of the first seed: 0123456789ab)." in text
    assert "earlier trainings" not in backbone_text(configs) and "go into every layer." in backbone_text(configs)


def test_meta_learning_is_told() -> None:
    config = load_sources(ROOT / "results", "text_strategies").configs["residual_add"]
    config["loop"]["meta"] = {"over": ["movie", "product"], "lr": 1.0, "limit": None}
    text = training_text({"meta": config}, "accuracy")
    assert (
        "“meta” is meta-trained on “movie” and “product” instead of the target; its best epoch is that on these."
        in text
    )


def test_pulls_are_told() -> None:
    config = load_sources(ROOT / "results", "text_strategies").configs["residual_add"]
    config["loop"]["l2_sp"] = {"alpha": 0.01, "beta": 0.0}
    config["loop"]["kl_to_base"] = {"weight": 0.5, "examples": "source", "temperature": 2.0}
    text = training_text({"held": config}, "accuracy")
    assert "“held” pulls its weights to their values at the start (L2-SP, alpha 0.01, beta 0)." in text
    answers = "“held” pulls its answers to the base model's on batches of the sources (KL, weight 0.5, temperature 2)."
    assert answers in text


def test_augmented_views() -> None:
    config = load_sources(ROOT / "results", "speech_whisper_strategies").configs["residual_add"]
    config["loop"]["augment"] = {k: v for k, v in config["loop"]["augment"].items() if k not in ("views", "view_seed")}
    assert "at most 8 channels, drawn anew in each step. Prec" in training_text({"a": config}, "cer")
    other = copy.deepcopy(config)
    config["loop"]["augment"] |= {"views": 4, "view_seed": 0}
    assert "not drawn anew in each step: by arm (see" in training_text({"a": config, "b": other}, "cer")
    assert "at most 8 channels, drawn once: 4 views of each clip, one an epoch. Prec" in training_text(
        {"a": config}, "cer"
    )


def test_a_sweep(tiny_results: Path) -> None:
    sources = load_sources(tiny_results, "tiny_sweep")
    found = text_of(sources)["Search"]
    assert "9 trials, by random with pruner median (n_startup_trials 2, n_warmup_steps 0)" in found
    assert "Constraint: validation forgetting at most -0.05." in found
    assert "The 2 best configurations of each arm were trained on further seeds 1001, 1011" in found
    assert "confirmed on fresh seeds 0, 1." in found
    assert sources.frozen is not None
    grid = winners_grid(sources.frozen, "valid_target/loss", "validation target loss")
    assert grid.headers[:6] == ("arm", "rule", "trial", "lr", "stochastic depth", "l2 lambda")
    assert grid.headers[6] == "validation target loss"
    assert {row[0] for row in grid.rows} == {"residual add"}


def test_what_differs_between_arms() -> None:
    sources = load_sources(ROOT / "results", "text_strategies")
    grid = arms_grid(sources.configs)
    assert grid is not None
    assert grid.headers == ("arm", "train", "lr", "strategy", "stochastic depth", "l2 lambda")
    assert ("residual add depth l2", "adapters", "0.003", "ResidualAddAdapterStrategy", "0.5", "0.001") in grid.rows
    assert ("frozen", "none", "0.003", "–", "–", "–") in grid.rows


def test_differing_settings() -> None:
    configs = {"a": {"x": {"y": 1, "z": 2}}, "b": {"x": {"y": 1, "z": 3, "w": 0}}}
    assert differing(configs) == {"x.z": {"a": 2, "b": 3}, "x.w": {"b": 0}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.001, "0.001"),
        (1e-05, "1e-5"),
        (1.0, "1"),
        (None, "none"),
        (True, "yes"),
        ((1, 2.5), "1, 2.5"),
        ("cosine", "cosine"),
    ],
)
def test_settings_as_text(value: object, text: str) -> None:
    assert show(value) == text


def test_sentences_and_lists() -> None:
    assert sentence("mean over seeds") == "Mean over seeds."
    assert sentence("residual_add: n = 3 of 5.") == "residual_add: n = 3 of 5."  # a name keeps its letters
    assert join(["a", "b", "c"]) == "a, b and c"
    assert join([]) == ""

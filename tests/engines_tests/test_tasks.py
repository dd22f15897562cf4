"""Every task on our own encoder and on one of transformers that reads the same: loop, cut and packs train it alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pretrained_kinds import write_encoder, write_speech_encoder
from tiny_tasks import tiny_task

from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.errors import UserError
from harness.tasks.registry import TASKS
from harness.training.resources import Resources
from harness.training.trial import Trial

from .packs import PACKED, chosen, largest_difference, pretrained_with, run_all, strategy

PLAIN, CUT = Execution(engine="plain"), Execution(engine="cut")
WITH_HEAD = [name for name in TASKS if name != "seq2seq"]  # whose head is a pretrained decoder
PRETRAINED = {"text": "bert", "speech": "wav2vec2_layer"}  # what a task reads -> a kind of transformers' encoders
ENCODERS = [(name, kind) for name in WITH_HEAD for kind in ("own", PRETRAINED[TASKS[name].reads])]
CLASSES = [name for name in WITH_HEAD if TASKS[name].primary in ("macro_f1", "span_f1")]

MakeBackbone = Callable[..., Path]


@pytest.fixture(scope="module")
def make_backbone(data_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeBackbone:
    """Makes the recipe of a backbone that learnt a task on its first domain, and trains it, once."""
    made: dict[tuple[str, ...], Path] = {}

    def make(name: str, kind: str = "own", **changes: Any) -> Path:
        key = (name, kind, repr(changes))
        if key not in made:
            root = tmp_path_factory.mktemp("tasks")
            recipe = tiny_task(name, root / "data") | changes
            if kind != "own":
                recipe |= {"encoder": encoder_of(name, kind, root), "train": "head"}
            recipe["loop"] = {"epochs": 2, "batch_size": 8, "valid_limit": 12}
            recipe["optim"] = {"lr": 0.01}
            path = root / "recipe.yaml"
            path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
            made[key] = pretrained_with(data_cache, path)
        return made[key]

    return make


def encoder_of(name: str, kind: str, root: Path) -> dict[str, Any]:
    """The settings of a random encoder of transformers, written below a folder."""
    if TASKS[name].reads == "speech":
        return {"kind": "transformers", "family": "speech", "path": str(write_speech_encoder(kind, root))}
    return {"kind": "transformers", "path": str(write_encoder(kind, root)), "max_length": 24}


def trial(recipe: Path, train: str = "adapters_and_head", seed: int = 0, **changes: Any) -> TrialConfig:
    """A trial of two epochs on the second domain, in float64."""
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    source = content["data"]["domains"]
    adapter = {"_target_": "harness.adapters.LinearAdapter", "dim": 4, **strategy(stochastic_depth=0.3, l2_lambda=0.01)}
    settings: dict[str, Any] = {
        "data": {
            "corpus": content["data"]["corpus"],
            "source": source,
            "target": "away" if "home" in source else "high",
        },
        "backbone": {"recipe": str(recipe), "layers": [1]},
        "train": train,
        "adapter": adapter if "adapters" in train else None,
        # Some gradients are far below Adam's usual eps, which would multiply their rounding.
        "optim": {"lr": 0.01, "eps": 1e-4},
        "loop": {"epochs": 2, "batch_size": 4, "valid_limit": 8, "precision": "float64"},
        "seed": seed,
    }
    settings["data"]["train_limit"] = 7  # a short last batch, and classes that cannot all be as frequent
    for key, value in changes.items():
        settings[key] = settings[key] | value
    return TrialConfig.model_validate(settings)


@pytest.fixture(scope="module")
def sealed() -> Resources:
    return Resources(sealed=True)


def assert_alike(
    configs: list[TrialConfig], sealed: Resources, folder: Path, *engines: Execution, least: float = 1e-30
) -> None:
    folder.mkdir(exist_ok=True)
    expected = run_all(configs, sealed, folder / "plain", PLAIN)
    for execution in engines:
        assert [chosen(config, sealed, execution) for config in configs] == [(execution.engine, None)] * len(configs)
        found = run_all(configs, sealed, folder / execution.engine, execution)
        differences = [largest_difference(*pair, least) for pair in zip(found, expected, strict=True)]
        assert max(differences) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name, kind", ENCODERS)
def test_engines_train_a_task_alike(
    name: str, kind: str, make_backbone: MakeBackbone, sealed: Resources, tmp_path: Path
) -> None:
    recipe = make_backbone(name, kind)
    configs = [trial(recipe), trial(recipe, "head", seed=1), trial(recipe, "adapters")]
    assert_alike(configs, sealed, tmp_path, CUT, PACKED)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_engines_train_with_the_options_of_the_loss_alike(
    name: str, make_backbone: MakeBackbone, sealed: Resources, tmp_path: Path
) -> None:
    recipe = make_backbone(name)
    label = yaml_symbols(recipe)[0]
    losses: list[dict[str, Any]] = [
        {"label_smoothing": 0.2},
        {"class_weights": "balanced"},
        {"class_weights": {label: 3}, "label_smoothing": 0.1},
        {},
    ]
    configs = [trial(recipe, loop=loss) for loss in losses]
    assert_alike(configs, sealed, tmp_path, PACKED)
    plain = run_all(configs, sealed, tmp_path / "again", PLAIN)
    assert len({tuple(ran.history[-1].items()) for ran in plain}) == len(losses), "each option changes the training"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in WITH_HEAD if name not in ("text_pair_classification",)])
def test_the_cut_compares_with_the_base_model_alike(
    name: str, make_backbone: MakeBackbone, sealed: Resources, tmp_path: Path
) -> None:
    temperature = 1.0 if name == "regression" else 2.0
    configs = [
        trial(make_backbone(name), loop={"kl_to_base": {"weight": 0.5, "examples": which, "temperature": temperature}})
        for which in ("target", "source")
    ]
    # A bias behind a weight that starts at zero has no gradient in the first step but for rounding: 1e-18, or 5e-18.
    assert_alike(configs, sealed, tmp_path, CUT, least=1e-4)


def yaml_symbols(recipe: Path) -> tuple[str, ...]:
    return Resources().backbone(str(recipe)).symbols


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["first", "last", "attention"])
@pytest.mark.parametrize("name", ["text_classification", "regression"])
def test_engines_pool_alike(
    name: str, pooling: str, make_backbone: MakeBackbone, sealed: Resources, tmp_path: Path
) -> None:
    """With a head that learns alone, the cut keeps what is pooled; not where the pooling learns, too."""
    recipe = make_backbone(name, pooling=pooling)
    head = [trial(recipe, "head", seed=seed) for seed in (0, 1)]
    assert_alike(head, sealed, tmp_path / "head", CUT, *(() if pooling == "attention" else (PACKED,)))
    assert_alike([trial(recipe, "adapters")], sealed, tmp_path / "adapters", CUT, PACKED)
    if pooling == "attention":
        why = "the head is trained, and it is not a single linear layer named output"
        assert chosen(head[0], sealed, PACKED) == ("cut", why)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes, why",
    [
        ({"loop": {"accumulate": 2}}, "loop.accumulate: a pack takes a step of the optimizer for each batch"),
        ({"optim": {"name": "sgd", "eps": 1e-8}}, "optim.name: sgd: a pack trains with AdamW"),
        ({"optim": {"name": "adafactor", "eps": 1e-8}}, "optim.name: adafactor: a pack trains with AdamW"),
        (
            {"optim": {"groups": {"head": {"lr": 0.1}}}},
            "optim.groups: a pack has one learning rate and one weight decay for all weights of a trial",
        ),
    ],
)
def test_what_a_pack_leaves_to_the_cut(
    changes: dict[str, Any], why: str, make_backbone: MakeBackbone, sealed: Resources, tmp_path: Path
) -> None:
    config = trial(make_backbone("text_classification"), **changes)
    assert chosen(config, sealed, PACKED) == ("cut", why)
    assert_alike([config], sealed, tmp_path, CUT)


@pytest.mark.slow
def test_options_that_a_task_has_not_are_refused(make_backbone: MakeBackbone, sealed: Resources) -> None:
    numbers, classes = make_backbone("regression"), make_backbone("text_classification")
    cases: list[tuple[TrialConfig, str]] = [
        (trial(numbers, loop={"label_smoothing": 0.1}), r"^loop\.label_smoothing: this task's answers are no classes"),
        (trial(numbers, loop={"class_weights": "balanced"}), r"^loop\.class_weights: this task's answers are no cl"),
        (trial(classes, loop={"class_weights": {"goood": 2}}), r"no class 'goood'; choices: bad, fair, good"),
        (
            trial(numbers, loop={"kl_to_base": {"weight": 1, "temperature": 2}}),
            r"^loop\.kl_to_base\.temperature: 2\.0: a regression's answers are no classes, so there is nothing to soft",
        ),
        (
            trial(classes, "head", optim={"groups": {"adapters": {"lr": 1}}}),
            r"groups: adapters: no weight .* trained: head$",
        ),
    ]
    for config, message in cases:
        with pytest.raises(UserError, match=message) as told:
            Trial(config, sealed).check()
        assert "\n" not in str(told.value)

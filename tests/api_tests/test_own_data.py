"""What may be passed to `harness.train_adapters`: data sets, losses and modules of many kinds, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import harness
from harness.adapters import LinearAdapterConfig, ResidualAddAdapterStrategyConfig
from harness.engines.packed.engine import PackedEngine
from harness.training.engine import PLAIN_ENGINE

from .test_own_adapters import (
    TRAIN,
    VALID,
    D,
    Inside,
    Own,
    assert_close,
    assert_same_bits,
    examples,
    made,
    strategy,
    train,
    without_seconds,
)


def test_each_adapter_learns_from_the_data_set_it_chooses() -> None:
    sets = {"one": TRAIN, "two": examples(30, seed=9)}
    both = train({name: {"data": name} for name in sets}, train=sets, valid={"one": VALID})
    for name, data in sets.items():
        assert_same_bits(both[name], train({name: {}}, train=data, valid=VALID if name == "one" else None)[name])
    assert both["two"].best_epoch == 3 and "valid/loss" not in both["two"].history[0]


def test_settings_may_be_objects_and_numbers_of_libraries(tmp_path: Path) -> None:
    """A config class, numpy's numbers, dotted keys above a tree: the same trial, in a folder that is not there yet."""
    adapter = LinearAdapterConfig(
        in_features=D, dim=4, adapter_strategy=ResidualAddAdapterStrategyConfig(l2_lambda=0.01)
    )
    own = {"optim.lr": np.float32(0.5), "seed": np.int64(2), "adapter.dim": torch.tensor(8)}
    found = train({"a": own}, settings={"adapter": adapter}, checkpoints=tmp_path / "new" / "folder")["a"]
    expected = train({"a": {"optim": {"lr": 0.5}, "seed": 2, **strategy(l2_lambda=0.01)}})["a"]
    assert_same_bits(found, expected)
    assert found.settings["adapter"]["dim"] == 8 and found.settings["seed"] == 2


def test_a_padded_tensor_is_the_list_of_its_rows() -> None:
    padded = nn.utils.rnn.pad_sequence(list(TRAIN.inputs), batch_first=True, padding_value=7)
    mask = torch.tensor([[1] * len(row) + [0] * (padded.shape[1] - len(row)) for row in TRAIN.inputs])
    found = train({"a": {}}, train=harness.Examples(padded, TRAIN.targets, mask))
    assert_same_bits(found["a"], train({"a": {}})["a"])


def test_a_loss_of_ones_own() -> None:
    """The task's own loss, passed as one's own, gives the same; another one is learnt by its own formula."""

    def hinge(scores: Tensor, targets: Tensor) -> Tensor:
        return F.multi_margin_loss(scores, targets, reduction="none")

    usual = train({"a": {}})
    own = train({"a": {}}, loss=lambda scores, targets: F.cross_entropy(scores, targets, reduction="none"))
    for ours, theirs in zip(without_seconds(own["a"]), without_seconds(usual["a"]), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    found = train({"a": {"train": "head", "adapter": None}}, loss=hinge, train=VALID, settings={"loop": {"epochs": 1}})
    expected = hinge(torch.stack(found["a"].scores(VALID.inputs)), torch.as_tensor(VALID.targets)).mean()
    assert found["a"].history[-1]["valid/loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("task", ["regression", "ctc"])
def test_numbers_and_texts(task: str) -> None:
    """The validation loss is what torch gives for the trained model's own scores."""
    targets: dict[str, Callable[[harness.Examples], Any]] = {
        "regression": lambda data: [len(ids) / 10 for ids in data.inputs],
        "ctc": lambda data: ["".join("ab"[int(token) % 2] for token in ids[:2]) for ids in data.inputs],
    }
    data, valid = (harness.Examples(one.inputs, targets[task](one)) for one in (TRAIN, VALID))
    (found,) = train({"a": {}}, task=task, outputs="ab" if task == "ctc" else None, train=data, valid=valid).values()
    losses = []
    for scores, row, target in zip(found.scores(valid.inputs), valid.inputs, valid.targets, strict=True):
        if task == "regression":
            losses.append(F.mse_loss(scores[0], torch.tensor(target)))
        else:
            symbols, lengths = (
                torch.tensor([["ab".index(letter) + 1 for letter in target]]),
                torch.tensor([[len(row)], [2]]),
            )
            losses.append(F.ctc_loss(scores.log_softmax(-1)[:, None], symbols, *lengths))
    assert found.engine == "packed" and found.best_epoch > 0
    assert found.history[found.best_epoch - 1]["valid/loss"] == pytest.approx(
        float(torch.stack(losses).mean()), rel=1e-5
    )
    metric = "pearson" if task == "regression" else "cer"
    assert f"valid/{metric}" in found.history[0]


class Positions(Own):
    """Reads 12 steps at most, and no mask if it is told so."""

    def __init__(self, masked: bool = True) -> None:
        super().__init__()
        self.positions, self.masked = nn.Parameter(torch.randn(12, D)), masked

    def forward(self, ids: Tensor, valid_BT: Tensor) -> Tensor:
        x = self.embedding(ids) + self.positions[torch.arange(ids.shape[1])]
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~valid_BT if self.masked else None)
        return x


@pytest.mark.parametrize(
    ("make", "engine", "reason"),
    [
        (lambda: Inside(3, "linear"), "packed", None),
        (lambda: Inside(3, "gru"), "cut", "depend on the items beside it"),
        (Positions, "cut", "the module cannot read 16 steps, which packs pad the longest item to"),
        (lambda: Positions(False), "plain", "other outputs for an item beside a longer one"),
    ],
    ids=["linear layers", "recurrent", "12 positions", "no mask"],
)
def test_what_cannot_be_packed_is_trained_all_the_same(make: Any, engine: str, reason: str | None) -> None:
    """In float64 each is what the plain loop gives, and the result says why it was alone."""
    settings = {"loop": {"epochs": 2, "batch_size": 8, "precision": "float64"}}
    adapters = {"a": {"seed": 1}, "b": {"optim.lr": 0.01}}
    found = train(adapters, made(make).double(), settings=settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PackedEngine, "choose", lambda *args: (PLAIN_ENGINE, "it is asked for"))
        expected = train(adapters, made(make).double(), settings=settings)
    for name, one in found.items():
        assert one.engine == engine and (one.why_alone is None if reason is None else reason in str(one.why_alone))
        assert expected[name].engine == "plain"
        for ours, theirs in zip(without_seconds(one), without_seconds(expected[name]), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-12)
        assert_close(one.state_dict(), expected[name].state_dict())


TABLES: dict[str, Any] = {"train": {"one": TRAIN, "two": TRAIN}, "valid": None}
FLOATS = [torch.zeros(3, D)] * 2
LEFT_PADDED = harness.Examples(torch.ones(2, 3, dtype=torch.long), [0, 1], torch.tensor([[1, 1, 1], [0, 1, 1]]))


@pytest.mark.parametrize(
    ("adapters", "changes", "told"),
    [
        ({"a": {}}, {"module": nn.Linear(3, 3)}, ["module: Linear has no list of layers"]),
        ({"a": {}}, {"call": lambda module, ids, valid: module(ids)}, ["module: Own fails on inputs", "pass `call`"]),
        ({"a": {}}, {"call": lambda module, ids, valid: module(ids, valid).mean(1)}, ["[2, 16]", "[2, 12, width]"]),
        ({"a": {}}, {"layers_at": "blocks"}, ["layers_at", "'blocks'", "choices: layers"]),
        ({"a": {"adapter.in_features": 99}}, {}, ["adapters: a: ", "in_features is 99, but the host is 16 wide"]),
        ({"a": {"adapter.dmi": 4}}, {}, ["adapters: a: ", "dmi", "dim"]),
        ({"a": {"optim.rl": 1}}, {}, ["adapters: a: optim.rl", "choices: name, lr,"]),
        ({"a": {"fusion": {}}}, {}, ["adapters: a: ", "'fusion'", "choices: adapter, backbone,"]),
        ({"a": {"backbone.layers": [9]}}, {}, ["adapters: a: ", "[9]", "Own has layers 0 to 2"]),
        ({"a": {"train": "full"}}, {}, ["'full'", "adapters_and_head"]),
        ({"a": {"train": "adapters"}}, {}, ["the head would stay random"]),
        ({"a": {"loop.valid_limit": 5}}, {}, ["loop.valid_limit"]),
        ({"a": {"loop.augment": {}}}, {}, ["loop.augment"]),
        ({"a": {"backbone.recipe": "text_small"}}, {}, ["backbone.recipe has no effect here"]),
        ({"a": {"backbone": 3}}, {}, ["adapters: a: ", "backbone", "3"]),
        ({"a": {"loop": "long"}}, {}, ["adapters: a: ", "loop", "'long'"]),
        ({"a": {"loop.patience": 2}}, {"valid": None}, ["loop.patience", "`valid`"]),
        ({"a": {"loop.device": "cuda:9"}}, {}, ["adapters: a: loop.device", "choices: cpu"]),
        ({}, {}, ["adapters: there are none"]),
        ([("a", {}), ("a", {"seed": 1})], {}, ["'a' is there twice"]),
        ({"a": 3}, {}, ["adapters: a: 3 is no mapping"]),
        ({3: {}}, {}, ["adapters: 3 is no name"]),
        ({"a": {}}, {"at_once": 0}, ["at_once=0"]),
        ({"a": {}}, {"train": harness.Examples([], [])}, ["train: there are no items"]),
        ({"a": {}}, {"train": (TRAIN.inputs, TRAIN.targets)}, ["train: a tuple", "harness.Examples"]),
        ({"a": {}}, {"train": harness.Examples([torch.zeros(0, dtype=torch.long)], [0])}, ["train: input 0", "[0]"]),
        ({"a": {}}, {"train": harness.Examples(TRAIN.inputs, TRAIN.targets[1:])}, ["44 inputs and 43 targets"]),
        ({"a": {}}, {"train": harness.Examples(TRAIN.inputs[:1], [3])}, ["train: target 0: class 3", "0 to 2"]),
        ({"a": {}}, {"valid": harness.Examples(TRAIN.inputs[:1], [-1])}, ["valid: target 0: class -1", "0 to 2"]),
        ({"a": {}}, {"train": harness.Examples(TRAIN.inputs[:1], ["good"])}, ["target 0: 'good'", "a number"]),
        ({"a": {}}, {"train": harness.Examples([*FLOATS, TRAIN.inputs[0]], [0, 1, 2])}, ["input 2 is torch.int64"]),
        ({"a": {}}, {"train": harness.Examples([FLOATS[0] / 0], [0])}, ["train: input 0", "not finite"]),
        ({"a": {}}, {"valid": harness.Examples(FLOATS, [0, 1])}, ["inputs", "2 kinds"]),
        ({"a": {}}, {"train": LEFT_PADDED}, ["mask: row 1 has padding in front", "on the right"]),
        ({"a": {}}, TABLES, ["adapters: a: data:", "choices: one, two"]),
        ({"a": {"data": "three"}}, TABLES, ["'three'", "choices: one, two"]),
        ({"a": {}}, {"valid": {"other": VALID}}, ["valid: no data set 'other'"]),
        ({"a": {}}, {"outputs": None}, ["outputs: None", "2 or more classes"]),
        ({"a": {}}, {"task": "tagging"}, ["'tagging'", "classification, regression, ctc"]),
        ({"a": {}}, {"pooling": "max"}, ["'max'", "mean, first, last"]),
        ({"a": {}}, {"head": nn.Linear(D, 4)}, ["out_features=4", "Linear(in_features=16, out_features=3"]),
        ({"a": {}}, {"loss": F.cross_entropy}, ["loss: it gives [] for 2 examples", "no mean"]),
        ({"a": {}}, {"loss": lambda scores, targets: scores[:, 0] / scores.sum()}, ["beside other examples"]),
        ({"a": {"loop.label_smoothing": 0.1}}, {"loss": lambda scores, targets: scores[:, 0]}, ["label_smoothing"]),
        ({"a": {}}, {"train": harness.Examples([FLOATS[0][:2, 0].long()], ["aa"])}, ["'aa' needs 3 steps", "has 2"]),
        ({"a": {}}, {"valid": harness.Examples(TRAIN.inputs[:1], ["ac"])}, ["'c'", "'ab'"]),
    ],
)
def test_a_wrong_input_is_one_line(adapters: Any, changes: dict[str, Any], told: list[str]) -> None:
    module = changes.pop("module", None)
    if "'aa'" in told[0] or "'c'" in told[0]:
        texts = harness.Examples(TRAIN.inputs, ["a"] * len(TRAIN.inputs))
        changes = {"task": "ctc", "outputs": "ab", "train": texts, "valid": texts, **changes}
    with pytest.raises(harness.UserError) as caught:
        train(adapters, module, **changes)
    assert "\n" not in str(caught.value) and all(part in str(caught.value) for part in told), str(caught.value)

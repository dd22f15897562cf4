"""Scoring: the same numbers whatever the batches, and the model as it was."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from trial_configs import MakeConfig

from harness.data.corpus import Split
from harness.tasks.task import Evaluation, evaluate
from harness.training.resources import Resources


def score(resources: Resources, make_config: MakeConfig, max_frames: int, split: Split = "test") -> Evaluation:
    domains = resources.domains(make_config())
    model = copy.deepcopy(domains.backbone.model).double()
    items = domains.items("away", split)
    device = torch.device("cpu")
    return evaluate(model, domains.plain_task, items, max_frames=max_frames, device=device, dtype=torch.float64)


@pytest.mark.parametrize("max_frames", [1, 30, 100000])
def test_scores_do_not_depend_on_the_batches(max_frames: int, resources: Resources, make_config: MakeConfig) -> None:
    """One item a batch, a few, and all in one; predictions in the order of the items."""
    domains = resources.domains(make_config())
    model = copy.deepcopy(domains.backbone.model).double()
    items = domains.items("away", "test")
    found = score(resources, make_config, max_frames)
    losses, predictions = [], []
    with torch.no_grad():
        for item in items:
            scores_C = model(item.inputs[None], torch.tensor([len(item.inputs)]))[0][0]
            losses.append(-float(scores_C.log_softmax(-1)[int(item.target)]))
            predictions.append(int(scores_C.argmax()))
    assert found.predictions == tuple(predictions)
    assert found.loss == pytest.approx(math.fsum(losses) / len(losses), rel=1e-10)
    right = sum(prediction == item.reference for prediction, item in zip(predictions, items, strict=True))
    assert found.scores["accuracy"] == right / len(items)


def test_scoring_leaves_the_mode_of_the_model(resources: Resources, make_config: MakeConfig) -> None:
    domains = resources.domains(make_config())
    model = copy.deepcopy(domains.backbone.model)
    arguments = {"max_frames": 99, "device": torch.device("cpu"), "dtype": torch.float32}
    for training in (True, False):
        model.train(training)
        evaluate(model, domains.plain_task, domains.items("away", "valid"), **arguments)  # type: ignore[arg-type]
        assert model.training == model.head.training == training


def test_scoring_happens_without_dropout(resources: Resources, make_config: MakeConfig) -> None:
    domains = resources.domains(make_config())
    model = copy.deepcopy(domains.backbone.model)
    model.encoder.drop.p = 0.9  # type: ignore[union-attr]
    arguments = {"max_frames": 99, "device": torch.device("cpu"), "dtype": torch.float32}
    items = domains.items("away", "valid")
    losses = {evaluate(model.train(), domains.plain_task, items, **arguments).loss for _ in range(2)}  # type: ignore
    assert len(losses) == 1

"""The CUDA-graphed single loop trains what our plain loop trains: on a GPU from graphs, on a CPU without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from graphed_loop import GraphedLoop

from benchmarks_tests.lists import small_workload
from harness.config.trial import TrialConfig
from harness.training.checkpoint import load_checkpoint
from harness.training.resources import Resources
from harness.training.trial import Trial

GPU = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", GPU])
def test_its_weights_and_scores_are_the_plain_loops(device: str, tmp_path: Path) -> None:
    """In float64, two trials one after the other from the same graphs: what the first left is gone."""
    torch.set_num_threads(1)
    changes = {"precision": "float64", "epochs": 3, "device": device}
    configs: list[TrialConfig] = [
        config.model_copy(update={"loop": config.loop.model_copy(update=changes)}) for config in small_workload().trials
    ]
    resources = Resources(sealed=True)
    loop = GraphedLoop(configs[0], resources, torch.device(device))
    loop.capture_all(configs[0])
    for number, config in enumerate(configs):
        found = loop.train(config)
        expected: list[dict[str, Any]] = []
        path = tmp_path / f"{number}.safetensors"
        steps = Trial(config, resources, path, expected.append).steps()
        next(steps).fit()
        steps.close()
        weights = load_checkpoint(path).group("weights")
        ours = {name: weight for name, weight in loop.model.named_parameters() if weight.requires_grad}
        assert ours.keys() == weights.keys()
        for name, weight in ours.items():
            torch.testing.assert_close(weight.detach().cpu(), weights[name], rtol=1e-8, atol=1e-10)
        assert len(found) == len(expected) == 3
        for entry, its in zip(found, expected, strict=True):
            assert entry == pytest.approx({name: its["metrics"][name] for name in entry}, abs=1e-12)

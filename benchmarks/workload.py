"""The fixed list of trials: one description, as data, that every contestant trains.

Made from a shipped sweep and its experiment, so that our own contestants train the very configs, and the peers the same
examples, token ids, frozen weights, learning rates, weight decays, epochs and evaluations.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.backbones.encoder_settings import PretrainedEncoderSettings
from harness.backbones.pretrained import model_directory
from harness.config.experiment import resolve_trial
from harness.config.trial import TrialConfig
from harness.search.sweep_files import load_sweep
from harness.seeding import derive_seed
from harness.tasks.inputs import TextInputs
from harness.training.resources import Resources

SWEEP = Path(__file__).parents[1] / "sweeps" / "text_depth_x_l2.yaml"
ARM = "residual_add"
LR = (1e-4, 1e-2)  # the sweep's range
DECAY = (1e-3, 1e-1)


@dataclass(frozen=True)
class Workload:
    """Trials by number, and what a program without the harness needs to train the same."""

    trials: tuple[TrialConfig, ...]
    content: dict[str, Any]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.content), encoding="utf-8")


def draw_settings(num_trials: int, seed: int) -> list[dict[str, float]]:
    """Learning rates and weight decays, log-uniform, six significant digits; the first n of any longer list."""
    generator = random.Random(derive_seed(seed, "benchmark", "trials"))
    return [
        {name: float(f"{low * (high / low) ** generator.random():.6g}") for name, (low, high) in ranges.items()}
        for ranges in [{"lr": LR, "weight_decay": DECAY}] * num_trials
    ]


def make_workload(
    num_trials: int,
    *,
    recipe: str,
    first_layer: int,
    epochs: int,
    train_limit: int,
    valid_limit: int,
    seed: int = 1000,
    device: str = "cpu",
) -> Workload:
    """The list for one race; `seed` is every trial's, as in the sweep's search.

    Args:
        first_layer: adapters sit behind this layer and all above it.
        device: where our own contestants train.
    """
    sweep = load_sweep(SWEEP)
    arm = next(arm for arm in sweep.arms if arm.name == ARM)
    settings = draw_settings(num_trials, sweep.config.search.seed)
    trials = tuple(
        resolve_trial(
            {
                **arm.settings,
                "backbone": {"recipe": recipe, "layers": {"from": first_layer}},
                "data": {**arm.settings["data"], "train_limit": train_limit},
                "optim": {**arm.settings["optim"], **drawn},
                "loop": {
                    **arm.settings["loop"],
                    **{"epochs": epochs, "valid_limit": valid_limit, "patience": None, "device": device},
                },
                "seed": seed,
            },
            f"benchmark trial {number}",
        )
        for number, drawn in enumerate(settings)
    )
    return Workload(trials, describe(trials, settings))


def describe(trials: tuple[TrialConfig, ...], settings: list[dict[str, float]]) -> dict[str, Any]:
    """The list for programs that know nothing of the harness."""
    config = trials[0]
    domains = Resources(sealed=True).domains(config)
    data, loop = config.data, config.loop
    train = domains.train_sample(data, config.seed)
    valid = {name: domains.valid_items(name, loop.valid_limit) for name in (data.target, *data.source)}
    longest = max(len(item.inputs) for items in valid.values() for item in items)
    head = domains.backbone.model.head.output
    encoder = domains.backbone.recipe.encoder
    points = len(domains.backbone.model.encoder.insertion_points)
    layers: Any = config.backbone.layers
    return {
        "encoder": str(model_directory(encoder.path)) if isinstance(encoder, PretrainedEncoderSettings) else None,
        "head": {"weight": head.weight.tolist(), "bias": head.bias.tolist()},
        "layers": list(range(layers.first, points)),
        "adapter_dim": (config.adapter or {})["dim"],
        "target": data.target,
        "train": [[item.inputs.tolist(), int(item.target)] for item in train],
        "valid": {name: [[i.inputs.tolist(), int(i.target)] for i in items] for name, items in valid.items()},
        "epochs": loop.epochs,
        "batch_size": loop.batch_size,
        "eval_batch_size": TextInputs.score_steps // longest,
        "warmup": config.optim.warmup,
        "clip_norm": config.optim.clip_norm,
        "trials": [
            {
                "number": number,
                **drawn,
                "seed": trial.seed,
                "config": trial.model_dump(mode="json", by_alias=True),
            }
            for number, (trial, drawn) in enumerate(zip(trials, settings, strict=True))
        ],
    }

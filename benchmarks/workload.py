"""The fixed list of trials: one description, as data, that every contestant trains.

Made from a shipped sweep and its experiment, so that our own contestants train the very configs, and the peers the same
examples, token ids, frozen weights, learning rates, weight decays, epochs and evaluations.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from harness.backbones.encoder_settings import PretrainedEncoderSettings
from harness.backbones.pretrained import model_directory
from harness.config.experiment import resolve_trial
from harness.config.trial import TrialConfig
from harness.data.corpus import Split
from harness.engines.cut.cut import find_cut, num_block_weights
from harness.search.sweep_files import load_sweep
from harness.seeding import derive_seed
from harness.tasks.ctc import CtcTask
from harness.tasks.task import Item
from harness.training.resources import Domains, Resources

SWEEPS = Path(__file__).parents[1] / "sweeps"
TEXT, SPEECH = "text_depth_x_l2", "speech_whisper_depth_x_l2"
ARM = "residual_add"
LR = (1e-4, 1e-2)  # the range of the text sweep
DECAY = (1e-3, 1e-1)
PARTS: tuple[Split, ...] = ("train", "valid")


@dataclass(frozen=True)
class Workload:
    """Trials by number, and what a program without the harness needs to train the same."""

    trials: tuple[TrialConfig, ...]
    content: dict[str, Any]
    features: dict[str, Tensor] = field(default_factory=dict)
    encoder: Any = None

    def write(self, path: Path) -> None:
        """Write it as JSON; clips' features and a speech encoder's weights go beside it, as their names say."""
        content = dict(self.content)
        if self.features:
            content |= {"features": str(path.with_suffix(".safetensors")), "encoder": str(path.with_suffix(".encoder"))}
            save_file(self.features, content["features"])
            folder = Path(content["encoder"])
            folder.mkdir(exist_ok=True)
            (folder / "config.json").write_text(json.dumps(self.encoder.config.to_dict()), encoding="utf-8")
            save_file({k: v.contiguous() for k, v in self.encoder.state_dict().items()}, folder / "model.safetensors")
        path.write_text(json.dumps(content), encoding="utf-8")


def draw_settings(num_trials: int, seed: int, lr: tuple[float, float] = LR) -> list[dict[str, float]]:
    """Learning rates and weight decays, log-uniform, six significant digits; the first n of any longer list."""
    generator = random.Random(derive_seed(seed, "benchmark", "trials"))
    return [
        {name: float(f"{low * (high / low) ** generator.random():.6g}") for name, (low, high) in ranges.items()}
        for ranges in [{"lr": lr, "weight_decay": DECAY}] * num_trials
    ]


def make_workload(
    num_trials: int,
    *,
    sweep: str = TEXT,
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
        sweep: the shipped one whose first phase the list is like; without SpecAugment, which every program would draw
            in another way.
        first_layer: adapters sit behind this layer and all above it.
        device: where our own contestants train.
    """
    loaded = load_sweep(SWEEPS / f"{sweep}.yaml")
    arm = next(arm for arm in loaded.arms if arm.name == ARM)
    rates: Any = loaded.config.space["optim.lr"]
    settings = draw_settings(num_trials, loaded.config.search.seed, (rates.low, rates.high))
    trials = tuple(
        resolve_trial(
            {
                **arm.settings,
                "backbone": {"recipe": recipe, "layers": {"from": first_layer}},
                "data": {**arm.settings["data"], "train_limit": train_limit},
                "optim": {**arm.settings["optim"], **drawn},
                "loop": {
                    **arm.settings["loop"],
                    **{
                        "epochs": epochs,
                        "valid_limit": valid_limit,
                        "patience": None,
                        "device": device,
                        "augment": None,
                    },
                },
                "seed": seed,
            },
            f"benchmark trial {number}",
        )
        for number, drawn in enumerate(settings)
    )
    domains = Resources(sealed=True).domains(trials[0])
    content = describe(trials, settings, domains)
    if sweep != SPEECH:
        return Workload(trials, content)
    return Workload(trials, content, features_of(content, domains), domains.backbone.model.encoder.model)


def features_of(content: dict[str, Any], domains: Domains) -> dict[str, Tensor]:
    """The features of a list's clips, by key."""
    wanted = {key for rows in (content["train"], *content["valid"].values()) for key, _ in rows}
    items = (item for name in content["valid"] for split in PARTS for item in domains.items(name, split))
    return {item.key: item.inputs for item in items if item.key in wanted}


def describe(trials: tuple[TrialConfig, ...], settings: list[dict[str, float]], domains: Domains) -> dict[str, Any]:
    """The list for programs that know nothing of the harness."""
    config, task = trials[0], domains.plain_task
    data, loop = config.data, config.loop
    train = domains.train_sample(data, config.seed)
    valid = {name: domains.valid_items(name, loop.valid_limit) for name in (data.target, *data.source)}
    longest = max(len(item.inputs) for items in valid.values() for item in items)
    head = domains.backbone.model.head.output
    encoder = domains.backbone.recipe.encoder
    points = len(domains.backbone.model.encoder.insertion_points)
    layers: Any = config.backbone.layers
    is_speech = isinstance(task, CtcTask)
    row = _clip if isinstance(task, CtcTask) else _text
    cut = find_cut(config, domains.backbone.model)
    return {
        "task": "speech" if is_speech else "text",
        "metric": f"valid_target/{task.primary}",
        "direction": "minimize" if is_speech else "maximize",
        "symbols": ["", *task.table] if isinstance(task, CtcTask) else None,
        "limits": {"G": cut.gain(num_block_weights(domains.backbone.model.encoder), 0), "scoring": 1 / (1 - cut.phi)},
        "encoder": str(model_directory(encoder.path)) if isinstance(encoder, PretrainedEncoderSettings) else None,
        "head": {"weight": head.weight.tolist(), "bias": head.bias.tolist()},
        "layers": list(range(layers.first, points)),
        "adapter_dim": (config.adapter or {})["dim"],
        "target": data.target,
        "train": [row(item) for item in train],
        "valid": {name: [row(item) for item in items] for name, items in valid.items()},
        "epochs": loop.epochs,
        "batch_size": loop.batch_size,
        "eval_batch_size": task.score_steps // longest,
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


def _text(item: Item) -> list[Any]:
    return [item.inputs.tolist(), int(item.target)]


def _clip(item: Item) -> list[Any]:
    return [item.key, item.target.tolist()]

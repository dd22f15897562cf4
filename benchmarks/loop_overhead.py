"""What the harness's loop costs over the bare PyTorch loop that a user would write for the same trial.

Both train the same adapters on the same tokens with the same batches and optimizer settings; the bare loop has no
scoring, logging, checkpoint or schedule. Runs are interleaved; medians of `--repeats`. Needs the corpus `vader`.

    python benchmarks/loop_overhead.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import torch

from harness.backbones.model import TaskModel
from harness.config.experiment import load_experiment
from harness.config.trial import TrialConfig
from harness.data.batching import bucketed_batches
from harness.seeding import torch_generator
from harness.tasks.task import Item, Task
from harness.training.adapting import adapt
from harness.training.fit_plan import FitPlan
from harness.training.loop import fit
from harness.training.resources import Resources

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "text_strategies.yaml"
EPOCHS = 3


def bare_loop(config: TrialConfig, base: TaskModel, task: Task, items: list[Item]) -> float:
    """Seconds of the loop without anything around it."""
    model = adapt(copy.deepcopy(base), config).model
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.optim.lr)
    model.train()
    began = time.perf_counter()
    for epoch in range(EPOCHS):
        generator = torch_generator(config.seed, "data", "order", epoch)
        lengths = [len(item.inputs) for item in items]
        for indices in bucketed_batches(lengths, batch_size=config.loop.batch_size, generator=generator):
            batch = task.collate([items[i] for i in indices], None)
            optimizer.zero_grad()
            scores, valid = model(batch.inputs, batch.lengths)
            task.loss(scores, valid, batch).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
    return time.perf_counter() - began


def harness_loop(config: TrialConfig, base: TaskModel, task: Task, items: list[Item], folder: Path) -> float:
    """Seconds of `fit` with a checkpoint an epoch; scoring is left out, as in the bare loop."""
    model = adapt(copy.deepcopy(base), config).model
    plan = FitPlan(
        config.optim,
        config.loop,
        config.seed,
        lambda model: {"valid_target/accuracy": 0.0},
        "valid_target/accuracy",
        "accuracy",
        folder / "checkpoint.safetensors",
    )
    began = time.perf_counter()
    fit(model, task, items, plan)
    return time.perf_counter() - began


def main() -> None:
    """Race, print medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    experiment = load_experiment(EXPERIMENT, [f"loop.epochs={EPOCHS}", "loop.patience=null"])
    config = next(trial.config for trial in experiment.trials if trial.arm == "residual_add")
    domains = Resources().domains(config)
    task, items = domains.plain_task, domains.items("tweets", "train")[:300]
    base = domains.backbone.model
    bare, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats + 1):
            times = bare_loop(config, base, task, items), harness_loop(config, base, task, items, Path(folder))
            (Path(folder) / "checkpoint.safetensors").unlink()
            if repeat:  # the first round warms up
                bare.append(times[0])
                ours.append(times[1])
    steps = EPOCHS * -(-len(items) // config.loop.batch_size)
    for name, seconds in (("bare loop", bare), ("harness", ours)):
        spread = f"{min(seconds):.3f} to {max(seconds):.3f}"
        print(f"{name:10} median {statistics.median(seconds):.3f} s for {steps} steps ({spread})")
    print(f"ratio of medians {statistics.median(ours) / statistics.median(bare):.3f}")


if __name__ == "__main__":
    main()

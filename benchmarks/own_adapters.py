"""`harness.train_adapters` against the loop in plain torch that a user would write for the same adapters, one by one.

Both train 16 adapters over one frozen module on the same tokens, with the same first weights, batches, optimizer,
schedule, clipping and validation after each epoch; the plain loop runs the whole module in each step. Losses are
compared. Each case: medians of interleaved rounds, in seconds of processor time, one thread. Needs the corpus `vader`
and MiniLM.

    python benchmarks/own_adapters.py [--rounds 5] [--adapters 16] [--only CASE ...] [--name NAME]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from reporting import describe_machine, write_result
from torch import Tensor, nn
from transformers import AutoModel
from workload import draw_settings, make_workload

import harness
from harness.data.batching import bucketed_batches
from harness.seeding import derive_seed, torch_generator

CLASSES, DIM, BATCH, WARMUP = 3, 16, 16, 0.1


class Small(nn.Module):
    """A module of a user's own: embeddings and four of torch's layers, 0.2 M weights in these."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30522, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)  # with hooks torch can use none

    def forward(self, ids: Tensor, valid_BT: Tensor) -> Tensor:
        out: Tensor = self.layers(self.embedding(ids), src_key_padding_mask=~valid_BT)
        return out


def minilm(directory: str) -> nn.Module:
    """A pretrained encoder of transformers (22.7 M weights)."""
    return AutoModel.from_pretrained(directory, local_files_only=True, add_pooling_layer=False)


@dataclass(frozen=True)
class Case:
    """A module, the first layer with an adapter, the length that texts are cut to, and the epochs."""

    make: Callable[[str], nn.Module]
    layers: Callable[[Any], Sequence[nn.Module]]
    run: Callable[[Any, Tensor, Tensor], Tensor]
    first: int
    longest: int
    epochs: int


def run_small(module: Any, ids: Tensor, valid_BT: Tensor) -> Tensor:
    hidden: Tensor = module(ids, valid_BT)
    return hidden


def run_minilm(module: Any, ids: Tensor, valid_BT: Tensor) -> Tensor:
    hidden: Tensor = module(input_ids=ids, attention_mask=valid_BT.long()).last_hidden_state
    return hidden


def own_layers(module: Any) -> Sequence[nn.Module]:
    found: Sequence[nn.Module] = module.layers.layers if isinstance(module, Small) else module.encoder.layer
    return found


CASES = {
    "small, all layers, 64 tokens a step": Case(lambda at: Small(), own_layers, run_small, 0, 4, 8),
    "small, upper half, whole texts": Case(lambda at: Small(), own_layers, run_small, 2, 64, 8),
    "MiniLM, upper half, whole texts": Case(minilm, own_layers, run_minilm, 3, 64, 4),
}


class Bottleneck(nn.Module):
    """The adapter: norm, down, SiLU, up; the last one begins at 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.down, self.up = nn.Linear(width, DIM, bias=False), nn.Linear(DIM, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.up(F.silu(self.down(self.norm(x))))
        return out


def plain_loop(
    case: Case, module: nn.Module, train: Any, valid: Any, settings: dict[str, float], seed: int
) -> list[float]:
    """One adapter by a user's own loop; the validation loss after each epoch."""
    layers = case.layers(module)[case.first :]
    width = next(weight for weight in layers[0].parameters()).shape[-1]
    torch.manual_seed(derive_seed(seed, "init"))
    adapters = nn.ModuleList(Bottleneck(width) for _ in layers)
    torch.manual_seed(derive_seed(seed, "init", "head"))
    head = nn.Linear(width, CLASSES)
    weights = [*adapters.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, weight_decay=settings["weight_decay"])
    handles = [
        layer.register_forward_hook(
            lambda _, args, out, own=own: own(out) if torch.is_tensor(out) else (own(out[0]), *out[1:])
        )
        for layer, own in zip(layers, adapters, strict=True)
    ]

    def loss_of(data: Any, indices: Sequence[int]) -> Tensor:
        ids = nn.utils.rnn.pad_sequence([data.inputs[index] for index in indices], batch_first=True)
        lengths = torch.tensor([len(data.inputs[index]) for index in indices])
        valid_BT = torch.arange(ids.shape[1]) < lengths[:, None]
        hidden = case.run(module, ids, valid_BT)
        pooled = (hidden * valid_BT[..., None]).sum(1) / lengths[:, None]
        return F.cross_entropy(head(pooled), torch.tensor([data.targets[index] for index in indices]))

    found = []
    for epoch in range(case.epochs):
        generator = torch_generator(seed, "data", "order", epoch)
        batches = bucketed_batches([len(row) for row in train.inputs], batch_size=BATCH, generator=generator)
        for number, indices in enumerate(batches):
            progress = (epoch + number / len(batches)) / case.epochs
            share = progress / WARMUP if progress < WARMUP else (1 - progress) / (1 - WARMUP)
            optimizer.param_groups[0]["lr"] = settings["lr"] * share
            optimizer.zero_grad()
            loss_of(train, indices).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
        with torch.no_grad():
            parts = bucketed_batches([len(row) for row in valid.inputs], max_frames=4096, generator=None)
            found.append(sum(float(loss_of(valid, part)) * len(part) for part in parts) / len(valid.inputs))
    for handle in handles:
        handle.remove()
    return found


def packed(
    case: Case, module: nn.Module, train: Any, valid: Any, drawn: list[dict[str, float]], size: int
) -> list[Any]:
    """All adapters by `harness.train_adapters`; each one's validation losses."""
    settings = {
        "adapter": {"_target_": "harness.adapters.LinearAdapter", "dim": DIM},
        "backbone.layers": {"from": case.first},
        "loop": {"epochs": case.epochs, "batch_size": BATCH},
    }
    adapters = {
        str(seed): {"seed": seed, **{f"optim.{key}": value for key, value in own.items()}}
        for seed, own in enumerate(drawn)
    }
    found = harness.train_adapters(
        module, train, valid, outputs=CLASSES, settings=settings, adapters=adapters, at_once=size, call=case.run
    )
    assert all(one.engine == "packed" and one.error is None for one in found.values())
    return [[entry["valid/loss"] for entry in one.history] for one in found.values()]


def examples(rows: Sequence[Any], longest: int) -> harness.Examples:
    return harness.Examples([torch.tensor(ids[:longest]) for ids, _ in rows], [label for _, label in rows])


def measure(case: Case, content: Any, num_adapters: int, rounds: int) -> dict[str, Any]:
    """Medians of processor seconds by contestant, and how far the losses are apart."""
    train = examples(content["train"], case.longest)
    valid = examples(content["valid"][content["target"]], case.longest)
    torch.manual_seed(0)
    module = case.make(content["encoder"]).eval().requires_grad_(False)
    drawn = draw_settings(num_adapters, 0)
    contestants: dict[str, Callable[[], list[Any]]] = {
        "plain torch loop, one by one": lambda: [
            plain_loop(case, module, train, valid, own, seed) for seed, own in enumerate(drawn)
        ],
        "train_adapters, at_once=1": lambda: packed(case, module, train, valid, drawn, 1),
        f"train_adapters, at_once={num_adapters}": lambda: packed(case, module, train, valid, drawn, num_adapters),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    losses: dict[str, list[Any]] = {}
    for _ in range(rounds):
        for name, run in contestants.items():
            began = time.process_time()
            losses[name] = run()
            seconds[name].append(time.process_time() - began)
    reference = torch.tensor(losses["plain torch loop, one by one"])
    return {
        "tokens": sum(len(row) for row in train.inputs),
        "examples": [len(train.inputs), len(valid.inputs)],
        "seconds": {name: statistics.median(found) for name, found in seconds.items()},
        "ranges": {name: [min(found), max(found)] for name, found in seconds.items()},
        "largest_difference": {
            name: float((torch.tensor(one) - reference).abs().max()) for name, one in losses.items()
        },
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--adapters", type=int, default=16)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--name", default="own_adapters")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    machine = describe_machine()
    sizes: Any = {"first_layer": 3, "epochs": 4, "train_limit": 96, "valid_limit": 32}
    content = make_workload(1, recipe="text_minilm", **sizes).content
    found = {}
    for name in asked.only:
        found[name] = measure(CASES[name], content, asked.adapters, asked.rounds)
        plain, *ours = found[name]["seconds"].values()
        print(name, found[name], " ratios", [round(plain / own, 2) for own in ours], flush=True)
    write_result(asked.name, {"machine": machine, "adapters": asked.adapters, "rounds": asked.rounds, "cases": found})


if __name__ == "__main__":
    main()

"""A plain torch loop with bottleneck adapters (Houlsby et al. 2019), as one writes it without any library for either.

The adapters have our form (layer norm, down, swish, up, added behind the layer's output, up starting at zero). Batches
are random and padded to their longest, validation sets have their order; with `--grouped` both are of like length.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from domain_scores import average_sources
from optuna_workers import main
from peer_task import CountingModel, Examples, PeerTask, task_of
from torch import Tensor, nn

EVAL_BATCH = 8  # as Trainer's
WINDOW = 8  # batches' worth of examples that are sorted by length together, where batches are of like length


class Bottleneck(nn.Module):
    """x + up(swish(down(norm(x))))."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, dim, bias=False)
        self.up = nn.Linear(dim, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.up(F.silu(self.down(self.norm(x))))
        return x + added


def adapted_model(workload: dict[str, Any], task: PeerTask) -> tuple[CountingModel, nn.ModuleList]:
    """The frozen model with an adapter behind each of the chosen layers, and those adapters."""
    encoder = task.encoder(workload)
    width = len(workload["head"]["weight"][0])
    adapters = nn.ModuleList(Bottleneck(width, workload["adapter_dim"]) for _ in workload["layers"])
    for number, adapter in zip(workload["layers"], adapters, strict=True):
        encoder.model.layers[number].register_forward_hook(lambda _, given, output, adapter=adapter: adapter(output))
    return task.model(encoder, workload["head"]), adapters


def batches_of(rows: Examples, size: int, grouped: bool, generator: torch.Generator) -> list[list[dict[str, Any]]]:
    """An epoch's batches: random, or of like length within windows of random rows, in random order."""
    order = torch.randperm(len(rows), generator=generator).tolist()
    if grouped:
        windows = [order[start : start + WINDOW * size] for start in range(0, len(order), WINDOW * size)]
        order = [index for window in windows for index in sorted(window, key=lambda i: int(rows[i]["length"]))]
    batches = [[rows[i] for i in order[start : start + size]] for start in range(0, len(order), size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()] if grouped else batches


@torch.inference_mode()
def score(model: CountingModel, task: PeerTask, workload: dict[str, Any], rows: Examples) -> dict[str, float]:
    """Metrics and loss of a validation set."""
    model.eval()
    predictions, labels, total = [], [], 0.0
    for start in range(0, len(rows), EVAL_BATCH):
        batch = task.collate([rows[place] for place in range(start, min(start + EVAL_BATCH, len(rows)))])
        found = model(**batch)
        total += float(found["loss"]) * len(batch["labels"])
        predictions.append(task.predict(found["logits"], batch["labels"]))
        labels.append(batch["labels"])
    scores = task.scores_of(workload, _stack(predictions), _stack(labels))
    return {**scores, "loss": total / len(rows)}


def _stack(parts: list[Tensor]) -> Tensor:
    longest = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, longest - part.shape[1]), value=-100) for part in parts])


def train(workload: dict[str, Any], trial: dict[str, Any]) -> dict[str, Any]:
    """One trial."""
    torch.manual_seed(trial["seed"])
    generator = torch.Generator().manual_seed(trial["seed"])
    task = task_of(workload)
    model, adapters = adapted_model(workload, task)
    rows = Examples(task.rows(workload, workload["train"]))
    valid = {
        name: Examples(task.rows(workload, found), workload["grouped"]) for name, found in workload["valid"].items()
    }
    weights, size = list(adapters.parameters()), workload["batch_size"]
    optimizer = torch.optim.AdamW(weights, lr=trial["lr"], weight_decay=trial["weight_decay"])
    total = workload["epochs"] * -(-len(rows) // size)
    warmup = workload["warmup"] * total
    scale = [step / warmup if step < warmup else (total - step) / (total - warmup) for step in range(total + 1)]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, scale.__getitem__)
    epochs = []
    for _ in range(workload["epochs"]):
        model.train()
        for batch in batches_of(rows, size, workload["grouped"], generator):
            optimizer.zero_grad()
            model(**task.collate(batch))["loss"].backward()
            torch.nn.utils.clip_grad_norm_(weights, workload["clip_norm"])
            optimizer.step()
            schedule.step()
        found = {name: score(model, task, workload, examples) for name, examples in valid.items()}
        epochs.append(average_sources(found, workload["target"]))
    return {"epochs": epochs, "padded_tokens": model.padded_tokens, "real_tokens": model.real_tokens}


if __name__ == "__main__":
    main(train)

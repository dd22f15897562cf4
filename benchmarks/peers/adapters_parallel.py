"""`adapters` Parallel: several adapters in one forward pass over one encoder; they share the layers below them.

The batch is repeated for each adapter at the first adapted layer. One batch order for all (the first trial's), one
learning-rate schedule scaled to each adapter's own rate by parameter groups; clipping looks at all adapters at once.
So the work is the same, and the numbers are not those of trials alone.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import torch
import torch.nn.functional as F
from adapters.composition import Parallel
from adapters_trainer import adapted_encoder
from domain_scores import average_sources
from measuring import Meter, write_outcome
from peer_task import read_workload
from text_task import collate, scores_of
from torch import Tensor


class ParallelTrials:
    """All trials of the list as adapters of one encoder."""

    def __init__(self, workload: dict[str, Any]) -> None:
        self.workload = workload
        self.names = [f"trial{trial['number']}" for trial in workload["trials"]]
        torch.manual_seed(workload["trials"][0]["seed"])
        self.encoder = adapted_encoder(workload, self.names)
        self.encoder.train_adapter(Parallel(*self.names))
        self.head_weight = torch.tensor(workload["head"]["weight"])
        self.head_bias = torch.tensor(workload["head"]["bias"])
        groups = [
            {
                "params": [weight for name, weight in self.encoder.named_parameters() if f".{adapter}." in name],
                "lr": trial["lr"],
                "weight_decay": trial["weight_decay"],
            }
            for adapter, trial in zip(self.names, workload["trials"], strict=True)
        ]
        self.weights = [weight for group in groups for weight in group["params"]]
        self.optimizer = torch.optim.AdamW(groups)

    def scores(self, batch: dict[str, Tensor]) -> Tensor:
        """Class scores [K, B, C]."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        hidden = hidden.reshape(len(self.names), *ids.shape, -1)
        weights = mask[..., None].to(hidden.dtype)
        return F.linear((hidden * weights).sum(2) / weights.sum(1), self.head_weight, self.head_bias)

    def train(self) -> list[dict[str, Any]]:
        """All epochs; the trials' metrics after each."""
        workload = self.workload
        rows = [{"input_ids": ids, "labels": label} for ids, label in workload["train"]]
        size = workload["batch_size"]
        total = workload["epochs"] * -(-len(rows) // size)
        warmup = workload["warmup"] * total
        scale = [step / warmup if step < warmup else (total - step) / (total - warmup) for step in range(total + 1)]
        schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, scale.__getitem__)
        trials = [{"number": trial["number"], "epochs": []} for trial in workload["trials"]]
        generator = torch.Generator().manual_seed(workload["trials"][0]["seed"])
        for _ in range(workload["epochs"]):
            self.encoder.train()
            for batch in _batches_of_like_length(rows, size, generator):
                self.optimizer.zero_grad()
                scores = self.scores(batch)
                labels = batch["labels"].expand(len(self.names), -1)
                losses = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="sum") / len(batch["labels"])
                losses.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(self.weights, workload["clip_norm"])
                self.optimizer.step()
                schedule.step()
            for trial, entry in zip(trials, self.evaluate(), strict=True):
                trial["epochs"].append(entry)
        return trials

    @torch.no_grad()
    def evaluate(self) -> list[dict[str, float]]:
        """Metrics of each trial on the validation examples."""
        self.encoder.eval()
        by_trial: list[dict[str, dict[str, float]]] = [{} for _ in self.names]
        for domain, examples in self.workload["valid"].items():
            rows = [{"input_ids": i, "labels": y} for i, y in sorted(examples, key=lambda example: len(example[0]))]
            size = self.workload["eval_batch_size"]
            batches = [collate(rows[start : start + size]) for start in range(0, len(rows), size)]
            scores = torch.cat([self.scores(batch) for batch in batches], dim=1)
            labels = torch.cat([batch["labels"] for batch in batches])
            for found, scores_NC in zip(by_trial, scores, strict=True):
                found[domain] = {**scores_of(scores_NC, labels), "loss": float(F.cross_entropy(scores_NC, labels))}
        return [average_sources(found, self.workload["target"]) for found in by_trial]


def _batches_of_like_length(rows: list[dict[str, Any]], size: int, generator: torch.Generator) -> list[Any]:
    order = torch.randperm(len(rows), generator=generator).tolist()
    windows = [order[start : start + 8 * size] for start in range(0, len(order), 8 * size)]
    order = [index for window in windows for index in sorted(window, key=lambda i: len(rows[i]["input_ids"]))]
    batches = [collate([rows[i] for i in order[start : start + size]]) for start in range(0, len(order), size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def main() -> None:
    """`adapters_parallel.py WORKLOAD OUTCOME [--threads N]`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload")
    parser.add_argument("outcome")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    workload = {**read_workload(asked.workload), "no_dropout": False}
    ParallelTrials({**workload, "train": workload["train"][:32], "epochs": 1}).train()
    parallel = ParallelTrials(workload)
    with Meter() as meter:
        trials = parallel.train()
    write_outcome(asked.outcome, meter, trials)


if __name__ == "__main__":
    main()

"""torch.func: the trial as a function of its adapter weights, `vmap` over the trials; our model without cut or packs.

Each trial has its own batches (padded to the longest of the step's), learning rate, weight decay, schedule, clipping;
AdamW is written out over the stacked weights, as there is none in torch.func.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import torch
from domain_scores import average_sources
from measuring import Meter, write_outcome
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

from harness.config.trial import TrialConfig
from harness.data.batching import bucketed_batches
from harness.seeding import torch_generator
from harness.training.adapting import adapt
from harness.training.optim import lr_at
from harness.training.resources import Resources
from harness.training.trial import Trial


class VmapTrials:
    """All trials of the list, stacked."""

    def __init__(self, configs: list[TrialConfig], resources: Resources) -> None:
        self.configs = configs
        self.domains = resources.domains(configs[0])
        models = [adapt(copy.deepcopy(self.domains.backbone.model), config).model for config in configs]
        self.model = models[0].eval()
        names = [name for name, weight in self.model.named_parameters() if weight.requires_grad]
        of_model = [dict(model.named_parameters()) for model in models]
        self.weights = {name: torch.stack([weights[name].detach() for weights in of_model]) for name in names}
        self.items = [Trial(config, resources, None, lambda entry: None).train_items() for config in configs]

    def loss(self, weights: dict[str, Tensor], inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of one trial's batch."""
        scores, _ = functional_call(self.model, weights, (inputs, lengths))
        return torch.nn.functional.cross_entropy(scores, targets)

    def train(self) -> list[dict[str, Any]]:
        """All epochs; the trials' metrics after each."""
        first, count = self.configs[0], len(self.configs)
        moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in self.weights.items()}
        step = vmap(grad_and_value(self.loss), randomness="error")
        epochs: list[list[dict[str, float]]] = []
        num_steps = 0
        for epoch in range(first.loop.epochs):
            plans = [
                bucketed_batches(
                    [len(item.inputs) for item in items],
                    batch_size=config.loop.batch_size,
                    generator=torch_generator(config.seed, "data", "order", epoch),
                )
                for config, items in zip(self.configs, self.items, strict=True)
            ]
            for number in range(len(plans[0])):
                rows = [[items[i] for i in plan[number]] for items, plan in zip(self.items, plans, strict=True)]
                progress = (epoch + number / len(plans[0])) / first.loop.epochs
                gradients, _ = step(self.weights, *self._collate(rows))
                num_steps += 1
                self._update(
                    gradients,
                    moments,
                    num_steps,
                    [lr_at(config.optim, progress, first.loop.epochs * len(plans[0])) for config in self.configs],
                )
            epochs.append(self.evaluate())
        return [{"number": k, "epochs": [entries[k] for entries in epochs]} for k in range(count)]

    def _collate(self, rows: list[list[Any]]) -> tuple[Tensor, Tensor, Tensor]:
        longest = max(len(item.inputs) for items in rows for item in items)
        inputs = torch.zeros(len(rows), len(rows[0]), longest, dtype=torch.long)
        lengths = torch.tensor([[len(item.inputs) for item in items] for items in rows])
        for k, items in enumerate(rows):
            for b, item in enumerate(items):
                inputs[k, b, : len(item.inputs)] = item.inputs
        return inputs, lengths, torch.tensor([[int(item.target) for item in items] for items in rows])

    @torch.no_grad()
    def _update(self, gradients: dict[str, Tensor], moments: Any, num_steps: int, rates: list[float]) -> None:
        optims = [config.optim for config in self.configs]
        norms_K = torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()]).norm(dim=0)
        scale_K = torch.tensor([optim.clip_norm or torch.inf for optim in optims]) / (norms_K + 1e-6)
        lr_K = torch.tensor(rates)
        decay_K = torch.tensor([optim.weight_decay for optim in optims])
        beta1, beta2 = optims[0].betas
        for name, weight in self.weights.items():
            shape = (-1, *[1] * (weight.ndim - 1))
            gradient = gradients[name] * scale_K.clamp(max=1.0).reshape(shape)
            first, second = moments[name]
            first.lerp_(gradient, 1 - beta1)
            second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            denominator = (second / (1 - beta2**num_steps)).sqrt() + optims[0].eps
            weight *= 1 - (lr_K * decay_K).reshape(shape)
            weight -= lr_K.reshape(shape) * first / (1 - beta1**num_steps) / denominator

    @torch.no_grad()
    def evaluate(self) -> list[dict[str, float]]:
        """Metrics of each trial on the validation examples."""
        config, task = self.configs[0], self.domains.plain_task
        by_trial: list[dict[str, dict[str, float]]] = [{} for _ in self.configs]
        for domain in (config.data.target, *config.data.source):
            items = self.domains.valid_items(domain, config.loop.valid_limit)
            found: Any = torch.empty(len(self.configs), len(items), dtype=torch.long)
            for plan in task.score_batches(items, task.score_steps):
                batch = task.collate([items[i] for i in plan], None)
                run = vmap(lambda weights, b=batch: functional_call(self.model, weights, (b.inputs, b.lengths))[0])
                found[:, plan] = run(self.weights).argmax(-1)
            for scores, predictions in zip(by_trial, found.tolist(), strict=True):
                scores[domain] = task.score([item.reference for item in items], predictions)
        return [average_sources(scores, config.data.target) for scores in by_trial]


def main() -> None:
    """`functional_vmap.py WORKLOAD OUTCOME [--threads N]`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload")
    parser.add_argument("outcome")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    content = json.loads(Path(asked.workload).read_text(encoding="utf-8"))
    configs = [TrialConfig.model_validate(trial["config"]) for trial in content["trials"]]
    resources = Resources(sealed=True)
    short = configs[0].model_copy(update={"loop": configs[0].loop.model_copy(update={"epochs": 1})})
    VmapTrials([short], resources).train()
    trials = VmapTrials(configs, resources)
    with Meter() as meter:
        results = trials.train()
    write_outcome(asked.outcome, meter, results)


if __name__ == "__main__":
    main()

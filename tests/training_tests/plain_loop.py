"""The oracle of the training loop: one trial written with nn.Linear and torch.optim, none of the harness's loop code.

It shares with the harness the frozen blocks, the batches (`bucketed_batches`), and the names of the random streams.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.backbones.encoders import TextEncoder
from harness.config.trial import TrialConfig
from harness.data.batching import bucketed_batches
from harness.seeding import derive_seed, torch_generator
from harness.tasks.task import Item


@dataclass
class PlainResult:
    """Weights by their name in the harness's model, and losses: one list an epoch."""

    weights: dict[str, Tensor]
    losses: list[list[float]] = field(default_factory=list)
    auxiliary: list[list[float]] = field(default_factory=list)
    largest_norm: float = 0.0


def plain_adapter(dim: int, hidden: int) -> nn.Sequential:
    """A linear bottleneck adapter, in float64, its last layer zero."""
    layers = [nn.LayerNorm(dim), nn.Linear(dim, hidden, bias=False), nn.SiLU(), nn.Linear(hidden, dim, bias=False)]
    adapter = nn.Sequential(*layers).double()
    nn.init.zeros_(adapter[3].weight)  # type: ignore[arg-type]
    return adapter


def plain_fit(
    encoder: TextEncoder,
    head: nn.Linear,
    adapters: Sequence[nn.Sequential],
    items: Sequence[Item],
    config: TrialConfig,
    *,
    drop: float = 0.0,
    l2_lambda: float = 0.0,
    clip_norm: float | None = None,
) -> PlainResult:
    """Train `adapters` (one a layer), or without any the `head`, with linear warm-up and decay."""
    weights: dict[str, nn.Parameter] = {}
    for number, adapter in enumerate(adapters):
        for name, weight in adapter.named_parameters():
            weights[f"encoder.layers.{number}.insertion.adapter_layer.adapted.module.{name}"] = weight
    if not adapters:
        weights = {f"head.output.{name}": weight for name, weight in head.named_parameters()}
    for parameter in (*encoder.parameters(), *head.parameters()):
        parameter.requires_grad_(False)
    for weight in weights.values():
        weight.requires_grad_(True)
    optim, loop = config.optim, config.loop
    adam = torch.optim.AdamW(
        list(weights.values()), lr=1.0, betas=optim.betas, eps=optim.eps, weight_decay=optim.weight_decay
    )
    result = PlainResult({})
    for epoch in range(loop.epochs):
        noise = torch.Generator().manual_seed(derive_seed(config.seed, "stochastic_depth", epoch))
        order = torch_generator(config.seed, "data", "order", epoch)
        batches = bucketed_batches([len(item.inputs) for item in items], batch_size=loop.batch_size, generator=order)
        result.losses.append([])
        result.auxiliary.append([])
        for number, batch in enumerate(batches):
            done = (epoch + number / len(batches)) / loop.epochs
            factor = done / optim.warmup if done < optim.warmup else 1 - (done - optim.warmup) / (1 - optim.warmup)
            adam.param_groups[0]["lr"] = optim.lr * factor
            scores_BC, penalty = plain_forward(encoder, head, adapters, [items[i] for i in batch], drop, noise)
            target_B = torch.tensor([items[i].reference for i in batch])
            loss = F.cross_entropy(scores_BC, target_B)
            adam.zero_grad()
            (loss + l2_lambda * penalty).backward()  # type: ignore[no-untyped-call]
            gradients = [weight.grad for weight in weights.values() if weight.grad is not None]
            norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
            result.largest_norm = max(result.largest_norm, norm)
            if clip_norm is not None and norm > clip_norm:
                for gradient in gradients:
                    gradient.mul_(clip_norm / (norm + 1e-6))
            adam.step()
            result.losses[-1].append(float(loss.detach()))
            result.auxiliary[-1].append(l2_lambda * float(penalty.detach()))
    result.weights = {name: weight.detach() for name, weight in weights.items()}
    return result


def plain_forward(
    encoder: TextEncoder,
    head: nn.Linear,
    adapters: Sequence[nn.Sequential],
    items: Sequence[Item],
    drop: float,
    noise: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Scores [B, C], and the mean over rows of the squared change that the adapters make."""
    ids_BT = nn.utils.rnn.pad_sequence([item.inputs for item in items], batch_first=True)
    lengths_B = torch.tensor([len(item.inputs) for item in items])
    valid_BT = torch.arange(ids_BT.shape[1]) < lengths_B[:, None]
    penalty = torch.zeros((), dtype=torch.float64)
    x_BTD = encoder.embedding(ids_BT)
    for number, layer in enumerate(encoder.layers):
        x_BTD = layer(x_BTD, valid_BT)
        if adapters:
            change_BTD = adapters[number](x_BTD)
            if drop:
                kept = torch.empty(1, 1, 1, dtype=torch.float64).bernoulli_(1 - drop, generator=noise)
                change_BTD = kept / (1 - drop) * change_BTD
            before_BTD, x_BTD = x_BTD, x_BTD + change_BTD
            penalty = penalty + (before_BTD - x_BTD).square().sum((1, 2)).mean()
    hidden_BTD = encoder.final_norm(x_BTD)
    mean_BD = (hidden_BTD * valid_BT[..., None]).sum(1) / lengths_B[:, None]
    return head(mean_BD), penalty

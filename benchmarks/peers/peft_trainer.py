"""PEFT + transformers' Trainer + Optuna: LoRA of the adapters' size on the upper layers' last feed-forward weight.

PEFT has no bottleneck adapters. LoRA at the end of a layer's feed-forward has the same place (backpropagation goes just
as deep), the same number of weights, and starts at zero as well.
"""

from __future__ import annotations

from typing import Any

import transformers
from optuna_workers import main
from peer_task import task_of
from peft import LoraConfig, get_peft_model
from trainer_settings import train_with


def train(workload: dict[str, Any], trial: dict[str, Any], hear: Any = None) -> dict[str, Any]:
    """One trial; see `train_with`."""
    transformers.set_seed(trial["seed"])
    task = task_of(workload)
    encoder = task.encoder(workload)
    layers = "|".join(str(number) for number in workload["layers"])
    place, inner, width = task.lora_place(encoder, layers)
    weights_a_layer = 2 * width * workload["adapter_dim"] + 2 * width
    rank = round(weights_a_layer / (inner + width))
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=place)
    model = task.model(get_peft_model(encoder, config), workload["head"])
    return train_with(transformers.Trainer, model, workload, trial, hear)


if __name__ == "__main__":
    main(train)

"""`adapters` + AdapterTrainer + Optuna: bottleneck adapters of the same form and size behind the upper layers.

The form is ours (layer norm, down, swish, up, residual, behind the layer's output) but for the biases of the two
projections, which the library always has. The up projection starts at zero (`mam_adapter`).
"""

from __future__ import annotations

from typing import Any

import adapters
import transformers
from optuna_workers import main
from text_task import MeanClassifier, load_encoder
from trainer_settings import train_with


def adapted_encoder(workload: dict[str, Any], names: list[str]) -> Any:
    """The frozen encoder with one adapter for each name behind each of the chosen layers."""
    encoder = load_encoder(workload)
    adapters.init(encoder)
    config = adapters.BnConfig(
        mh_adapter=False,
        output_adapter=True,
        reduction_factor=encoder.config.hidden_size / workload["adapter_dim"],
        non_linearity="swish",
        original_ln_before=True,
        original_ln_after=False,
        residual_before_ln=False,
        ln_before=True,
        init_weights="mam_adapter",
        leave_out=[n for n in range(encoder.config.num_hidden_layers) if n not in workload["layers"]],
    )
    for name in names:
        encoder.add_adapter(name, config=config)
    return encoder


class _Adapted(MeanClassifier):
    """What AdapterTrainer asks a model for."""

    active_head = None

    @property
    def base_model(self) -> Any:
        return self.encoder

    @property
    def active_adapters(self) -> Any:
        return self.encoder.active_adapters


class _Trainer(adapters.AdapterTrainer):  # type: ignore[misc]
    """AdapterTrainer sets this for models of transformers' own classes only."""

    train_adapter_fusion = False


def train(workload: dict[str, Any], trial: dict[str, Any], hear: Any = None) -> dict[str, Any]:
    """One trial; see `train_with`."""
    transformers.set_seed(trial["seed"])
    encoder = adapted_encoder(workload, ["adapted"])
    encoder.train_adapter("adapted")
    return train_with(_Trainer, _Adapted(encoder, workload["head"]), workload, trial, hear)


if __name__ == "__main__":
    main(train)

"""One trial with transformers' Trainer (or a subclass): dynamic padding, evaluation after each epoch.

Batches as by its defaults: random in training, validation sets in their order and 8 examples a batch. Or, where
`grouped` is asked for, as a careful user has them on a CPU: training batches of like length, and validation sets sorted
by length, 16 a batch. Nothing is saved or logged, and there is no progress bar.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch
import transformers
from domain_scores import average_sources
from peer_task import CountingModel, Examples, task_of
from transformers import TrainingArguments


def arguments(workload: dict[str, Any], trial: dict[str, Any], folder: str) -> TrainingArguments:
    """The trial's settings in Trainer's words."""
    newer = int(transformers.__version__.split(".")[0]) >= 5
    grouping: dict[str, Any] = {}
    if workload["grouped"]:
        grouping = {"train_sampling_strategy": "group_by_length"} if newer else {"group_by_length": True}
    warmup = {"warmup_steps": workload["warmup"]} if newer else {"warmup_ratio": workload["warmup"]}
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=workload["batch_size"],
        per_device_eval_batch_size=16 if workload["grouped"] else 8,
        num_train_epochs=workload["epochs"],
        learning_rate=trial["lr"],
        weight_decay=trial["weight_decay"],
        lr_scheduler_type="linear",
        max_grad_norm=workload["clip_norm"],
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=True,
        seed=trial["seed"],
        length_column_name="length",
        remove_unused_columns=False,
        label_names=["labels"],
        **grouping,
        **warmup,
    )


def train_with(
    trainer_class: Any,
    model: CountingModel,
    workload: dict[str, Any],
    trial: dict[str, Any],
    hear: Callable[[int, dict[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Train; the metrics after each epoch, and the tokens of all training steps with padding and without.

    Args:
        hear: told the number of each epoch (from 1) and its metrics; what it raises ends the training.
    """
    task = task_of(workload)
    epochs: list[dict[str, float]] = []

    class Collect(transformers.TrainerCallback):
        def __init__(self) -> None:
            self.seen: dict[str, dict[str, float]] = {}

        def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            metrics = kwargs["metrics"]
            domain = next(name for name in workload["valid"] if f"eval_{name}_loss" in metrics)
            self.seen[domain] = {name: metrics[f"eval_{domain}_{name}"] for name in (*task.metrics, "loss")}
            if len(self.seen) == len(workload["valid"]):
                epochs.append(average_sources(self.seen, workload["target"]))
                self.seen = {}
                if hear is not None:
                    hear(len(epochs), epochs[-1])

    def compute_metrics(prediction: Any) -> dict[str, float]:
        found, labels = torch.from_numpy(prediction.predictions), torch.from_numpy(prediction.label_ids)
        return task.scores_of(workload, found, labels)

    def made_ready(examples: list[list[Any]], sort: bool = False) -> Examples:
        return Examples(task.rows(workload, examples), sort)

    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_class(
            model=model,
            args=arguments(workload, trial, folder),
            train_dataset=made_ready(workload["train"]),
            eval_dataset={name: made_ready(rows, workload["grouped"]) for name, rows in workload["valid"].items()},
            data_collator=task.collate,
            compute_metrics=compute_metrics,
            preprocess_logits_for_metrics=task.predict,
            callbacks=[Collect()],
        )
        if workload["grouped"]:  # Trainer itself looks for lengths in `input_ids` or a `datasets.Dataset` alone
            lengths = [row["length"] for row in trainer.train_dataset.rows]
            sampler = transformers.trainer_pt_utils.LengthGroupedSampler(workload["batch_size"], lengths=lengths)
            trainer._get_train_sampler = lambda *datasets: sampler
            trainer._get_eval_sampler = torch.utils.data.SequentialSampler  # they are sorted
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return {"epochs": epochs, "padded_tokens": model.padded_tokens, "real_tokens": model.real_tokens}

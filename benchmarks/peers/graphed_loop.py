"""One trial at a time, the whole model, each step one CUDA graph: the fastest plain loop that torch has for a GPU.

    graphed_loop.py WORKLOAD OUTCOME [--device cuda]

A graph for each shape of a batch (steps padded to a multiple of 8) is captured once and serves all trials: between two
of them the weights and moments are put back, and what differs (learning rate, weight decay) lies in buffers. The
examples lie on the device. Capturing is outside the measured time. Clipping, AdamW, schedule, batches and their order
are those of our plain loop; scoring is eager, as it is there. `--device cpu` runs the same steps without graphs, to see
that the program works.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from domain_scores import average_sources
from measuring import Meter, write_outcome
from torch import Tensor

from harness.config.trial import TrialConfig
from harness.data.batching import bucketed_batches
from harness.seeding import torch_generator
from harness.tasks.task import evaluate
from harness.training.adapting import adapt
from harness.training.optim import lr_at
from harness.training.precision import dtype_of
from harness.training.resources import Resources
from harness.training.trial import Trial

STEPS = 8
WARM_UPS = 3
_CUDA: Any = torch.cuda  # whose streams have no types


class GraphedStep:
    """A step on batches of one shape, from buffers [B, T], [B], [B]."""

    def __init__(self, loop: GraphedLoop, num_rows: int, num_steps: int) -> None:
        self.loop = loop
        whole = torch.zeros(num_rows, dtype=torch.int64, device=loop.device)
        self.inputs, self.lengths = whole.new_zeros((num_rows, num_steps)), whole + 1
        self.targets = whole
        self.replay = loop.record(self._step)

    def _step(self) -> None:
        loop = self.loop
        loop.optimizer.zero_grad(set_to_none=True)
        scores, _ = loop.model(self.inputs, self.lengths)
        torch.nn.functional.cross_entropy(scores, self.targets).backward()  # type: ignore[no-untyped-call]
        if loop.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(loop.weights, loop.clip_norm)
        with torch.no_grad():
            for weight in loop.weights:  # AdamW's own decay would be a constant of the graph
                weight.mul_(1 - loop.lr * loop.decay)
        loop.optimizer.step()

    def run(self, chosen_B: Tensor) -> None:
        """Put a batch into the buffers, by its examples' numbers on the device, and take the step."""
        loop, num_steps = self.loop, self.inputs.shape[1]
        torch.index_select(loop.inputs_NT[:, :num_steps], 0, chosen_B, out=self.inputs)
        torch.index_select(loop.lengths_N, 0, chosen_B, out=self.lengths)
        torch.index_select(loop.targets_N, 0, chosen_B, out=self.targets)
        self.replay()


class GraphedLoop:
    """A model, its optimizer, and the graphs of its steps; trains one trial after the other.

    Args:
        config: of a trial of the list; the others differ in learning rate and weight decay alone.
        resources: corpus and backbone.
        device: a GPU; on a CPU nothing is captured.
    """

    def __init__(self, config: TrialConfig, resources: Resources, device: torch.device) -> None:
        self.device = device
        self.domains = resources.domains(config)
        self.dtype = dtype_of(config.loop)
        model = copy.deepcopy(self.domains.backbone.model).to(device, self.dtype)
        self.model = adapt(model, config).model.eval()
        self.weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.first_weights = [weight.detach().clone() for weight in self.weights]
        optim = config.optim
        self.clip_norm = optim.clip_norm
        self.lr = torch.zeros((), device=device, dtype=self.dtype)
        self.decay = torch.zeros_like(self.lr)
        capturable = device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=self.lr, betas=optim.betas, eps=optim.eps, weight_decay=0.0, capturable=capturable
        )
        items = Trial(config, resources, None, lambda entry: None).train_items()
        self.input_lengths = [len(item.inputs) for item in items]
        longest = -(-max(self.input_lengths) // STEPS) * STEPS
        inputs_NT = torch.zeros((len(items), longest), dtype=torch.int64)
        for row, item in zip(inputs_NT, items, strict=True):
            row[: len(item.inputs)] = item.inputs
        self.inputs_NT = inputs_NT.to(device)
        self.lengths_N = torch.tensor(self.input_lengths, device=device)
        self.targets_N = torch.tensor([int(item.target) for item in items], device=device)
        self.steps: dict[tuple[int, int], GraphedStep] = {}
        for weight in self.weights:  # so that the first step makes the optimizer's state, and later ones find it
            weight.grad = torch.zeros_like(weight)
        self.optimizer.step()
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Weights and moments as they are when a trial begins, in place."""
        for weight, first in zip(self.weights, self.first_weights, strict=True):
            weight.copy_(first)
            for value in self.optimizer.state[weight].values():
                value.zero_()

    def record(self, step: Callable[[], None]) -> Callable[[], Any]:
        """Capture a step, after a warm-up on a side stream; what replays it."""
        if self.device.type != "cuda":
            return step
        stream = _CUDA.Stream()
        stream.wait_stream(_CUDA.current_stream())
        with _CUDA.stream(stream):
            for _ in range(WARM_UPS):
                step()
        _CUDA.current_stream().wait_stream(stream)
        graph = _CUDA.CUDAGraph()
        with _CUDA.graph(graph):
            step()
        replay: Callable[[], Any] = graph.replay
        return replay

    def batches(self, config: TrialConfig, epoch: int) -> list[list[int]]:
        """An epoch's batches, as the plain loop has them."""
        return bucketed_batches(
            self.input_lengths,
            batch_size=config.loop.batch_size,
            generator=torch_generator(config.seed, "data", "order", epoch),
        )

    def shape_of(self, batch: list[int]) -> tuple[int, int]:
        """Rows and steps of a batch, padded."""
        longest = max(self.input_lengths[index] for index in batch)
        return len(batch), -(-longest // STEPS) * STEPS

    def capture_all(self, config: TrialConfig) -> None:
        """Capture the steps of all shapes that a trial meets."""
        for epoch in range(config.loop.epochs):
            for batch in self.batches(config, epoch):
                shape = self.shape_of(batch)
                if shape not in self.steps:
                    self.steps[shape] = GraphedStep(self, *shape)
        self.reset()

    def train(self, config: TrialConfig) -> list[dict[str, float]]:
        """One trial, of shapes that were captured; its metrics after each epoch."""
        self.reset()
        optim, loop = config.optim, config.loop
        self.decay.fill_(optim.weight_decay)
        entries = []
        for epoch in range(loop.epochs):
            batches = self.batches(config, epoch)
            chosen = torch.tensor([index for batch in batches for index in batch], device=self.device)
            parts = torch.split(chosen, [len(batch) for batch in batches])
            for number, (batch, chosen_B) in enumerate(zip(batches, parts, strict=True)):
                progress = (epoch + number / len(batches)) / loop.epochs
                self.lr.fill_(lr_at(optim, progress, loop.epochs * len(batches)))
                self.steps[self.shape_of(batch)].run(chosen_B)
            entries.append(self.evaluate(config))
        return entries

    def evaluate(self, config: TrialConfig) -> dict[str, float]:
        """Metrics on the validation examples: the target's, and the mean over the sources'."""
        data = config.data
        scores = {
            domain: evaluate(
                self.model,
                self.domains.plain_task,
                self.domains.valid_items(domain, config.loop.valid_limit),
                max_frames=self.domains.plain_task.score_steps,
                device=self.device,
                dtype=self.dtype,
            ).scores
            for domain in (data.target, *data.source)
        }
        return average_sources(scores, data.target)


def main() -> None:
    """Run the contestant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload")
    parser.add_argument("outcome")
    parser.add_argument("--device", default="cuda")
    asked = parser.parse_args()
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("graphed_loop.py needs a CUDA GPU, and torch finds none here")
    torch.set_num_threads(1)
    content = json.loads(Path(asked.workload).read_text(encoding="utf-8"))
    configs = [TrialConfig.model_validate(trial["config"]) for trial in content["trials"]]
    seeds = {config.seed for config in configs}
    if len(seeds) != 1:
        raise SystemExit(f"the trials have {len(seeds)} seeds: other examples and first weights need other graphs")
    loop = GraphedLoop(configs[0], Resources(sealed=True), torch.device(asked.device))
    loop.capture_all(configs[0])
    loop.evaluate(configs[0])
    with Meter() as meter:
        epochs = [loop.train(config) for config in configs]
    trials = [
        {"number": trial["number"], "epochs": found} for trial, found in zip(content["trials"], epochs, strict=True)
    ]
    write_outcome(asked.outcome, meter, trials)


if __name__ == "__main__":
    main()

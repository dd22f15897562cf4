"""L2-SP and KL to the base model: a training against steps by hand, whose gradients numpy gives; batches of sources."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from trial_configs import MakeConfig

from harness.backbones.model import TaskModel
from harness.config.trees import merge
from harness.config.trial import KlSettings, L2SpSettings, LoopSettings, TrialConfig
from harness.data.batching import bucketed_batches
from harness.engines.packed.packable import why_not_packable
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun
from harness.seeding import torch_generator
from harness.tasks.inputs import TextInputs
from harness.tasks.task import Batch, Item, Task
from harness.tasks.text_classification import ClassificationTask
from harness.training.adapting import adapt
from harness.training.loop import Fit, fit
from harness.training.pulls import OutputPull, WeightPull, output_pull
from harness.training.resources import Resources
from harness.training.run_trial import run_trial
from harness.training.trial import Trial

Numbers = NDArray[np.float64]
EPOCHS, LR, SIZE = 2, 0.1, 5
PLAINLY = {"dim": 4, "adapter_strategy": {"_target_": "harness.adapters.ReturnResultAdapterStrategy"}}


def softmax(scores: Numbers) -> Numbers:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    result: Numbers = powers / powers.sum(-1, keepdims=True)
    return result


def batches(items: list[Item], seed: int, *names: str | int) -> list[list[int]]:
    generator = torch_generator(seed, *names)
    return bucketed_batches([len(item.inputs) for item in items], batch_size=SIZE, generator=generator)


class ByHand:
    """The steps of a trial on classes in plain SGD, with no line of the loop or of the pulls."""

    def __init__(self, config: TrialConfig, resources: Resources) -> None:
        self.config, self.domains = config, resources.domains(config)
        self.task, self.auxiliary = self.domains.plain_task, [0.0]
        self.model = adapt(self.copy(), config).model
        self.base = self.copy()
        self.learnt = {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}
        self.start = {name: weight.detach().numpy().copy() for name, weight in self.learnt.items()}

    def copy(self) -> TaskModel:
        return copy.deepcopy(self.domains.backbone.model).double().eval()

    def run(self) -> None:
        config, loop = self.config, self.config.loop
        items = self.domains.train_sample(config.data, config.seed)
        for epoch in range(EPOCHS):
            self.auxiliary.append(0.0)
            source = self.source(epoch)
            order = batches(items, config.seed, "data", "order", epoch)
            steps = [order[first : first + loop.accumulate] for first in range(0, len(order), loop.accumulate)]
            for parts in steps:
                sizes = [len(part) for part in parts]
                for part in parts:
                    self.add_gradient([items[i] for i in part], next(source), len(part) / sum(sizes), len(steps))
                self.step(len(steps))

    def source(self, epoch: int) -> Iterator[list[Item]]:
        items = self.domains.items("home", "train")
        for turn in count():
            for indices in batches(items, self.config.seed, "kl", epoch, 0, turn):
                yield [items[i] for i in indices]

    def add_gradient(self, items: list[Item], source: list[Item], share: float, num_steps: int) -> None:
        scores, batch = self.score(self.model, items)
        right = np.eye(3)[batch.targets[:, 0].numpy()]
        slope = (softmax(scores.detach().numpy()) - right) / len(items)
        kl = self.config.loop.kl_to_base
        if kl is not None and kl.examples == "target":
            slope = slope + self.kl_slope(kl, scores, items, share / num_steps)
        scores.backward(torch.from_numpy(share * slope))  # type: ignore[no-untyped-call]
        if kl is not None and kl.examples == "source":
            scores, _ = self.score(self.model, source)
            slope = share * self.kl_slope(kl, scores, source, share / num_steps)
            scores.backward(torch.from_numpy(slope))  # type: ignore[no-untyped-call]

    def score(self, model: TaskModel, items: list[Item]) -> tuple[Tensor, Batch]:
        batch = self.task.collate(items, None)
        return model(batch.inputs, batch.lengths)[0], batch

    def kl_slope(self, kl: KlSettings, scores: Tensor, items: list[Item], share: float) -> Numbers:
        """weight T (q - p) / B: the gradient of weight T^2 sum p log(p / q) / B by the scores."""
        p = softmax(self.score(self.base, items)[0].detach().numpy() / kl.temperature)
        q = softmax(scores.detach().numpy() / kl.temperature)
        self.auxiliary[-1] += share * kl.weight * kl.temperature**2 * float((p * np.log(p / q)).sum(1).mean())
        result: Numbers = kl.weight * kl.temperature * (q - p) / len(items)
        return result

    @torch.no_grad()
    def step(self, num_steps: int) -> None:
        pull = self.config.loop.l2_sp
        for name, weight in self.learnt.items():
            assert weight.grad is not None
            value = weight.numpy()
            slope = weight.grad.numpy().copy()
            if pull is not None:
                is_new = ".adapter_layer." in name
                factor, moved = (pull.beta, value) if is_new else (pull.alpha, value - self.start[name])
                self.auxiliary[-1] += factor / 2 * float((moved**2).sum()) / num_steps
                slope += factor * moved
            weight.copy_(torch.from_numpy(value - LR * slope))
            weight.grad = None


KL: dict[str, Any] = {"weight": 0.7, "temperature": 2.0}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "full, l2_sp": ("full", {"l2_sp": {"alpha": 0.5}}),
    "head and adapters, l2_sp": ("adapters_and_head", {"l2_sp": {"alpha": 0.5, "beta": 0.25}}),
    "adapters, kl on target": ("adapters", {"kl_to_base": KL}),
    "full, kl on source": ("full", {"kl_to_base": KL | {"examples": "source"}}),
    "both, accumulated": (
        "adapters_and_head",
        {"kl_to_base": KL | {"examples": "source"}, "l2_sp": {"alpha": 0.5}, "accumulate": 2},
    ),
    "on target, accumulated": ("adapters", {"kl_to_base": KL, "accumulate": 3}),
}


def config_of(make: MakeConfig, train: str, loop: dict[str, Any]) -> TrialConfig:
    adapter = PLAINLY if "adapters" in train else None
    return make(
        "residual_add" if adapter else "head_only",
        train=train,
        adapter=adapter,
        data={"train_limit": 24},
        optim={
            "name": "sgd", "momentum": 0.0, "lr": LR, "weight_decay": 0.0, "warmup": 0.0, "decay": "none",
            "clip_norm": None,
        },
        loop={"epochs": EPOCHS, "batch_size": SIZE, "precision": "float64", **loop},
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_training_is_what_it_is_by_hand(case: str, make_config: MakeConfig, resources: Resources) -> None:
    """Weights to 1e-12 and the auxiliary loss of each epoch; without its pull the training is another one."""
    config = config_of(make_config, *CASES[case])
    expected = ByHand(config, resources)
    expected.run()
    fitting, rising = next(Trial(config, resources).steps()), count()  # so that the last epoch's weights are kept
    plan = replace(fitting.plan, score_epoch=lambda model: {"valid_target/macro_f1": float(next(rising))})
    state = fit(fitting.model, fitting.task, fitting.items, plan)
    found = dict(fitting.model.named_parameters())
    for name, weight in expected.learnt.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-12, atol=1e-12)
    logged = [entry["metrics"]["train/auxiliary_loss"] for entry in state.history]
    assert logged == pytest.approx(expected.auxiliary[1:], rel=1e-10) and min(logged) > 1e-6
    without = config.loop.model_copy(update={"l2_sp": None, "kl_to_base": None})
    plain = ByHand(config.model_copy(update={"loop": without}), resources)
    plain.run()
    assert max(float((plain.learnt[n] - w).detach().abs().max()) for n, w in expected.learnt.items()) > 1e-5


# --- batches of the sources -------------------------------------------------------------------------------------------


def test_sources_take_turns_in_orders_of_their_own() -> None:
    """Every item of a domain once before any comes again; bounds are kept; each epoch and seed has other orders."""
    domains: list[tuple[Task, list[Item]]] = []
    for number, size in enumerate((9, 3)):
        items = [Item("", torch.zeros(n % 4 + 1), torch.tensor(n), number) for n in range(size)]
        domains.append((ClassificationTask(("a",), TextInputs(None, 4)), items))
    names = {id(task): number for number, (task, _) in enumerate(domains)}
    pull = OutputPull(KlSettings(weight=1.0, examples="source"), TaskModel.__new__(TaskModel), tuple(domains))
    loop = LoopSettings(batch_size=2, max_frames=6)

    def drawn(seed: int, epoch: int) -> list[tuple[int, list[int]]]:
        found = islice(pull.source_batches(loop, seed, epoch), 24)
        return [(names[id(task)], batch.targets[:, 0].tolist()) for task, batch in found]

    first = drawn(0, 0)
    assert [name for name, _ in first] == [0, 1] * 12
    for name, size in ((0, 9), (1, 3)):
        keys = [key for other, batch in first if other == name for key in batch]
        for turn in range(len(keys) // size):
            assert sorted(keys[turn * size : (turn + 1) * size]) == list(range(size))
        assert size == 3 or keys[:size] != keys[size : 2 * size]
    assert all(len(keys) <= 2 and len(keys) * max(key % 4 + 1 for key in keys) <= 6 for _, keys in first)
    assert first == drawn(0, 0) != drawn(0, 1) != drawn(1, 0)


def test_adapters_that_were_trained_before_are_pulled_to_their_start() -> None:
    """Of adapters `mine` and `taken` and a base weight, `mine` alone is new: alpha / 2 (1 + 4) + beta / 2 * 9."""
    places = ("head.output.weight", "encoder.1.adapter_layer.taken.up", "encoder.1.adapter_layer.mine.up")
    named = [(place, nn.Parameter(torch.zeros(1, dtype=torch.float64))) for place in places]
    adapters = {id(weight): place.split(".")[3] for place, weight in named[1:]}
    pull = WeightPull(named, L2SpSettings(alpha=0.5, beta=0.25), adapters, ["taken"])
    for (_, weight), value in zip(named, (1.0, 2.0, 3.0), strict=True):
        weight.data.fill_(value)
    penalty = pull.penalty()
    assert penalty is not None and penalty.item() == 0.5 / 2 * 5 + 0.25 / 2 * 9
    penalty.backward()  # type: ignore[no-untyped-call]
    assert [weight.grad.item() for _, weight in named if weight.grad is not None] == [0.5, 1.0, 0.75]


@pytest.mark.parametrize("points", ["behind_layer", "towards_head"])
def test_what_a_trial_starts_with_is_pulled_to_its_start(
    points: str, make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """Adapters, head and shares from another trial's record: nothing is new."""
    settings: dict[str, Any] = {"train": "adapters_and_head", "backbone": {"points": points}, "loop": {"epochs": 1}}
    first = make_config(**settings)
    folder = TrialFolder(tmp_path / first.trial_id)
    run = TrialRun(first.trial_id, "pulls", "first", first.seed, "confirm")
    assert run_trial(first, run, folder, resources).state == "complete"
    again = make_config(**merge(settings, {"start": {"trial": first.trial_id}, "loop": {"l2_sp": {"alpha": 1.0}}}))
    fitting = next(Trial(again, resources, records=tmp_path).steps())
    begun = Fit(fitting.model, fitting.task, fitting.items, fitting.plan)
    pull = begun.weight_pull
    assert pull is not None and (len(pull.started), len(pull.new)) == (len(begun.weights), 0)
    begun = Fit(fitting.model, fitting.task, fitting.items, replace(fitting.plan, taken=()))
    assert begun.weight_pull is not None
    assert len(begun.weight_pull.new) == len(begun.weights) - 2  # all but those of the head


def test_meta_learning_has_no_batches_of_sources() -> None:
    with pytest.raises(ValueError, match=r"set target, those of meta\.over"):
        LoopSettings.model_validate({"meta": {"over": ["home"]}, "kl_to_base": {"weight": 1, "examples": "source"}})


def test_what_asks_for_nothing_runs_nothing(make_config: MakeConfig, resources: Resources) -> None:
    """A weight of 0 is the training without, and does not run the base model."""
    config = make_config(loop={"kl_to_base": {"weight": 0.0}})
    domains = resources.domains(config)
    assert output_pull(config, domains) is None and output_pull(make_config(), domains) is None
    model = adapt(copy.deepcopy(domains.backbone.model), config).model
    for name, value in (("kl_to_base", {"weight": 0.5}), ("l2_sp", {"alpha": 0.5})):
        why = why_not_packable(model, LoopSettings.model_validate({name: value}), config.optim)
        assert why == f"loop.{name}: a pack adds to a trial's loss what its strategies ask for, and nothing else"

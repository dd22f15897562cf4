"""The training loop: against a plain loop, resumed at every epoch, broken, and with an l2 term that must arrive."""

from __future__ import annotations

import copy
import gc
import itertools
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from trial_configs import MakeConfig

from harness.adapters import AccessMixin
from harness.backbones.encoders import TextEncoder
from harness.backbones.model import TaskModel
from harness.config.trial import TrialConfig
from harness.errors import TrialError
from harness.seeding import derive_seed
from harness.tasks.task import Batch, Item, Task, evaluate
from harness.training.adapting import Adapted, adapt
from harness.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from harness.training.fit_plan import FitPlan, FitState
from harness.training.loop import fit
from harness.training.pulls import output_pull
from harness.training.resources import Resources

from .plain_loop import plain_adapter, plain_fit

Scores = dict[str, float]
NUM_ITEMS = 24


@dataclass
class Fitting:
    """A model ready for `fit`, and what `fit` needs."""

    adapted: Adapted
    task: Task
    items: list[Item]
    plan: FitPlan

    def run(self) -> FitState:
        return fit(self.adapted.model, self.task, self.items, self.plan)

    def weights(self) -> dict[str, Tensor]:
        named = self.adapted.model.named_parameters()
        return {name: weight.detach().clone() for name, weight in named if weight.requires_grad}


def rising() -> Callable[[TaskModel], Scores]:
    """Scores by which each epoch is better than the last, so that its weights are kept."""
    return scripted(*(0.01 * number for number in range(1, 100)))


def scripted(*values: float) -> Callable[[TaskModel], Scores]:
    """These scores, one an epoch."""
    script = iter(values)
    return lambda model: {"valid_target/accuracy": next(script)}


def prepare(
    config: TrialConfig, resources: Resources, score: Callable[[TaskModel], Scores] | None = None, **plan: Any
) -> Fitting:
    """Adapt a copy of the backbone as a trial does; the plan scores validation accuracy and loss."""
    domains = resources.domains(config)
    dtype = torch.float64 if config.loop.precision == "float64" else torch.float32
    adapted = adapt(copy.deepcopy(domains.backbone.model).to(dtype).eval(), config)
    valid = domains.items(config.data.target, "valid")

    def score_epoch(model: TaskModel) -> Scores:
        found = evaluate(model, domains.plain_task, valid, max_frames=500, device=torch.device("cpu"), dtype=dtype)
        return {"valid_target/accuracy": found.scores["accuracy"], "valid_target/loss": found.loss}

    settings = FitPlan(
        config.optim,
        config.loop,
        config.seed,
        score or score_epoch,
        "valid_target/accuracy",
        "accuracy",
        output_pull=output_pull(config, domains),
    )
    items = domains.items(config.data.target, "train")[:NUM_ITEMS]
    return Fitting(adapted, domains.plain_task, items, replace(settings, **plan))


def assert_same_bits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys() and found
    different = [name for name, weight in expected.items() if not torch.equal(found[name], weight)]
    assert not different


def strategy(**options: Any) -> dict[str, Any]:
    return {"adapter_strategy": {"_target_": "harness.adapters.ResidualAddAdapterStrategy", **options}}


# --- against a plain loop ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip_norm", [None, 0.3])
@pytest.mark.parametrize("train", ["head", "adapters"])
def test_fit_is_a_plain_loop(
    train: str, clip_norm: float | None, make_config: MakeConfig, resources: Resources
) -> None:
    """To 1e-12 after 18 steps in float64, with stochastic depth, the l2 term, weight decay, warm-up and clipping."""
    drop, l2_lambda = (0.5, 0.02) if train == "adapters" else (0.0, 0.0)
    adapter = strategy(stochastic_depth=drop, l2_lambda=l2_lambda) if train == "adapters" else None
    config = make_config(
        "residual_add" if train == "adapters" else "head_only",
        seed=3,
        adapter=adapter,
        optim={"lr": 0.02, "weight_decay": 0.1, "warmup": 0.3, "clip_norm": clip_norm},
        loop={"epochs": 3, "batch_size": 4, "precision": "float64"},
    )
    fitting = prepare(config, resources, rising())
    twin = copy.deepcopy(resources.domains(config).backbone.model).double().eval()
    assert isinstance(twin.encoder, TextEncoder)
    adapters = []
    if train == "adapters":
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(3, "init"))
            adapters = [plain_adapter(16, 4) for _ in twin.encoder.layers]
    head = twin.head.output
    assert isinstance(head, nn.Linear)

    state = fitting.run()
    plain = plain_fit(
        twin.encoder, head, adapters, fitting.items, config, drop=drop, l2_lambda=l2_lambda, clip_norm=clip_norm
    )
    found = fitting.weights()
    assert found.keys() == plain.weights.keys()
    for name, weight in plain.weights.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-12, atol=1e-12)
    for entry, losses, auxiliary in zip(state.history, plain.losses, plain.auxiliary, strict=True):
        assert entry["metrics"]["train/loss"] == pytest.approx(np.mean(losses), rel=1e-12)
        assert entry["metrics"]["train/auxiliary_loss"] == pytest.approx(np.mean(auxiliary), rel=1e-11, abs=1e-15)
    assert plain.largest_norm > 0.3  # so that the clipping of 0.3 is felt


@pytest.mark.parametrize(
    "change",
    [{"drop": 0.4}, {"l2_lambda": 0.0}, {"l2_lambda": 0.0200001}, {"clip_norm": 0.3}],
    ids=lambda change: "-".join(change),
)
def test_the_comparison_with_a_plain_loop_can_fail(
    change: dict[str, float], make_config: MakeConfig, resources: Resources
) -> None:
    """A noise, an l2 weight or a clipping that the loop did not apply would be seen."""
    settings: dict[str, Any] = {"drop": 0.5, "l2_lambda": 0.02}
    config = make_config(
        seed=3,
        adapter=strategy(stochastic_depth=0.5, l2_lambda=0.02),
        optim={"lr": 0.02, "clip_norm": None},
        loop={"epochs": 3, "batch_size": 4, "precision": "float64"},
    )
    fitting = prepare(config, resources, rising())
    twin = copy.deepcopy(resources.domains(config).backbone.model).double().eval()
    assert isinstance(twin.encoder, TextEncoder) and isinstance(twin.head.output, nn.Linear)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(3, "init"))
        adapters = [plain_adapter(16, 4) for _ in twin.encoder.layers]
    fitting.run()
    plain = plain_fit(twin.encoder, twin.head.output, adapters, fitting.items, config, **(settings | change))
    found = fitting.weights()
    far = max(float((found[name] - weight).abs().max()) for name, weight in plain.weights.items())
    assert far > 1e-9


# --- best epoch, early stopping ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metric, scores, patience, epochs_run, best_epoch",
    [
        ("accuracy", (0.5, 0.9, 0.7, 0.8, 0.95), 2, 4, 2),
        ("accuracy", (0.5, 0.9, 0.7, 0.8, 0.95), None, 5, 5),
        ("accuracy", (0.5, 0.5, 0.5, 0.5, 0.5), 3, 4, 1),  # an equal score is no better
        ("accuracy", (0.5, 0.4, 0.6, 0.5, 0.4), 2, 5, 3),
        ("cer", (0.5, 0.2, 0.3, 0.4, 0.1), 2, 4, 2),  # lower is better
    ],
)
def test_the_best_epochs_weights_are_kept(
    metric: str,
    scores: tuple[float, ...],
    patience: int | None,
    epochs_run: int,
    best_epoch: int,
    make_config: MakeConfig,
    resources: Resources,
) -> None:
    fitting = prepare(make_config(loop={"epochs": 5, "patience": patience}), resources, metric=metric)
    snapshots = []
    script = iter(scores)

    def score_epoch(model: TaskModel) -> Scores:
        snapshots.append(fitting.weights())
        return {"valid_target/accuracy": next(script)}

    fitting.plan = replace(fitting.plan, score_epoch=score_epoch)
    state = fitting.run()
    assert (state.epoch, state.best_epoch, state.best_score) == (epochs_run, best_epoch, scores[best_epoch - 1])
    assert len(snapshots) == len(state.history) == epochs_run
    assert_same_bits(fitting.weights(), snapshots[best_epoch - 1])
    if best_epoch < epochs_run:
        assert not torch.equal(*(next(iter(shot.values())) for shot in (snapshots[-1], snapshots[best_epoch - 1])))


def test_each_epoch_is_reported_once(make_config: MakeConfig, resources: Resources) -> None:
    entries: list[dict[str, Any]] = []
    state = prepare(make_config(), resources, report=entries.append).run()
    assert entries == state.history and [entry["epoch"] for entry in entries] == [1, 2, 3]
    names = {"train/loss", "train/auxiliary_loss", "valid_target/accuracy", "valid_target/loss"}
    assert all(entry["metrics"].keys() == names for entry in entries)
    assert state.elapsed_s == pytest.approx(sum(entry["seconds"] for entry in entries))


def test_progress_and_the_rate_reach_the_model(make_config: MakeConfig, resources: Resources) -> None:
    """Schedules of a strategy see the share of steps done: 0 at first, never 1."""
    fitting = prepare(make_config(loop={"epochs": 2, "batch_size": 8}), resources)
    seen = []
    told = fitting.adapted.model.set_training_progress
    fitting.adapted.model.set_training_progress = lambda share: (seen.append(share), told(share))[1]  # type: ignore
    fitting.run()
    assert seen == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])


# --- resuming ---------------------------------------------------------------------------------------------------------

NOISY = {"dropout": 0.3, **strategy(stochastic_depth=0.5, l2_lambda=0.01)}


PULLED = {"l2_sp": {"alpha": 0.1, "beta": 0.1}, "kl_to_base": {"weight": 0.5, "examples": "source"}}


@pytest.mark.parametrize("pulls", [{}, PULLED], ids=["", "pulled"])
@pytest.mark.parametrize("train", ["adapters", "adapters_and_head", "full"])
def test_resuming_at_any_epoch_gives_the_same_bits(
    train: str, pulls: dict[str, Any], make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    adapter = None if train == "full" else NOISY
    arm = "head_only" if train == "full" else "residual_add"
    config = make_config(arm, train=train, adapter=adapter, loop={"epochs": 4, "patience": 2, **pulls})
    path = tmp_path / "checkpoint.safetensors"
    scores = (0.5, 0.7, 0.6, 0.6)  # the best epoch lies before some of the kills

    def keep(entry: dict[str, Any]) -> None:
        shutil.copy(path, tmp_path / f"{entry['epoch']}.safetensors")

    whole = prepare(config, resources, scripted(*scores), checkpoint=path, report=keep)
    expected = whole.run()
    assert expected.best_epoch == 2
    for epoch in range(1, 5):
        shutil.copy(tmp_path / f"{epoch}.safetensors", path)
        entries: list[dict[str, Any]] = []
        resumed = prepare(config, resources, scripted(*scores[epoch:]), checkpoint=path, report=entries.append)
        state = resumed.run()
        assert_same_bits(resumed.weights(), whole.weights())
        assert [entry["metrics"] for entry in state.history] == [entry["metrics"] for entry in expected.history]
        assert state.history[:epoch] == expected.history[:epoch] and entries == state.history
        assert (state.epoch, state.best_epoch, state.best_score) == (4, 2, 0.7)


STATEFUL = {"_target_": "stateful.Remembering", "dim": 4, "adapter_strategy": {"_target_": "stateful.Wandering"}}


def outputs(fitting: Fitting) -> Tensor:
    """The model's scores on all of its items, in eval mode."""
    batch = fitting.task.collate(fitting.items, None)
    with torch.no_grad():
        return fitting.adapted.model.eval()(batch.inputs, batch.lengths)[0]


def test_whatever_an_adapter_or_its_strategy_keeps_is_resumed_and_goes_with_the_best_epoch(
    make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """Buffers of either kind, weights without a gradient, extra state, plain attributes, generators: tests/stateful.py.

    The scores are those of a model that uses all of them, so that one that is lost shows in a number.
    """
    config = make_config(adapter=STATEFUL, loop={"epochs": 4}, optim={"lr": 0.03})
    path = tmp_path / "checkpoint.safetensors"
    at_epoch: list[Tensor] = []
    best_of_four = iter((0.5, 0.9, 0.6, 0.7))

    def score(model: TaskModel) -> Scores:
        at_epoch.append(outputs(whole))
        return {"valid_target/accuracy": next(best_of_four)}

    def keep(entry: dict[str, Any]) -> None:
        shutil.copy(path, tmp_path / f"{entry['epoch']}.safetensors")

    whole = prepare(config, resources, score, checkpoint=path, report=keep)
    expected = whole.run()
    assert expected.best_epoch == 2
    assert torch.equal(outputs(whole), at_epoch[1]) and not torch.equal(at_epoch[1], at_epoch[3])
    for epoch in range(1, 5):
        shutil.copy(tmp_path / f"{epoch}.safetensors", path)
        random.seed(epoch)  # another process has other global generators
        np.random.seed(epoch)
        resumed = prepare(config, resources, scripted(*(0.5, 0.9, 0.6, 0.7)[epoch:]), checkpoint=path)
        state = resumed.run()
        assert [entry["metrics"] for entry in state.history] == [entry["metrics"] for entry in expected.history]
        assert torch.equal(outputs(resumed), at_epoch[1])


PLAINLY: dict[str, Any] = {"dim": 4, **strategy(stochastic_depth=0.0, l2_lambda=0.0)}


@pytest.mark.parametrize("name", ["adamw", "sgd", "adafactor"])
def test_accumulated_batches_are_one_large_batch(name: str, make_config: MakeConfig, resources: Resources) -> None:
    """24 items as 7, 7, 7 and 3, each with the weight of its examples, against all of them at once."""
    found = []
    for size, accumulate in ((NUM_ITEMS, 1), (7, 4), (5, 99)):
        loop = {"epochs": 3, "batch_size": size, "accumulate": accumulate, "precision": "float64"}
        config = make_config(adapter=PLAINLY, loop=loop, optim={"name": name, "lr": 0.01, "clip_norm": 0.1})
        fitting = prepare(config, resources, rising())
        history = fitting.run().history
        found.append((fitting.weights(), [entry["metrics"]["train/loss"] for entry in history]))
    (whole, losses), *parts = found
    for weights, own_losses in parts:
        assert own_losses == pytest.approx(losses, rel=1e-12)
        for weight_name, weight in whole.items():
            torch.testing.assert_close(weights[weight_name], weight, rtol=1e-12, atol=1e-14)


def test_a_step_is_taken_for_so_many_batches_and_for_those_that_are_left(
    make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    loop = {"epochs": 2, "batch_size": 5, "accumulate": 2}  # five batches an epoch: steps of 2, 2 and 1 of them
    path = tmp_path / "checkpoint.safetensors"
    prepare(make_config(adapter=PLAINLY, loop=loop), resources, rising(), checkpoint=path).run()
    steps = {float(value) for name, value in load_checkpoint(path).tensors.items() if name.endswith("/step")}
    assert NUM_ITEMS == 24 and steps == {6.0}


@pytest.mark.parametrize(
    "optim",
    [
        {"name": "sgd", "momentum": 0.5},
        {"name": "sgd", "momentum": 0.0},
        {"name": "adafactor"},
        {"groups": {"head": {"lr": 0.001}, "adapters": {"weight_decay": 0.5}}},
    ],
)
def test_every_optimizer_is_resumed_to_the_same_bits(
    optim: dict[str, Any], make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    loop = {"epochs": 3, "batch_size": 4, "accumulate": 2}
    config = make_config(train="adapters_and_head", adapter=NOISY, loop=loop, optim={"lr": 0.01, **optim})
    path = tmp_path / "checkpoint.safetensors"

    def keep(entry: dict[str, Any]) -> None:
        shutil.copy(path, tmp_path / f"{entry['epoch']}.safetensors")

    whole = prepare(config, resources, rising(), checkpoint=path, report=keep)
    whole.run()
    for epoch in (1, 2):
        shutil.copy(tmp_path / f"{epoch}.safetensors", path)
        resumed = prepare(config, resources, scripted(*(0.5 + 0.01 * n for n in range(epoch, 9))), checkpoint=path)
        resumed.run()
        assert_same_bits(resumed.weights(), whole.weights())


def test_state_that_no_checkpoint_can_hold_is_told(
    make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    config = make_config(adapter={**STATEFUL, "_target_": "stateful.Hoarding"})
    expected = (
        r"adapter_layer\.adapted\.hoard changes during training, and its bytearray cannot be saved with the weights"
    )
    with pytest.raises(TrialError, match=expected):
        prepare(config, resources, rising(), checkpoint=tmp_path / "checkpoint.safetensors").run()


def test_a_resumed_training_carries_the_optimizers_moments(
    make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """The test above can fail: without the moments of AdamW the weights come out differently."""
    config, path = make_config(adapter=NOISY, loop={"epochs": 2}), tmp_path / "checkpoint.safetensors"

    def stop(entry: dict[str, Any]) -> None:
        if entry["epoch"] == 1:
            shutil.copy(path, tmp_path / "first.safetensors")

    whole = prepare(config, resources, rising(), checkpoint=path, report=stop)
    whole.run()
    saved = load_checkpoint(tmp_path / "first.safetensors")
    moments = {name for name in saved.tensors if name.startswith("optimizer/")}
    assert {name.rsplit("/", 1)[1] for name in moments} == {"step", "exp_avg", "exp_avg_sq"}
    tensors = {name: tensor for name, tensor in saved.tensors.items() if name not in moments}
    save_checkpoint(path, Checkpoint(tensors, saved.values))
    resumed = prepare(config, resources, scripted(0.5), checkpoint=path)
    resumed.run()
    found, expected = resumed.weights(), whole.weights()
    assert any(not torch.equal(found[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize(
    "arm, made_with, expected",
    [
        ("residual_add", "corpus 1", r"other weights .*; delete it to"),
        ("head_only", "corpus 2", r"other data or another base model; delete it to"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    arm: str, made_with: str, expected: str, make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    prepare(make_config("head_only"), resources, checkpoint=path, made_with="corpus 1").run()
    before = path.read_bytes()
    with pytest.raises(TrialError, match=expected) as caught:
        prepare(make_config(arm), resources, checkpoint=path, made_with=made_with).run()
    assert caught.value.reason == "checkpoint" and str(path) in str(caught.value)
    assert path.read_bytes() == before


# --- losses that are not finite ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"state": {"no_such": 1}}, {"other": {"no.such.object": {"x": 1}}}])
def test_a_checkpoint_of_another_version_is_refused(
    change: dict[str, Any], make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    prepare(make_config(), resources, checkpoint=path).run()
    saved = load_checkpoint(path)
    save_checkpoint(path, Checkpoint(saved.tensors, {**saved.values, **change}))
    with pytest.raises(TrialError, match=r"this checkpoint has another state than the trial \(.*\); delete it to"):
        prepare(make_config(), resources, checkpoint=path).run()


def spoilt(task: Task, step: int, value: float) -> Task:
    """A copy of a task whose loss is spoilt at one step of the training."""
    other, steps = copy.copy(task), itertools.count(1)

    def loss(scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        whole = task.loss(scores, valid_BT, batch)
        return whole * value if next(steps) == step else whole

    other.loss = loss  # type: ignore[method-assign]
    return other


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_trial(value: float, make_config: MakeConfig, resources: Resources) -> None:
    fitting = prepare(make_config(loop={"epochs": 3, "batch_size": 8}), resources, rising())
    fitting.task = spoilt(fitting.task, 5, value)  # three steps an epoch
    with pytest.raises(TrialError, match=rf"^the loss is {value} at epoch 2, step 2$") as caught:
        fitting.run()
    assert caught.value.reason == "nan"


def test_weights_that_break_in_the_last_step_are_noticed(make_config: MakeConfig, resources: Resources) -> None:
    """A finite loss with a gradient that is not: nothing trains after it, so only the scores can tell."""
    fitting = prepare(make_config(loop={"epochs": 1, "batch_size": 24}, optim={"warmup": 0}), resources)
    last: Any = next(w for n, w in fitting.adapted.model.named_parameters() if n.endswith("module.3.weight"))
    last.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(TrialError, match=r"^valid_target/loss is nan after epoch 1$") as caught:
        fitting.run()
    assert caught.value.reason == "nan"


# --- randomness -------------------------------------------------------------------------------------------------------


def global_states() -> tuple[Any, ...]:
    _, keys, position, *_ = np.random.get_state()
    return (torch.random.get_rng_state().tolist(), random.getstate(), np.asarray(keys).tolist(), position)


def test_global_generators_are_left_as_they_were(make_config: MakeConfig, resources: Resources) -> None:
    torch.manual_seed(7)
    before = global_states()
    fitting = prepare(make_config(adapter=NOISY), resources)
    assert global_states() == before
    fitting.run()
    assert global_states() == before
    failing = prepare(make_config(adapter=NOISY), resources)
    failing.task = spoilt(failing.task, 2, float("nan"))
    with pytest.raises(TrialError):
        failing.run()
    assert global_states() == before


def test_bits_depend_on_the_seed_and_on_nothing_else(make_config: MakeConfig, resources: Resources) -> None:
    found = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(global_seed)
        fitting = prepare(make_config(adapter=NOISY, seed=seed), resources)
        state = fitting.run()
        found.append((fitting.weights(), [entry["metrics"] for entry in state.history]))
    assert_same_bits(found[0][0], found[1][0])
    assert found[0][1] == found[1][1] != found[2][1]
    assert not any(torch.equal(found[0][0][n], w) for n, w in found[2][0].items() if n.endswith("module.3.weight"))


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision, dtype", [("float32", torch.float32), ("float64", torch.float64)])
def test_precision_is_that_of_weights_and_activations(
    precision: str, dtype: torch.dtype, make_config: MakeConfig, resources: Resources
) -> None:
    fitting = prepare(make_config(loop={"precision": precision}), resources)
    seen = set()

    def watch(module: nn.Module, args: Any, output: Tensor) -> None:
        seen.add((args[0].dtype, output.dtype))

    next(iter(fitting.adapted.model.encoder.insertion_points.values())).register_forward_hook(watch)
    fitting.run()
    assert {weight.dtype for weight in fitting.weights().values()} == {dtype} and seen == {(dtype, dtype)}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["text", "speech"])
def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights(
    family: str, make_config: MakeConfig, make_speech_config: MakeConfig, resources: Resources
) -> None:
    make = make_config if family == "text" else make_speech_config
    config = make(loop={"precision": "bfloat16", "epochs": 2, "augment": None})
    domains = resources.domains(config)
    adapted = adapt(copy.deepcopy(domains.backbone.model).eval(), config)
    items = domains.items(config.data.target, "train")
    seen = set()

    def watch(module: nn.Module, args: Any, output: Tensor) -> None:
        seen.add(output.dtype)

    adapted.model.head.output.register_forward_hook(watch)
    before = {name: weight.detach().clone() for name, weight in adapted.model.named_parameters()}
    plan = FitPlan(config.optim, config.loop, 0, rising(), "valid_target/accuracy", "accuracy")
    state = fit(adapted.model, domains.plain_task, items, plan)
    assert seen == {torch.bfloat16}
    assert all(np.isfinite(entry["metrics"]["train/loss"]) for entry in state.history)
    for name, weight in adapted.model.named_parameters():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, before[name]) == (not weight.requires_grad), name


# --- the l2 term ------------------------------------------------------------------------------------------------------


def one_step(config: TrialConfig, resources: Resources) -> tuple[dict[str, Tensor], dict[str, Tensor], Fitting, Scores]:
    """One step of `fit` from adapters that are not zero: gradients, weights, and what was logged."""
    fitting = prepare(config, resources, rising())
    generator = torch.Generator().manual_seed(5)
    for _, weight in sorted(fitting.adapted.model.named_parameters()):
        if weight.requires_grad:
            noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight.data += 0.3 * noise
    gradients: dict[str, Tensor] = {}

    def keep(name: str, gradient: Tensor) -> None:
        gradients[name] = gradient.clone()

    hooked: dict[str, Any] = dict(fitting.adapted.model.named_parameters())
    for name, hooked_weight in hooked.items():
        if hooked_weight.requires_grad:
            hooked_weight.register_hook(partial(keep, name))
    start = copy.deepcopy(fitting)
    state = fitting.run()
    return gradients, fitting.weights(), start, state.history[0]["metrics"]


def test_the_l2_term_reaches_gradients_weights_and_log(make_config: MakeConfig, resources: Resources) -> None:
    """In a real step of `fit`: gradients change by exactly the gradient of the penalty, and the log has its value."""
    l2_lambda = 0.05
    loop = {"epochs": 1, "batch_size": NUM_ITEMS, "precision": "float64"}
    optim = {"warmup": 0, "clip_norm": None}
    without, weights_without, _, logged_without = one_step(
        make_config(adapter=strategy(l2_lambda=0.0, stochastic_depth=0.0), loop=loop, optim=optim), resources
    )
    with_l2, weights_with, start, logged = one_step(
        make_config(adapter=strategy(l2_lambda=l2_lambda, stochastic_depth=0.0), loop=loop, optim=optim), resources
    )
    assert without.keys() == with_l2.keys() == weights_with.keys()
    assert all(not torch.equal(with_l2[name], without[name]) for name in without)
    assert all(not torch.equal(weights_with[name], weights_without[name]) for name in without)
    assert logged_without["train/auxiliary_loss"] == 0.0
    assert logged["train/loss"] == logged_without["train/loss"]

    # By hand: the penalty sees what goes into and comes out of each insertion point, for the one batch of all items.
    model = start.adapted.model
    moved: list[Tensor] = []
    for point in model.encoder.insertion_points.values():
        point.register_forward_hook(lambda module, args, output: moved.append(args[0] - output))
    batch = start.task.collate(sorted(start.items, key=lambda item: len(item.inputs)), None)
    model.eval()(batch.inputs, batch.lengths)
    penalty = torch.stack([l2_lambda * (change**2).sum((1, 2)).mean() for change in moved]).sum()
    assert logged["train/auxiliary_loss"] == pytest.approx(float(penalty.detach()), rel=1e-12)
    assert logged["train/auxiliary_loss"] > 0
    names = list(without)
    by_name = dict(model.named_parameters())
    expected = torch.autograd.grad(penalty, [by_name[name] for name in names])
    for name, gradient in zip(names, expected, strict=True):
        torch.testing.assert_close(with_l2[name] - without[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.fixture
def live_graph_counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Fitting], list[tuple[int, int]]]]:
    """A function that fits and returns, at each twentieth step, the numbers of live graph tensors and of registries."""

    def count(fitting: Fitting) -> list[tuple[int, int]]:
        counts: list[tuple[int, int]] = []
        collate = fitting.task.collate
        steps = itertools.count()

        def counting(items: Sequence[Item], generator: torch.Generator | None) -> Batch:
            if next(steps) % 20 != 19:  # walking over all objects takes time
                return collate(items, generator)
            alive = sum(issubclass(type(o), Tensor) and o.grad_fn is not None for o in gc.get_objects())
            counts.append((alive, len(AccessMixin.get_module_registry(fitting.adapted.model))))
            return collate(items, generator)

        monkeypatch.setattr(fitting.task, "collate", counting)
        fitting.run()
        return counts

    gc.collect()
    yield count


L2_RUN: dict[str, Any] = {
    "adapter": strategy(l2_lambda=0.05, stochastic_depth=0.5),
    "loop": {"epochs": 5, "batch_size": 2},
}


@pytest.mark.slow
def test_the_l2_term_leaves_nothing_behind(
    make_config: MakeConfig, resources: Resources, live_graph_counts: Callable[[Fitting], list[tuple[int, int]]]
) -> None:
    """NeMo's registry grew by a live graph a step. Here the sixtieth step finds as few as the twentieth."""
    fitting = prepare(make_config(**L2_RUN), resources, rising())
    counts = live_graph_counts(fitting)
    assert len(counts) == 3 and len(set(counts)) == 1, counts
    assert {registries for _, registries in counts} == {0}
    assert AccessMixin.get_module_registry(fitting.adapted.model) == {}


@pytest.mark.slow
def test_the_count_of_graphs_can_fail(
    make_config: MakeConfig,
    resources: Resources,
    live_graph_counts: Callable[[Fitting], list[tuple[int, int]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fitting = prepare(make_config(**L2_RUN), resources, rising())
    monkeypatch.setattr(fitting.adapted.model, "collect_adapter_losses", lambda: None)
    counts = live_graph_counts(fitting)
    assert counts[-1][0] >= counts[0][0] + 2 * 40 and counts[-1][1] == 2

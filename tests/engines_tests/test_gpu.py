"""Training on a GPU: packs, graphs, memory, bfloat16, prefixes, a whole trial.

Each test runs on this processor too, by the same code, so that only what a GPU does differently is unseen without one.
On a GPU bits are not promised over pack sizes; float64 agrees to 1e-12.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from trial_configs import MakeConfig

from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.engines.cut.prefix_cache import PrefixBudget
from harness.engines.cut.prefixes import Prefixes
from harness.engines.packed import driver, packable, steps
from harness.engines.packed.captured import CapturedSteps, CudaRecorder, Recorder
from harness.engines.packed.pack import Pack
from harness.engines.packed.scheduler import PackScheduler
from harness.engines.registry import Engines
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun
from harness.training.free_memory import memory_limits, own_peak
from harness.training.resources import Resources
from harness.training.run_trial import run_trial
from harness.training.trial import Trial

from .packs import PACKED, Ran, largest_difference, run_all, strategy
from .test_packed_oracle import adapters, mixed

pytestmark = pytest.mark.slow

PLAIN, CUT = Execution(), Execution(engine="cut")
GPU = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


def on(device: torch.device, **loop: Any) -> dict[str, Any]:
    return {"device": str(device), "batch_size": 8, **loop}


@dataclass
class Graphs:
    """Makes schedulers that capture early; on a CPU a stand-in replays the device part from its buffers."""

    device: torch.device
    records: bool = True
    num_replayed: int = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> list[PackScheduler]:
        schedulers: list[PackScheduler] = []

        def make_scheduler(size: int, prefixes: Prefixes, grows: bool = False) -> PackScheduler:
            schedulers.append(PackScheduler(size, prefixes, grows, self.make))
            return schedulers[-1]

        monkeypatch.setattr(driver, "PackScheduler", make_scheduler)
        return schedulers

    def make(self, pack: Pack, is_asked: bool = True) -> CapturedSteps:
        inner: Recorder = CudaRecorder(pack.rows_3RP.device) if self.device.type == "cuda" else lambda part: part

        def record(device_part: Callable[[], None]) -> Callable[[], None]:
            replay = inner(device_part)

            def count_and_replay() -> None:
                self.num_replayed += 1
                replay()

            return count_and_replay

        return CapturedSteps(pack, record if self.records else None, capture_after=1)


def furthest(found: Sequence[Ran], expected: Sequence[Ran]) -> float:
    return max(largest_difference(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def losses_of(ran: Ran) -> list[float]:
    assert ran.error is None, ran.error
    return [entry[name] for entry in ran.history for name in ("train/loss", "valid_target/loss")]


def test_a_pack_is_the_plain_loop(
    device: torch.device, make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """1e-12 in float64: weights, moments, losses, scores; the noise is drawn on the device."""
    configs = mixed(make_config, precision="float64", device=str(device))
    plain = run_all(configs, resources, tmp_path / "plain", PLAIN, size=1)
    assert furthest(run_all(configs, resources, tmp_path / "packed"), plain) < 1e-12
    assert furthest(run_all(configs, resources, tmp_path / "cut", CUT), plain) < 1e-12


def test_a_pack_in_float32_is_the_plain_loop_up_to_rounding(
    device: torch.device, make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """Losses of one epoch to 1e-4; Adam multiplies the rounding of small gradients, so weights say less."""
    configs = mixed(make_config, epochs=1, device=str(device))
    plain = run_all(configs, resources, tmp_path / "plain", PLAIN, size=1)
    for ours, theirs in zip(run_all(configs, resources, tmp_path / "packed"), plain, strict=True):
        assert losses_of(ours) == pytest.approx(losses_of(theirs), rel=1e-4)


def test_speech(device: torch.device, make_speech_config: MakeConfig, resources: Resources, tmp_path: Path) -> None:
    """CTC, convolutions and padded frames, in float64."""
    loop = {"device": str(device), "epochs": 2, "precision": "float64", "augment": None}
    adapter = strategy(stochastic_depth=0.3, l2_lambda=0.01)
    configs = [make_speech_config(seed=seed, loop=loop, adapter=adapter) for seed in (0, 1, 2)]
    plain = run_all(configs, resources, tmp_path / "plain", PLAIN, size=1)
    assert furthest(run_all(configs, resources, tmp_path / "packed"), plain) < 1e-12


def test_a_replay_is_the_step_that_was_captured(
    device: torch.device, make_config: MakeConfig, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs against the same buffers without them, through refills and new neighbours; nothing had to be told."""
    configs = mixed(make_config, precision="float64", device=str(device))
    with monkeypatch.context() as patch:
        Graphs(device, records=False).install(patch)
        eager = run_all(configs, resources, tmp_path / "eager", size=3)
    graphs = Graphs(device)
    schedulers = graphs.install(monkeypatch)
    replayed = run_all(configs, resources, tmp_path / "replayed", size=3)
    assert graphs.num_replayed > 8 and not schedulers[0].take_notes()
    assert furthest(replayed, eager) < 1e-12


@contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """Whatever waits for the GPU raises."""
    if device.type != "cuda":
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls the mode a prototype
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_step_does_not_wait_for_the_device(
    device: torch.device, make_config: MakeConfig, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With noise and penalties; the losses are read when an epoch has no more steps."""
    configs = mixed(make_config, epochs=1, device=str(device))
    Graphs(device, records=False).install(monkeypatch)
    real = steps.train_step
    num_steps = 0

    def train_step(pack: Pack, slots: Any) -> Tensor:
        nonlocal num_steps
        num_steps += 1
        with no_waiting(device):
            return real(pack, slots)

    monkeypatch.setattr(steps, "train_step", train_step)
    assert all(ran.error is None for ran in run_all(configs, resources, tmp_path))
    assert num_steps >= 6


def test_memory_that_runs_out_halves_the_pack(
    device: torch.device, make_config: MakeConfig, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device's own allocator refuses a launch of more than three trials; the numbers are those of an undisturbed
    run."""
    configs = mixed(make_config, epochs=1, precision="float64", device=str(device))[:7]
    expected = run_all(configs, resources, tmp_path / "expected", size=1)
    schedulers = Graphs(device).install(monkeypatch)
    real = steps.train_step

    def train_step(pack: Pack, slots: Any) -> Tensor:
        if len(slots) > 3:
            torch.empty(2**50, dtype=torch.uint8, device=device)
        return real(pack, slots)

    monkeypatch.setattr(steps, "train_step", train_step)
    found = run_all(configs, resources, tmp_path / "found")
    assert furthest(found, expected) < 1e-12
    notes = schedulers[0].take_notes()
    assert schedulers[0].size <= 3 and notes and all(note.startswith("out of memory with") for note in notes)


def test_the_devices_memory_is_known(device: torch.device) -> None:
    held = torch.zeros(2**20, device=device)
    limits = memory_limits(device)
    assert limits and all(0 < limit.free <= limit.total for limit in limits)
    assert own_peak(device) >= held.numel() * held.element_size()


def test_bfloat16(
    device: torch.device, make_config: MakeConfig, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packs from graphs, and the cut, against the plain loop: losses within the rounding (test_bfloat16.py)."""
    monkeypatch.setattr(packable, "BFLOAT16_DEVICES", ("cuda", "cpu"))
    loop = on(device, epochs=2, precision="bfloat16")
    configs = [
        make_config(seed=seed, loop=loop, optim={"lr": 0.005}, adapter=strategy(stochastic_depth=0.2, l2_lambda=0.0))
        for seed in (0, 1, 2)
    ]
    plain = run_all(configs, resources, tmp_path / "plain", PLAIN, size=1)
    graphs = Graphs(device)
    graphs.install(monkeypatch)
    for execution in (PACKED, CUT):
        found = run_all(configs, resources, tmp_path / execution.engine, execution)
        for ours, theirs in zip(found, plain, strict=True):
            assert losses_of(ours) == pytest.approx(losses_of(theirs), rel=0.03)
    assert graphs.num_replayed


def test_a_prefix_lies_on_the_device(device: torch.device, make_config: MakeConfig) -> None:
    """Also beyond the limit, where a GPU's table stays and a processor's goes to a file; a CPU's numbers."""
    rows: list[Tensor] = []
    for where in (torch.device("cpu"), device):
        budget = PrefixBudget(limit_mb=0.0)
        config = adapters(make_config, loop={"device": str(where), "precision": "float64"})
        trial = Trial(config, Resources())
        prefixes = Prefixes(budget).of(trial.domains)
        store = prefixes.store(config, trial.adapted().model, config.data.target, "train")
        found = store.gather(store.rows(store.items), store.plan.num_steps)
        assert found.device.type == where.type and (store.file is None) == (where.type == "cuda")
        rows.append(found.cpu())
    torch.testing.assert_close(rows[1], rows[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("engine", ["plain", "cut", "packed"])
def test_a_trial_from_its_config_to_its_record(
    engine: str, device: torch.device, make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """`loop.device` end to end: trained, scored, the base restored to the bit, weights saved, and read again."""
    config: TrialConfig = adapters(make_config, loop={"device": str(device), "epochs": 2}, stochastic_depth=0.2)
    Trial(config, resources).check()
    folder = TrialFolder(tmp_path / "record")
    about = TrialRun(config.trial_id, "e", "a", config.seed, "confirm")
    execution = Execution.model_validate({"engine": engine, "pack": 2 if engine == "packed" else 1})
    trains = Engines().of(execution)
    summary = run_trial(config, about, folder, resources, lambda entry: None, trains)
    assert summary.state == "complete" and summary.checks["base_restored"].startswith("adapters off")
    assert summary.costs["peak_memory_mb"] > 0
    exact = config.model_copy(update={"loop": config.loop.model_copy(update={"device": "cpu"})})
    its = run_trial(exact, about, TrialFolder(tmp_path / "cpu"), resources, lambda entry: None, trains)
    assert summary.base.keys() == its.base.keys()
    assert summary.metrics.keys() == its.metrics.keys()

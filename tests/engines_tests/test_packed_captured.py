"""Steps from static buffers: the direct way's bits, whoever shares them; and what a capture may and may not do.

A CPU has no graphs. Here a stand-in records: it runs the device part as often as a capture's warm-up does, and replays
it from the same buffers. What a GPU does with it is in test_gpu.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from trial_configs import MakeConfig

from harness.engines.cut.prefixes import Prefixes
from harness.engines.packed import captured, driver, steps
from harness.engines.packed.captured import CapturedStep, CapturedSteps, Recorder, captured_on
from harness.engines.packed.pack import Pack
from harness.engines.packed.scheduler import PackScheduler
from harness.engines.registry import Engines
from harness.training.checkpoint import load_checkpoint
from harness.training.resources import Resources
from harness.training.trial import Trial

from .packs import PACKED, Ran, Runs, assert_poisoned, assert_same_bits, poison, run_all, strategy
from .test_packed_oracle import adapters, mixed

pytestmark = pytest.mark.slow

WARM_UPS = 3


@dataclass
class Graphs:
    """Makes schedulers whose steps run from buffers; keeps what was made and counts.

    Attributes:
        capture_after: steps of a kind before it is recorded.
        most: kinds that are kept.
        fails: whether a recording ends in an error, after a step.
    """

    capture_after: int = 2
    most: int = 32
    fails: bool = False
    num_recorded: int = 0
    num_replayed: int = 0
    largest: int = 0
    made: list[CapturedSteps] = field(default_factory=list)
    schedulers: list[PackScheduler] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def make_scheduler(size: int, prefixes: Prefixes, grows: bool = False) -> PackScheduler:
            self.schedulers.append(PackScheduler(size, prefixes, grows, self.make))
            return self.schedulers[-1]

        monkeypatch.setattr(driver, "PackScheduler", make_scheduler)

    def make(self, pack: Pack, is_asked: bool = True) -> CapturedSteps:
        self.made.append(CapturedSteps(pack, self.record, None, self.capture_after, self.most))
        return self.made[-1]

    def record(self, device_part: Callable[[], None]) -> Callable[[], None]:
        self.num_recorded += 1
        for _ in range(1 if self.fails else WARM_UPS):
            device_part()
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nand more lines")
        return partial(self._replay, device_part)

    def _replay(self, device_part: Callable[[], None]) -> None:
        self.num_replayed += 1
        self.largest = max(self.largest, *(len(made.kept) for made in self.made))
        device_part()


@pytest.fixture(scope="module")
def direct(make_config: MakeConfig, resources: Resources, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Eight trials that differ in everything that slots may differ in, in one pack, the direct way."""
    configs = mixed(make_config)
    return configs, run_all(configs, resources, tmp_path_factory.mktemp("direct"))


@pytest.mark.parametrize(("size", "most"), [(8, 32), (3, 32), (3, 1), (1, 2), (1, 32)])
def test_buffers_give_the_direct_ways_bits(
    size: int, most: int, direct: Runs, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other sizes, neighbours, refills and penalties; recorded and not; kinds that were forgotten and come again."""
    configs, expected = direct
    graphs = Graphs(most=most)
    graphs.install(monkeypatch)
    for ours, theirs in zip(run_all(configs, resources, tmp_path, size=size), expected, strict=True):
        assert ours.error is None
        assert_same_bits(ours, theirs)
    assert graphs.largest <= most
    if most == 32:
        assert graphs.num_recorded and graphs.num_replayed > graphs.num_recorded
    assert not graphs.schedulers[0].take_notes()


CASES: dict[str, dict[str, Any]] = {
    "head": {"arm": "head_only"},
    "head too": {"train": "adapters_and_head"},
    "frames": {"loop": {"max_frames": 40}},
    "valid frames": {"adapter": strategy(l2_lambda=0.02, l2_reduction="valid_frame_mean")},
    "l2 of the output": {"adapter": strategy(stochastic_depth=0.5, l2_lambda=0.02, l2_target="adapter_output")},
    "replaced": {"adapter": {"adapter_strategy": {"_target_": "harness.adapters.ReturnResultAdapterStrategy"}}},
    "dropped frames": {"adapter": strategy(stochastic_depth=0.5, drop="frame", l2_lambda=0.02, l2_form="norm")},
    "float64": {"loop": {"precision": "float64"}},
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_step(
    case: str, make_config: MakeConfig, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = dict(CASES[case])
    arm = changes.pop("arm", "residual_add")
    changes["loop"] = {"epochs": 3, "batch_size": 8, **changes.get("loop", {})}
    configs = [make_config(arm, seed=seed, **changes) for seed in (0, 1, 2)]
    expected = run_all(configs, resources, tmp_path / "direct")
    graphs = Graphs()
    graphs.install(monkeypatch)
    for ours, theirs in zip(run_all(configs, resources, tmp_path / "buffers"), expected, strict=True):
        assert ours.error is None
        assert_same_bits(ours, theirs)
    assert graphs.num_replayed


def test_speech(
    make_speech_config: MakeConfig, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CTC with targets of several widths: nothing is recorded, and that is told."""
    loop = {"epochs": 2, "augment": None}
    adapter = strategy(stochastic_depth=0.3, l2_lambda=0.01)
    configs = [make_speech_config(seed=seed, loop=loop, adapter=adapter) for seed in (0, 1, 2)]
    expected = run_all(configs, resources, tmp_path / "direct")
    schedulers: list[PackScheduler] = []

    def make_scheduler(size: int, prefixes: Prefixes, grows: bool = False) -> PackScheduler:
        direct = lambda pack, _: CapturedSteps(pack, None, pack.task.why_not_captured)  # noqa: E731
        schedulers.append(PackScheduler(size, prefixes, grows, direct))
        return schedulers[-1]

    monkeypatch.setattr(driver, "PackScheduler", make_scheduler)
    for ours, theirs in zip(run_all(configs, resources, tmp_path / "buffers"), expected, strict=True):
        assert ours.error is None
        assert_same_bits(ours, theirs)
    (note,) = schedulers[0].take_notes()
    assert "without CUDA graphs: " in note and "CTC" in note and schedulers[0].take_notes() == []


def test_rows_that_are_added_make_the_old_graphs_useless(
    direct: Runs, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trials train from graphs when six more come, for which the pack needs new rows."""
    configs, expected = direct
    graphs = Graphs(capture_after=1)
    graphs.install(monkeypatch)
    engines = Engines()
    trains = engines.driver(8)

    def start(number: int) -> None:
        path = tmp_path / f"{number}.safetensors"
        trains.start(number, Trial(configs[number], resources, path, engine=engines.of(PACKED)).steps())

    start(0)
    start(1)
    for _ in range(8):
        assert not trains.run()
    before = graphs.made[0].pack.rows_3RP
    assert graphs.num_replayed and graphs.made[0].kept
    for number in range(2, 8):
        start(number)
    assert graphs.made[0].pack.rows_3RP is not before
    while len(trains):
        for done in trains.run():
            assert done.error is None
    assert all(step.rows_3RP is graphs.made[0].pack.rows_3RP for step in graphs.made[0].kept.values())
    for number, theirs in enumerate(expected):
        checkpoint = load_checkpoint(tmp_path / f"{number}.safetensors")
        history = [entry["metrics"] for entry in checkpoint.values["state"]["history"]]
        assert_same_bits(Ran(checkpoint.tensors, history), theirs)


def test_a_poisoned_slot_keeps_its_nan_and_says_where_it_began(
    make_config: MakeConfig, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are read when an epoch has no more steps; the error names the step that was not finite first."""
    first = mixed(make_config)[3]
    (expected,) = run_all([first], resources, tmp_path / "alone")
    victim = adapters(make_config, 3, lr=0.5, l2_lambda=0.5)
    Graphs(capture_after=1).install(monkeypatch)
    poison(victim, monkeypatch)
    found = run_all([victim, first], resources, tmp_path / "found")
    assert_same_bits(found[1], expected)
    assert_poisoned(found[0])


def test_a_capture_that_fails_is_told_once_and_changes_nothing(
    direct: Runs, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs, expected = direct
    graphs = Graphs(fails=True)
    graphs.install(monkeypatch)
    for ours, theirs in zip(run_all(configs, resources, tmp_path), expected, strict=True):
        assert_same_bits(ours, theirs)
    assert graphs.num_recorded == 1 and not graphs.num_replayed
    (note,) = graphs.schedulers[0].take_notes()
    assert note.endswith(": operation not permitted when stream is capturing")
    assert graphs.schedulers[0].take_notes() == []


def test_memory_that_runs_out_gives_the_buffers_back(
    direct: Runs, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs, expected = direct
    graphs = Graphs()
    graphs.install(monkeypatch)
    real = steps.take_step
    sizes: list[int] = []

    def take_step(pack: Pack, kind: steps.StepKind, inputs: steps.StepInputs, rows_3KP: Tensor) -> Tensor:
        if kind.num_slots > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(max(step.kind.num_slots for step in graphs.made[0].kept.values()))
        return real(pack, kind, inputs, rows_3KP)

    monkeypatch.setattr(captured, "take_step", take_step)
    for ours, theirs in zip(run_all(configs, resources, tmp_path), expected, strict=True):
        assert_same_bits(ours, theirs)
    assert graphs.schedulers[0].size <= 3 and max(sizes) <= 3
    assert all("out of memory" in note for note in graphs.schedulers[0].take_notes())


def _keeps_what_warm_ups_did(monkeypatch: pytest.MonkeyPatch) -> None:
    def record(step: CapturedStep, recorder: Recorder) -> None:
        step.replay = recorder(step.device_part)

    monkeypatch.setattr(CapturedStep, "record", record)


def _old_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    real = steps.inputs_of

    def stale(pack: Pack, host: steps.HostStep, into: steps.StepInputs) -> steps.StepInputs:
        values = into.values_KC.clone()
        real(pack, host, into)
        if values.any():
            into.values_KC.copy_(values)
        return into

    monkeypatch.setattr(captured, "inputs_of", stale)


@pytest.mark.parametrize("fault", [None, _keeps_what_warm_ups_did, _old_inputs])
def test_planted_faults_are_caught(
    fault: Callable[[pytest.MonkeyPatch], None] | None,
    direct: Runs,
    resources: Resources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The comparison of the first test, one trial: warm-ups that count, and numbers of the step before."""
    configs, expected = direct
    Graphs().install(monkeypatch)
    if fault is not None:
        fault(monkeypatch)
    (found,) = run_all(configs[:1], resources, tmp_path)
    same = [torch.equal(found.tensors[name], value) for name, value in expected[0].tensors.items()]
    assert all(same) == (fault is None)


def test_a_cpu_takes_the_direct_way(make_config: MakeConfig, resources: Resources) -> None:
    engines = Engines()
    scheduler = PackScheduler(1, engines.prefixes)
    trial = Trial(adapters(make_config), resources, engine=engines.of(PACKED))
    scheduler.add(next(trial.steps()))
    ((pack, _),) = scheduler.slots
    assert captured_on(pack, True) is None and pack.captured is None

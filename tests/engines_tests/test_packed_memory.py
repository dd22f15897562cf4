"""Memory that runs out in a pack: fewer trials to a launch, and the numbers are those of an undisturbed run."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from trial_configs import MakeConfig

from harness.engines.cut.prefixes import Prefixes
from harness.engines.packed import driver, optimizer, scheduler, steps
from harness.training.resources import Resources

from .packs import Runs, assert_same_bits, run_all
from .test_packed_oracle import adapters, mixed

pytestmark = pytest.mark.slow


def allocate_too_much() -> None:
    """What torch's CPU allocator raises, by its own doing: more than any address space has."""
    torch.empty(2**50, dtype=torch.uint8)


def cuda_is_full() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def python_is_full() -> None:
    raise MemoryError


RUNS_OUT: dict[str, Callable[[], None]] = {"cpu": allocate_too_much, "cuda": cuda_is_full, "python": python_is_full}


@dataclass
class Machine:
    """A machine on which a launch of more than `most` trials fails with `run_out`, at some `place` in it.

    Attributes:
        schedulers: that were made.
        launches: of each that trained: whether it came through, and how many trials it had.
    """

    most: int
    run_out: Callable[[], None]
    place: str
    schedulers: list[scheduler.PackScheduler] = field(default_factory=list)
    launches: list[tuple[bool, int]] = field(default_factory=list)
    num_slots: int = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real_step, real_score, real_grad = steps.train_step, steps.score_step, torch.autograd.grad
        real_update, real_pack = optimizer.step_rows, scheduler.PackScheduler

        def train_step(pack: Any, slots: Sequence[Any]) -> Any:
            self.num_slots = len(slots)
            self.launches.append((False, len(slots)))
            if self.place == "forward":
                self.check()
            found = real_step(pack, slots)
            self.launches[-1] = (True, len(slots))
            return found

        def score_step(pack: Any, slots: Sequence[Any]) -> Any:
            self.num_slots = len(slots)
            if self.place == "scoring":
                self.check()
            return real_score(pack, slots)

        def grad(total: Any, leaves: Any, **options: Any) -> Any:
            """Fails when the gradients of the upper layer have been computed."""
            if options or self.place != "backward" or self.num_slots <= self.most:  # options: of no step of a pack
                return real_grad(total, leaves, **options)
            hook = leaves[-1].register_hook(lambda gradient: self.check())
            try:
                return real_grad(total, leaves)
            finally:
                hook.remove()

        def step_rows(*arguments: Any) -> None:
            if self.place == "update":
                self.check()
            real_update(*arguments)

        def make_scheduler(size: int, prefixes: Prefixes, grows: bool = False) -> scheduler.PackScheduler:
            self.schedulers.append(real_pack(size, prefixes, grows))
            return self.schedulers[-1]

        monkeypatch.setattr(steps, "train_step", train_step)
        monkeypatch.setattr(steps, "score_step", score_step)
        monkeypatch.setattr(steps, "step_rows", step_rows)
        monkeypatch.setattr(torch.autograd, "grad", grad)
        monkeypatch.setattr(driver, "PackScheduler", make_scheduler)

    def check(self) -> None:
        if self.num_slots > self.most:
            self.run_out()


@pytest.fixture(scope="module")
def undisturbed(make_config: MakeConfig, resources: Resources, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Seven trials in one pack: of one seed, so that they start together, with noise and penalties of their own."""
    drops = (0.0, 0.5, 0.3, 0.9, 0.2, 0.5, 0.1)
    configs = [
        adapters(make_config, 3, lr=0.01 * (1 + number), stochastic_depth=drop, l2_lambda=0.01 * (number % 2))
        for number, drop in enumerate(drops)
    ]
    return configs, run_all(configs, resources, tmp_path_factory.mktemp("undisturbed"))


def _numbers(notes: Sequence[str]) -> list[list[str]]:
    """The numbers in each note about memory that ran out."""
    assert all(note.startswith("out of memory with ") for note in notes)
    return [re.findall(r"\d+", note) for note in notes]


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("forward", "cpu"),
        ("backward", "cpu"),
        ("update", "cpu"),
        ("scoring", "cpu"),
        ("backward", "cuda"),
        ("forward", "python"),
    ],
)
def test_half_as_many_trials_go_on_to_the_same_bits(
    place: str, error: str, undisturbed: Runs, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven do not fit, three do: told once, kept to from then on, and no bit of any trial shows it."""
    configs, expected = undisturbed
    machine = Machine(3, RUNS_OUT[error], place)
    machine.install(monkeypatch)
    found = run_all(configs, resources, tmp_path)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.error is None
        assert_same_bits(ours, theirs)
    (pack,) = machine.schedulers
    assert pack.size == 3
    assert _numbers(pack.take_notes()) == [["7", "3"]] and pack.take_notes() == []
    failures = [count for came_through, count in machine.launches if not came_through]
    assert failures == ([] if place == "scoring" else [7])
    if place != "scoring":
        assert max(count for came_through, count in machine.launches if came_through) == 3


def test_it_is_halved_again_until_it_fits(
    undisturbed: Runs, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven, three, one: what is left of a launch obeys each lower size at once."""
    configs, expected = undisturbed
    machine = Machine(1, allocate_too_much, "backward")
    machine.install(monkeypatch)
    found = run_all(configs, resources, tmp_path)
    for ours, theirs in zip(found, expected, strict=True):
        assert_same_bits(ours, theirs)
    assert machine.launches[:4] == [(False, 7), (False, 3), (True, 1), (True, 1)]
    assert {count for _, count in machine.launches[2:]} == {1}
    assert _numbers(machine.schedulers[0].take_notes()) == [["7", "3"], ["3", "1"]]


def test_a_trial_that_does_not_fit_alone_fails_alone(
    make_config: MakeConfig, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error comes out of its own training; the others go on, with the size that its failure left."""
    configs = [mixed(make_config)[number] for number in (0, 5)]
    expected = run_all(configs, resources, tmp_path / "expected")
    victim = adapters(make_config, 0, lr=0.5)
    real = steps.train_step

    def train_step(pack: Any, slots: Sequence[Any]) -> Any:
        if any(slot.fitting.config == victim for slot in slots):
            allocate_too_much()
        return real(pack, slots)

    monkeypatch.setattr(steps, "train_step", train_step)
    found = run_all([configs[0], victim, configs[1]], resources, tmp_path / "found")
    assert "allocate memory" in str(found[1].error)
    assert_same_bits(found[0], expected[0])
    assert_same_bits(found[2], expected[1])


@pytest.mark.parametrize("error", [RuntimeError("a kernel that is not there"), SystemExit(0), GeneratorExit()])
def test_any_other_failure_leaves_the_size(
    error: BaseException, undisturbed: Runs, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    configs, expected = undisturbed
    machine = Machine(3, fail, "backward")
    machine.install(monkeypatch)
    for ours, theirs in zip(run_all(configs, resources, tmp_path), expected, strict=True):
        assert_same_bits(ours, theirs)
    assert machine.schedulers[0].size == 7 and machine.schedulers[0].take_notes() == []


def test_what_failed_is_freed_before_the_next_try(
    undisturbed: Runs, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error's traceback would hold the large launch's tensors while the smaller ones run."""
    configs, _ = undisturbed
    held: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []
    real = steps.train_step

    def train_step(pack: Any, slots: Sequence[Any]) -> Any:
        if len(slots) > 3:
            large = torch.zeros(8)
            held.append(weakref.ref(large))
            allocate_too_much()
        alive.extend(ref() is not None for ref in held)
        return real(pack, slots)

    monkeypatch.setattr(steps, "train_step", train_step)
    gc.disable()
    try:
        run_all(configs, resources, tmp_path)
    finally:
        gc.enable()
    assert held and alive and not any(alive)

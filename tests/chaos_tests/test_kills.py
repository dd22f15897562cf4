"""SIGKILL at random moments of real sweeps: the same command goes on, and ends as an uninterrupted one."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from .conftest import ENGINES, NUM_KILLS, Victim, is_over, kill, rng_of

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(0)]

HOW = ("all", "all", "launcher", "worker")
EACH_ENGINE = [pytest.param(name, marks=[] if name == "cut" else pytest.mark.chaos) for name in ENGINES]


@pytest.mark.parametrize("engine", EACH_ENGINE)
def test_killed_at_random_moments(engine: str, victim: Callable[..., Victim]) -> None:
    """All of the launch, its launcher alone (its workers have to notice), or a worker (the launch goes on)."""
    rng, sweep = rng_of(f"kills/{engine}"), victim(engine)
    process = sweep.begin()
    for _ in range(max(2, NUM_KILLS // len(ENGINES))):
        if is_over():
            break
        runs = sweep.wait(process, rng.randint(0, 9), rng.choice([0, rng.uniform(0, 0.1), rng.uniform(0, 4)]))
        if not runs:  # it came to its end before: the next one is another sweep
            sweep.has_ended(process)
            sweep = victim(engine, sweep.results.parent.with_name(f"{sweep.results.parent.name}x"))
            process = sweep.begin()
            continue
        how = rng.choice(HOW)
        is_dead = kill(process, how, rng)
        sweep.note(f"kill of {how}, {engine}")
        if is_dead:
            process = sweep.begin(*rng.choice([(), ("--jobs", "2")]))
    sweep.has_ended(process)


@pytest.mark.chaos
def test_several_workers_on_one_folder(victim: Callable[..., Victim]) -> None:
    """Three launches, one of them with two processes; one of them is killed, and another takes its place."""
    rng, sweep = rng_of("workers"), victim()
    processes = [sweep.begin(), sweep.begin("--jobs", "2"), sweep.begin()]
    for _ in range(max(1, NUM_KILLS // 10)):
        chosen = rng.choice(processes)
        if sweep.wait(chosen, rng.randint(1, 9)):
            kill(chosen, "all", rng)
            sweep.note("kill of one of three launches")
            processes[processes.index(chosen)] = sweep.begin()
    for process in processes:
        sweep.has_ended(process)


@pytest.mark.chaos
def test_a_process_that_stands_still(victim: Callable[..., Victim], monkeypatch: pytest.MonkeyPatch) -> None:
    """For longer than its lease lasts, while another one works beside it; then it goes on."""
    monkeypatch.setenv("HARNESS_LEASE_S", "1")
    rng, sweep = rng_of("stopped"), victim()
    still = sweep.begin()
    assert sweep.wait(still, rng.randint(2, 9))
    still.send_signal(signal.SIGSTOP)
    other = sweep.begin()
    sweep.wait(other, rng.randint(2, 5), 1)
    sweep.note("stop of a process")
    still.send_signal(signal.SIGCONT)
    for process in (still, other):
        sweep.has_ended(process)

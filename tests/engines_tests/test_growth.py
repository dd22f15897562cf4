"""Packs that grow: the sizes that measured costs lead to, and that no schedule of sizes changes a bit of a trial."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from trial_configs import MakeConfig

from harness.engines.packed import growth, steps
from harness.engines.packed.growth import AGAIN, PATIENCE, WAIT, Growth, sizes_up_to
from harness.engines.packed.scheduler import PackScheduler
from harness.training.resources import Resources

from .packs import assert_same_bits, run_all
from .test_packed_oracle import adapters, mixed


def launch_all(
    pack: Growth, cost: Callable[[int], float], num_launches: int, limit: int = 99, under_way: int = 99
) -> list[int]:
    """Launches of as many trials as the pack should have, in epochs of five shapes; its sizes afterwards, one each."""
    sizes = []
    for number in range(num_launches):
        count = min(pack.size, limit, under_way)
        shape = number % 5
        pack.took(shape, count, min(pack.size, under_way), (1 + shape) * cost(count), ends_epoch=shape == 4)
        sizes.append(pack.size)
    return sizes


@pytest.mark.parametrize(
    ("most", "expected"),
    [(1, [1]), (2, [1, 2]), (4, [1, 4]), (5, [1, 5]), (8, [1, 3, 8]), (16, [1, 3, 7, 16]), (20, [1, 3, 7, 20])],
)
def test_sizes(most: int, expected: list[int]) -> None:
    """Those that join are more than are there: they share launches of a size that was not measured before."""
    assert sizes_up_to(most) == expected
    assert all(after - before > before for before, after in pairwise(expected) if most > 2)


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (lambda count: 3.0 + count, 16),  # a fixed part, which a pack shares
        (lambda count: float(count), 1),  # nothing is shared
        (lambda count: 0.02 + count, 1),  # less than what a larger pack must save
        (lambda count: 3.0 + count + 10 * max(0, count - 3), 3),  # beyond three it leaves a cache
        (lambda count: 3.0 + count**1.2, 7),
    ],
)
def test_the_size_follows_what_launches_take(cost: Callable[[int], float], expected: int) -> None:
    pack = Growth(16)
    sizes = launch_all(pack, cost, AGAIN - 1)
    assert pack.size == expected
    assert sizes[0] == 1 and set(sizes) <= {1, 3, 7, 16}
    assert sizes.index(3) == 4  # a handful of launches are enough to try more, where an epoch ends


def test_it_grows_where_an_epoch_ends_and_does_not_wait_for_ever() -> None:
    """Trials that join have the launches to themselves at first: whoever is in its first epoch would end it later."""
    pack = Growth(16)
    for _ in range(WAIT - 1):
        pack.took("shape", 1, 1, 1.0)
    assert pack.size == 1
    pack.took("shape", 1, 1, 1.0, ends_epoch=True)
    assert pack.size == 3
    waiting = Growth(16)
    for _ in range(WAIT):
        waiting.took("shape", 1, 1, 1.0)
    assert waiting.size == 3


def test_the_gain_is_that_of_a_trial_against_being_alone() -> None:
    pack = Growth(16)
    launch_all(pack, lambda count: 3.0 + count, 200)
    assert pack.gain == pytest.approx((3 + 1) / ((3 + 16) / 16))
    alone = Growth(16)
    launch_all(alone, lambda count: float(count), 200)
    assert alone.gain == 1.0


def test_the_first_launch_of_a_size_does_not_count() -> None:
    """It takes memory that later ones use again: ten times as slow here."""
    met: set[int] = set()

    def cost(count: int) -> float:
        first = count not in met
        met.add(count)
        return (10.0 if first else 1.0) * count

    pack = Growth(16)
    launch_all(pack, cost, 100)
    assert pack.size == 1


def test_launches_that_stay_small_let_a_pack_shrink() -> None:
    """Batches that are too long for two trials in a launch: more under way would only wait."""
    pack = Growth(16)
    sizes = launch_all(pack, lambda count: float(count), PATIENCE + 20, limit=1)
    assert max(sizes) == 3 and pack.size == 1


def test_nothing_is_decided_while_trials_are_missing() -> None:
    pack = Growth(16)
    launch_all(pack, lambda count: 3.0 + count, 10)
    size = pack.size
    assert size > 1
    launch_all(pack, lambda count: 9.0 * count, 500, under_way=1)
    assert pack.size == size


def test_another_try_much_later() -> None:
    """What other programs did to the first try need not hold; what still does not pay is tried ever less often."""
    pack = Growth(16)
    launch_all(pack, lambda count: float(count), 50)
    assert pack.size == 1
    sizes = launch_all(pack, lambda count: float(count), 2 * AGAIN)
    assert sizes.count(3) > 0 and sizes[-1] == 1
    tries = sum(after > before for before, after in pairwise(sizes))
    assert tries == 1
    launch_all(pack, lambda count: 3.0 + count, 5 * AGAIN)
    assert pack.size == 16


def test_memory_bounds_the_size() -> None:
    pack = Growth(16, lambda: False)
    launch_all(pack, lambda count: 3.0 + count, 100)
    assert pack.size == 1
    pack = Growth(16)
    launch_all(pack, lambda count: 3.0 + count, 100)
    pack.shrink_to(5)  # ran out
    assert pack.size == 3
    launch_all(pack, lambda count: 3.0 + count, 5 * AGAIN)
    assert pack.size == 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_no_schedule_of_sizes_changes_a_bit(
    seed: int, make_config: MakeConfig, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """float32, sizes drawn anew after each launch: weights, moments, losses and scores are those of packs of one."""
    configs = mixed(make_config)
    alone = run_all(configs, resources, tmp_path / "alone", size=1)
    draws, counts = random.Random(seed), set()
    real = steps.train_step

    def train_step(pack: Any, slots: Sequence[Any]) -> Any:
        counts.add(len(slots))
        return real(pack, slots)

    monkeypatch.setattr(steps, "train_step", train_step)
    monkeypatch.setattr(Growth, "took", lambda self, *launch: setattr(self, "_level", draws.randrange(3)))
    found = run_all(configs, resources, tmp_path / "drawn", size=8, grows=True)
    for ours, theirs in zip(found, alone, strict=True):
        assert_same_bits(ours, theirs)
    assert len(counts) >= 3


@pytest.mark.slow
def test_packs_grow_while_they_train(
    make_config: MakeConfig, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes of a machine on which launches cost the same whatever is in them; the log says who trained together."""
    took = Growth.took
    monkeypatch.setattr(
        Growth, "took", lambda self, shape, count, under_way, s, end: took(self, shape, count, under_way, 1.0, end)
    )
    monkeypatch.setattr(growth, "ENOUGH", 2)
    configs = [adapters(make_config, lr=0.01 * (1 + number), loop={"epochs": 8}) for number in range(8)]
    ran = run_all(configs, resources, tmp_path, size=8, grows=True)
    assert [one.error for one in ran] == [None] * 8
    packs = [entry["pack"] for one in ran for entry in one.entries]
    assert packs[0]["trials"] < 8 and max(pack["trials"] for pack in packs) == 8
    first = ran[0].outcome
    # Every launch costs the same here, so which ones are compared decides the gain, and that is the same in each run.
    assert first is not None and first.sharing["packing_gain"] == 6.0
    assert first.sharing["trials_a_step"] == pytest.approx(fmean(entry["pack"]["trials"] for entry in ran[0].entries))
    assert packs[-1]["gain"] == first.sharing["packing_gain"]


def test_room(resources: Resources, make_config: MakeConfig) -> None:
    """One at first, whatever it will be; as many as are asked for where packs do not grow."""
    from harness.engines.registry import Engines

    prefixes = Engines().prefixes
    assert PackScheduler(8, prefixes, grows=True).room == 1
    assert PackScheduler(8, prefixes).room == 8

"""How many trials of one kind train together: one at first, and more as long as what launches take says that it pays.

On a CPU the size of a pack changes no bit of a trial, so that it may follow from measured times:

    1 -> 3 -> 7 -> 16     two trials join the first one, then four the three, then as many as there may be

Trials that join begin where the others began, and those of one seed have the same batches: so the two take steps of the
very shapes that the one has taken alone, and their cost is compared shape by shape. Nothing is trained for measuring.
They join when an epoch has ended, as those that are under way wait for them meanwhile: a search that finds in its first
epochs what it looks for then finds it as soon as one that trains one trial after another.

A size that costs a trial more than the one before it is given up, and tried again much later.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Hashable

MARGIN = 0.03  # what a larger pack must save at least
ENOUGH = 4  # launches that a size is judged by
PATIENCE = 50  # launches of a full pack without any that a size could be judged by
WAIT = 64  # launches of a full pack that an epoch's end is waited for before it grows
AGAIN = 256  # launches until a size that was given up is tried again; then four times as many


class Growth:
    """The size of a pack.

    Args:
        most: no more trials.
        has_room: whether memory is left for twice as many.
    """

    def __init__(self, most: int, has_room: Callable[[], bool] = lambda: True) -> None:
        self._sizes, self._has_room = sizes_up_to(most), has_room
        self._level = 0  # of the size among the sizes
        self._gains = [1.0]  # of each size against the one before it
        # shape -> level of the size that a launch counts for -> launches and the seconds of a trial in them, summed
        self._costs: dict[Hashable, dict[int, list[float]]] = defaultdict(dict)
        self._is_warm: set[int] = set()
        self._is_due = False  # to grow, at the end of an epoch
        self._num_full = 0  # launches since the size was changed, with as many trials under way
        self._is_settled = most == 1  # nothing is to be found out
        self._again = AGAIN

    @property
    def size(self) -> int:
        """How many trials of the kind should be under way, and share a launch."""
        return self._sizes[self._level]

    @property
    def gain(self) -> float:
        """How many times as fast as alone a trial is trained at this size, by what was measured so far."""
        return math.prod(self._gains)

    def took(self, shape: Hashable, count: int, under_way: int, seconds: float, ends_epoch: bool = False) -> None:
        """Take what a launch took, and change the size if that says so.

        Args:
            shape: what decides what a launch takes, besides how many trials are in it.
            count: trials in it.
            under_way: trials of the kind.
            seconds: of the processor where that can be told, which other programs do not lengthen.
            ends_epoch: whether the epoch of a trial in it has ended.
        """
        level = bisect_left(self._sizes, count)
        if level in self._is_warm:
            cost = self._costs[shape].setdefault(level, [0, 0.0])
            cost[0] += 1
            cost[1] += seconds / count
        self._is_warm.add(level)  # the first launch of its size takes memory that the later ones use again
        if under_way < self.size:
            return
        self._num_full += 1
        if self._is_settled:
            if self._num_full >= self._again and not self._is_at_most:
                self._again *= 4
                self._is_due, self._is_settled = True, False
        elif not self._is_due:
            self._judge()
        if self._is_due and (ends_epoch or self._num_full >= WAIT):
            self._grow()

    def shrink_to(self, most: int) -> None:
        """Never again as many: memory ran out."""
        while self.size > max(1, most):
            self._give_up()
        self._sizes = self._sizes[: self._level + 1]

    def _judge(self) -> None:
        """Grow, go back, or wait for more launches."""
        if self._level == 0:
            self._is_due = self._num_full > ENOUGH
            return
        saved = self._gain()
        if saved is None:
            if self._num_full >= PATIENCE:  # launches stay smaller: batches are too long, or never of one shape
                self._give_up()
            return
        self._gains[-1] = saved
        if saved < 1 / (1 - MARGIN):
            self._give_up()
        elif not self._is_at_most:
            self._is_due = True
        else:
            self._is_settled = True

    @property
    def _is_at_most(self) -> bool:
        return self._level + 1 == len(self._sizes)

    def _gain(self) -> float | None:
        """How much cheaper a trial's part of a launch is than at the size before, over the shapes met at both."""
        level = self._level
        below_s = there_s = num_compared = 0.0
        for levels in self._costs.values():
            if level in levels and level - 1 in levels:
                (count, seconds), (count_below, seconds_below) = levels[level], levels[level - 1]
                there_s += seconds
                below_s += seconds_below / count_below * count
                num_compared += count
        return below_s / there_s if num_compared >= ENOUGH else None

    def _grow(self) -> None:
        self._is_due = False
        if not self._has_room():
            self._is_settled = True
            return
        self._level += 1
        self._gains.append(1.0)
        self._is_settled, self._num_full = False, 0
        for levels in self._costs.values():
            levels.pop(self._level, None)  # what an earlier try found is no longer what counts

    def _give_up(self) -> None:
        self._level -= 1
        self._gains.pop()
        self._is_due, self._is_settled, self._num_full = False, True, 0


def sizes_up_to(most: int) -> list[int]:
    """The sizes of a pack: those that join are one more than those that are there; the last ones are all that may."""
    sizes = [1]
    while sizes[-1] < most:
        size = 2 * sizes[-1] + 1
        sizes.append(size if 2 * size + 1 <= most else most)
    return sizes

"""Check what goes into a statistic (finite numbers of the right shape), and hold the interval that comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
ALPHA = 0.05  # level of every test unless told otherwise
LEVEL = 0.95  # confidence level of every interval unless told otherwise
ROUNDING = 1e-9  # a spread this small, relative to the values, is rounding: no test set has a billion items
LARGEST, SMALLEST = 1e75, 1e-75  # numbers outside cannot be squared twice, as intervals of ratios need


@dataclass(frozen=True)
class Interval:
    """A confidence interval, and the method that made it (`t`, `shared_variance`, `welch` ...)."""

    low: float
    high: float
    level: float = LEVEL
    method: str = "t"

    def contains(self, value: float) -> bool:
        """Whether `value` lies in it, ends included."""
        return self.low <= value <= self.high

    @property
    def half_width(self) -> float:
        """Half of its length."""
        return (self.high - self.low) / 2.0


def as_vector(values: ArrayLike, name: str) -> Floats:
    """`values` as a float vector of at least one finite number.

    Raises:
        ValueError: empty, not one-dimensional, not finite, or too large or small to compute with.
    """
    return _checked(values, name, 1)


def as_matrix(values: ArrayLike, name: str) -> Floats:
    """`values` as a float matrix of at least one row and column, all finite.

    Raises:
        ValueError: empty, not two-dimensional, not finite, or too large or small to compute with.
    """
    return _checked(values, name, 2)


def is_constant(values: Floats, scale: float | None = None) -> bool:
    """Whether the values are equal up to rounding, relative to `scale` (default: the largest of them)."""
    low, high = float(np.minimum.reduce(values)), float(np.maximum.reduce(values))
    return high - low <= ROUNDING * (max(-low, high) if scale is None else scale)


def mean_and_sd(values: Floats) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1) of at least two values, without the cost of `ndarray.std`."""
    count = len(values)
    mean = float(np.add.reduce(values)) / count
    deviations = values - mean
    return mean, math.sqrt(float(np.add.reduce(deviations * deviations)) / (count - 1))


def check_level(level: float, name: str = "level") -> None:
    """Refuse a probability that is not inside (0, 1).

    Raises:
        ValueError: it is not.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"{name} {level!r} must lie between 0 and 1")


def _checked(values: ArrayLike, name: str, ndim: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim or array.size == 0:
        raise ValueError(
            f"{name}: an array of {ndim} dimension(s) with at least one value is needed, not {array.shape}"
        )
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}: {array[where]} at {where[0] if ndim == 1 else where} is not a finite number")
    size = np.abs(array)
    if size.max() > LARGEST or ((size > 0.0) & (size < SMALLEST)).any():
        extreme = float(array.flat[int(size.argmax())] if size.max() > LARGEST else size[size > 0.0].min())
        raise ValueError(f"{name}: {extreme:g} is too large or too small a number to compute with")
    return array

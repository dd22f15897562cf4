"""Scores and tests of single systems that no table shows, for the calibration: error rates, means, McNemar's test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.bootstrap import NUM_RESAMPLES, Method
from harness.statistics.items import Blocks, Ratio, errors_of, lengths_of
from harness.statistics.samples import LEVEL, Interval, as_vector, same_shape


@dataclass(frozen=True)
class ItemScore:
    """A score of one system on a test set, and its interval over the blocks of items (None with 1 block)."""

    value: float
    interval: Interval | None
    num_items: int
    num_blocks: int


def error_rate(
    errors: ArrayLike,
    lengths: ArrayLike,
    rng: np.random.Generator,
    blocks: Blocks = None,
    *,
    method: Method = "bootstrap_t",
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> ItemScore:
    """WER or CER (sum of errors by sum of reference lengths) with its interval.

    Args:
        errors, lengths: shape [utterances]; edit operations, and reference words (or characters).
        blocks: shape [utterances], a label each (speaker, recording session); None takes each utterance by itself.

    Raises:
        ValueError: shapes differ, not finite, negative, or no reference at all.

    Source: Bisani and Ney (2004), ICASSP, "Bootstrap estimates for confidence intervals in ASR performance evaluation".
    """
    ratio = Ratio.over_blocks(errors_of(errors, "errors"), lengths_of(lengths), blocks)
    interval = ratio.interval(rng, method, num_resamples, level, (0.0, math.inf))
    return ItemScore(ratio.value, interval, ratio.num_items, len(ratio.numerator))


def mean_score(
    scores: ArrayLike,
    rng: np.random.Generator,
    blocks: Blocks = None,
    *,
    method: Method = "bootstrap_t",
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> ItemScore:
    """Mean of per-item scores (accuracy: 0 and 1) with its interval; `error_rate` with every length 1.

    Scores that all lie in [0, 1] are taken for shares, and their interval is cut to [0, 1].
    """
    values = as_vector(scores, "scores")
    ratio = Ratio.over_blocks(values, np.ones_like(values), blocks)
    is_share = values.min() >= 0.0 and values.max() <= 1.0
    bounds = (0.0, 1.0) if is_share else (-math.inf, math.inf)
    interval = ratio.interval(rng, method, num_resamples, level, bounds)
    return ItemScore(ratio.value, interval, len(values), len(ratio.numerator))


@dataclass(frozen=True)
class McNemar:
    """McNemar's test: `only_first` items that only the first system got right, `only_second` the other way round.

    `exact` never exceeds its level and is conservative; `mid_p` is close to its level on average (Fagerland et al.
    2013 recommend it) and is the one to print.
    """

    only_first: int
    only_second: int
    exact: float
    mid_p: float


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """Test whether two systems are right equally often on the same items.

    Args:
        first, second: shape [items], 1 or True where the system was right.

    Raises:
        ValueError: different lengths, or values other than 0 and 1.

    Sources: McNemar (1947), Psychometrika 12; exact and mid-p from the binomial of the discordant items, Fagerland,
    Lydersen and Laake (2013), BMC Medical Research Methodology 13:91. Items must be independent: for clustered items
    (sentences of one document, say) use `sign_flip_test` with `clusters`.
    """
    x, y = as_vector(first, "first"), as_vector(second, "second")
    same_shape(first=x, second=y)
    for name, array in (("first", x), ("second", y)):
        if not np.isin(array, (0.0, 1.0)).all():
            raise ValueError(f"{name}: McNemar's test needs right (1) or wrong (0) for each item")
    only_first, only_second = int(((x == 1) & (y == 0)).sum()), int(((x == 0) & (y == 1)).sum())
    total, smaller = only_first + only_second, min(only_first, only_second)
    if total == 0:
        return McNemar(0, 0, 1.0, 1.0)
    terms = np.array([_binomial_half(k, total) for k in range(smaller + 1)])
    tail = math.fsum(terms)
    exact = min(1.0, 2.0 * tail)
    if only_first == only_second:
        return McNemar(only_first, only_second, exact, 1.0 - 0.5 * _binomial_half(smaller, total))
    return McNemar(only_first, only_second, exact, 2.0 * (tail - 0.5 * float(terms[-1])))


def _binomial_half(k: int, n: int) -> float:
    """P(k heads of n)."""
    return math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2.0))

"""Compare many arms with a baseline over seeds and test items, where each comparison has few seeds.

With 3 to 5 seeds a t-test pays dearly for not knowing the variance over seeds. The other comparisons of the same table
say what such a variance is here, so it gets a prior from them (an empirical partially Bayes test). The variance of the
test items is known well, since there are hundreds of them, and is added.

For a comparison with mean paired difference m over n seeds, sample variance s2 over the seeds (d = n - 1 degrees of
freedom) and item variance v of m:

    log(true variance over seeds) = level of the column + effect of the arm + effect of the cell
    p = sum over variances of posterior(variance) * 2 Phi(-|m| / sqrt(variance / n + v))

The level of a column is the median over arms of log s2, corrected for its bias. Arms' effects are Student t with 4
degrees of freedom (one loud arm must not blur the others) and shared by the arm's columns; cells' effects are normal.
The spreads of both are averaged over a grid by their marginal likelihood (`variance_posterior`). Without v and with a
flat prior, p is exactly that of the paired t-test. Cells get the flat prior where the others say too little of their
variance: in a column with fewer than `MIN_ARMS` compared arms, and where a cell is implausibly loud beside the others.

Sources: Smyth (2004), Statistical Applications in Genetics and Molecular Biology 3:3 (sharing variances); Ignatiadis
and Sen, Empirical partially Bayes multiple testing (arXiv 2303.02887); Clark (1973), J. Verbal Learning and Verbal
Behavior 12 (seeds and items as crossed random effects).
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from harness.statistics.distributions import normal_quantile
from harness.statistics.item_error import Influence, combine, item_variance
from harness.statistics.samples import LEVEL, Floats, Interval, as_vector, check_level
from harness.statistics.variance_posterior import Posterior, erfc, flat_posterior, shared_posteriors

MIN_ARMS = 6  # compared arms of a column below which it shares no variances: docs/explanation/statistics.md has why
# How many variances stand for an unknown one, and how unlikely the least likely of them is (log of its share). A sum
# over two unknown variances is as long as both together, so it is cut off earlier.
ALONE, TOGETHER, KNOWN_WELL = (401, 60.0), (121, 25.0), (25, 25.0)
NEGLIGIBLE = 1e-13  # of the weights, which change no p-value that is printed
MANY = 1_000  # degrees of freedom from which a variance counts as known
MANY_KNOWN = 20_000  # critical values of some tens of tables

Key = tuple[Hashable, Hashable]  # arm and column
KeyT = TypeVar("KeyT", bound=Key)

Status = Literal["tested", "deterministic", "one_pair", "identical", "constant"]


@dataclass(frozen=True)
class PairedSample:
    """What one comparison stands on.

    Attributes:
        differences: shape [seeds], arm minus baseline with the same seed, in the metric's unit.
        item_variance: of their mean, due to the choice of test items, same unit squared; 0 where items are not known.
        item_df: degrees of freedom of `item_variance`: the number of independent blocks of items, less one.
        resolution: by how much one test item can move a score, same unit; seeds whose differences are all alike may
            differ by less than that. 0 where it is not known.
        deterministic: whether neither side depends on the seed, so that there is one difference and no seed error.
    """

    differences: Floats
    item_variance: float = 0.0
    item_df: int = MANY
    resolution: float = 0.0
    deterministic: bool = False

    @classmethod
    def over_items(
        cls, differences: Floats, by_seed: Sequence[Influence], resolution: float = 0.0, deterministic: bool = False
    ) -> PairedSample:
        """A sample whose items are known.

        Args:
            by_seed: the influences of the items on the difference, one a seed (one alone where it is deterministic).
        """
        num_blocks = len(combine([(1.0, each) for each in by_seed]).blocks)
        return cls(differences, item_variance(by_seed), max(1, num_blocks - 1), resolution, deterministic)


@dataclass(frozen=True)
class SharedComparison:
    """One comparison with its errors over seeds and over items, in the metric's unit.

    Attributes:
        status: `tested`; `deterministic`: tested over items alone; or why there is no test: `one_pair` (one seed),
            `identical`, `constant` (every seed gives the same difference, and no items are known).
        errors: shape [k], possible standard errors of the mean, with their posterior `weights` (they sum to 1).
        seed_error, item_error: the standard errors that seeds (by the sample's variance) and items contribute.
        p_value: two-sided; None where there is no test.
    """

    status: Status
    count: int
    mean: float
    errors: Floats
    weights: Floats
    seed_error: float | None
    item_error: float
    p_value: float | None

    def interval(self, level: float = LEVEL) -> Interval | None:
        """The differences that the test does not reject; the mean alone where every seed gives it; else None."""
        check_level(level)
        if self.status in ("identical", "constant"):
            return Interval(self.mean, self.mean, level, "constant")
        if self.p_value is None:
            return None
        half = _critical(self.errors, self.weights, 1.0 - level)
        return Interval(self.mean - half, self.mean + half, level, "shared_variance")

    def detectable(self, alpha: float, power: float = 0.8) -> float | None:
        """The smallest true difference that this test finds with chance `power` at level `alpha`; None without a test.

        For a table pass the level at which Holm's correction begins: alpha divided by the number of tests.

        Raises:
            ValueError: alpha is no probability, or the power is not above a half.
        """
        check_level(alpha, "alpha")
        check_level(power, "power")
        if power <= 0.5:
            raise ValueError(f"power {power!r} must be above 0.5: what the test just marks is found half of the time")
        if self.p_value is None:
            return None
        half = _critical(self.errors, self.weights, alpha)
        # What lies `extra` above the critical value is missed with chance p(extra) / 2, where p is that of the test.
        return half + _critical(self.errors, self.weights, 2.0 * (1.0 - power))


def compare_all(samples: Mapping[KeyT, PairedSample], *, min_arms: int = MIN_ARMS) -> dict[KeyT, SharedComparison]:
    """Compare all cells of a table with its baseline.

    Args:
        samples: (arm, column) -> paired differences; what has no pair is left out by the caller. All cells of a column
            have one unit.

    Returns:
        the comparison of each cell. p-values are not corrected for their number; see `holm_distinct`.

    Raises:
        ValueError: a difference or variance is not finite, or too large or small to be squared; or a p-value is not.
    """
    checked = {key: _check(key, sample) for key, sample in samples.items()}
    seeds = {key: moments for key, moments in checked.items() if moments.status == "tested"}
    posterior = _posteriors(seeds, min_arms)
    found = {}
    for key, moments in checked.items():
        of_seeds = posterior.get(key, (np.zeros(1), np.ones(1)))
        errors, weights = _errors(of_seeds, moments, samples[key].item_df)
        p_value = None
        if moments.status in ("tested", "deterministic"):
            p_value = float(weights @ _two_sided_p(abs(moments.mean) / errors))
            if not math.isfinite(p_value):  # min(1.0, nan) is 1.0
                raise ValueError(f"p-value {p_value!r} of {_place(key)}: its errors {errors} have no finite weights")
            p_value = min(1.0, p_value)
        # The mean of a flat posterior's variance is infinite with 1 or 2 degrees of freedom: the sample's is told.
        seed_error = math.sqrt(moments.variance / moments.count) if moments.count > 1 else None
        found[key] = SharedComparison(
            moments.status, moments.count, moments.mean, errors, weights, seed_error, moments.item_error, p_value
        )
    return found


def _errors(of_seeds: Posterior, moments: _Moments, item_df: int) -> tuple[Floats, Floats]:
    """Possible standard errors of the mean over seeds and items, and their weights."""
    variances, weights = of_seeds
    of_items, item_weights = np.array([moments.item_error**2]), np.ones(1)
    if moments.item_error > 0.0 and item_df < MANY:
        rule = ALONE if moments.status == "deterministic" else TOGETHER if item_df < 30 else KNOWN_WELL
        of_items, item_weights = flat_posterior(moments.item_error**2, item_df, rule)
    total = (variances[:, None] / moments.count + of_items).ravel()
    shares = (weights[:, None] * item_weights).ravel()
    kept = shares > NEGLIGIBLE * shares.max() if moments.item_error > 0.0 else slice(None)
    return np.sqrt(total[kept]), shares[kept] / shares[kept].sum()


def compare_alone(sample: PairedSample) -> SharedComparison:
    """One comparison by itself: the paired t-test, with the items' variance added."""
    return compare_all({(0, 0): sample})[0, 0]


@dataclass(frozen=True)
class _Moments:
    status: Status
    count: int
    mean: float
    variance: float
    item_error: float


def _place(key: Key) -> str:
    return " of ".join(str(part) for part in key)


def _check(key: Key, sample: PairedSample) -> _Moments:
    where = _place(key)
    differences = as_vector(sample.differences, f"differences of {where}")
    if not (math.isfinite(sample.item_variance) and sample.item_variance >= 0.0):
        raise ValueError(f"item variance {sample.item_variance!r} of {where} must be finite and not negative")
    count = len(differences)
    scale = float(np.abs(differences).max())
    mean, item_error = float(differences.mean()), math.sqrt(sample.item_variance)
    variance = float(differences.var(ddof=1)) if count > 1 else 0.0
    if scale == 0.0 and item_error == 0.0:
        return _Moments("identical" if count > 1 else "one_pair", count, 0.0, 0.0, 0.0)
    if sample.deterministic:
        status: Status = "deterministic" if item_error > 0.0 else "constant"
        return _Moments(status, 1, float(differences[0]), 0.0, item_error)
    if count == 1:
        return _Moments("one_pair", 1, mean, 0.0, item_error)
    # Scores of a test set move in steps: two that print the same may differ by up to half a step each, and the
    # variance of such a rounding error is a twelfth of the step squared; a difference has two of them.
    variance = max(variance, sample.resolution**2 / 6.0)
    if variance <= (1e-12 * scale) ** 2:  # rounding of sums
        return _Moments("constant", count, mean, 0.0, item_error)
    return _Moments("tested", count, mean, variance, item_error)


def _posteriors(cells: Mapping[KeyT, _Moments], min_arms: int) -> dict[KeyT, Posterior]:
    """Cell -> possible variances over seeds, and their posterior weights."""
    num_arms = Counter(column for _, column in cells)
    keys = [key for key in cells if num_arms[key[1]] >= min_arms]
    found: dict[KeyT, Posterior | None] = {}
    if keys:
        variance = np.array([cells[key].variance for key in keys])
        df = np.array([cells[key].count - 1 for key in keys])
        arms, columns = [arm for arm, _ in keys], [column for _, column in keys]
        found = dict(zip(keys, shared_posteriors(variance, df, arms, columns), strict=True))
    return {key: found.get(key) or _by_itself(moments) for key, moments in cells.items()}


def _by_itself(moments: _Moments) -> Posterior:
    return flat_posterior(moments.variance, moments.count - 1, TOGETHER if moments.item_error > 0.0 else ALONE)


def _two_sided_p(z: Floats) -> Floats:
    """2 P(Z > z) of the standard normal; above 1 for a negative z."""
    return erfc(z / math.sqrt(2.0))


_known: dict[tuple[bytes, float], float] = {}  # critical values by a digest of their errors and weights, and alpha


def _critical(errors: Floats, weights: Floats, alpha: float) -> float:
    """The |m| at which the p-value is `alpha`; kept, as a table is made again when it is verified and reported."""
    digest = hashlib.blake2b(errors.tobytes(), digest_size=16)
    digest.update(weights.tobytes())
    key = digest.digest(), alpha
    if key not in _known:
        if len(_known) >= MANY_KNOWN:
            _known.clear()
        _known[key] = _solve(errors, weights, alpha)
    return _known[key]


def _solve(errors: Floats, weights: Floats, alpha: float) -> float:
    """The |m| at which the p-value is `alpha`: Newton's method on log p as a function of log m, inside a bracket."""
    order = np.argsort(errors)
    median = errors[order][int(np.searchsorted(np.cumsum(weights[order]), 0.5))]
    quantile = normal_quantile(1.0 - alpha / 2.0)
    low, high = 0.0, float(errors.max()) * quantile
    middle = min(float(median) * quantile, high)
    for _ in range(100):
        z = middle / errors
        p_value = float(weights @ _two_sided_p(z))
        low, high = (middle, high) if p_value > alpha else (low, middle)
        # Tails are between those of Cauchy (two seeds), straight lines on these scales, and of the normal.
        slope = -float(weights @ (np.exp(-0.5 * z * z) * z)) * math.sqrt(2.0 / math.pi)
        step = p_value * math.log(alpha / p_value) / slope if p_value > 0.0 and slope < 0.0 else math.inf
        following = middle * math.exp(step) if step < 100.0 else math.inf
        if not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - middle) <= 1e-10 * middle:
            return following
        middle = following
    return middle

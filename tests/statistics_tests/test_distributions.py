"""Student's t and Hedges' factor against SciPy."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import special, stats

from harness.statistics import hedges_correction, t_quantile, t_two_sided_p
from harness.statistics.distributions import normal_cdf, normal_quantile

DEGREES = (1, 2, 3, 4.5, 9, 29, 200, 5_000)


@pytest.mark.parametrize("df", DEGREES)
def test_t_probabilities_are_scipys_far_into_the_tails(df: float) -> None:
    for t in (0.0, 0.1, 1.0, 2.776, 5.0, 12.0, 30.0):
        assert t_two_sided_p(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-9, abs=1e-300)
        assert t_two_sided_p(-t, df) == t_two_sided_p(t, df)


@pytest.mark.parametrize("df", DEGREES)
def test_t_quantiles_are_scipys(df: float) -> None:
    for probability in (0.5, 0.6, 0.9, 0.975, 0.995, 0.9999, 1 - 1e-9):
        assert t_quantile(probability, df) == pytest.approx(stats.t.ppf(probability, df), rel=1e-7, abs=1e-12)
        assert t_quantile(1 - probability, df) == pytest.approx(-t_quantile(probability, df), rel=1e-7, abs=1e-12)


def test_printed_quantiles() -> None:
    # the table in the back of any textbook
    assert [round(t_quantile(0.975, df), 3) for df in (1, 2, 4, 9, 30)] == [12.706, 4.303, 2.776, 2.262, 2.042]


def test_t_is_normal_in_the_limit() -> None:
    assert t_quantile(0.975, 1e7) == pytest.approx(normal_quantile(0.975), rel=1e-6)
    assert normal_cdf(1.959963984540054) == pytest.approx(0.975, abs=1e-15)


def test_hedges_factor() -> None:
    for df in (2, 4, 9, 40):
        exact = special.gamma(df / 2) / (math.sqrt(df / 2) * special.gamma((df - 1) / 2))
        assert hedges_correction(df) == pytest.approx(exact, rel=1e-12)
        assert hedges_correction(df) == pytest.approx(1 - 3 / (4 * df - 1), abs=0.02)  # his approximation
    assert math.isnan(hedges_correction(1))


def test_hedges_factor_removes_the_bias() -> None:
    # E[mean / sd] J = mean / sigma for normal samples
    sample = np.random.default_rng(5).normal(0.8, 1.0, size=(200_000, 4))
    effects = sample.mean(axis=1) / sample.std(axis=1, ddof=1)
    assert effects.mean() * hedges_correction(3) == pytest.approx(0.8, abs=0.01)
    assert effects.mean() > 1.05  # without it


@pytest.mark.parametrize(("probability", "df"), [(0.0, 3), (1.0, 3), (0.9, 0), (0.9, -1), (0.9, math.nan)])
def test_nonsense_is_refused(probability: float, df: float) -> None:
    with pytest.raises(ValueError, match="must"):
        t_quantile(probability, df)


def test_the_package_loads_numpy_alone() -> None:
    code = "import sys, harness.statistics; print({'scipy', 'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "set()"

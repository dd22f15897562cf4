"""Statistics of seeds, items and targets: pure functions of arrays, an explicit generator wherever something is drawn.

    summarise                                     a cell over seeds
    compare_all, holm_distinct                    all of a table against its baseline, over seeds and test items
    compare_alone, item_variance                  one comparison; the error that test items contribute
    aggregate_targets, probability_of_improvement several targets

docs/explanation/statistics.md says which method stands behind each number, and how well it held when it was measured.
Loads NumPy alone.
"""

from harness.statistics.aggregates import (
    AggregateScore,
    aggregate_targets,
    compare_aggregates,
    interquartile_mean,
    probability_of_improvement,
)
from harness.statistics.distributions import hedges_correction, t_quantile, t_two_sided_p
from harness.statistics.item_error import Influence, combine, item_variance
from harness.statistics.multiplicity import holm, holm_distinct
from harness.statistics.samples import ALPHA, LEVEL, Interval
from harness.statistics.seeds import SeedSummary, summarise, t_interval
from harness.statistics.shared_variance import PairedSample, SharedComparison, compare_all, compare_alone
from harness.statistics.unpaired import UnpairedComparison, compare_unpaired

__all__ = [
    "ALPHA",
    "LEVEL",
    "AggregateScore",
    "Influence",
    "Interval",
    "PairedSample",
    "SeedSummary",
    "SharedComparison",
    "UnpairedComparison",
    "aggregate_targets",
    "combine",
    "compare_aggregates",
    "compare_all",
    "compare_alone",
    "compare_unpaired",
    "hedges_correction",
    "holm",
    "holm_distinct",
    "interquartile_mean",
    "item_variance",
    "probability_of_improvement",
    "summarise",
    "t_interval",
    "t_quantile",
    "t_two_sided_p",
]

"""Statistics of seeds, items and targets: pure functions of arrays, an explicit generator wherever something is drawn.

    summarise, compare_by_seed, compare_table     a cell; an arm against the baseline; all of a table, Holm-corrected
    compare_error_rates                           one test set: interval and test over its items
    two_level                                     seeds and items together
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
from harness.statistics.bootstrap import bootstrap_interval, resample_weights
from harness.statistics.distributions import hedges_correction, t_quantile, t_test_power, t_two_sided_p
from harness.statistics.item_error import Influence, combine, item_variance
from harness.statistics.items import ItemComparison, compare_error_rates
from harness.statistics.multiplicity import holm, holm_by_group, holm_distinct
from harness.statistics.other_comparisons import RelativeChange, UnpairedComparison, compare_unpaired, relative_change
from harness.statistics.permutation import PermutationTest, sign_flip_test
from harness.statistics.power import (
    ALPHA,
    POWER,
    detectable_difference,
    detectable_effect,
    paired_test_power,
    seeds_needed,
)
from harness.statistics.samples import LEVEL, Interval
from harness.statistics.seeds import (
    PairedComparison,
    SeedSummary,
    compare_by_seed,
    compare_paired,
    summarise,
    t_interval,
)
from harness.statistics.shared_variance import PairedSample, SharedComparison, compare_all, compare_alone
from harness.statistics.table_comparisons import TableComparison, compare_table
from harness.statistics.two_level import TwoLevelResult, two_level

__all__ = [
    "ALPHA",
    "LEVEL",
    "POWER",
    "AggregateScore",
    "Influence",
    "Interval",
    "ItemComparison",
    "PairedComparison",
    "PairedSample",
    "PermutationTest",
    "RelativeChange",
    "SeedSummary",
    "SharedComparison",
    "TableComparison",
    "TwoLevelResult",
    "UnpairedComparison",
    "aggregate_targets",
    "bootstrap_interval",
    "combine",
    "compare_aggregates",
    "compare_all",
    "compare_alone",
    "compare_by_seed",
    "compare_error_rates",
    "compare_paired",
    "compare_table",
    "compare_unpaired",
    "detectable_difference",
    "detectable_effect",
    "hedges_correction",
    "holm",
    "holm_by_group",
    "holm_distinct",
    "interquartile_mean",
    "item_variance",
    "paired_test_power",
    "probability_of_improvement",
    "relative_change",
    "resample_weights",
    "seeds_needed",
    "sign_flip_test",
    "summarise",
    "t_interval",
    "t_quantile",
    "t_test_power",
    "t_two_sided_p",
    "two_level",
]

"""Merge strategies, one a file. To add one: write its file, and add its config to `STRATEGIES`."""

from __future__ import annotations

from harness.adapters.strategies.abstract import AbstractAdapterStrategy
from harness.adapters.strategies.average import AverageStrategy, AverageStrategyConfig
from harness.adapters.strategies.fusion import FusionStrategy, FusionStrategyConfig
from harness.adapters.strategies.members import member_outputs
from harness.adapters.strategies.residual_add import ResidualAddAdapterStrategy, ResidualAddAdapterStrategyConfig
from harness.adapters.strategies.return_result import ReturnResultAdapterStrategy, ReturnResultAdapterStrategyConfig

STRATEGIES: dict[str, type] = {
    "average": AverageStrategyConfig,
    "residual_add": ResidualAddAdapterStrategyConfig,
    "return_result": ReturnResultAdapterStrategyConfig,
}
"""Short name -> config dataclass; its `_target_` is the strategy."""

__all__ = [
    "STRATEGIES",
    "AbstractAdapterStrategy",
    "AverageStrategy",
    "AverageStrategyConfig",
    "FusionStrategy",
    "FusionStrategyConfig",
    "ResidualAddAdapterStrategy",
    "ResidualAddAdapterStrategyConfig",
    "ReturnResultAdapterStrategy",
    "ReturnResultAdapterStrategyConfig",
    "member_outputs",
]

"""All engines by name, and those of one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.config.execution import EngineName, Execution
from harness.engines.cut.engine import CutEngine
from harness.engines.cut.prefix_cache import PrefixBudget
from harness.engines.cut.prefixes import Prefixes
from harness.engines.packed.driver import PackDriver
from harness.engines.packed.engine import PackedEngine
from harness.training.engine import PLAIN_ENGINE, Engine

ENGINES: dict[EngineName, Callable[[Execution, Prefixes], Engine]] = {
    "auto": PackedEngine,
    "plain": lambda execution, prefixes: PLAIN_ENGINE,
    "cut": CutEngine,
    "packed": PackedEngine,
}
"""Name -> what makes it, from what is asked for and the frozen prefixes of the process."""


class Engines:
    """The engines of one process; they share the frozen prefixes that they have computed.

    Args:
        budget: the memory for those.
    """

    def __init__(self, budget: PrefixBudget | None = None) -> None:
        self.prefixes = Prefixes(budget)

    def of(self, execution: Execution) -> Engine:
        """Make the engine that is asked for."""
        return ENGINES[execution.engine](execution, self.prefixes)

    def driver(self, size: int, grows: bool = False) -> PackDriver[Any]:
        """Make a driver that trains several trials at once: those that can be packed share steps, `size` at most.

        Args:
            grows: packs begin with one trial and grow by what their launches take, on a CPU.
        """
        return PackDriver(size, self.prefixes, grows)

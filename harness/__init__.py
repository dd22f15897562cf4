"""Adapters on frozen speech and text models: train, sweep, compare, tabulate.

In Python, as on the command line:

    import harness

    harness.run("text_strategies", {"loop.epochs": 2}, seeds=[0], results="mine")   # trains what is missing
    harness.run_sweep("quickstart", results="mine")                               # searches, then confirms
    harness.table("text_strategies").cell("residual_add", "target_macro_f1").value
    harness.load_records("text_strategies")                                       # a pandas DataFrame
    harness.verify("text_strategies")                                             # recomputes all that is published
    harness.train_adapters(module, train, valid, ...)     # many adapters over one frozen module of your own, at once

What is wrong is told in one line: a `UserError` (the input is wrong, nothing was trained) or a `TrialError` (a trial or
a check failed). Importing this package loads neither torch nor pandas: each function does when it needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.errors import TrialError, UserError

if TYPE_CHECKING:
    from harness.api import (
        Examples,
        ResultTable,
        RunResult,
        SweepResult,
        TrainedAdapter,
        load_records,
        run,
        run_sweep,
        table,
        train_adapters,
        verify,
    )

__version__ = "0.1.0"
__all__ = [
    "Examples",
    "ResultTable",
    "RunResult",
    "SweepResult",
    "TrainedAdapter",
    "TrialError",
    "UserError",
    "__version__",
    "load_records",
    "run",
    "run_sweep",
    "table",
    "train_adapters",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("harness.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its functions: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

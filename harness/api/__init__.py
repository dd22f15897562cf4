"""The Python API, which `import harness` offers: what the commands do, with values instead of printed lines."""

from harness.api.launches import RunResult, SweepResult, run, run_sweep
from harness.api.own_adapters import TrainedAdapter, train_adapters
from harness.api.own_data import Examples
from harness.api.results import ResultTable, load_records, table, verify

__all__ = [
    "Examples",
    "ResultTable",
    "RunResult",
    "SweepResult",
    "TrainedAdapter",
    "load_records",
    "run",
    "run_sweep",
    "table",
    "train_adapters",
    "verify",
]

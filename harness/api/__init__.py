"""The Python API, which `import harness` offers: what the commands do, with values instead of printed lines."""

from harness.api.launches import RunResult, SweepResult, run, run_sweep
from harness.api.results import ResultTable, load_records, table, verify

__all__ = ["ResultTable", "RunResult", "SweepResult", "load_records", "run", "run_sweep", "table", "verify"]

"""What killed processes have left of an experiment, and nobody will come back for."""

from __future__ import annotations

from pathlib import Path

from harness.disk.temporary import drop_left_over
from harness.records.leases import NAME, drop_dead_in


def drop_all_left_over(results: Path) -> None:
    """Take away the unfinished files of processes that are gone, and their leases at records that are finished.

    Args:
        results: an experiment's folder; its records are `results/*/*`.
    """
    hidden = [path for depth in ("", "*/", "*/*/") for path in results.glob(f"{depth}.*")]
    for folder in {path.parent for path in hidden if path.suffix == ".tmp"}:
        drop_left_over(folder)
    for folder in {path.parent for path in hidden if path.name.startswith(f".{NAME}.")}:
        if (folder / "summary.json").exists():
            drop_dead_in(folder, is_done=True)

"""Write the golden tables: `PYTHONPATH=.. python -m tables_tests.write_golden` in tests/. Read the difference."""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.config.table import TableSettings
from harness.tables.build import build_experiments
from harness.tables.render.formats import FORMATS, render

from .features import feature_table
from .golden_experiments import write_all
from .test_render import GOLDEN, SPECS


def main() -> None:
    """Write every table as JSON, and one table in every format."""
    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        write_all(Path(folder))
        for name, (experiments, spec) in SPECS.items():
            settings = None if spec is None else TableSettings.model_validate(spec)
            table = build_experiments(Path(folder), experiments, settings, name=f"golden_{name}")
            (GOLDEN / f"{name}.json").write_text(render(table, "json"), encoding="utf-8")
    for name, format in FORMATS.items():
        (GOLDEN / f"features.{format.suffix}").write_text(render(feature_table(), name), encoding="utf-8")


if __name__ == "__main__":
    main()

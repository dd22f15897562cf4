"""What a command loads: a table is made, and help is shown, without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_records import make_experiment, write_sentences
from tables_tests.records_by_hand import text_metrics, write_records

from harness.tables.render.formats import FORMATS

CODE = """
import sys
from harness.cli import main
try:
    main()
finally:
    print("LOADED", *sorted(name for name in sys.modules if "." not in name), file=sys.stderr)
"""


def loaded_by(*arguments: str, cwd: Path) -> set[str]:
    """The top-level modules that are loaded when a command ends well."""
    result = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout
    (line,) = result.stderr.splitlines()
    return set(line.removeprefix("LOADED ").split())


HEAVY = {"torch", "torchaudio", "transformers", "tokenizers", "safetensors", "wandb", "jiwer"}


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_loads_no_torch(tmp_path: Path, format: str) -> None:
    write_records(tmp_path / "results", {"a": {0: text_metrics(0.5)}, "b": {0: text_metrics(0.6)}})
    loaded = loaded_by("table", "mine", "--format", format, cwd=tmp_path)
    assert "harness" in loaded
    assert loaded & (HEAVY | {"pandas", "scipy", "optuna", "matplotlib"}) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "mine"),
        ("report", "mine"),
        ("compare", "mine:a", "mine:b"),
        ("table", "mine", "--explain", "a", "target_accuracy"),
    ],
)
def test_reports_and_checks_load_no_torch(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    write_sentences(tmp_path / "sentences.jsonl")
    make_experiment(tmp_path / "results", tmp_path / "sentences.jsonl", {"a": 0.5, "b": 0.3}, name="mine")
    loaded = loaded_by(*arguments, cwd=tmp_path)
    assert "harness" in loaded
    assert loaded & (HEAVY - {"jiwer"}) == set()


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    loaded = loaded_by("--help", cwd=tmp_path)
    assert "harness" in loaded
    assert loaded & (HEAVY | {"pandas", "numpy", "yaml", "pydantic"}) == set()

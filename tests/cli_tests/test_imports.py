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


def loaded_by(*arguments: str, cwd: Path, code: int = 0) -> set[str]:
    """The top-level modules that are loaded when a command ends with an exit code."""
    result = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == code, result.stderr
    assert result.stdout or code
    line = result.stderr.splitlines()[-1]
    assert len(result.stderr.splitlines()) == (1 if code == 0 else 2), "a failed command says one line more"
    return set(line.removeprefix("LOADED ").split())


HEAVY = {"torch", "torchaudio", "transformers", "tokenizers", "safetensors", "wandb", "jiwer"}


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_loads_no_torch(tmp_path: Path, format: str) -> None:
    write_records(tmp_path / "results", {"a": {0: text_metrics(0.5)}, "b": {0: text_metrics(0.6)}})
    loaded = loaded_by("table", "mine", "--format", format, cwd=tmp_path)
    assert "harness" in loaded
    assert loaded & (HEAVY | {"pandas", "scipy", "optuna", "matplotlib"}) == set()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_corpus_that_does_not_fit_is_refused_before_torch_is_loaded(tmp_path: Path, command: str) -> None:
    (tmp_path / "s.csv").write_text("domain,text,label\na,one,x\nmovie,two,y\n", encoding="utf-8")
    (tmp_path / "e.yaml").write_text(
        "name: e\nbase: {data: {corpus: 'manifest:s.csv', source: [movie], target: a}, backbone: {recipe: text_small}, "
        "train: head}\narms: {head: {}}\nseeds: [0]\n",
        encoding="utf-8",
    )
    assert loaded_by(command, "e.yaml", cwd=tmp_path, code=2) & HEAVY == set()


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

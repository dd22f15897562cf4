"""The README's own strategy example is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

from tiny_text import RunCli, TinyText

README = Path(__file__).resolve().parents[2] / "README.md"


def code_block(language: str) -> str:
    """The README's first code block in a language."""
    found = re.search(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_strategy_example_is_short_and_runs(tiny_text_files: TinyText, run_cli: RunCli, tmp_path: Path) -> None:
    python, console = code_block("python"), code_block("console")
    assert len(python.splitlines()) + len(console.splitlines()) < 20
    (tmp_path / "mystrategies.py").write_text(python, encoding="utf-8")
    words = console.replace("\\\n", " ").replace("$ ", "").split()
    assert words[:2] == ["harness", "run"]
    overrides = words[3:]
    assert overrides
    options = [*overrides, "--arm", "gated", "--seed", "0", "--results"]
    done = run_cli("run", tiny_text_files.experiment, *options, tmp_path, env=tiny_text_files.env)
    assert done.returncode == 0, done.stderr
    assert "1 to train" in done.stdout
    assert "gated" in done.stdout


def test_tree_names_only_what_exists() -> None:
    text = README.read_text(encoding="utf-8")
    tree = text[text.index("## Where things are") : text.index("A trial's record")]
    root = README.parent
    modules = re.findall(r"^ {6}(\w[\w/]*(?:/|\.py)) ", tree, re.MULTILINE)
    assert len(modules) > 10
    assert [name for name in modules if not (root / "harness" / name).exists()] == []
    folders = re.findall(r"^ {4}(\w+)/(?: |$)", tree, re.MULTILINE)
    assert {"experiments", "results", "harness", "tests", "benchmarks", "docs"} <= set(folders)
    assert [name for name in folders if not (root / name).is_dir()] == []

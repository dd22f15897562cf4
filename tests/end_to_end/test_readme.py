"""The README's tree is that of the repository (its code blocks: tests/docs_tests)."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


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

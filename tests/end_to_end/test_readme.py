"""The README is short, and its tree is that of the repository (tests/docs_tests runs its code blocks)."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
MOST_BYTES = 8000


def test_is_short() -> None:
    assert README.stat().st_size <= MOST_BYTES


def test_tree_names_what_exists_and_nothing_else() -> None:
    text = README.read_text(encoding="utf-8")
    tree = text[text.index("## Where things are") : text.index("## Read on")]
    root = README.parent
    named = {
        folder: {name for line in lines for name in re.findall(r"(\w+)/(?= |$)", line)}
        for folder, lines in {
            root: re.findall(r"^ {4}(\S.*)$", tree, re.MULTILINE),
            root / "harness": re.findall(r"^ {6}(\S.*)$", tree, re.MULTILINE),
        }.items()
    }
    missing = [folder / name for folder, names in named.items() for name in names if not (folder / name).is_dir()]
    assert missing == []
    packages = {path.parent.name for path in (root / "harness").glob("*/__init__.py")}
    assert packages - named[root / "harness"] == set()

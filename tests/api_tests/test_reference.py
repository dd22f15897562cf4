"""The page of the Python API says what the docstrings say, and their examples are true."""

from __future__ import annotations

import doctest
import importlib.util
from pathlib import Path
from typing import Any

import pytest

import harness

ROOT = Path(__file__).resolve().parents[2]


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_api", ROOT / "docs" / "generate_api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_docstrings_give() -> None:
    page = (ROOT / "docs" / "reference" / "python-api.md").read_text(encoding="utf-8")
    assert page == generator().build_page(), "run: python docs/generate_api.py"
    assert all(f"`harness.{name}`" in page for name in harness.__all__ if name != "__version__")


@pytest.mark.parametrize("function", [harness.load_records, harness.table, harness.verify], ids=lambda f: f.__name__)
def test_examples_give_what_they_show(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (example,) = doctest.DocTestFinder().find(function, globs={"harness": harness})
    assert example.examples and doctest.DocTestRunner().run(example).failed == 0

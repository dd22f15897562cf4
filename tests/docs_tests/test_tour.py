"""The tour runs from start to end, and opens as a notebook."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from .following import ROOT, Reader, copy_repository

TOUR = ROOT / "docs" / "tour.py"


def test_it_is_made_of_cells() -> None:
    text = TOUR.read_text(encoding="utf-8")
    cells = re.split(r"^# %%", text, flags=re.MULTILINE)[1:]
    assert text.startswith("# %%")
    assert len(cells) > 15
    for cell in cells:
        kind, body = cell.split("\n", 1)
        is_prose = all(not line or line.startswith("#") for line in body.splitlines())
        assert is_prose == (kind == " [markdown]"), cell


@pytest.mark.docs
@pytest.mark.slow
@pytest.mark.timeout(700)
def test_it_runs(tmp_path: Path) -> None:
    copy_repository(tmp_path / "copy")
    reader = Reader(tmp_path / "copy", tmp_path / "home")
    shown = ("what does not follow from the records: []", r"\end{tabular}...")
    reader.run([sys.executable, "docs/tour.py"], shown, 0, "tour.py")

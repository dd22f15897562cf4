"""The files that say what this project is agree with one another, and the tested versions cover what is needed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import harness

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINNED = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))


def test_one_version_and_one_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["version"] == harness.__version__ == citation["version"]
    assert PROJECT["license"] == citation["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("extra", ["", "dev", "synthetic"])
def test_the_tested_version_of_each_requirement_is_one_that_is_admitted(extra: str) -> None:
    wanted = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    for requirement in map(Requirement, wanted):
        tested = PINNED.get(canonicalize_name(requirement.name))
        assert tested is not None, f"{requirement.name}: run .ci/write_constraints.py"
        assert requirement.specifier.contains(tested, prereleases=True), f"{requirement}: tested with {tested}"


def test_what_messages_say_to_install_is_what_is_admitted() -> None:
    """A requirement in quotes is one of an extra, and never this project: another one has its name on the index."""
    admitted = {line for lines in PROJECT["optional-dependencies"].values() for line in lines}
    for path in (ROOT / "harness").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert not set(re.findall(r"pip install '([^'{]+)'", source)) - admitted, path
        assert not re.search(r"pip install '?harness", source), path
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        assert not re.search(r"pip install '?harness", page.read_text(encoding="utf-8")), page


def test_the_notice_names_all_shipped_weights() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for weights in (ROOT / "harness" / "backbones" / "shipped").glob("*/weights.safetensors"):
        assert weights.parent.name in notice
    for results in (ROOT / "results").glob("*/table.json"):
        assert results.parent.name in notice


def test_commits_are_checked_with_the_environments_own_tools() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for hook in hooks:
        words = hook["entry"].replace(".venv/bin/", "$(BIN)/").split()
        assert " ".join(word for word in words if word != "--fix") in makefile

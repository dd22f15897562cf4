"""Damaged files of results: every command that reads them says so in one line, with the documented exit code."""

from __future__ import annotations

import json
import lzma
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_tests.conftest import Cli, cli

from harness.records.publishing import publish
from harness.records.store import RecordStore

__all__ = ["cli"]

NAME = "tiny_sweep"
QUICK = (("verify", NAME), ("status",))
SLOW = (("table", NAME), ("compare", f"{NAME}:frozen", NAME))  # with some kinds of damage
SLOWEST = (("report", NAME),)
NOT_READ = ("table.md", "table.json")  # by the slow commands, which build whole tables beside these
OF_REPORTS = ("search.json", "frozen.json", "sweep.json")  # what a report reads besides what a table reads
ALL = "HARNESS_CHAOS" in os.environ  # try all commands beside every file (`make chaos`)
FILES = ("experiment.json", "records.jsonl", "predictions.jsonl.xz", "search.json", "frozen.json", "sweep.json",
         "digests.json", "table.json", "table.md")  # fmt: skip


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": cut,
    "no UTF-8": lambda content: b"\xff\xfe\x80" + content,
    "a list": lambda content: b"[1, 2]\n",
    "deep": lambda content: b"[" * 100_000 + b"\n",
}
OF_LINES: dict[str, dict[str, Callable[[bytes], bytes]]] = {
    "records.jsonl": {"a bad line": lambda content: content.replace(b"\n", b"\n{no json\n", 1)},
    "predictions.jsonl.xz": {"a bad line": lambda content: lzma.compress(b"{no json\n")},
}


def replaced(**changes: Any) -> Callable[[bytes], bytes]:
    """Some keys of a JSON object replaced."""
    return lambda content: json.dumps(json.loads(content) | changes).encode()


WRONG = (
    ("experiment.json", replaced(arms={"a": 5})),
    ("experiment.json", replaced(launches=[{}])),
    ("experiment.json", replaced(table=[])),
    ("search.json", replaced(points=4)),
    ("search.json", replaced(points=[{}])),
    ("frozen.json", replaced(arms=[])),
    ("frozen.json", replaced(confirm={"seeds": "x"})),
    ("frozen.json", replaced(race=None)),
    ("sweep.json", replaced(arms=5)),
    ("sweep.json", replaced(storage=5)),
    ("sweep.json", replaced(objectives=[{"metric": 3}])),
    ("digests.json", replaced(files=3)),
    ("digests.json", replaced(taken=[{"records": 5}])),
    ("table.json", replaced(rows=[1])),
)


@pytest.fixture
def published(tiny_results: Path, tmp_path: Path) -> Path:
    """The tiny sweep, published, without its study: the folder."""
    shutil.copytree(tiny_results / NAME, tmp_path / "results" / NAME)
    store = RecordStore(tmp_path / "results", NAME)
    publish(store)
    for path in store.path.glob("study.db*"):
        path.unlink()
    return store.path


def odd_ends(cli: Cli, name: str, what: str, slow: bool) -> list[str]:
    """What the commands say that is neither success nor one plain line with exit code 1 or 2."""
    odd = []
    table, report = slow and (ALL or name not in NOT_READ), slow and (ALL or name in OF_REPORTS)
    for arguments in (*QUICK, *(SLOW if table else ()), *(SLOWEST if report else ())):
        result = cli(*arguments)
        if arguments[0] == "verify" and result.code == 0 and "sweep.json" not in what:  # no result stands on that file
            odd.append(f"{what}: verify does not find it")
        one_line = result.err.startswith("harness: ") and result.err.count("\n") == 1
        if result.code and (result.code not in (1, 2) or not one_line or "internal error" in result.err):
            odd.append(f"{what}: {arguments[0]}: {result.code}: {result.err}")
    return odd


@pytest.mark.slow
@pytest.mark.timeout(1800)  # it builds tables again and again
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_one_line(published: Path, cli: Cli, name: str) -> None:
    whole = (published / name).read_bytes()
    odd = []
    for what, damage in (DAMAGE | OF_LINES.get(name, {})).items():
        (published / name).write_bytes(damage(whole))
        odd += odd_ends(cli, name, f"{name}: {what}", slow=what == "a list")
    assert odd == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_parts_of_another_kind_are_one_line(published: Path, cli: Cli) -> None:
    odd = []
    for number, (name, damage) in enumerate(WRONG):
        whole = (published / name).read_bytes()
        (published / name).write_bytes(damage(whole))
        odd += odd_ends(cli, name, f"{number}: {name}", slow=ALL or number % 7 == 0)
        (published / name).write_bytes(whole)
    assert odd == []
    assert cli("verify", NAME).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table.md", "table.json"])
def test_a_folder_in_the_place_of_a_table_is_found(published: Path, cli: Cli, name: str) -> None:
    (published / name).unlink()
    (published / name).mkdir()
    assert f"{name}: it cannot be read (Is a directory)" in cli("verify", NAME).error

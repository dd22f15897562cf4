"""Published files that somebody else wrote: one line for everything that can be wrong with them."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_tests.conftest import Cli, cli

import harness.records.packed_predictions as packed_predictions
from harness.checks.verify import verify
from harness.errors import UserError
from harness.records.packed import RECORDS, PackedRecords
from harness.records.packed_predictions import PREDICTIONS, header
from harness.records.publishing import publish, unpack
from harness.records.store import RecordStore
from records_tests.test_publishing import store

__all__ = ["cli", "store"]


@pytest.fixture
def published(store: RecordStore) -> RecordStore:
    """The first trial has line 2."""
    publish(store)
    return store


def change_line(store: RecordStore, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the line of trial t0, and write it as another program would."""
    path = store.path / RECORDS
    lines = path.read_text(encoding="utf-8").splitlines()
    content = json.loads(lines[1])
    change(content)
    lines[1] = json.dumps(content, separators=(",", ":"))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def test_a_line_of_another_program_is_read(published: RecordStore) -> None:
    before = published.trial("t0").record()
    change_line(published, lambda content: None)
    assert published.trial("t0").record() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line.update(folder="../records"), "folder '../records'; choices: records, search"),
        (lambda line: line.update(folder=3), "folder 3; choices"),
        (lambda line: line.update(trial_id="../../x"), "trial_id '../../x'"),
        (lambda line: line.update(trial_id="/etc"), "trial_id '/etc'"),
        (lambda line: line.update(trial_id=".."), "trial_id '..'"),
        (lambda line: line.update(trial_id=""), "trial_id ''"),
        (lambda line: line.update(trial_id=["t0"]), "trial_id ['t0']"),
        (lambda line: line.update(trial_id="t 1 (best)"), "is in line 1 already"),
        (lambda line: line.update(version=2), "version 2; this harness reads version 1"),
        (lambda line: line.update(files=[]), "files: expected an object"),
        (lambda line: line["files"].update({"../../evil.py": "x"}), "files: '../../evil.py'"),
        (lambda line: line["files"].update({"/tmp/evil.py": "x"}), "files: '/tmp/evil.py'"),
        (lambda line: line["files"].update({".bashrc": "x"}), "files: '.bashrc'"),
        (lambda line: line["files"].update({"a\nb": "x"}), "files: 'a\\nb'"),
        (lambda line: line["files"].update({"predictions.jsonl": "x"}), "files: 'predictions.jsonl'"),
        (lambda line: line["files"].update({"summary.json": 3}), "files: summary.json: cannot be"),
        (lambda line: line["files"].update({"x.json": [float("nan")]}), "files: x.json: cannot be"),
        (lambda line: line["files"].update({"x.txt": "\ud800"}), "not a JSON line"),
        (lambda line: line.update(predictions="x"), "predictions: expected an object"),
        (lambda line: line["predictions"].update(sha256="0" * 64), "predictions: predictions.jsonl.xz has others"),
    ],
)
def test_wrong_lines(
    published: RecordStore, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """Nothing is written for any of them, inside or outside."""
    change_line(published, change)
    before = sorted(tmp_path.rglob("*"))
    for command in (lambda: unpack(published), lambda: verify(published.path.parent, "mine")):
        with pytest.raises(UserError) as caught:
            command()
        assert str(caught.value).startswith(f"{published.path / RECORDS}:2: ")
        assert message in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("summary.json", "{", "summary.json: not valid JSON"),
        ("summary.json", {"trial_id": "t0"}, "summary.json: state: Field required"),
        ("config.json", [1], "config.json: expected a JSON object"),
        ("config.json", "{", "config.json: not valid JSON"),
        ("config.json", None, "config.json: this line has no such file"),
    ],
)
def test_wrong_records(published: RecordStore, name: str, content: Any, message: str) -> None:
    change_line(published, lambda line: line["files"].update({name: content}) if content else line["files"].pop(name))
    with pytest.raises(UserError) as caught:
        published.trial("t0").record()
    assert f"{RECORDS}:2: {message}" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-9], f"{RECORDS}:3: the file ends in the middle of a line"),
        (lambda content: content + b"[1]\n", f"{RECORDS}:4: not a trial's line"),
        (lambda content: content + b"\n", f"{RECORDS}:4: not a JSON line"),
        (lambda content: content + b"\xff\xfe\n", f"{RECORDS}:4: not a JSON line"),
        (lambda content: content + b"[" * 100_000 + b"\n", f"{RECORDS}:4: not a JSON line"),
        (lambda content: content.replace(b"}\n", b"\n", 1), f"{RECORDS}:1: not a JSON line"),
    ],
)
def test_damaged_records(published: RecordStore, cli: Cli, damage: Callable[[bytes], bytes], message: str) -> None:
    path = published.path / RECORDS
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    for command in (("table", "mine"), ("verify", "mine"), ("publish", "mine"), ("publish", "--unpack", "mine")):
        result = cli(*command)
        assert result.code == 2 and message in result.error
    assert path.read_bytes() == damaged


def packed(*pieces: bytes) -> bytes:
    return lzma.compress(b"".join(pieces))


T0 = header(("records", "t0"), 3) + b"abc"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "the file is cut short"),
        (packed(T0)[:-20], "the file is cut short"),
        (b"PK\x03\x04 not xz at all", "not a readable .xz file"),
        (packed(T0)[:-2] + b"XX", "not a readable .xz file"),
        (packed(T0) + b"more", "more after the end"),
        (packed(T0, T0), "trial records/t0 appear twice"),
        (packed(header(("records", "t0"), 10**12)), "trial records/t0 are cut short"),
        (packed(b'{"folder": "records", "trial_id": "t0", "bytes": -5}\n'), "without a line"),
        (packed(b'{"folder": "records", "trial_id": ["t0"], "bytes": 5}\n'), "without a line"),
        (packed(b"[" * 9000), "without a line"),
        (packed(header(("search", "t0"), 0)), "has none of this trial"),
        (packed(header(("records", "t 1 (best)"), 3), b"abc"), "has others than those"),
    ],
)
def test_damaged_predictions(published: RecordStore, cli: Cli, content: bytes | None, message: str) -> None:
    """The table needs none of them; whatever does says one line."""
    path = published.path / PREDICTIONS
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert cli("table", "mine").code in (0, 2)
    for command in (("verify", "mine"), ("publish", "mine"), ("publish", "--unpack", "mine")):
        result = cli(*command)
        assert result.code == 2 and PREDICTIONS in result.error and message in result.error
    assert path.exists() == (content is not None)


@pytest.mark.slow
def test_a_small_file_that_swells_is_refused(published: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_predictions, "MAX_BYTES", 10**6)
    path = published.path / PREDICTIONS
    path.write_bytes(packed(header(("records", "t0"), 10**8), b"a" * 10**8))
    assert path.stat().st_size < 10**5
    with pytest.raises(UserError, match="holds more than 1,000,000 bytes"):
        PackedRecords(published.path / RECORDS).trial(("records", "t0")).read("predictions.jsonl")

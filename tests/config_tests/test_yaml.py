"""YAML as a research config needs it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from harness.config.yaml import parse_yaml, read_yaml
from harness.errors import UserError

FLOATS = {"1e-3": 0.001, "3E+2": 300.0, "-2e5": -200000.0, "1.5e-3": 0.0015, "1.": 1.0, ".5": 0.5, "-.5e1": -5.0}
OTHERS = {"3": 3, "null": None, "true": True, "e5": "e5", "1e": "1e", "'1e-3'": "1e-3", "1e-3x": "1e-3x"}


@pytest.mark.parametrize(
    ("text", "value"), [*FLOATS.items(), ("1_000.5", 1000.5), (".inf", math.inf), ("-.inf", -math.inf)]
)
def test_floats(text: str, value: float) -> None:
    parsed = parse_yaml(f"x: {text}", "here")["x"]
    assert type(parsed) is float
    assert parsed == value
    assert math.isnan(parse_yaml(".nan", "here"))


@pytest.mark.parametrize("number", [1e-3, 0.1, 5e-324, 1.7976931348623157e308, -2.5e-7, 3.0])
def test_every_float_python_prints_is_read_back(number: float) -> None:
    for text in (repr(number), f"{number:.17e}", f"{number:.17E}"):
        parsed = parse_yaml(text, "here")
        assert type(parsed) is float, text
        assert parsed == number


@pytest.mark.parametrize(
    ("text", "value"), [*OTHERS.items(), ("cuda:0", "cuda:0"), ("{from: 2}", {"from": 2}), ("[0, 1]", [0, 1])]
)
def test_other_values_stay_what_they_are(text: str, value: Any) -> None:
    parsed = parse_yaml(text, "here")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "file:3: key 'a' is given twice"),
        ("base:\n  optim: {lr: 1, warmup: 0, lr: 2}\n", "file:2: key 'lr' is given twice"),
        ("a: 1\n'a': 2\n", "file:2: key 'a' is given twice"),
        ("a: [1, 2\n", "file:2: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n b: 2\n", "file:2: mapping values are not allowed here"),
        ("a: @x\n", "file:1: found character '@' that cannot start any token"),
        ("a: *nobody\n", "file:1: found undefined alias 'nobody'"),
        ("a: 1\n---\nb: 2\n", "file:2: but found another document"),
        ("? [1, 2]\n: 3\n", "file:1: found unhashable key"),
        ("a: \x00\n", "file: unacceptable character #x0000: special characters are not allowed"),
    ],
)
def test_mistakes_name_the_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "file")
    assert str(caught.value) == message


def test_no_code_is_run() -> None:
    with pytest.raises(UserError, match="could not determine a constructor for the tag"):
        parse_yaml("!!python/object/apply:os.getcwd []", "file")


def test_merge_keys_and_equal_keys_in_different_mappings() -> None:
    text = "x: &x {lr: 1, warmup: 2}\ny: {<<: *x, lr: 3}\nz: {<<: *x}\n"
    first = {"lr": 1, "warmup": 2}
    assert parse_yaml(text, "file") == {"x": first, "y": {"lr": 3, "warmup": 2}, "z": first}


def test_read_yaml(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text("naïve: 1e-3\n", encoding="utf-8")
    assert read_yaml(path) == {"naïve": 0.001}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("folder", "cannot be read: Is a directory"),
        (b"caf\xe9: 1\n", "cannot be read: 'utf-8' codec can't decode"),
        (b"- 1\n- 2\n", "expected a mapping of settings at the top level, got list"),
        (b"", "expected a mapping of settings at the top level, got NoneType"),
        (b"a: 1\na: 2\n", "2: key 'a' is given twice"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: bytes | str | None, message: str) -> None:
    path = tmp_path / "x.yaml"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:")
    assert message in text
    assert "\n" not in text

"""YAML as a research config needs it."""

from __future__ import annotations

import math
import os
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


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)
MERGE_BOMB = "a0: &a0 {k0: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30)
)
LADDER = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{y: *a{n - 1}}}\n" for n in range(1, 2000))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q: 2001-01-01", "file:1: a date is no setting; put it into quotes to make it a text"),
        ("q: 2001-99-99", "file:1: a date is no setting; put it into quotes to make it a text"),
        ("q: !!timestamp x", "file:1: a date is no setting"),
        ("q: !!binary aGk=", "file:1: the YAML tag of this value is not supported; leave it out"),
        ("q: !!set {a, b}", "file:1: the YAML tag of this value is not supported; leave it out"),
        ("q: !!omap [a: 1]", "file:1: the YAML tag of this value is not supported; leave it out"),
        ("q: !own x", "file:1: could not determine a constructor for the tag '!own'"),
        ("q: !!int x", "file: a value is not what its form or tag says: invalid literal for int()"),
        (f"q: {'9' * 5000}", "file: a value is not what its form or tag says: Exceeds the limit"),
        (f"q: {'9' * 31}", "file: q: a whole number of more than 30 digits is no setting"),
        (f"q: {'[' * 50}{']' * 50}", "file: it is nested more than 40 levels deep"),
        (f"q: {'[' * 5000}{']' * 5000}", "file: it is nested more than 40 levels deep"),
        (LADDER, "file: it is nested more than 40 levels deep"),
        ("q: &a {b: [1, *a]}", "file: q.b.1: the value holds itself (an alias within its own anchor)"),
        ("q: &a [*a]", "file: q.0: the value holds itself (an alias within its own anchor)"),
        (BOMB, "file: it holds more than 100,000 values (an alias counts as often as it is used)"),
        ('q: ["a\\0b"]', "file: q.0: the character U+0000 steers the output and is not shown; leave it out"),
        ('q: "\\ud800"', "file: q: the character U+D800 steers the output"),
        ('"\\e[31mred": 1', r"file: the key '\x1b[31mred': the character U+001B steers the output"),
        ("on: 1", "file: the key True is no text; put it into quotes to make it one"),
        ("a: {3: 1}", "file: a: the key 3 is no text; put it into quotes to make it one"),
    ],
)
def test_what_is_more_than_settings_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "file")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_merges_of_merges_do_not_multiply() -> None:
    assert parse_yaml(MERGE_BOMB, "file")["a29"] == {"k0": 1}


def test_texts_of_all_scripts_pass() -> None:
    text = "a: [مرحبا, שלום, 'می‌خواهم', 👩‍👩‍👧, 'Ελληνικά λ=½', \"two\\nlines\"]"
    assert len(parse_yaml(text, "file")["a"]) == 6


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
        (b"a: 1\ncaf\xe9: 1\n", "x.yaml:2: the byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("a: 1\n".encode("utf-16"), "x.yaml:1: the byte 0xff is not UTF-8; save the file as UTF-8"),
        ("pipe", "it is a pipe or a device and not a file"),
        (b"a: 1\n#" + b" " * 4_000_000, "it has more than 4,000,000 bytes"),
        (b"- 1\n- 2\n", "expected a mapping of settings at the top level, got list"),
        (b"", "it is empty; expected a mapping of settings"),
        (b"a: 1\na: 2\n", "2: key 'a' is given twice"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: bytes | str | None, message: str) -> None:
    path = tmp_path / "x.yaml"
    if content == "folder":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:")
    assert message in text
    assert "\n" not in text

"""The runner reads blocks as its convention says, and notices a page that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from .blocks import Block, Command, blocks_of, edited, missing_lines
from .following import Reader, corpora_fetched_by


def page_of(folder: Path, text: str) -> tuple[Block, ...]:
    page = folder / "page.md"
    page.write_text(text.replace("'''", "```"), encoding="utf-8")
    return blocks_of(page)


def test_each_kind_of_block_is_told_apart(tmp_path: Path) -> None:
    text = "'''{}\nx\n'''\n"
    infos = ["python", "python file=a.py", "diff file=a.py", 'console skip="needs a GPU"', "text", "yaml", ""]
    blocks = page_of(tmp_path, "".join(text.format(info) for info in infos))
    assert [block.action for block in blocks] == ["python", "write", "edit", "skip", "show", "show", "show"]
    assert blocks[3].skip == "needs a GPU"
    assert [block.line for block in blocks[:2]] == [1, 4]


@pytest.mark.parametrize("text", ["'''python\nx\n", "'''python fil=a.py\nx\n'''\n", "'''python skip=\nx\n'''\n"])
def test_a_wrong_fence_is_an_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"page\.md:1"):
        page_of(tmp_path, text)


def test_commands_have_their_continuation_and_their_output(tmp_path: Path) -> None:
    (block,) = page_of(tmp_path, "'''console\n$ one \\\n    two\nout\n...\n$ three\n'''\n")
    assert block.commands == (Command("one \\\n    two", ("out", "...")), Command("three", ()))


def test_output_is_compared_by_line() -> None:
    output = "a  b\n[1/20] residual_add: 55.1 % (4 s)\n"
    assert missing_lines(("a b", "[1/20] residual_add: ... (...)", "..."), output) == []
    assert missing_lines(("a c", "a ... residual_add", "..."), output) == ["a c", "a ... residual_add"]


def test_an_edit_finds_its_place() -> None:
    text = "a = {\n    1,\n    2,\n}\nb = {\n}\n"
    assert edited(text, " a = {\n+    0,\n", "p") == "a = {\n    0,\n    1,\n    2,\n}\nb = {\n}\n"
    assert edited(text, "     2,\n+    3,\n }\n", "p") == "a = {\n    1,\n    2,\n    3,\n}\nb = {\n}\n"
    assert edited(text, "-    1,\n+    9,\n", "p") == "a = {\n    9,\n    2,\n}\nb = {\n}\n"


@pytest.mark.parametrize("diff", [" }\n+x\n", " c\n+x\n", "-c\n", "@@ 1\n"])
def test_an_edit_without_its_place_is_an_error(diff: str) -> None:
    with pytest.raises(ValueError, match="place"):
        edited("a = {\n}\nb = {\n}\n", diff, "place")


def test_fetched_corpora_are_found(tmp_path: Path) -> None:
    text = "'''console\n$ harness data fetch vader asterisk --allow-other-version\n$ harness doctor\n'''\n"
    assert corpora_fetched_by(page_of(tmp_path, text)) == ["vader", "asterisk"]


@pytest.mark.parametrize(
    "text",
    [
        "'''console\n$ false\n'''\n",
        "'''console exit=2\n$ true\n'''\n",
        "'''console\n$ echo one\ntwo\n'''\n",
        "'''python\nraise SystemExit(1)\n'''\n",
        "'''python file=../a.py\nx\n'''\n",
    ],
)
def test_a_wrong_page_fails(text: str, tmp_path: Path) -> None:
    (block,) = page_of(tmp_path, text)
    (tmp_path / "copy").mkdir()
    reader = Reader(tmp_path / "copy", tmp_path / "home")
    with pytest.raises(AssertionError, match="place"):
        reader.follow(block, "place")


def test_a_right_page_is_followed(tmp_path: Path) -> None:
    text = (
        "'''python file=pkg/a.py\nx = 1\n'''\n'''diff file=pkg/a.py\n x = 1\n+y = 2\n'''\n"
        "'''console\n$ python -c 'import pkg.a; print(pkg.a.y)'\n2\n'''\n'''python\nimport pkg.a\n'''\n"
    )
    (tmp_path / "copy").mkdir()
    reader = Reader(tmp_path / "copy", tmp_path / "home")
    for block in page_of(tmp_path, text):
        reader.follow(block, "place")

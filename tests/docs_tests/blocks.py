"""The fenced code blocks of a Markdown page, and what each of them asks the runner to do.

    ```python file=PATH     the whole file is written to PATH (any language)
    ```diff file=PATH       PATH is edited: see `edited`
    ```console              every line that starts with `$ ` is run; the other lines must occur in its output
    ```python               the block is run by Python
    ```text                 any other block is shown only

After the language, `exit=N` says with which code a block's last command ends (0 by default), and `skip="REASON"` says
why a block is not run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^`]*)$")


@dataclass(frozen=True)
class Command:
    """One shell command of a console block, and the lines that its output must show."""

    text: str
    expected: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """One fenced block: its first line's number in the page, its language and options, and its text."""

    line: int
    language: str
    text: str
    file: str | None = None
    exit_code: int = 0
    skip: str | None = None

    @property
    def action(self) -> str:
        """What is done with it: `skip`, `write`, `edit`, `console`, `python` or `show`."""
        if self.skip is not None:
            return "skip"
        if self.file is not None:
            return "edit" if self.language == "diff" else "write"
        return self.language if self.language in ("console", "python") else "show"

    @property
    def commands(self) -> tuple[Command, ...]:
        """The commands of a console block; a trailing backslash continues a command on the next line."""
        return tuple(_commands(self.text))


def blocks_of(page: Path) -> tuple[Block, ...]:
    """All fenced blocks of a page, in order.

    Raises:
        ValueError: a fence is never closed, or its options cannot be read.
    """
    blocks: list[Block] = []
    opened: tuple[int, str, str] | None = None
    body: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence is not None:
                opened, body = (number, fence["info"].strip(), fence["indent"]), []
        elif fence is not None and not fence["info"].strip():
            blocks.append(_block(opened[0], opened[1], body, f"{page.name}:{opened[0]}"))
            opened = None
        else:
            body.append(line.removeprefix(opened[2]))
    if opened is not None:
        raise ValueError(f"{page.name}:{opened[0]}: this block is never closed")
    return tuple(blocks)


def _block(line: int, info: str, body: list[str], place: str) -> Block:
    language, *words = shlex.split(info) or [""]
    options: dict[str, str] = {}
    for word in words:
        name, separator, value = word.partition("=")
        if name not in ("file", "exit", "skip") or not separator or not value:
            raise ValueError(f"{place}: cannot read {word!r}; choices: file=PATH, exit=N, skip=REASON")
        options[name] = value
    text = "".join(f"{line}\n" for line in body)
    return Block(line, language, text, options.get("file"), int(options.get("exit", "0")), options.get("skip"))


def _commands(text: str) -> Iterator[Command]:
    command, continued = "", False
    expected: list[str] = []
    for line in text.splitlines():
        if continued:
            command, continued = f"{command}\n{line}", line.endswith("\\")
        elif line.startswith("$ "):
            if command:
                yield Command(command, tuple(expected))
            command, expected, continued = line[2:], [], line.endswith("\\")
        elif command:
            expected.append(line)
        else:
            raise ValueError(f"a console block begins with a line that is no command: {line!r}")
    if command:
        yield Command(command, tuple(expected))


def missing_lines(expected: tuple[str, ...], output: str) -> list[str]:
    """The expected lines that the output does not show. `...` stands for anything on its line; blanks count as one."""
    shown = "\n".join(" ".join(line.split()) for line in output.splitlines())
    missing = []
    for line in expected:
        parts = [re.escape(" ".join(part.split())) for part in line.split("...")]
        if not re.search(r"[^\n]*".join(parts), shown):
            missing.append(line)
    return missing


def edited(text: str, diff: str, place: str) -> str:
    """A file's text after the edit that a diff block describes.

    A line that starts with a blank is context: it must be the line after the last one met, or occur exactly once in the
    file. `-` lines are found the same way and go; `+` lines are put after the line that precedes them in the block.

    Raises:
        ValueError: a context or `-` line does not occur, or occurs more than once.
    """
    lines, position = text.splitlines(), 0  # position: where the next added line goes
    for entry in diff.splitlines():
        if not entry.strip():
            continue
        mark, content = entry[0], entry[1:]
        if mark == "+":
            lines.insert(position, content)
            position += 1
            continue
        if mark not in " -":
            raise ValueError(f"{place}: {entry!r} starts with none of ' ', '+', '-'")
        if position < len(lines) and lines[position] == content:
            found = position
        elif lines.count(content) == 1:
            found = lines.index(content)
        else:
            raise ValueError(f"{place}: {content!r} occurs {lines.count(content)} times in the file, not once")
        if mark == "-":
            del lines[found]
        position = found + (mark == " ")
    return "".join(f"{line}\n" for line in lines)

"""Follow a page as its reader does: run its blocks in order, in a temporary copy of the repository."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from harness.data.cache import data_cache

from .blocks import Block, blocks_of, edited, missing_lines

ROOT = Path(__file__).resolve().parents[2]
COMMAND_TIMEOUT_S = 600.0
NEVER_COPIED = ("benchmarks",)


def pages() -> tuple[Path, ...]:
    """The pages whose blocks are run."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").glob("tutorials/*.md"))]
    return (*found, *sorted((ROOT / "docs").glob("how-to/*.md")))


def corpora_fetched_by(blocks: tuple[Block, ...]) -> list[str]:
    """The corpora that a page's own commands fetch (`harness data fetch NAME`): without them it cannot be followed."""
    names: list[str] = []
    for block in blocks:
        if block.action == "console":
            for command in block.commands:
                words = shlex.split(command.text, comments=True)
                if words[:3] == ["harness", "data", "fetch"]:
                    names += [word for word in words[3:] if not word.startswith("-")]
    return names


def launchers_used_by(blocks: tuple[Block, ...]) -> list[str]:
    """The launchers that a page's own commands name (`--launcher NAME`)."""
    names: list[str] = []
    for block in blocks:
        if block.action == "console":
            for command in block.commands:
                words = shlex.split(command.text, comments=True)
                names += [name for option, name in pairwise(words) if option == "--launcher"]
    return names


def copy_repository(folder: Path) -> None:
    """Copy what git carries, or would carry, of this working tree."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listing.stdout.split("\0"):
        source = ROOT / name
        if name and name.split("/")[0] not in NEVER_COPIED and source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


class Reader:
    """Someone at a shell in a copy of the repository, with `harness` and `python` on the path."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        programs = home / "bin"
        programs.mkdir(parents=True)
        for name, arguments in {"harness": "-m harness", "python": ""}.items():
            script = programs / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n', encoding="utf-8")
            script.chmod(0o755)
        # What pytest tells its own processes is not for those that a page starts (they would share files with it).
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "HARNESS_DATA": str(data_cache()),
            "HARNESS_CACHE": str(home / "cache"),
            "HOME": str(home),
            "COLUMNS": "200",
        }

    def follow(self, block: Block, place: str) -> None:
        """Do what one block says.

        Raises:
            AssertionError: a command ends with another code, or does not show what the page shows.
            ValueError: an edit does not fit its file.
        """
        match block.action:
            case "write" | "edit":
                self._write(block, place)
            case "console":
                *first, last = block.commands
                for command, exit_code in (*((one, 0) for one in first), (last, block.exit_code)):
                    text = command.text
                    self.run(["bash", "-c", text], command.expected, exit_code, f"{place}: {text}")
            case "python":
                self.run([sys.executable, "-c", block.text], (), block.exit_code, place)

    def _write(self, block: Block, place: str) -> None:
        assert block.file is not None
        path = (self.folder / block.file).resolve()
        assert path.is_relative_to(self.folder.resolve()), f"{place}: {block.file} lies outside of the copy"
        if block.action == "edit":
            path.write_text(edited(path.read_text(encoding="utf-8"), block.text, place), encoding="utf-8")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")

    def run(self, command: list[str], expected: tuple[str, ...], exit_code: int, place: str) -> None:
        """Run a command; raises AssertionError as `follow` does."""
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the shell's children, too
            output, _ = process.communicate()
            raise AssertionError(f"{place}\nwas not over after {COMMAND_TIMEOUT_S:.0f} s:\n{output}") from None
        assert process.returncode == exit_code, f"{place}\nended with {process.returncode}, not {exit_code}:\n{output}"
        missing = missing_lines(expected, output)
        assert not missing, f"{place}\ndid not show {missing}, but:\n{output}"


def follow_page(page: Path, folder: Path) -> None:
    """Run all blocks of a page, in order, in a copy of the repository below `folder`."""
    copy = folder / "copy"
    copy_repository(copy)
    reader = Reader(copy, folder / "home")
    for block in blocks_of(page):
        reader.follow(block, f"{page.name}:{block.line}")

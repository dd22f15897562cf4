"""Write docs/reference/python-api.md from the docstrings of what `import harness` offers.

python docs/generate_api.py            write the page
python docs/generate_api.py --check    end with 1 if the page is not what the docstrings give
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
from harness.tables.model import Cell, Comparison, TrialRef

PAGE = Path(__file__).resolve().parent / "reference" / "python-api.md"
FUNCTIONS = ("run", "run_sweep", "load_records", "table", "verify", "train_adapters")
RESULTS = ("RunResult", "SweepResult", "ResultTable", "TrainedAdapter")
INPUTS = ("Examples",)
PARTS = {"Cell": Cell, "Comparison": Comparison, "TrialRef": TrialRef}
ERRORS = ("UserError", "TrialError")
TYPES = {  # short names of the code, spelt out
    "Source": "str | Path | Mapping",
    "Overrides | None": "Mapping[str, Any] | Iterable[str] | None",
    "Tell | None": "Callable[[str], object] | None",
    "Sets": "Examples | Mapping[str, Examples]",
    "Sets | None": "Examples | Mapping[str, Examples] | None",
    "Named": "Mapping[str, Mapping] | Iterable[tuple[str, Mapping]]",
    "OwnLoss | None": "Callable[[Tensor, Tensor], Tensor] | None",
    "Call | None": "Callable[[nn.Module, Tensor, Tensor], Tensor] | None",
    "OnEpoch | None": "Callable[[str, Mapping[str, float]], bool | None] | None",
}
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Example")
INTRODUCTION = """\
# Python API

Everything that the commands do can be called from a script or a notebook. `import harness` loads neither torch nor
pandas; a function loads what it needs. All file names are relative to the current folder. This page is written from the
docstrings by `docs/generate_api.py`.

A script that trains in several processes (`jobs=2` or more) needs the usual guard, because each of them imports it:

    if __name__ == "__main__":
        harness.run("my_experiment.yaml", jobs=2)
"""


def build_page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## Functions\n"]
    parts += [describe(f"harness.{name}", getattr(harness, name)) for name in FUNCTIONS]
    parts.append("## What they take\n")
    parts += [describe_class(f"harness.{name}", getattr(harness, name)) for name in INPUTS]
    parts.append("## What they return\n")
    parts += [describe_class(f"harness.{name}", getattr(harness, name)) for name in RESULTS]
    parts.append("## Cells of a table\n")
    parts += [describe_class(name, cls) for name, cls in PARTS.items()]
    parts.append("## Errors\n")
    parts += [describe_class(f"harness.{name}", getattr(harness, name)) for name in ERRORS]
    return "\n".join(parts).rstrip() + "\n"


def describe(title: str, function: Any, level: int = 3) -> str:
    """A function or a method: its signature, then its docstring."""
    return f"{'#' * level} `{title}`\n\n{code(signature(title, function))}\n\n{markdown(function.__doc__)}\n"


def signature(title: str, function: Any) -> str:
    """The call, an argument a line where it does not fit one line."""
    found = inspect.signature(function)
    arguments: list[str] = []
    for argument in list(found.parameters.values()):
        if argument.name == "self":
            continue
        if argument.kind is argument.KEYWORD_ONLY and not any(item.startswith("*") for item in arguments):
            arguments.append("*")
        star = "*" if argument.kind is argument.VAR_POSITIONAL else ""
        default = "" if argument.default is argument.empty else f" = {argument.default!r}"
        arguments.append(f"{star}{argument.name}: {TYPES.get(argument.annotation, argument.annotation)}{default}")
    end = f") -> {found.return_annotation}"
    line = f"{title}({', '.join(arguments)}{end}"
    return line if len(line) <= 100 else "\n".join([f"{title}(", *(f"    {item}," for item in arguments), end])


def describe_class(title: str, cls: type) -> str:
    """A class: its docstring, then its own properties and methods."""
    parts = [f"### `{title}`\n\n{markdown(cls.__doc__)}\n"]
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            parts.append(f"#### `.{name}`\n\n{markdown(member.__doc__)}\n")
        elif inspect.isfunction(member):
            parts.append(describe(f".{name}", member, level=4))
    return "\n".join(parts)


def code(text: str) -> str:
    return f"```text\n{text}\n```"


def markdown(docstring: str | None) -> str:
    """A docstring in Markdown: sections as bold words, arguments as a list, examples as a block."""
    assert docstring, "everything public is described"
    return "\n\n".join(part for name, text in sections(docstring) if (part := _section(name, text)))


def sections(docstring: str) -> Iterator[tuple[str, str]]:
    """The text of each section by its name; that of the description is empty."""
    name = ""
    lines: list[str] = []
    for line in inspect.cleandoc(docstring).splitlines():
        if line.rstrip(":") in SECTIONS and line.endswith(":"):
            yield name, "\n".join(lines).strip("\n")
            name, lines = line.rstrip(":"), []
        else:
            lines.append(line)
    yield name, "\n".join(lines).strip("\n")


def _section(name: str, text: str) -> str:
    text = textwrap.dedent(text)
    if name in ("Args", "Attributes", "Raises"):
        return f"**{name}**\n\n{_items(text)}"
    if name == "Example":
        return f"**Example**\n\n{code(text)}"
    return f"**{name}.** {text}" if name else text


def _items(text: str) -> str:
    """`name: what it is`, with indented lines below, as a list."""
    lines = []
    for line in text.splitlines():
        start = re.match(r"([\w, ]+): (.*)", line)
        lines.append(f"- `{start[1]}`: {start[2]}" if start and not line.startswith(" ") else f"  {line.strip()}")
    return "\n".join(lines)


def main() -> int:
    page = build_page()
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") == page:
            return 0
        print(f"{PAGE}: not what the docstrings give; run: python docs/generate_api.py", file=sys.stderr)
        return 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

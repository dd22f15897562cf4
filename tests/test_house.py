"""The house: which room of harness/ may import which. Every import counts: lazy ones, and those for types.

The graph is read from the source, so nothing is imported here.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

HARNESS = Path(__file__).parents[1] / "harness"
ORDER = (
    ("errors", "seeding", "disk", "instantiate", "metrics", "tensors", "watchdog", "garbage"),
    *(("config",), ("data",), ("adapters",), ("backbones",), ("tasks",), ("statistics",), ("records",), ("tables",)),
    *(("training",), ("engines",), ("launch",), ("search",), ("sweep",), ("figures",), ("checks",), ("report",)),
    *(("tracking",), ("api",), ("cli",)),
)
"""Rooms from the bottom up: a room imports from those before it, and those of one place (files) in any direction."""
ENTRANCES = ("harness/__init__.py", "harness/__main__.py")  # the package's own names and `python -m harness`

Graph = Mapping[str, frozenset[str]]


@cache
def graph() -> Graph:
    """File -> the files of harness/ that it imports, as paths from the repository's root."""
    # templates/ holds what `harness init` copies: files of other people's projects, no part of this one.
    paths = [path for path in sorted(HARNESS.rglob("*.py")) if HARNESS / "templates" not in path.parents]
    files = {path.relative_to(HARNESS.parent).as_posix(): path for path in paths}
    return {name: frozenset(imports_of(name, path.read_text("utf-8"), files.keys())) for name, path in files.items()}


def imports_of(name: str, source: str, files: Collection[str]) -> Iterator[str]:
    """The files that a file's source imports, wherever the import stands; `from package import module` is the module's.

    Args:
        name: the file's own path.
        source: its text.
        files: all paths there are.
    """
    by_module = {module_of(path): path for path in files}
    package = module_of(name) if name.endswith("__init__.py") else module_of(name).rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            targets = [f"{base}.{alias.name}" for alias in node.names]
            targets = [target if target in by_module else base for target in targets]
        else:
            continue
        yield from (by_module[target] for target in targets if target in by_module and by_module[target] != name)


def module_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def room_of(path: str) -> str:
    return Path(path).parts[1].removesuffix(".py")


def arrows(found: Graph) -> list[tuple[str, str]]:
    """Every import but those of the entrances, and of the package's own names."""
    return [(a, b) for a, bs in found.items() if a not in ENTRANCES for b in sorted(bs) if b not in ENTRANCES]


def circles(found: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other: what is left when nodes without predecessors or successors are gone."""
    reach: dict[str, set[str]] = {node: set(found[node]) for node in found}
    changed = True
    while changed:
        changed = False
        for node, targets in reach.items():
            more = set().union(*(reach.get(target, set()) for target in targets)) - targets
            changed |= bool(more)
            targets |= more
            reach[node] = targets
    groups = {tuple(sorted(m for m in targets if node in reach.get(m, ()))) for node, targets in reach.items()}
    return [list(group) for group in sorted(groups) if group]


def within(found: Graph, folder: str) -> Mapping[str, frozenset[str]]:
    """The graph between the files and sub-packages that lie directly in a folder, named by their first part."""
    edges: dict[str, set[str]] = defaultdict(set)
    for a, b in arrows(found):
        if a.startswith(f"{folder}/") and b.startswith(f"{folder}/"):
            first, second = (path.removeprefix(f"{folder}/").split("/")[0] for path in (a, b))
            if first != second and "__init__.py" not in (first, second):
                edges[first].add(second)
    return {node: frozenset(targets) for node, targets in edges.items()}


def upward(found: Graph) -> set[tuple[str, str]]:
    """Imports of a room that lies above one's own."""
    height = {room: number for number, rooms in enumerate(ORDER) for room in rooms}
    return {(a, b) for a, b in arrows(found) if height[room_of(b)] > height[room_of(a)]}


def test_every_room_has_its_place() -> None:
    rooms = {room for rooms in ORDER for room in rooms}
    assert {room_of(path) for path in graph() if path not in ENTRANCES} == rooms


def test_imports_go_down() -> None:
    assert upward(graph()) == set()


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles({name: targets - set(ENTRANCES) for name, targets in graph().items()}) == []


@pytest.mark.parametrize("folder", sorted({Path(path).parent.as_posix() for path in graph()}))
def test_no_packages_import_each_other_in_a_circle(folder: str) -> None:
    """Between the rooms, and inside each room between its files and sub-packages."""
    assert circles(within(graph(), folder)) == []


def test_few_modules_lie_outside_of_the_rooms() -> None:
    modules = [path.name for path in HARNESS.glob("*.py") if f"harness/{path.name}" not in ENTRANCES]
    assert len(modules) <= 6, f"a module at the top belongs into a room: {', '.join(sorted(modules))}"


# --- the reading of the graph can fail --------------------------------------------------------------------------------

FILES = ("harness/__init__.py", "harness/a/__init__.py", "harness/a/b.py", "harness/a/c.py", "harness/d.py")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import harness.d", {"harness/d.py"}),
        ("from harness import d", {"harness/d.py"}),
        ("from harness.a import b, Name", {"harness/a/b.py", "harness/a/__init__.py"}),
        ("from harness.a.b import Name as Other", {"harness/a/b.py"}),
        ("def f():\n    from harness.a.b import g", {"harness/a/b.py"}),
        ("if TYPE_CHECKING:\n    from harness.d import T", {"harness/d.py"}),
        ("from . import b", {"harness/a/b.py"}),
        ("from .b import x", {"harness/a/b.py"}),
        ("from .. import d\nfrom ..d import y", {"harness/d.py"}),
        ("from harness.a.c import itself\nimport torch", set()),
    ],
)
def test_imports_are_found(source: str, expected: set[str]) -> None:
    assert set(imports_of("harness/a/c.py", source, FILES)) == expected


def test_circles_are_found() -> None:
    graph = {name: frozenset(targets) for name, targets in {"a": "bd", "b": "c", "c": "b", "d": "", "e": "e"}.items()}
    assert circles(graph) == [["b", "c"], ["e"]]


def test_an_arrow_up_is_found() -> None:
    found = {"harness/training/x.py": frozenset({"harness/engines/y.py", "harness/errors.py"})}
    assert upward(found) == {("harness/training/x.py", "harness/engines/y.py")}

"""YAML as a research config needs it: `1e-3` is a number, a key given twice is an error, errors name the line.

A file is data that somebody else may have written: it holds texts, numbers, lists and mappings and nothing else, and no
more of them than a config needs (`check_tree`), whatever its aliases and tags ask for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from harness.config.trees import MAX_DEPTH, check_tree
from harness.errors import UserError, first_line

MAX_BYTES = 4_000_000

_FLOAT = re.compile(
    r"""^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
        |[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?\.(?:inf|Inf|INF)
        |\.(?:nan|NaN|NAN))$""",
    re.X,
)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without its traps: PyYAML alone reads `1e-3` as a string and keeps the last of two equal keys."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:  # as written: a merge (`<<: *base`) may well bring in a key that is given here
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add((key.tag, key.value))
        return node


def _refuse_tag(loader: yaml.SafeLoader, node: yaml.Node) -> None:
    raise yaml.constructor.ConstructorError(None, None, _TAGS[node.tag.rpartition(":")[2]], node.start_mark)


_TAGS = {
    "timestamp": "a date is no setting; put it into quotes to make it a text",
    **dict.fromkeys(("binary", "set", "omap", "pairs"), "the YAML tag of this value is not supported; leave it out"),
}
for _tag in _TAGS:
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _refuse_tag)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML text; `where` (a path, or the override it came from) is named in errors.

    Raises:
        UserError: the text is not valid YAML, a key is given twice, or `check_tree` refuses what it holds.
    """
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or first_line(error)
        raise UserError(f"{where}{line}: {problem}") from error
    except RecursionError:
        raise UserError(f"{where}: it is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:  # of Python's own types: a number of thousands of digits, `!!int x`
        raise UserError(f"{where}: a value is not what its form or tag says: {first_line(error)}") from error
    check_tree(content, where)
    return content


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises:
        UserError: the file is missing, unreadable, no file, too large, not UTF-8, not YAML, or not a mapping.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # to read a pipe would wait for its writer
            raise UserError(f"{path}: it is a pipe or a device and not a file")
        content_bytes = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except (OSError, ValueError) as error:  # the latter: a NUL in the path
        cause = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: cannot be read: {cause}") from error
    if content_bytes is None:
        raise UserError(f"{path}: it has more than {MAX_BYTES:,} bytes, which is too much for a file of settings")
    try:
        text = content_bytes.decode("utf-8")
    except UnicodeDecodeError as error:
        byte, line = content_bytes[error.start], content_bytes[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: the byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from error
    content = parse_yaml(text, str(path))
    if content is None:
        raise UserError(f"{path}: it is empty; expected a mapping of settings")
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of settings at the top level, got {type(content).__name__}")
    return content

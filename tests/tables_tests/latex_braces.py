"""Whether the braces and environments of LaTeX text balance."""

from __future__ import annotations

import re


def unbalanced(text: str) -> str | None:
    """What is wrong with the braces and environments of LaTeX text; None if they balance."""
    depth = 0
    for number, line in enumerate(text.splitlines(), start=1):
        for brace in re.findall(r"(?<!\\)(?:\\\\)*([{}])", re.sub(r"(?<!\\)%.*", "", line)):
            depth += 1 if brace == "{" else -1
            if depth < 0:
                return f"line {number}: a brace is closed that was not opened"
    if depth:
        return f"{depth} braces are not closed"
    open_environments: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+\*?)\}", re.sub(r"(?m)^\s*%.*$", "", text)):
        if kind == "begin":
            open_environments.append(name)
        elif not open_environments or open_environments.pop() != name:
            return f"\\end{{{name}}} closes no environment"
    return f"\\begin{{{open_environments[-1]}}} is not ended" if open_environments else None

"""Any text as LaTeX that prints it: special characters escaped, symbols as commands; and its braces counted."""

from __future__ import annotations

import re

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    "×": r"$\times$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "Δ": r"$\Delta$",
    "λ": r"$\lambda$",
    "κ": r"$\kappa$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "−": r"$-$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "…": r"\ldots{}",
    "\u00a0": "~",
    "*": r"\textasteriskcentered{}",
    "[": "{[}",  # after \\ or a rule, a bracket would be an optional argument
    "]": "{]}",
}
_TEXT = {ord(character): replacement for character, replacement in _SPECIAL.items()}


def escape(text: str) -> str:
    """The text as LaTeX. Line breaks become spaces; letters of other scripts are left to the document's fonts."""
    return " ".join(text.split()).translate(_TEXT)


def label_of(name: str) -> str:
    """A name as a label: letters, digits, `-`, `.` and `:` alone."""
    return re.sub(r"[^A-Za-z0-9.:-]", "-", name)


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

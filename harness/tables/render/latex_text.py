"""Any text as LaTeX that prints it: special characters escaped, symbols as commands."""

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

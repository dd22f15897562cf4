"""Output on whatever there is to print on: a terminal that is not UTF-8, a reader that ends early, nothing at all."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from typing import IO

LIKE = "like"  # the name of the error handler
_LIKE = {
    **{"±": "+-", "×": "x", "÷": "/", "−": "-", "–": "-", "—": "-", "…": "...", "·": "*", "\u00a0": " "},
    **{"↑": "^", "↓": "v", "→": "->", "←": "<-", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "Δ": "D", "λ": "lambda"},
    **{"κ": "kappa", "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*", "✓": "v", "✗": "x"},
    **{"│": "|", "┃": "|", "─": "-", "━": "=", "█": "#", "▌": "#"},
}


def use_any_encoding() -> None:
    """Print what an encoding lacks as something like it: `+-` for `±`, letters without accents, else as an escape."""
    codecs.register_error(LIKE, _like)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # there may be none, or another program's own
            stream.reconfigure(errors=LIKE)


def _like(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(_LIKE.get(sign) or _in_ascii(sign) for sign in text), error.end


def _in_ascii(sign: str) -> str:
    plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    if unicodedata.category(sign) == "Lm":  # a footnote's mark is a raised letter
        return f"^{plain}" if plain else sign.encode("unicode_escape").decode()
    return plain or sign.encode("unicode_escape").decode()


def nobody_reads() -> bool:
    """Whether standard output is a pipe whose reader has ended (`harness table NAME | head`).

    What is still to be printed is thrown away then, as Python would complain about it at its end.

    Raises:
        OSError: what was printed cannot be written: the disk is full, say.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
        return False
    except BrokenPipeError:
        throw_away(sys.stdout)
        return True
    except OSError:
        throw_away(sys.stdout)
        raise


def throw_away(stream: IO[str]) -> None:
    """Let a stream that cannot be written lead nowhere: Python would try once more at its end, and exit with 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)

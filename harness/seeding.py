"""Random streams by name: every draw in the library comes from a generator derived from one root seed.

`derive_seed(root, "data", "order")` depends on the root and the names alone, so a stream does not move when
another part of the program draws more or fewer numbers, and it is the same on every machine. Nothing here
touches the global random states of Python, NumPy or torch.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(root: int, *names: str | int) -> int:
    """Return a seed in [0, 2**63) that depends on `root` and `names` only.

    The names are hashed as a JSON list, so `(1, "ab", "c")`, `(1, "a", "bc")` and `(1, "ab", 0)` give
    unrelated seeds, and the string "1" is not the number 1.
    """
    payload = json.dumps([root, *names], ensure_ascii=True, separators=(",", ":"))
    digest = hashlib.sha256(payload.encode("ascii")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def torch_generator(root: int, *names: str | int) -> torch.Generator:
    """Return a CPU `torch.Generator` seeded with `derive_seed(root, *names)`."""
    import torch  # here, so that code which only needs seeds does not pay for importing torch

    generator = torch.Generator()
    generator.manual_seed(derive_seed(root, *names))
    return generator


def rng(root: int, *names: str | int) -> np.random.Generator:
    """Return a NumPy generator seeded with `derive_seed(root, *names)`."""
    return np.random.default_rng(derive_seed(root, *names))

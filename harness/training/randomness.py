"""The random streams of a training: the global generators, seeded for each epoch and given back, and its own ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from harness.seeding import derive_seed


@contextmanager
def own_global_generator(device: torch.device) -> Iterator[None]:
    """Give the global generators back as they were: dropout and strategies of other libraries draw from them."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def seed_global(seed: int, epoch: int) -> None:
    """Seed the global generators for an epoch, so that a resumed training draws what an uninterrupted one does."""
    derived = derive_seed(seed, "global", epoch)
    torch.manual_seed(derived)
    random.seed(derived)
    np.random.seed(derived % 2**32)


def device_generator(device: torch.device, seed: int, *names: str | int) -> torch.Generator:
    """A generator on the device that draws there, seeded for one purpose."""
    generator = torch.Generator(device=device)
    generator.manual_seed(derive_seed(seed, *names))
    return generator

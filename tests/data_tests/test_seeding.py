"""Seeds by name: stable, apart, and without touching global state."""

import random
import subprocess
import sys

import numpy as np
import torch

from harness.seeding import derive_seed, rng, torch_generator


def test_seeds_are_pinned() -> None:
    """Published tables depend on these numbers."""
    assert derive_seed(0) == 7520536977032167579
    assert derive_seed(1, "data", "order") == 3499527303923008536


def test_names_do_not_run_into_each_other() -> None:
    names: list[tuple[str | int, ...]] = [("ab", "c"), ("a", "bc"), ("abc",), ("1",), (1,), (), ("",)]
    assert len({derive_seed(1), *(derive_seed(0, *name) for name in names)}) == 8


def test_seeds_are_63_bits() -> None:
    seeds = [derive_seed(0, i) for i in range(2000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


def test_generators_agree_with_their_seed_and_leave_global_states_alone() -> None:
    states = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())  # type: ignore[index]
    draw = torch.rand(3, generator=torch_generator(5, "x"))
    assert torch.equal(draw, torch.rand(3, generator=torch_generator(5, "x")))
    assert rng(5, "x").random() == rng(5, "x").random() != rng(5, "y").random()
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_importing_seeding_does_not_import_torch() -> None:
    code = "import sys, harness.seeding, harness.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Arms that are much louder than the others, or others that are quiet: false marks, and coverage of the loud arms.

An arm that diverges on some seeds is 10 to 1,000 times as loud as the rest of its column. Where most arms hardly move
the baseline (a strong penalty, frozen parts), the ordinary arms are the loud ones. Seeds alone, frozen baseline.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from calibration_tables import ALPHA, OTHER_TABLES, Design, Noise, draw_table, gaussian, p_values, t_p_values

from harness.seeding import rng as named_rng
from harness.statistics.shared_variance import MIN_ARMS

COUNTS, COLUMNS = (3, 5, 10), (1, 4)
KINDS = {  # compared arms, and their noise
    **{f"loud_{ratio}": (7, Noise(f"1 of 7 arms {ratio}", gaussian, loud=ratio)) for ratio in (5, 10, 30, 100, 1000)},
    **{f"quiet_{arms - n}_of_{arms}": (arms, Noise(f"{n} of {arms} arms 75", gaussian, loud=75.0, num_loud=n))
       for n, arms in ((2, 6), (3, 7), (3, 6))},
}  # fmt: skip


def calibrate_loud(scale: float) -> dict[str, Any]:
    """Kind -> columns -> seeds -> share of tables with a false mark, and coverage of the loud arms' intervals."""
    found: dict[str, Any] = {}
    for kind, (arms, noise) in KINDS.items():
        for columns in COLUMNS:
            for n in COUNTS:
                result = _calibrate(Design(n, 0.0, True, arms, columns), noise, max(20, int(OTHER_TABLES * scale)))
                found.setdefault(kind, {}).setdefault(str(columns), {})[str(n)] = result
    return found


def _calibrate(design: Design, noise: Noise, tables: int) -> dict[str, float]:
    rng = named_rng(0, "calibration", "loud", repr(design), noise.title)
    marked: dict[str, list[bool]] = {"new": [], "t": []}
    covered: dict[str, list[float]] = {"new": [], "t": []}
    for _ in range(tables):
        sample = draw_table(rng, design, noise)
        for name, p in (("new", p_values(sample, MIN_ARMS)), ("t", t_p_values(sample))):
            marked[name].append(bool(p.min() * p.size <= ALPHA))
            covered[name].append(float((p[-noise.num_loud :] > ALPHA).mean()))
    return {
        **{f"false_{name}": float(np.mean(marked[name])) for name in marked},
        **{f"coverage_{name}": float(np.mean(covered[name])) for name in covered},
    }

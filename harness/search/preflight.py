"""Check a sweep's arms before anything is trained: data, backbone, layers, adapter at the ends of its space.

`load_sweep` has resolved every end of every range already; here the resolved trials meet the real data and the real
model. `harness plan`, `harness sweep` and `harness.run_sweep` all come here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.config.trial import TrialConfig
from harness.errors import UserError
from harness.records.search import Value
from harness.search import space
from harness.search.declaration import Arm, Sweep

if TYPE_CHECKING:  # torch is loaded only when there is something to check
    from harness.training.resources import Resources


def preflight_sweep(sweep: Sweep, resources: Resources | None = None) -> list[str]:
    """Check each arm's trial at the ends of its space, on training and validation data only.

    Args:
        resources: sealed ones, for a caller that goes on to use what is loaded here.

    Returns what the user must know of the data: what was left out, and what was noticed in a file of their own.

    Raises:
        UserError: one line about the first problem: `SWEEPFILE: arm NAME: ...`.
    """
    from harness.training.resources import Resources
    from harness.training.trial import Trial

    resources = resources or Resources(sealed=True)
    checked: set[str] = set()
    remarks: dict[str, None] = {}
    for arm in sweep.arms:
        for config in ends(sweep, arm):
            if config.trial_id in checked:
                continue
            checked.add(config.trial_id)
            try:
                Trial(config, resources).check()
            except UserError as error:
                raise UserError(f"{sweep.path}: arm {arm.name}: {error}") from error
            domains, names = resources.domains(config), (config.data.target, *config.data.source)
            remarks |= dict.fromkeys([*domains.corpus.remarks(names), *domains.answer_notes(config.data)])
    return list(remarks)


def ends(sweep: Sweep, arm: Arm) -> Iterator[TrialConfig]:
    """An arm's trials at all its low ends together, at all its high ends together, and at each other end alone.

    "Alone" leaves the other settings at their low ends. Of a categorical setting every choice is an end.
    """
    seed = sweep.config.search.seeds[0]
    values = {key: space.extremes(parameter) for key, parameter in arm.space.items()}
    low: dict[str, Value] = {key: found[0] for key, found in values.items()}
    yield sweep.trial(arm, low, seed)
    yield sweep.trial(arm, {key: _highest(found) for key, found in values.items()}, seed)
    for key, found in values.items():
        for value in found[1:]:
            yield sweep.trial(arm, {**low, key: value}, seed)


def _highest(values: Sequence[Value]) -> Value:
    """The largest of some numbers; the last one of other values, which have no order."""
    numbers = [value for value in values if isinstance(value, (int, float))]
    return max(numbers) if len(numbers) == len(values) else values[-1]

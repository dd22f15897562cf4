"""Check a sweep's arms before anything is trained: data, backbone, layers, the adapter at the ends of its space.

`load_sweep` has resolved every end of every range already; here the resolved trials meet the real data and the real
model. Settings that a check cannot see (a learning rate, say) are not varied: they would check the same thing again.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.base import content_hash
from harness.config.trial import TrialConfig
from harness.errors import UserError
from harness.records.search import Value
from harness.search import space
from harness.search.declaration import Arm, Sweep

SEEN = ("adapter", "backbone", "data", "train", "loop.augment", "loop.device", "loop.precision")


def preflight_sweep(sweep: Sweep) -> None:
    """Check each arm's trial at the ends of its space, on training and validation data only.

    Raises:
        UserError: one line about the first problem: `SWEEPFILE: arm NAME: ...`.
    """
    from harness.training.resources import Resources
    from harness.training.trial import Trial

    resources = Resources(sealed=True)
    checked: set[str] = set()
    for arm in sweep.arms:
        for config in ends(sweep, arm):
            known = content_hash(seen_by_check(config))
            if known in checked:
                continue
            checked.add(known)
            try:
                Trial(config, resources).check()
            except UserError as error:
                raise UserError(f"{sweep.path}: arm {arm.name}: {error}") from error


def ends(sweep: Sweep, arm: Arm) -> Iterator[TrialConfig]:
    """An arm's trial at the low ends of what a check can see, then with one setting after another at its other ends."""
    seed = sweep.config.search.seeds[0]
    visible = {key: space.extremes(parameter) for key, parameter in arm.space.items() if is_seen(key)}
    start: dict[str, Value] = {key: values[0] for key, values in visible.items()}
    yield sweep.trial(arm, start, seed)
    for key, values in visible.items():
        for value in values[1:]:
            yield sweep.trial(arm, {**start, key: value}, seed)


def is_seen(key: str) -> bool:
    """Whether a check can tell two values of a dotted setting apart."""
    return any(key == name or key.startswith(f"{name}.") for name in SEEN)


def seen_by_check(config: TrialConfig) -> dict[str, object]:
    """The part of a trial's config that a check looks at."""
    content = config.model_dump(mode="json", by_alias=True)
    loop = content["loop"]
    kept = {name: content[name] for name in ("adapter", "backbone", "data", "train")}
    return {**kept, "loop": {name: loop[name] for name in ("augment", "device", "precision")}}

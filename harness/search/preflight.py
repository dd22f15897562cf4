"""Check a sweep's arms before anything is trained: data, backbone, layers, adapter at the ends of its space.

`load_sweep` has resolved every end of every range already; here the resolved trials meet the real data and the real
model. `harness plan`, `harness sweep` and `harness.run_sweep` all come here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.config.trial import TrialConfig
from harness.data.describe import ToldOfData
from harness.data.loaded import LoadedCorpora
from harness.errors import UserError
from harness.records.search import Value
from harness.search import space
from harness.search.declaration import Arm, Sweep
from harness.tasks.fitting import check_fits

if TYPE_CHECKING:  # torch is loaded only when there is something to check
    from harness.launch.launchers import LauncherChoice
    from harness.training.resources import Resources


def preflight_sweep(
    sweep: Sweep, resources: Resources | None = None, launching: LauncherChoice | None = None
) -> ToldOfData:
    """Check each arm's trial at the ends of its space, on training and validation data only.

    Args:
        resources: sealed ones, for a caller that goes on to use what is loaded here.
        launching: what will train. It is told to get ready; what is loaded here, one in this process goes on to use.

    Returns what the data hold, and what the user must know of them.

    Raises:
        UserError: one line about the first problem: `SWEEPFILE: arm NAME: ...`.
    """
    get_ready(sweep, launching)
    corpora = LoadedCorpora(sealed=True) if resources is None else resources.corpora
    check_sweep_fits(sweep, corpora)
    from harness.training.resources import Resources
    from harness.training.trial import Trial

    resources = resources or Resources(sealed=True, corpora=corpora)
    if launching is not None and launching.loaded is not None:
        launching.loaded[True] = resources
    checked: set[str] = set()
    told = ToldOfData()
    own = _own_ends(sweep)
    rows = {config.trial_id for _, config in own}
    for arm, config in [*own, *_parts(sweep, own)]:
        if config.trial_id in checked:
            continue
        checked.add(config.trial_id)
        try:
            Trial(config, resources).check(is_part=config.trial_id not in rows)
        except UserError as error:
            raise UserError(f"{sweep.path}: arm {arm}: {error}") from error
        domains, names = resources.domains(config), (config.data.target, *config.data.source)
        remarks = (*domains.corpus.remarks(names), *domains.answer_notes(config.data))
        told.add_trials(domains.corpus, config.data, config.loop.meta, remarks)
    return told


def get_ready(sweep: Sweep, launching: LauncherChoice | None) -> None:
    """Let what will train begin, in the background, what its workers need; a second time changes nothing."""
    if launching is not None:
        launching.get_ready(config for _, config in _own_ends(sweep))


def check_sweep_fits(sweep: Sweep, corpora: LoadedCorpora) -> None:
    """Check, before torch is loaded, that each arm's corpus fits its backbone; raises UserError as `check_fits`.

    Args:
        corpora: sealed ones, which keep what is read.
    """
    own = _own_ends(sweep)
    parts = _parts(sweep, own)
    rows, givers = ({config.trial_id for _, config in named} for named in (own, parts))
    check_fits([*own, *parts], str(sweep.path), corpora, givers - rows)


def _own_ends(sweep: Sweep) -> list[tuple[str, TrialConfig]]:
    return [(arm.name, config) for arm in sweep.arms for config in ends(sweep, arm)]


def _parts(sweep: Sweep, own: Sequence[tuple[str, TrialConfig]]) -> list[tuple[str, TrialConfig]]:
    """The trials that give weights to those of arms, by the arm or part that they are of."""
    return [(part.arm, part.config) for _, config in own for part in sweep.needs_of(config)]


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

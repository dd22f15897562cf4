"""What was launched and is not in the table: rows and seeds that `arms` or `where` leave out, claims that were dropped.

Without these lines a table could lose an arm, and with it a test of Holm's correction, and look like the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.config.table import TableSettings
from harness.records.launches import seeds_text
from harness.tables.load import Loaded, LoadedTrial
from harness.tables.model import Footnote

MOST = 12  # names in one line


def left_out_notes(loaded: Loaded, shown: Sequence[LoadedTrial], settings: TableSettings) -> list[Footnote]:
    """A note on the rows that the settings leave out, and on seeds of rows that are shown.

    Args:
        loaded: everything that was launched; `shown`: the trials that the table is made from.
    """
    several = len(loaded.manifests) > 1
    kept = {(trial.ref.experiment, trial.whole_name, trial.ref.seed) for trial in shown}
    seeds: dict[tuple[str, str], list[int]] = {}
    for trial in loaded.trials:
        row = trial.ref.experiment, trial.whole_name
        if (*row, trial.ref.seed) not in kept:
            seeds.setdefault(row, []).append(trial.ref.seed)
    partly = {(experiment, name) for experiment, name, _ in kept}
    names = []
    for (experiment, name), found in seeds.items():
        if (experiment, name) in partly and settings.phase == "search":
            continue  # a search tries what no row shows
        text = f"{experiment}/{name}" if several else name
        names.append(f"{text} ({seeds_text(found)})" if (experiment, name) in partly else text)
    if not names:
        return []
    what = "trained for the search" if settings.phase == "search" else "launched"
    by = " and ".join(key for key in ("arms", "where") if getattr(settings, key))
    return [Footnote(f"{what}, and left out by {by}: {_listed(names)}", kind="missing")]


def dropped_claims(loaded: Loaded, settings: TableSettings) -> list[Footnote]:
    """A note on the claims that an experiment was launched with and that its table no longer judges.

    A table of several experiments judges claims of its own: those of each are in the experiment's table.
    """
    if len(loaded.manifests) != 1:
        return []
    judged = {claim.id for claim in settings.claims}
    (manifest,) = loaded.manifests
    texts = [f"{claim.text} ({claim.at[:10]})" for id, claim in manifest.claims.items() if id not in judged]
    if not texts:
        return []
    return [
        Footnote(f"claims that were declared at a launch, and are not judged here: {'; '.join(texts)}", kind="test")
    ]


def _listed(names: Sequence[str]) -> str:
    """Names with commas of their own are parted by semicolons; of very many the first ones."""
    rest = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    separator = "; " if any("," in name for name in names) else ", "
    return separator.join(names[:MOST]) + rest

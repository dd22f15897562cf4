"""Which kind of settings a file has, told by its keys. A file given to the wrong command is named as what it is.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from harness.config.sweep import SweepConfig
from harness.config.table import TableSpec
from harness.config.trial import ExperimentConfig, TrialConfig
from harness.errors import UserError

RECIPE_KEYS = (
    *("name", "description", "data", "encoder", "task", "text", "pooling"),
    *("train", "weights", "optim", "loop", "seed"),
)
KEYS: Mapping[str, Collection[str]] = {
    "experiment": tuple(ExperimentConfig.model_fields),
    "sweep": tuple(SweepConfig.model_fields),
    "table": tuple(TableSpec.model_fields),
    "recipe": RECIPE_KEYS,  # its class lies above this layer
    "trial": tuple(TrialConfig.model_fields),
}
WHAT = {
    "experiment": "an experiment; the command for it is harness run",
    "sweep": "a sweep; the command for it is harness sweep",
    "table": "a table; the command for it is harness table",
    "recipe": "a backbone recipe; the command for it is harness pretrain",
    "trial": "the settings of one trial; an experiment has them in `base` and `arms`",
}


def kinds_of(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The kinds whose keys fit a file best: one, or several where they fit equally well; none where no key fits."""
    fit = {kind: sum(key in keys for key in content) for kind, keys in KEYS.items()}
    best = max(fit.values())
    return tuple(kind for kind, count in fit.items() if count == best) if best else ()


def refuse_other_kind(content: Mapping[str, Any], where: str, wanted: str) -> None:
    """Refuse a file that is clearly of another kind; one that might be meant is validated, which says what is wrong.

    Raises:
        UserError: the file is of another kind; its command is named.
    """
    found = kinds_of(content)
    if len(found) == 1 and found[0] != wanted:
        raise UserError(f"{where}: expected {named([wanted])}, but this is {WHAT[found[0]]}")


def named(kinds: Collection[str]) -> str:
    """Kinds in a sentence: `an experiment or a sweep`."""
    return " or ".join(f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}" for kind in kinds)

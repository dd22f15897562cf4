"""What a training is given, and what it has come to between two epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.backbones.model import TaskModel
from harness.config.trial import LoopSettings, OptimSettings
from harness.training.pulls import OutputPull

Scores = dict[str, float]


@dataclass
class FitState:
    """What a checkpoint carries besides tensors."""

    epoch: int = 0
    best_epoch: int = 0
    best_score: float = math.nan
    elapsed_s: float = 0.0
    pruned: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class FitPlan:
    """Everything that shapes a training.

    `score_epoch` gives the epoch's scores, by name; `select` is the one that early stopping and the choice of the
    best epoch look at (None: the last epoch is the best), and `metric` its metric (for the direction). `made_with`
    names data and base model (their fingerprints): a checkpoint made with others is refused. `report` may answer True:
    the training stops there, pruned.
    `output_pull` is what `loop.kl_to_base` asks for; `taken` are the adapters, and the names of
    other weights, that start from a file or from another trial.
    """

    optim: OptimSettings
    loop: LoopSettings
    seed: int
    score_epoch: Callable[[TaskModel], Scores]
    select: str | None
    metric: str
    checkpoint: Path | None = None
    report: Callable[[dict[str, Any]], bool | None] = lambda entry: None
    made_with: str = ""
    output_pull: OutputPull | None = None
    taken: Collection[str] = ()

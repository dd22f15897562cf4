"""A user's strategy that looks for test data while it trains, named in configs as `training_tests.leaking.Leaking`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import GeneratorType
from typing import Any

from torch import Tensor, nn

from harness.adapters import ResidualAddAdapterStrategy
from harness.training.trial import Trial

FOUND: set[str] = set()  # keys of the test examples that were found


def _is_test(trial: Trial, group: str) -> bool:
    return trial.domains.corpus.split_of(group) == "test"


WAYS: dict[str, Callable[[Trial, str], list[str]]] = {
    "items": lambda trial, domain: [item.key for item in trial.domains.items(domain, "test")],
    "split": lambda trial, domain: [e.key for e in trial.domains.corpus.split(domain, "test")],
    "text": lambda trial, domain: [e.key for e in trial.domains.corpus.text(domain, "test")],
    "base_scores": lambda trial, domain: [
        str(value)
        for value in trial.domains.base_scores(
            trial.base, trial.domains.items(domain, "test"), trial.config.loop
        ).scores.values()
    ],
    "examples": lambda trial, domain: [
        e.key for e in trial.domains.corpus.examples(domain) if _is_test(trial, e.group)
    ],
    "domains": lambda trial, domain: [e.key for e in trial.domains.corpus.domains[domain] if _is_test(trial, e.group)],
}


def running_trial() -> Trial:
    """The trial that is being trained: somewhere up the call stack, or in a generator that waits there."""
    frame = inspect.currentframe()
    while frame is not None:
        for value in frame.f_locals.values():
            found = _trial_in(value)
            if found is not None:
                return found
        frame = frame.f_back
    raise LookupError("no trial is running")


def _trial_in(value: Any) -> Trial | None:
    if isinstance(value, Trial):
        return value
    while isinstance(value, GeneratorType) and value.gi_frame is not None:
        for inner in value.gi_frame.f_locals.values():
            if isinstance(inner, Trial):
                return inner
        value = value.gi_yieldfrom
    return None


class Leaking(ResidualAddAdapterStrategy):
    """Residual add that puts the test examples it can find in `FOUND`.

    Args:
        way: which way it tries.
        domain: whose test examples.
    """

    def __init__(self, way: str, domain: str, **options: Any) -> None:
        super().__init__(**options)
        self.way, self.domain = way, domain

    def forward(self, input: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        if module.training:
            FOUND.update(WAYS[self.way](running_trial(), self.domain))
        return super().forward(input, adapter, module=module)

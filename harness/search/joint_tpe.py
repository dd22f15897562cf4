"""Optuna's TPE for one arm of a sweep: the draws of Optuna's own, quick after thousands of trials."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.sampler import default_gamma
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from harness.search.mirror_storage import Ended, EndedColumns, MirrorStorage


class JointTpe(TPESampler):
    """TPE over all parameters at once, for a study whose trials all have the same ones.

    Optuna's own looks at each ended trial in Python, several times a draw: with 10,000 of them that takes longer than
    all arithmetic. Here the columns that the mirror keeps of them are sorted and split. The tests hold its draws to be
    Optuna's to the last bit; it uses private parts of Optuna, as they are in the version of constraints.txt.
    """

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that are drawn together: all that have a choice, once a trial has ended with a result."""
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        space = sorted(ended[0].distributions.items()) if ended else ()
        return {name: distribution for name, distribution in space if not distribution.single()}

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        columns = cast(MirrorStorage, study._storage).columns
        num_below = (default_gamma if self._gamma is None else self._gamma)(len(columns))
        is_below = None
        if len(columns) and len(study.directions) == 1:
            is_below = _is_below(columns, study.direction, num_below)
        if is_below is None:
            return super()._sample(study, trial, search_space)
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if self._constant_liar else []
        others = [other for other in running if other.number != trial.number]
        lies = self._get_internal_repr(others, search_space, study)  # last here too, as they have the highest numbers
        drawn = {name: np.asarray(columns.internal[name]) for name in search_space}
        below = self._estimate({name: values[is_below] for name, values in drawn.items()}, search_space)
        above = self._estimate(
            {name: np.concatenate([values[~is_below], lies[name]]) for name, values in drawn.items()}, search_space
        )
        samples = below.sample(self._rng.rng, self._n_ei_candidates)
        chosen = self._compare(samples, self._compute_acquisition_func(samples, below, above))
        return {name: search_space[name].to_external_repr(value) for name, value in chosen.items()}

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], study: optuna.Study
    ) -> dict[str, NDArray[Any]]:
        # Where Optuna's own splits the trials (several objectives), with what the mirror keeps of ended ones.
        num_ended = len(trials)
        while num_ended and not isinstance(trials[num_ended - 1], Ended):  # those that run have the highest numbers
            num_ended -= 1
        running = super()._get_internal_repr(trials[num_ended:], search_space, study)
        ended = [trial.internal for trial in cast("list[Ended]", trials[:num_ended])]
        return {name: np.asarray([known[name] for known in ended] + [*running[name]]) for name in search_space}

    def _estimate(self, observations: dict[str, NDArray[Any]], search_space: dict[str, BaseDistribution]) -> Any:
        return self._parzen_estimator_cls(observations, search_space, self._parzen_estimator_parameters)


def _is_below(columns: EndedColumns, direction: StudyDirection, num_below: int) -> NDArray[np.bool_] | None:
    """Which ended trials are the good ones of TPE: the best feasible ones; None if pruned ones must be among them."""
    values = np.asarray(columns.values)
    candidates = np.flatnonzero(~np.isnan(values) & (np.asarray(columns.violated) <= 0))
    if len(candidates) < num_below:
        return None
    scores = values[candidates] if direction == StudyDirection.MINIMIZE else -values[candidates]
    is_below = np.zeros(len(values), bool)
    is_below[candidates[np.argsort(scores, kind="stable")[:num_below]]] = True
    return is_below

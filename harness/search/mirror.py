"""Which trial comes next, as a pure function of the trials before it: Optuna's samplers and pruners, made repeatable.

Trial n of an arm is drawn by Optuna's sampler from the results of trials 0 .. n - lag and from nothing else, with
randomness derived from (search seed, arm, n). A pruner judges trial n against the same trials. So the search does not
depend on how many workers there are, which of them is faster, or where it was killed: 25 trials and then 25 more are
the 50 trials of one go. Trials n - lag + 1 .. n - 1 are shown to the sampler as running (for its constant liar):

    lag 3, trial 7:   0 1 2 3 4 finished   5 6 running, whether or not they have ended in fact

The mirror is an in-memory Optuna study that is asked and told in that order. After a restart it is rebuilt by asking
and telling again, which also checks that the stored trials are those that this version of Optuna would draw. A sampler
that remembers nothing but trials (random, TPE, GP) need not draw again what is known to have ended: only the last one
of these is, as a check, since it depends on all the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from harness.search.mirror_storage import MirrorStorage

_NO_SAMPLER = RandomSampler(0)  # of a trial that draws nothing


@dataclass(frozen=True)
class Result:
    """How a trial ended, as samplers and pruners see it.

    Attributes:
        values: the objectives; None unless complete.
        violations: one number a constraint, at most 0 where it holds.
        steps: step -> intermediate value, for pruning.
    """

    state: TrialState
    values: tuple[float, ...] | None = None
    violations: tuple[float, ...] = ()
    steps: Mapping[int, float] = field(default_factory=dict)


class _MirrorStudy(Study):
    """A study whose sampler may say stop: the sweep's budget decides, not the sampler."""

    def stop(self) -> None:
        """Do nothing."""


class Mirror:
    """One arm's sampler and pruner.

    Args:
        name: the study's name; Hyperband derives a trial's bracket from it.
        make_sampler: trial number -> a sampler seeded for it.
        make_pruner: a new pruner (they keep state).
        lag: see the module.
        result: trial number -> its result; called for finished trials only.
        known: trial number -> what it drew, where that is known and need not be drawn again.
    """

    def __init__(
        self,
        name: str,
        directions: Sequence[str],
        distributions: Mapping[str, BaseDistribution],
        make_sampler: Callable[[int], BaseSampler],
        make_pruner: Callable[[], BasePruner],
        lag: int,
        result: Callable[[int], Result],
        known: Callable[[int], Mapping[str, Any] | None] = lambda number: None,
    ) -> None:
        self.storage = MirrorStorage()
        study_id = self.storage.create_new_study([StudyDirection[item.upper()] for item in directions], name)
        self.study = _MirrorStudy(self.storage.get_study_name_from_id(study_id), self.storage, RandomSampler())
        self.distributions = dict(distributions)
        self.make_sampler, self.make_pruner = make_sampler, make_pruner
        self.lag = lag
        self.result, self.known = result, known
        self.prunes = not isinstance(make_pruner(), NopPruner)
        self._trials: list[Trial] = []
        self._num_told = 0

    def history(self, number: int) -> range:
        """The trials that must be finished before trial `number` can be drawn."""
        return range(max(0, number - self.lag + 1))

    def ask(self, number: int) -> dict[str, Any]:
        """What trial `number` draws, by key (Optuna's values; see `space.setting`)."""
        while len(self._trials) <= number:
            coming = len(self._trials)
            # Exactly the history of this trial is told before it is drawn, however much more is known by now.
            for earlier in range(self._num_told, len(self.history(coming))):
                self._tell(earlier)
            known = self.known(coming)
            self._trials.append(self._draw(coming) if known is None else self._adopt(known))
        return dict(self._trials[number].params)

    def _draw(self, number: int) -> Trial:
        self.study.sampler = self.make_sampler(number)
        return self.study.ask(self.distributions)

    def _adopt(self, params: Mapping[str, Any]) -> Trial:
        """Add a trial that was drawn before."""
        drawn = create_trial(state=TrialState.RUNNING, params=dict(params), distributions=self.distributions)
        self.study.sampler = _NO_SAMPLER
        return Trial(self.study, self.storage.create_new_trial(self.study._study_id, template_trial=drawn))

    def judge(self, number: int) -> Judge:
        """The pruner's view of a trial that was asked for."""
        self.ask(number)
        return Judge(self, self._trials[number], self.make_pruner())

    def _tell(self, number: int) -> None:
        trial, result = self._trials[number], self.result(number)
        # Halving marks a trial with the rungs that it reached while it reported; reporting again gives the same marks.
        judge = self.judge(number) if self._pruner_remembers() else None
        for step, value in sorted(result.steps.items()):
            trial.report(value, step)
            if judge is not None:
                judge.report(step, value)
        for key, value in (judge.attrs if judge else {}).items():
            self.storage.set_trial_system_attr(trial._trial_id, key, value)
        if not isinstance(self.study.sampler, CmaEsSampler):  # it cannot use them, and says so at every trial
            for index, violation in enumerate(result.violations):
                trial.set_constraint(str(index), violation)
        values = None if result.values is None else list(result.values)
        self.study.tell(trial, values, state=result.state)
        self._num_told = number + 1

    def _pruner_remembers(self) -> bool:
        """Whether the pruner leaves marks on trials that later trials are judged by (the rungs of halving)."""
        pruner: BasePruner | None = self.make_pruner()
        while pruner is not None:
            if isinstance(pruner, (SuccessiveHalvingPruner, HyperbandPruner)):
                return True
            pruner = getattr(pruner, "_wrapped_pruner", None)
        return False


class Judge:
    """Decides after each step whether a running trial is pruned, looking at its history only."""

    def __init__(self, mirror: Mirror, trial: Trial, pruner: BasePruner) -> None:
        self.pruner = pruner
        self.attrs: dict[str, Any] = {}
        frozen = mirror.storage.get_trial(trial._trial_id)
        seen = len(mirror.history(frozen.number))
        self.frozen = FrozenTrial(
            number=frozen.number,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=frozen.datetime_start,
            datetime_complete=None,
            params=frozen.params,
            distributions=frozen.distributions,
            user_attrs={},
            system_attrs=self.attrs,
            intermediate_values={},
            trial_id=trial._trial_id,
        )
        self.study = Study(mirror.study.study_name, _History(mirror.storage, seen, self.attrs), RandomSampler())  # type: ignore[arg-type]

    def report(self, step: int, value: float) -> bool:
        """Take a step's value; returns whether to prune the trial now."""
        self.frozen.intermediate_values[step] = value
        return bool(self.pruner.prune(self.study, self.frozen))


class _History:
    """A storage as it was when a trial was drawn: later trials are not there, and marks go to the trial's judge."""

    def __init__(self, storage: MirrorStorage, num_seen: int, attrs: dict[str, Any]) -> None:
        self._inner, self._num_seen, self._attrs = storage, num_seen, attrs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        """The trials of the history, finished all."""
        trials = self._inner.get_all_trials(study_id, deepcopy=deepcopy, states=states)
        return [trial for trial in trials if trial.number < self._num_seen]

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """The best complete trial of the history; ValueError when there is none."""
        complete = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise ValueError("No trials are completed yet.")
        maximize = self._inner.get_study_directions(study_id)[0] == StudyDirection.MAXIMIZE
        return (max if maximize else min)(complete, key=lambda trial: trial.values[0])

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keep a pruner's mark with the trial that is judged."""
        self._attrs[key] = value

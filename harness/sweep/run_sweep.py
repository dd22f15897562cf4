"""`harness sweep`: search, freeze, race, confirm. Each phase leaves a file, and goes on where it was stopped.

results/SWEEP/search/       its records, sealed: no test metric      points/    how each trial of the search ended
             search.json    every point, for figures and tables      frozen.json  the winners, and how they were chosen
             experiment.json, records/, table.md                     the confirm phase, an experiment like any other
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.config.execution import PLAIN, Execution
from harness.config.experiment import NAMED_ARMS, Experiment
from harness.config.notes import Note
from harness.config.rows import RowId, merge_rules
from harness.config.sweep import regularisation_keys
from harness.disk import write_json
from harness.disk.temporary import drop_left_over
from harness.engines.choice import EngineChoice
from harness.records.digests import begin_digests, write_plan_file
from harness.records.launches import budget_text
from harness.records.leases import drop_dead_in, locked
from harness.records.points import EndedTrial, Points
from harness.records.search import SearchResult, Value
from harness.records.store import RecordStore
from harness.search.arm_search import ArmSearch
from harness.search.declaration import Arm, Sweep, plan_confirm
from harness.search.edges import edge_remarks
from harness.search.live_export import NAME as EXPORT
from harness.search.live_export import LiveExport
from harness.search.reach import remarks
from harness.search.search import Search
from harness.sweep.elsewhere import follow_search, wait_for_beginning
from harness.sweep.plan import costly_values
from harness.sweep.race import Launch
from harness.sweep.searched import (
    SWEEP_FILE,
    Searched,
    is_search_of,
    published_search,
    read_executions,
    read_searched,
    study_place,
)
from harness.sweep.selection import Contender, Winner, describe_winner, judged_by, select

BEGINNING = "beginning"  # the lease of who opens a search: engines are measured once, and not by all workers at once


def open_arms(sweep: Sweep, results: Path, choice: EngineChoice) -> list[ArmSearch]:
    """Open (or begin) the searches of a sweep; the engine of one that begins is chosen here, and kept with it.

    Raises:
        UserError: the search was begun with other settings or another engine, or what is known of it cannot be read.
        TrialError: the folder cannot be written to (reason `disk`).
    """
    folder = results / sweep.name
    with locked(folder, BEGINNING):
        drop_left_over(folder)
        drop_dead_in(folder, EXPORT)  # a search that is over needs no exporter, who would take it over
        searched = read_searched(folder, [arm.name for arm in sweep.searched], study_place(sweep, results))
        if searched.fingerprint is not None:
            sweep.check_begun(searched.fingerprint, searched.about)
        about = sweep.about
        known = dict(searched.executions)
        if searched.fingerprint is None and not is_search_of(sweep, folder):
            known = {}  # what was published under this name is another search
        told = {arm: execution.model_dump(mode="json") for arm, execution in known.items()}
        for arm, trials in searched.old.items():
            for ended in trials:
                Points(folder, arm).write(ended)
        write_json(folder / SWEEP_FILE, {**about, **({"execution": told} if told else {})})
        executions = {arm.name: _execution_of(sweep, arm, known.get(arm.name), choice) for arm in sweep.searched}
        told = {arm: execution.model_dump(mode="json") for arm, execution in executions.items()}
        write_json(folder / SWEEP_FILE, {**about, "execution": told})
    return [ArmSearch(sweep, arm, results, executions, _failed_before(searched, arm.name)) for arm in sweep.searched]


def _failed_before(searched: Searched, arm: str) -> list[EndedTrial]:
    """The trials of a published search that failed: that they are not tried again is all that no record tells."""
    points = searched.points.get(arm, ()) if searched.fingerprint is None else ()
    return [EndedTrial(**dict(point)) for point in points if point.state == "failed"]


def _execution_of(sweep: Sweep, arm: Arm, known: Execution | None, choice: EngineChoice) -> Execution:
    """The engine that an arm's search was begun with; chosen now if it begins."""
    if known is None:
        # As many trials as may be drawn before others end, over all arms: arms of one kind share packs.
        most = sweep.config.search.lag * len(sweep.searched)
        known = choice.choose(sweep.trial(arm, costly_values(arm), sweep.config.search.seeds[0]), most)
    return choice.agree(known.model_dump(mode="json"), f"arm {arm.name} of {sweep.name}")


def run_search(sweep: Sweep, run: Launch, opened: Callable[[], object] = lambda: None) -> SearchResult:
    """The search phase, as far as it is not done; writes search.json.

    Args:
        opened: called when the arms' engines are known (`run.executions`), before anything is trained.
    """
    known = published_search(sweep, run.results)
    if known is not None:
        told = read_executions(run.results / sweep.name)
        run.executions.update({arm.name: told.get(arm.name, PLAIN) for arm in sweep.searched})
        opened()
        return known
    follows = run.launcher is not None and not run.launcher.trains
    if follows:
        wait_for_beginning(sweep, run)
    arms = open_arms(sweep, run.results, run.choice)
    run.executions.update({arm.arm.name: arm.execution for arm in arms})
    opened()
    search = Search(sweep, arms, run.results, run.hear)
    for arm in arms:
        arm.refresh()
    if follows:
        follow_search(sweep, run, arms)
    elif not all(arm.finished() for arm in arms):
        begin_digests(RecordStore(run.results, sweep.name), searching=True)
        exporting = LiveExport(run.results / sweep.name, study_place(sweep, run.results), run.at_end)
        with exporting, run.make_launcher(search.tell) as launcher:
            search.run(launcher)
    points = tuple(point for arm in arms for point in arm.points())
    result = SearchResult(
        name=sweep.name, objectives=sweep.objectives, axes={arm.name: arm.axes for arm in sweep.searched}, points=points
    )
    write_plan_file(RecordStore(run.results, sweep.name), "search.json", result.model_dump(mode="json"))
    return result


@dataclass(frozen=True)
class Frozen:
    """The winners: arm -> rule -> winner; arms that search nothing are not in it."""

    winners: Mapping[str, Mapping[str, Winner]]

    def rows(self, sweep: Sweep) -> dict[RowId, tuple[Arm, Mapping[str, Value]]]:
        """The rows of the confirm phase, with their settings: one for each winner of an arm."""
        rows: dict[RowId, tuple[Arm, Mapping[str, Value]]] = {}
        for arm in sweep.arms:
            winners = self.winners.get(arm.name, {})
            params = {winner.contender.number: winner.contender.params for winner in winners.values()}
            merged = merge_rules(arm.name, {rule: winner.contender.number for rule, winner in winners.items()})
            rows |= {row: (arm, params[number]) for number, row in merged.items()}
            if not winners:
                rows[RowId(arm.name)] = (arm, {})
        return rows

    def edge_remarks(self, sweep: Sweep) -> list[str]:
        """A line for each winning setting at an end of what was searched, with the rows of which that holds."""
        found: dict[str, list[str]] = {}
        for row, (arm, params) in self.rows(sweep).items():
            for text in edge_remarks(arm.space, params):
                found.setdefault(text, []).append(row.name)
        return [f"{'; '.join(rows)}: {text}" for text, rows in found.items()]


def choose_winners(sweep: Sweep, racing: Mapping[str, Sequence[Contender]]) -> Frozen:
    """Apply the sweep's rules to the contenders that are left."""
    keys = regularisation_keys(sweep.config)
    winners: dict[str, dict[str, Winner]] = {}
    for arm in sweep.searched:
        axes = [axis for axis in arm.axes if axis.key in keys]
        winners[arm.name] = {
            rule: select(rule, racing[arm.name], sweep.objectives[0], sweep.config.constraints, axes)
            for rule in sweep.config.confirm.rules
        }
    return Frozen(winners)


def freeze(sweep: Sweep, result: SearchResult, racing: Mapping[str, Sequence[Contender]], results: Path) -> Frozen:
    """Pick each arm's winners, and write frozen.json."""
    frozen = choose_winners(sweep, racing)
    content = frozen_content(sweep, result, racing, frozen)
    write_plan_file(RecordStore(results, sweep.name), "frozen.json", content)
    return frozen


def frozen_content(
    sweep: Sweep, result: SearchResult, racing: Mapping[str, Sequence[Contender]], frozen: Frozen
) -> dict[str, Any]:
    """The content of frozen.json: what a reader needs to judge and to repeat the choice."""
    config = sweep.config.model_dump(mode="json")
    arms = {}
    for arm in sweep.searched:
        points = [point for point in result.points if point.arm == arm.name]
        arms[arm.name] = {
            "trials": {state: sum(p.state == state for p in points) for state in ("complete", "pruned", "failed")},
            "winners": {rule: describe_winner(winner) for rule, winner in frozen.winners[arm.name].items()},
            "raced": [
                {
                    "trial": c.number,
                    "params": dict(c.params),
                    "validation": {str(s): dict(v) for s, v in {**c.searched, **c.raced}.items()},
                }
                for c in racing[arm.name]
            ],
        }
    kept = ("objectives", "constraints", "space", "sampler", "pruner", "budget", "search", "race", "confirm")
    settings = {key: config[key] for key in kept}
    judged = judged_by(sweep.config.search.seeds, sweep.config.race.seeds)
    return {"name": sweep.name, "fingerprint": sweep.fingerprint, **settings, "judged_by": judged, "arms": arms}


def confirm_notes(sweep: Sweep, result: SearchResult, frozen: Frozen) -> tuple[Note, ...]:
    """What the table must say of how its rows were tuned."""
    config = sweep.config
    budget = budget_text(config.budget.model_dump(exclude_none=True))
    rules = ", ".join(config.confirm.rules)
    first, *others = [f"{objective.metric}, {objective.direction}d" for objective in sweep.objectives]
    also = f" (searched for as well: {'; '.join(others)})" if others else ""
    tuned = (
        f"each searched arm was tuned with {budget} (sampler {config.sampler.name}, pruner {config.pruner.name}) on "
        f"validation data ({first}){also}; winners were chosen by {rules} and confirmed on fresh seeds"
    )
    notes = [
        *sweep.notes,
        Note("budget", tuned),
        Note("budget", _dimensions(sweep)),
        Note("selection", _judging(sweep)),
    ]
    fixed = [arm.name for arm in sweep.arms if not arm.space]
    if fixed:
        notes.append(Note("selection", f"not tuned: {', '.join(fixed)}"))
    counts = {arm.name: sum(p.arm == arm.name for p in result.points) for arm in sweep.searched}
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        notes.append(Note("budget", f"unequal numbers of trials: {each}"))
    notes += [Note("budget", text) for text in remarks(sweep, counts)]
    for arm in sweep.searched:
        failed = [p for p in result.points if p.arm == arm.name and p.state == "failed"]
        if failed:
            reasons = ", ".join(sorted({str(point.reason) for point in failed}))
            lost = f"{arm.name}: {len(failed)} of {counts[arm.name]} search trials failed ({reasons})"
            notes.append(Note("selection", lost))
        for rule, winner in frozen.winners[arm.name].items():
            if not winner.feasible:
                row = RowId(arm.name, (rule,)).name
                text = f"{row}: no contender met the constraints; the one that misses least is shown"
                notes.append(Note("selection", text))
    notes += [Note("selection", text) for text in frozen.edge_remarks(sweep)]
    return tuple(notes)


def _dimensions(sweep: Sweep) -> str:
    """How many settings each arm searched: the same budget tunes few settings better than many."""
    counts = {arm.name: len(arm.space) for arm in sweep.searched}
    if len(counts) > NAMED_ARMS and len(set(counts.values())) == 1:
        return f"searched settings of each arm: {next(iter(counts.values()))}"
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    text = f"searched settings of each arm: {each}"
    return f"{text}; the same budget tunes fewer settings more finely" if len(set(counts.values())) > 1 else text


def _judging(sweep: Sweep) -> str:
    race, bounds = sweep.config.race.seeds, sweep.config.constraints
    if race:
        seeds = ", ".join(map(str, race))
        text = f"winners were judged on the seeds of the race ({seeds}), without the search's"
    else:
        text = "there was no race: winners were judged on the seeds by which the search found them, which flatters them"
    if bounds and "constrained" in sweep.config.confirm.rules:
        judged = judged_by(sweep.config.search.seeds, race)["constraints"]
        bounded = ", ".join(
            f"{c.metric} at most {c.at_most:g}" if c.at_most is not None else f"{c.metric} at least {c.at_least:g}"
            for c in bounds
        )
        text += f"; the constraint ({bounded}) was judged by {judged}"
    return text


def confirm_executions(sweep: Sweep, frozen: Frozen, run: Launch) -> dict[str, Execution]:
    """The engines of the confirm phase's rows: each that of its arm's search; what was not searched, the plain loop."""
    return {row.name: run.executions.get(arm.name, PLAIN) for row, (arm, _) in frozen.rows(sweep).items()}


def confirm_experiment(sweep: Sweep, result: SearchResult, frozen: Frozen) -> Experiment:
    """The confirm phase as an experiment."""
    experiment = plan_confirm(sweep, frozen.rows(sweep))
    notes = (*confirm_notes(sweep, result, frozen), *experiment.notes)
    return replace(experiment, notes=notes, budget=sweep.config.budget.model_dump(exclude_none=True))

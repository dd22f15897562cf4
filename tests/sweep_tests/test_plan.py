"""What a sweep would train and cost: counts from what is on disk, prices from records or a probe."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from search_tests.test_preflight import LR, write_sweep
from small_experiments import misbehaving
from tiny_text import TinyText

from harness.cli.views.plan import ask_before, print_plan, total_lines
from harness.config.experiment import load_experiment
from harness.config.notes import Note
from harness.config.rows import RowId
from harness.engines import measure
from harness.engines.measure import PriceProbe
from harness.engines.prices import Price, config_shape, duration
from harness.errors import UserError
from harness.launch.run_experiment import manifest_of
from harness.records.points import POINTS, EndedTrial, Points
from harness.records.provenance import machine
from harness.records.search import SearchPoint, SearchResult, Value
from harness.records.trial_folder import TrialFolder
from harness.search.declaration import Sweep, plan_confirm
from harness.search.sweep_files import load_sweep
from harness.search.tasks import search_folder
from harness.sweep.elsewhere import num_at_first
from harness.sweep.parts import Count
from harness.sweep.plan import ArmPlan, SweepPlan, describe_outdated, plan_experiment, plan_sweep
from harness.sweep.run_sweep import Frozen, confirm_notes
from harness.training.resources import Resources
from harness.training.trial import Trial

DEPTH = {"type": "float", "low": 0.0, "high": 0.9, "arms": ["residual_add"]}
SPACE = {"optim.lr": LR, "adapter.adapter_strategy.stochastic_depth": DEPTH}
RACE = {"candidates": 2, "seeds": [1001]}


def end_trials(sweep: Sweep, results: Path, num: int) -> None:
    """Put `num` complete trials an arm into the results, as a search does."""
    for arm in sweep.searched:
        for number in range(num):
            values: dict[str, Value] = {"optim.lr": 0.01 + number / 1000}
            ids = tuple(sweep.trial(arm, values, seed).trial_id for seed in sweep.config.search.seeds)
            costs: dict[str, Any] = {"seconds": 2.0, "epochs": 3}
            point = EndedTrial(arm=arm.name, number=number, state="complete", params=values, values=(0.5,), **costs)
            Points(results / sweep.name, arm.name).write(point.model_copy(update={"trial_ids": ids}))
    about = {"fingerprint": sweep.fingerprint}
    (results / sweep.name / "sweep.json").write_text(json.dumps(about), encoding="utf-8")


def write_summary(
    folder: Path,
    config: dict[str, Any],
    seconds: float,
    of: dict[str, str] | None = None,
    fingerprints: tuple[str, str] = ("corpus", "backbone"),
) -> None:
    """A finished record."""
    folder.mkdir(parents=True)
    summary = {
        "trial_id": folder.name,
        "state": "complete",
        "metrics": {"trainable_parameters": 7.0},
        "by_domain": {"away": {"accuracy": 0.5}},
        "costs": {"seconds": seconds, "peak_memory_mb": 300.0},
    }
    made_with: dict[str, Any] = {"harness_version": "1", "git_commit": None, "git_dirty": None, "packages": {}}
    made_with |= {"started_at": "", "finished_at": "", "num_starts": 1, "machine": of or machine()}
    made_with |= dict(zip(("corpus_fingerprint", "backbone_fingerprint"), fingerprints, strict=True))
    for name, content in (("config", config), ("summary", summary), ("provenance", made_with)):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def finish(sweep: Sweep, results: Path) -> None:
    """Everything of a sweep: study, race, frozen.json and the confirm phase's records."""
    end_trials(sweep, results, sweep.config.budget.trials or 0)
    for arm in sweep.searched:
        raced = sweep.trial(arm, {"optim.lr": 0.01}, 1001)
        (search_folder(results, sweep.name, raced.trial_id)).mkdir(parents=True)
        (search_folder(results, sweep.name, raced.trial_id) / "summary.json").write_text("{}", encoding="utf-8")
    config = sweep.config.model_dump(mode="json")
    best = {"trial": 0, "params": {"optim.lr": 0.01}, "validation": {}, "standard_error": None}
    arm_content = {"trials": {"complete": 1}, "raced": [], "winners": {"best": best}}
    content = {
        "fingerprint": sweep.fingerprint,
        **{key: value for key, value in config.items() if key not in ("name", "arms")},
        "arms": {arm.name: arm_content for arm in sweep.searched},
    }
    (results / sweep.name / "frozen.json").write_text(json.dumps(content), encoding="utf-8")
    rows = {RowId(arm.name): (arm, {"optim.lr": 0.01} if arm.space else {}) for arm in sweep.arms}
    configs = {trial.config.trial_id: trial.config for trial in plan_confirm(sweep, rows).trials}
    for trial_id, settings in configs.items():
        folder = TrialFolder(results / sweep.name / "records" / trial_id)
        write_summary(folder.path, settings.model_dump(mode="json", by_alias=True), 1.0)


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configs that were probed; nothing is measured."""
    seen: list[Any] = []

    def probe(self: PriceProbe, config: Any) -> Price:
        seen.append(config)
        return Price(10.0, "a probe", test_s=1.0, peak_memory_mb=200.0, trainable=1000, is_probed=True)

    monkeypatch.setattr(PriceProbe, "price", probe)
    return seen


def test_a_new_sweep(tiny_text_files: TinyText, tmp_path: Path, probed: list[Any]) -> None:
    sweep = write_sweep(tiny_text_files, tmp_path, SPACE, race=RACE)
    plan = plan_sweep(sweep, tmp_path / "results", 2)
    frozen, head, adapter = plan.arms
    assert (frozen.searches, frozen.search, frozen.race, frozen.confirm) == ("", Count(), Count(), Count(1))
    assert (head.search, head.race, head.confirm) == (Count(4), Count(2), Count(2))
    assert adapter.searches == "lr 0.001..0.1, stochastic_depth 0..0.9"
    assert plan.num_new == 1 + 8 + 8
    assert (plan.num_finished, plan.num_searching) == (0, 12)
    assert adapter.seconds == 4 * 10 + 2 * 10 + 2 * 11
    assert [config.train for config in probed] == ["none", "head", "adapters"]
    assert (frozen.speed, bool(head.speed), bool(adapter.speed)) == ("", True, True)  # what learns nothing has no speed
    assert not (tmp_path / "results").exists()  # looking makes nothing


def test_a_search_that_is_too_short_for_its_sampler_and_pruner_says_so(
    tiny_text_files: TinyText, tmp_path: Path, probed: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """In the plan, which `harness sweep` prints as well, and under the table."""
    loop = {"loop.epochs": 3}
    changes: dict[str, Any] = {"arms": ["head_only"], "settings": loop, "pruner": {"name": "median"}}
    sweep = write_sweep(tiny_text_files, tmp_path, {"optim.lr": LR}, **changes)
    print_plan(plan_sweep(sweep, tmp_path, num_jobs=1))
    told = [line.strip() for line in capsys.readouterr().out.splitlines() if "search: " in line]
    random = (
        "head_only: sampler tpe draws its first 13 trials without looking at results (with search.lag 4), "
        "and there are 4: the search is a random one"
    )
    assert told[0] == f"search: {random}" and told[1].startswith("search: head_only: pruner median can stop no trial: ")
    point = SearchPoint(arm="head_only", number=0, state="complete", params={})
    found = SearchResult(name="tiny", objectives=sweep.objectives, axes={}, points=(point,) * 4)
    notes = confirm_notes(sweep, found, Frozen({"head_only": {}}))
    assert Note("budget", random) in notes
    enough = write_sweep(tiny_text_files, tmp_path, {"optim.lr": LR}, **changes, budget={"trials": 14})
    assert not plan_sweep(enough, tmp_path / "other", num_jobs=1).search_remarks


def test_what_is_finished_is_counted(tiny_text_files: TinyText, tmp_path: Path, probed: list[Any]) -> None:
    sweep = write_sweep(tiny_text_files, tmp_path, SPACE, race=RACE)
    end_trials(sweep, tmp_path, 3)
    plan = plan_sweep(sweep, tmp_path, 1)
    assert [arm.search for arm in plan.arms] == [Count(), Count(4, 3), Count(4, 3)]
    assert plan.num_finished == 6


def test_a_finished_sweep_is_not_probed(tiny_text_files: TinyText, tmp_path: Path, probed: list[Any]) -> None:
    sweep = write_sweep(tiny_text_files, tmp_path, SPACE, race=RACE)
    finish(sweep, tmp_path)
    plan = plan_sweep(sweep, tmp_path, 1)
    assert plan.num_new == 0
    assert [arm.race for arm in plan.arms] == [Count(), Count(1, 1), Count(1, 1)]
    assert [arm.confirm for arm in plan.arms] == [Count(1, 1), Count(2, 2), Count(2, 2)]
    (line,) = total_lines(plan)
    assert line.startswith("everything is finished")
    assert probed == []


def test_a_greater_budget_freezes_anew(tiny_text_files: TinyText, tmp_path: Path, probed: list[Any]) -> None:
    finish(write_sweep(tiny_text_files, tmp_path, SPACE, race=RACE), tmp_path)
    more = write_sweep(tiny_text_files, tmp_path, SPACE, race=RACE, budget={"trials": 5})
    plan = plan_sweep(more, tmp_path, 1)
    assert [arm.search for arm in plan.arms] == [Count(), Count(5, 4), Count(5, 4)]
    assert [arm.race for arm in plan.arms] == [Count(), Count(2, 1), Count(2, 1)]
    assert [arm.confirm for arm in plan.arms] == [Count(1, 1), Count(2), Count(2)]  # nothing trains in the first


def test_other_settings_are_refused(tiny_text_files: TinyText, tmp_path: Path) -> None:
    end_trials(write_sweep(tiny_text_files, tmp_path, SPACE), tmp_path, 1)
    other = write_sweep(tiny_text_files, tmp_path, SPACE, search={"seed": 5})
    with pytest.raises(UserError, match="begun with other settings"):
        plan_sweep(other, tmp_path, 1)


def test_a_sweep_of_an_older_version_is_not_gone_on_with(
    tiny_text_files: TinyText, tmp_path: Path, probed: list[Any]
) -> None:
    """Its trials chose by other validation sets: a running study is refused, a frozen one made anew, and both told."""
    sweep = write_sweep(tiny_text_files, tmp_path, SPACE, race=RACE)
    finish(sweep, tmp_path)
    assert describe_outdated(sweep, tmp_path) is None
    path = tmp_path / sweep.name / "frozen.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "fingerprint": sweep.old_fingerprint}), encoding="utf-8")
    told = describe_outdated(sweep, tmp_path)
    assert told is not None and "validation was the head of the file. It is not reused" in told
    shutil.rmtree(tmp_path / sweep.name / POINTS)
    assert [arm.search for arm in plan_sweep(sweep, tmp_path, 1).arms] == [Count(), Count(4, 0), Count(4, 0)]
    with pytest.raises(UserError, match=r"was begun before validation sets were drawn as samples.*another name"):
        sweep.check_begun(sweep.old_fingerprint, {})


def test_a_budget_in_seconds(tiny_text_files: TinyText, tmp_path: Path, probed: list[Any]) -> None:
    sweep = write_sweep(tiny_text_files, tmp_path, SPACE, budget={"seconds": 35})
    end_trials(sweep, tmp_path, 2)  # of 2 s each
    _, head, _ = plan_sweep(sweep, tmp_path, 1).arms
    assert (head.search_s, head.search) == (31, Count(6, 2))
    assert head.seconds == 31 + 2 * 11


def test_records_of_this_machine_make_a_probe_needless(
    tiny_text_files: TinyText, tmp_path: Path, probed: list[Any]
) -> None:
    sweep = write_sweep(tiny_text_files, tmp_path, SPACE)
    arm = sweep.searched[1]
    for number, seconds in enumerate((3.0, 6.0, 30.0)):
        config = sweep.trial(arm, {"optim.lr": 0.01, "adapter.adapter_strategy.stochastic_depth": 0.1}, number)
        content = config.model_dump(mode="json", by_alias=True)
        write_summary(tmp_path / "tiny_strategies" / "records" / str(number), content, seconds)
        write_summary(tmp_path / "tiny" / "search" / str(number), content, 1.0, {"processor": "another one"})
    (tmp_path / "tiny" / "search" / "2" / "config.json").write_text("{", encoding="utf-8")
    plan = plan_sweep(sweep, tmp_path, 1)
    assert plan.arms[2].price == Price(6.0, "3 records of tiny_strategies, engine plain", 0.0, 300.0, 7)
    assert [config.train for config in probed] == ["none", "head"]
    for number in range(2):  # a pack's seconds are not a lone trial's, so they stand for themselves
        made_with = tmp_path / "tiny_strategies" / "records" / str(number) / "provenance.json"
        content = json.loads(made_with.read_text(encoding="utf-8")) | {"execution": {"engine": "packed", "pack": 8}}
        made_with.write_text(json.dumps(content), encoding="utf-8")
    assert plan_sweep(sweep, tmp_path, 1).arms[2].price == Price(
        *(30.0, "1 record of tiny_strategies, engine plain", 0.0, 300.0, 7)
    )


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a1", "b", "a2"), ["speed of a1, a2: a", "speed of b: b"]),
        (("a1", "a2", "a3"), ["speed of a1, a2, a3: a"]),
        (("a1", "a2", "a3", "a4"), ["speed of all 4 arms: a"]),
        (("a1", "a2", "a3", "a4", "b"), ["speed of a1, a2, a3, a4: a", "speed of b: b"]),
    ],
)
def test_what_arms_share_is_said_once(names: tuple[str, ...], told: list[str]) -> None:
    arms = [
        ArmPlan(name, "", Count(), Count(), Count(2), 1, 3, Price(1.0, "a probe"), speed=name[:1]) for name in names
    ]
    lines = total_lines(SweepPlan("s", Path("s.yaml"), tuple(arms), 1))
    assert [line for line in lines if line.startswith("speed of ")] == told


def test_shapes(tiny_text_files: TinyText, tmp_path: Path) -> None:
    sweep = write_sweep(tiny_text_files, tmp_path, SPACE)
    arm = sweep.searched[1]
    same: list[dict[str, float]] = [
        {},
        {"optim.lr": 0.05},
        {"adapter.adapter_strategy.l2_lambda": 0.2},
        {"loop.epochs": 9},
    ]
    assert len({config_shape(sweep.trial(arm, values, 0)) for values in same}) == 1
    other: list[dict[str, int]] = [{}, {"adapter.dim": 8}, {"loop.batch_size": 8}, {"data.train_limit": 9}]
    assert len({config_shape(sweep.trial(arm, values, 0)) for values in other}) == 4


def test_a_real_probe(tiny_text_files: TinyText, tmp_path: Path) -> None:
    sweep = write_sweep(tiny_text_files, tmp_path, SPACE)
    plan = plan_sweep(sweep, tmp_path / "results", 1)
    frozen, head, adapter = (arm.price for arm in plan.arms)
    assert frozen is not None and head is not None and adapter is not None
    assert (frozen.trainable, head.trainable, adapter.trainable) == (0, 51, 2 * (16 * 4 * 2 + 2 * 16))
    assert 0 < (frozen.seconds or 0) < (adapter.seconds or 0) < 20
    assert 50 < (adapter.peak_memory_mb or 0) < 10_000
    assert {price.source for price in (frozen, head, adapter)} == {"a probe"}
    assert all(price.is_probed for price in (frozen, head, adapter))


def test_one_probe_serves_trainings_that_differ_in_their_data_alone(
    tiny_text_files: TinyText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scaled by the steps of their items: half the sentences to learn from cost half as much of an epoch."""
    sweep = write_sweep(tiny_text_files, tmp_path, SPACE)
    measured: list[Trial] = []

    def rates(trial: Trial) -> measure._Rates:
        measured.append(trial)
        return measure._Rates(build_s=0.5, train_s=0.25, score_s=0.125, peak_memory_mb=100.0, trainable=7)

    monkeypatch.setattr(measure, "_measure", rates)
    probe, config = PriceProbe(Resources(sealed=True)), sweep.trial(sweep.searched[1], {}, 0)
    fewer = config.model_copy(update={"data": config.data.model_copy(update={"train_limit": 4})})
    longer = config.model_copy(update={"loop": config.loop.model_copy(update={"epochs": 2 * config.loop.epochs})})
    prices = [probe.price(one) for one in (config, fewer, longer)]
    assert len(measured) == 1
    assert [price.source for price in prices] == ["a probe", *["a probe of the same training on other data"] * 2]
    domains = measured[0].domains
    for one, price in zip((config, fewer, longer), prices, strict=True):
        trial = Trial(one, Resources(sealed=True))
        names = (one.data.target, *one.data.source)
        learnt = sum(len(item.inputs) for item in trial.train_items())
        scored = sum(len(item.inputs) for name in names for item in trial.validation.items(name))
        assert price.seconds == pytest.approx(1.0 + one.loop.epochs * (0.25 * learnt + 0.125 * scored))
        whole = sum(len(item.inputs) for name in names for item in domains.items(name, "valid"))
        assert price.test_s == pytest.approx(0.125 * whole)
    wider = config.model_copy(update={"adapter": {**(config.adapter or {}), "dim": 2}})
    assert probe.price(wider).source == "a probe" and len(measured) == 2


def test_a_training_that_fails_has_no_price(tiny_text_files: TinyText, tmp_path: Path) -> None:
    files = tiny_text_files.write_experiment(tmp_path / "e.yaml", arms={"bad": misbehaving("nan")}, table={})
    sweep = write_sweep(tiny_text_files, tmp_path, {"optim.lr": LR}, experiment=str(files))
    arm = sweep.searched[0]
    price = PriceProbe(Resources(sealed=True)).price(sweep.trial(arm, {}, 0))
    assert price.seconds is None
    assert price.source.startswith("the timed training failed: ")
    bad = ArmPlan("bad", "", Count(2), Count(), Count(), 1, 3, price)
    plan = SweepPlan("s", tmp_path, (bad,), 1)
    assert "not include bad;" in total_lines(plan)[-1]


def test_an_experiment(tiny_text_files: TinyText, tmp_path: Path, probed: list[Any]) -> None:
    experiment = load_experiment(tiny_text_files.experiment)
    domains = Resources().domains(experiment.trials[0].config)
    here = (domains.corpus.fingerprint, domains.backbone.fingerprint)
    for config in (experiment.trials[0].config, experiment.trials[2].config):  # of frozen, and of head_only
        content = config.model_dump(mode="json", by_alias=True)
        write_summary(tmp_path / "tiny_strategies" / "records" / config.trial_id, content, 1.0, fingerprints=here)
    plan = plan_experiment(experiment, experiment.trials, tmp_path, 1)
    assert [arm.confirm for arm in plan.arms] == [Count(1, 1), Count(2, 1), Count(2)]
    assert plan.arms[0].price is None  # it is finished
    assert plan.arms[1].price == Price(1.0, "1 record of tiny_strategies, engine plain", 0.0, 300.0, 7)


def test_an_experiment_that_would_be_refused(tiny_text_files: TinyText, tmp_path: Path, probed: list[Any]) -> None:
    """Everything that `run` checks before it trains, `plan` checks before it measures."""
    first = (experiment := load_experiment(tiny_text_files.experiment)).trials[0].config
    folder = tmp_path / "tiny_strategies" / "records" / first.trial_id
    write_summary(folder, first.model_dump(mode="json", by_alias=True), 1.0, fingerprints=("other", "other"))
    with pytest.raises(UserError, match=f"record {first.trial_id} was made with another backbone"):
        plan_experiment(experiment, experiment.trials, tmp_path, 1)
    last = load_experiment(tiny_text_files.experiment, ["data.train_limit=10000"])
    with pytest.raises(UserError, match=r"arm head_only: .*limit of 10000 training examples"):
        plan_experiment(last, last.trials, tmp_path / "none", 1)
    assert not probed


STRATEGY = "adapter.adapter_strategy"
HIGH = {"type": "float", "low": 0.0, "high": 1.5, "arms": ["residual_add"]}


@pytest.mark.parametrize(
    ("space", "settings", "message"),
    [
        ({f"{STRATEGY}.stochastic_depth": HIGH}, {}, "has to be between 0 and 1, but got 1.5"),
        ({}, {f"{STRATEGY}.stochastic_dept": 0.5}, "does not accept `stochastic_dept`; it accepts: "),
        ({}, {STRATEGY: {"stochastic_dept": 0.5}}, "does not accept `stochastic_dept`; it accepts: "),
    ],
)
def test_a_sweep_that_would_be_refused(
    tiny_text_files: TinyText,
    tmp_path: Path,
    probed: list[Any],
    space: dict[str, Any],
    settings: dict[str, Any],
    message: str,
) -> None:
    sweep = write_sweep(tiny_text_files, tmp_path, {"optim.lr": LR, **space}, settings=settings)
    with pytest.raises(UserError) as caught:
        plan_sweep(sweep, tmp_path / "results", 1)
    found = str(caught.value)
    assert found.startswith(f"{sweep.path}: arm residual_add: adapter.adapter_strategy: ") and message in found
    assert not probed


def big_plan(**changes: Any) -> SweepPlan:
    price = Price(3600.0, "a probe", 0.0, 400.0, 1_000_000, is_probed=True)
    arm = ArmPlan("arm", "lr 0..1", Count(8, 2), Count(2), Count(2), 1, 10, price)
    return replace(SweepPlan("big", Path("big.yaml"), (arm,), num_jobs=1), **changes)


def test_a_long_sweep_asks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plan = big_plan()
    with pytest.raises(UserError, match=r"^big.yaml: this takes about 10 h 00 min; give --yes"):
        ask_before(plan, yes=False)
    ask_before(plan, yes=True)
    ask_before(big_plan(arms=()), yes=False)
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr("harness.cli.views.plan.sys", SimpleNamespace(stdin=terminal, stdout=terminal))
    for answer, starts in (("y", True), ("YES", True), ("", False), ("n", False)):
        monkeypatch.setattr("builtins.input", lambda prompt, answer=answer: answer)
        if starts:
            ask_before(plan, yes=False)
        else:
            with pytest.raises(UserError, match="not started"):
                ask_before(plan, yes=False)


def test_a_plan_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(big_plan())
    out = capsys.readouterr().out
    assert "6 new, 2 finished" in out
    assert "1,000,000" in out
    assert "at most 10 trainings, about 10 h 00 min with 1 job, 400 MB of memory" in out


def test_a_plan_on_a_narrow_terminal() -> None:
    file = io.StringIO()
    print_plan(big_plan(), Console(file=file, force_terminal=True, width=80, color_system=None))
    assert max(map(len, file.getvalue().splitlines())) <= 80


def test_durations() -> None:
    assert [duration(s) for s in (0.42, 45.4, 700, 3900)] == ["0.4 s", "45 s", "12 min", "1 h 05 min"]


@pytest.mark.slow
def test_a_finished_plan_loads_no_torch(tiny_text_files: TinyText, tmp_path: Path) -> None:
    sweep = write_sweep(tiny_text_files, tmp_path, SPACE, race=RACE)
    finish(sweep, tmp_path / "results")
    code = (
        "import sys; from pathlib import Path; from harness.cli.plan import plan; "
        f"plan(Path({str(sweep.path)!r})); assert 'torch' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert "everything is finished" in result.stdout


ROOT = Path(__file__).resolve().parents[2]


def test_the_confirm_phase_knows_for_what_its_arms_are_repeated() -> None:
    sweep = load_sweep(ROOT / "sweeps" / "papers" / "merge_text_tuned.yaml")
    rows = {RowId(arm.name): (arm, {"optim.lr": 1e-3} if arm.space else {}) for arm in sweep.arms}
    design = manifest_of(plan_confirm(sweep, rows)).design
    assert design is not None and design["arms"]["AdapterFusion, 25"] == {"method": "AdapterFusion", "size": 25}


@pytest.mark.parametrize(
    ("search", "race", "confirm", "search_s", "expected"),
    [
        (20, 6, 4, None, 4 + 3),  # of two arms: as many as the lag lets be under way, and what is left of the other
        (0, 6, 4, None, 6),
        (0, 0, 4, None, 4),
        (0, 0, 0, None, 0),
        (0, 6, 4, 60.0, 4),  # nobody knows how many trials a budget in seconds is
    ],
)
def test_how_many_workers_a_launch_begins_with(
    search: int, race: int, confirm: int, search_s: float | None, expected: int
) -> None:
    one = ArmPlan("one", "lr", Count(search), Count(race), Count(confirm), 1, 3, search_s=search_s)
    other = ArmPlan("other", "lr", Count(9, 6) if search else Count(), Count(), Count(), 1, 3)
    assert num_at_first(SweepPlan("s", Path("s.yaml"), (one, other), 8), lag=4) == expected

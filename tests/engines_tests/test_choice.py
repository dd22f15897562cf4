"""Which engine trains an arm: asked for, probed, kept; and the words of the plan. No measured time is asserted."""

from __future__ import annotations

import gc
import json
import math
import re
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_text import TinyText

from harness.config.execution import PLAIN, Execution, execution_of
from harness.config.experiment import load_experiment
from harness.config.trial import TrialConfig
from harness.engines import probe as pack_probe
from harness.engines.choice import AUTO, EngineChoice, experiment_executions, num_slots
from harness.engines.packed import steps
from harness.engines.packed.pack import Pack
from harness.engines.probe import Ahead, describe_speed, probe_engines
from harness.errors import UserError
from harness.training.engine import Engine
from harness.training.free_memory import Limit
from harness.training.resources import Resources

PACKED = Execution(engine="packed", pack=8)


@pytest.fixture(autouse=True)
def _memory_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else this machine is doing."""
    monkeypatch.setattr(pack_probe, "memory_limits", lambda device: [Limit(900, 1000)])
    monkeypatch.setattr(pack_probe, "own_peak", lambda device: 100)


@pytest.fixture
def configs(tiny_text_files: TinyText) -> dict[str, TrialConfig]:
    """One config an arm."""
    experiment = load_experiment(tiny_text_files.experiment)
    return {trial.arm: trial.config for trial in experiment.trials}


@pytest.mark.parametrize(
    ("engine", "pack", "message"),
    [
        ("fast", None, "--engine 'fast'; choices: auto, plain, cut, packed"),
        ("plain", 4, "--pack 4 .* --engine packed .* --engine plain"),
        ("cut", 2, "--pack 2 .* --engine packed .* --engine cut"),
    ],
)
def test_wrong_options_are_one_line(engine: str, pack: int | None, message: str) -> None:
    with pytest.raises(UserError) as raised:
        EngineChoice(engine, pack)
    assert re.search(message, str(raised.value))


def test_an_execution_from_options() -> None:
    assert execution_of("plain", None) == PLAIN
    assert execution_of("packed", None) == PACKED
    assert execution_of("packed", 3).pack == 3
    assert num_slots({"a": PLAIN, "b": PACKED}) == 8 and num_slots({}) == 1


def test_what_was_begun_with_an_engine_keeps_it() -> None:
    """Another size of pack may be asked for; another engine is refused."""
    known = PACKED.model_dump(mode="json")
    assert EngineChoice("auto").agree(known, "it") == PACKED
    assert EngineChoice("packed", 2).agree(known, "it").pack == 2
    with pytest.raises(UserError, match="--engine plain: it was begun with engine packed"):
        EngineChoice("plain").agree(known, "it")


def test_an_experiments_engines_are_kept(
    configs: dict[str, TrialConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain writes nothing; a choice is written once and read from then on; old records are the plain loop's."""
    folder, trials = tmp_path / "experiment", {arm: [config] for arm, config in configs.items()}
    assert set(experiment_executions(folder, trials, EngineChoice("plain"), False).values()) == {PLAIN}
    assert not folder.exists()
    with pytest.raises(UserError, match="was begun with engine plain"):
        experiment_executions(folder, trials, EngineChoice("packed"), True)
    chosen = experiment_executions(folder, trials, EngineChoice("packed", 3), False)
    assert set(chosen.values()) == {Execution(engine="packed", pack=3)}
    assert set(json.loads((folder / "execution.json").read_text())) == set(configs)
    monkeypatch.setattr(EngineChoice, "choose", lambda *args, **options: pytest.fail("chosen again"))
    assert experiment_executions(folder, trials, EngineChoice("auto"), True) == chosen
    with pytest.raises(UserError, match="was begun with engine packed"):
        experiment_executions(folder, trials, EngineChoice("cut"), True)


def test_the_memory_of_the_probes_is_given_back(
    configs: dict[str, TrialConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their resources serve all arms, hear of all workers, and are gone when the choice is made."""
    seen: list[tuple[weakref.ref[Resources], int, Ahead]] = []

    def probe(
        config: TrialConfig, resources: Resources, max_pack: int, num_jobs: int, ahead: Ahead
    ) -> pack_probe.EngineProbe:
        seen.append((weakref.ref(resources), num_jobs, ahead))
        assert seen[0][0]() is resources
        return pack_probe.EngineProbe(PLAIN, "slow")

    monkeypatch.setattr(pack_probe, "probe_engines", probe)
    choice = EngineChoice("auto", num_jobs=3)
    experiment_executions(tmp_path, {arm: [config] * 5 for arm, config in configs.items()}, choice, False)
    gc.collect()
    assert len(seen) == 2 and {(ref(), jobs, ahead) for ref, jobs, ahead in seen} == {(None, 3, Ahead(trials=5))}
    assert choice.reasons == {"head_only": "slow", "residual_add": "slow"}  # nothing is trained in the third


@pytest.mark.parametrize(
    ("seconds", "reason", "expected", "why"),
    [
        ({"plain": 1.0}, None, PLAIN, []),
        ({"plain": 1.0, "cut": 0.98, "packed 2": 0.99}, None, PLAIN, ["cut: 1.02", "packs of 2: 1.01"]),
        ({"plain": 1.0, "cut": 0.98}, None, PLAIN, ["cut: 1.02"]),
        ({"plain": 1.0, "cut": 0.5, "packed 2": 0.49}, None, Execution(engine="cut"), ["cut: 2.00", "2: 2.04"]),
        ({"plain": 1.0, "cut": 0.5}, "dropout", Execution(engine="cut"), ["cut: 2.00", ": dropout"]),
        ({"plain": 1.0, "cut": 0.9, "packed 2": 0.6, "packed 8": 0.4, "packed 16": 0.41}, None, PACKED, ["8: 2.50"]),
    ],
)
def test_the_plain_loop_unless_another_is_clearly_faster(
    seconds: dict[str, float], reason: str | None, expected: Execution, why: list[str]
) -> None:
    chosen, told = pack_probe._choose(seconds, reason)
    assert chosen == expected
    assert all(text in told for text in why) if why else told == ""


def test_the_probe_tries_what_it_may(configs: dict[str, TrialConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured are the three engines and no larger packs than ever run; a pack that does not fit ends it."""
    monkeypatch.setattr(pack_probe, "BATCH_S", 0.001)
    monkeypatch.setattr(pack_probe, "ROUNDS", 1)
    resources = Resources(sealed=True)
    found = probe_engines(configs["residual_add"], resources, max_pack=2)
    assert list(found.seconds) == ["plain", "cut", "packed 2"] and min(found.seconds.values()) > 0
    assert found.phi == 0.5 and found.limit is not None and 1.3 < found.limit < 1.5
    assert probe_engines(configs["frozen"], resources).why == "nothing is trained"
    real = pack_probe._run
    monkeypatch.setattr(pack_probe, "_run", lambda c, r, e: None if e.execution.pack > 1 else real(c, r, e))
    assert list(probe_engines(configs["residual_add"], resources).seconds) == ["plain", "cut"]


@pytest.mark.parametrize("how", ["raise", "exit"])
def test_a_strategy_that_fails_is_left_to_its_trials(how: str, configs: dict[str, TrialConfig]) -> None:
    strategy = {"_target_": "misbehaving.Misbehaving", "how": how}
    adapter = {**(configs["residual_add"].adapter or {}), "adapter_strategy": strategy}
    choice = EngineChoice(AUTO)
    assert choice.choose("bad", configs["residual_add"].model_copy(update={"adapter": adapter}), 2) == PLAIN
    why = {"raise": "a bug", "exit": "SystemExit: 0"}[how]
    assert choice.reasons == {"bad": f"the timed training failed: {why}"}


def test_how_long_the_plain_loop_needs(configs: dict[str, TrialConfig]) -> None:
    config = configs["residual_add"]
    epochs, size = config.loop.epochs, config.loop.batch_size
    assert Ahead().wall_s(config, size, 0.5, 2) == math.inf
    assert Ahead(trials=6).wall_s(config, size + 1, 0.5, 2) == 0.5 * 2 * epochs * 6 / 2
    assert Ahead(seconds=30.0).wall_s(config, size, 0.5, 2) == 15.0
    assert Ahead(trials=10**9, seconds=30.0).wall_s(config, size, 0.5, 1) == 30.0


@pytest.mark.parametrize(
    ("all_s", "rounds", "left_out"),
    [
        (59.0, {}, "other engines"),  # a tenth of it is less than a first run and a round by the plain loop
        (119.0, {"plain": (1, 1)}, "other engines"),
        (179.0, {"plain": (1, 1), "cut": (1, 1)}, "packs of 2 or more"),
        (239.0, {"plain": (1, 2), "cut": (1, 1), "packed 2": (1, 1)}, "packs of 4 or more"),  # which will take 6 s
        (361.0, {"plain": (1, 2), "cut": (1, 2), "packed 2": (1, 2), "packed 4": (0, 1)}, "packs of 8 or more"),
        (math.inf, {"plain": (1, 2), "cut": (1, 2), "packed 2": (1, 2), "packed 4": (0, 2), "packed 8": (0, 2)}, None),
    ],
)
def test_measuring_costs_a_tenth_of_the_search_at_most(
    all_s: float,
    rounds: dict[str, tuple[int, int]],
    left_out: str | None,
    configs: dict[str, TrialConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock that moves while something is measured only, 3 s a run, packs as much longer; all get ever faster."""
    clock, speed, measured = [0.0], iter(range(9, 0, -1)), {}

    def measure(
        config: TrialConfig, resources: Resources, engine: Engine, num_jobs: int, num_warm: int, num_rounds: int
    ) -> float:
        execution = engine.execution
        name = f"packed {execution.pack}" if execution.engine == "packed" else execution.engine
        measured[name] = num_warm, num_rounds
        clock[0] += (num_warm + num_rounds) * 3.0 * max(1, execution.pack / 2)
        return float(next(speed))

    monkeypatch.setattr(pack_probe, "_measure", measure)
    monkeypatch.setattr(pack_probe, "_seconds_a_batch", lambda *args: 3.0 / pack_probe.MAX_BATCHES)
    monkeypatch.setattr(pack_probe, "BATCH_S", 100.0)
    monkeypatch.setattr("harness.engines.probe.time.perf_counter", lambda: clock[0])
    config, resources = configs["residual_add"], Resources(sealed=True)
    found = probe_engines(config, resources, 8, 1, Ahead(seconds=all_s))
    assert measured == rounds and list(found.seconds) == list(rounds)
    assert clock[0] <= pack_probe.WORTH * all_s
    if left_out is None:
        assert found.execution.pack == 8 and "not measured" not in found.why
        return
    assert f"; {left_out} were not measured" in f"; {found.why}"
    last = list(rounds)[-1] if rounds else "plain"
    engine, _, pack = last.partition(" ")
    assert found.execution == Execution.model_validate({"engine": engine, "pack": int(pack or 1)})


@pytest.mark.parametrize(
    ("free", "num_jobs", "measured", "short"),
    [
        ([900], 1, ["plain", "cut", "packed 2", "packed 4"], None),
        ([900] * 6 + [199], 1, ["plain", "cut", "packed 2"], "packs of 4 or more"),
        # the other worker needs 100
        ([900] * 4 + [301] * 2 + [299], 2, ["plain", "cut", "packed 2"], "packs of 4 or more"),
        ([], 1, ["plain", "cut", "packed 2", "packed 4"], None),  # nothing tells on another system
        ([100], 1, [], "other engines"),
    ],
)
def test_the_probe_stops_where_memory_is_short(
    free: list[int],
    num_jobs: int,
    measured: list[str],
    short: str | None,
    configs: dict[str, TrialConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pack that leaves less than a fifth of the memory, all workers counted, is not taken, nor a larger one tried."""
    limits = iter([Limit(number, 1000) for number in (*free, *free[-1:] * 99)])
    asked: list[torch.device] = []

    def memory_limits(device: torch.device) -> list[Limit]:
        asked.append(device)
        return [next(limits), Limit(1e9, 1e9)] if free else []

    monkeypatch.setattr(pack_probe, "memory_limits", memory_limits)
    monkeypatch.setattr(pack_probe, "BATCH_S", 0.001)
    monkeypatch.setattr(pack_probe, "ROUNDS", 1)
    found = probe_engines(configs["residual_add"], Resources(sealed=True), 4, num_jobs)
    assert list(found.seconds) == measured and set(asked) == {torch.device("cpu")}
    assert found.why.endswith(f"{short} do not fit into memory") if short else "memory" not in found.why
    if not measured:
        assert found.execution == PLAIN


@pytest.mark.slow
def test_the_probe_stops_where_memory_runs_out(
    configs: dict[str, TrialConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the engine halves its packs or an error comes out; an error of another kind is not hidden."""
    monkeypatch.setattr(pack_probe, "BATCH_S", 0.001)
    monkeypatch.setattr(pack_probe, "ROUNDS", 1)
    real = steps.train_step

    def train_step(pack: Any, slots: Any) -> Any:
        if len(slots) > 2:
            torch.empty(2**50, dtype=torch.uint8)
        return real(pack, slots)

    monkeypatch.setattr(steps, "train_step", train_step)
    resources = Resources(sealed=True)
    assert list(probe_engines(configs["residual_add"], resources, max_pack=8).seconds) == ["plain", "cut", "packed 2"]

    def no_row(pack: Any, slot: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Pack, "take_row", no_row)
    assert list(probe_engines(configs["residual_add"], resources, max_pack=8).seconds) == ["plain", "cut"]
    monkeypatch.setattr(Pack, "take_row", lambda pack, slot: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        probe_engines(configs["residual_add"], resources, max_pack=8)


def test_the_plans_words(configs: dict[str, TrialConfig]) -> None:
    resources = Resources(sealed=True)
    config = configs["residual_add"]
    assert re.search(r"\(0\.50 of .* at most 1\.[34]\d times", describe_speed(config, resources, None))
    assert describe_speed(config, resources, PACKED).startswith("engine packed, up to 8 trials in one step; ")
    full = config.model_copy(update={"train": "full", "adapter": None})
    assert ": train: full " in describe_speed(full, resources, None)
    dropout = config.model_copy(update={"adapter": {**(config.adapter or {}), "dropout": 0.1}})
    assert "cannot train together: adapter.dropout " in describe_speed(dropout, resources, None)

"""Which engine trains an arm: asked for, or `auto`; kept; and the words of the plan. No measured time is asserted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_text import TinyText

from harness.config.execution import PLAIN, Execution, execution_of
from harness.config.experiment import load_experiment
from harness.config.trial import TrialConfig
from harness.engines import measure
from harness.engines.choice import AUTO, EngineChoice, experiment_executions, num_slots
from harness.engines.measure import best_pack
from harness.engines.packed import steps
from harness.engines.registry import Engines
from harness.engines.speed import describe_speed
from harness.errors import UserError
from harness.training.resources import Resources
from harness.training.trial import Trial

PACKED = Execution(engine="packed", pack=8)


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
    assert execution_of("packed", None) == Execution(engine="packed", pack=16)
    assert execution_of("packed", 3).pack == execution_of("auto", 3).pack == 3
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


@pytest.mark.parametrize(("asked", "most", "expected"), [(None, 16, 16), (None, 4, 4), (3, 16, 3), (40, 16, 16)])
def test_auto_is_known_before_anything_is_loaded(
    asked: int | None, most: int, expected: int, configs: dict[str, TrialConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU nothing is measured: packs grow as they train. What trains nothing has no use for them."""
    monkeypatch.setattr(Resources, "__init__", lambda *args: pytest.fail("something is loaded"))
    choice = EngineChoice(AUTO, asked)
    assert choice.choose(configs["residual_add"], most) == Execution(engine="auto", pack=expected)
    assert choice.choose(configs["frozen"], most) == PLAIN


def test_the_size_of_packs_is_measured_for_a_gpu(
    configs: dict[str, TrialConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bits may depend on it there, so it is known before the first trial and kept with the choice."""
    monkeypatch.setattr(measure, "best_pack", lambda config, resources, asked: asked.pack // 4)
    loop = configs["residual_add"].loop.model_copy(update={"device": "cuda"})
    config = configs["residual_add"].model_copy(update={"loop": loop})
    assert EngineChoice(AUTO).choose(config) == Execution(engine="auto", pack=4)
    assert EngineChoice("packed").choose(config) == Execution(engine="packed", pack=16)
    captured = EngineChoice(AUTO, capture=True)
    assert captured.choose(config) == Execution(engine="auto", pack=4, capture=True)
    assert captured.agree({"engine": "auto", "pack": 4}, "it").capture
    assert "capture" not in Execution(engine="packed").record("packed", None)
    assert Execution(engine="packed", capture=True).record("packed", None)["capture"] is True
    with pytest.raises(UserError, match=r"--capture: loop\.device is cpu"):
        captured.choose(configs["residual_add"])
    with pytest.raises(UserError, match=r"--capture works only with --engine packed .* --engine cut"):
        EngineChoice("cut", capture=True)


@pytest.mark.parametrize(
    ("seconds", "most", "expected", "measured"),
    [
        ({1: 4.0, 4: 2.0, 16: 1.0, 64: 0.9}, 16, 16, [1, 4, 16]),
        ({1: 4.0, 4: 2.0, 16: 2.5, 64: 0.9}, 64, 4, [1, 4, 16]),  # it only gets worse
        ({1: 4.0, 4: None}, 64, 1, [1, 4]),  # memory ran out
        ({1: None}, 64, 1, [1]),  # its trials cannot be packed
    ],
)
def test_the_fastest_pack(
    seconds: dict[int, float | None],
    most: int,
    expected: int,
    measured: list[int],
    configs: dict[str, TrialConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each size twice, the first time to warm up, on a few batches."""
    tried: list[int] = []

    def pack_s(config: TrialConfig, resources: Resources, engines: Engines, asked: Execution) -> float | None:
        tried.append(asked.pack)
        assert config.loop.epochs == 1 and config.data.train_limit is not None
        assert config.data.train_limit <= measure.PACK_BATCHES * config.loop.batch_size
        return seconds[asked.pack]

    monkeypatch.setattr(measure, "_pack_s", pack_s)
    monkeypatch.setattr(measure, "leaves_room", lambda device: True)
    asked = Execution(engine="auto", pack=most)
    assert best_pack(configs["residual_add"], Resources(sealed=True), asked) == expected
    assert tried == [size for size in measured for _ in range(2)]


def packs(size: int) -> Execution:
    return Execution(engine="auto", pack=size)


@pytest.mark.slow
def test_packs_are_really_measured(configs: dict[str, TrialConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained for it, by the very engine; a size that memory does not hold has no time, and so has a user's bug."""
    resources, engines, config = Resources(sealed=True), Engines(), configs["residual_add"]
    short = config.model_copy(update={"loop": config.loop.model_copy(update={"epochs": 1})})
    counts: list[int] = []
    real = steps.train_step

    def train_step(pack: Any, slots: Any) -> Any:
        counts.append(len(slots))
        if len(slots) > 4:
            torch.empty(2**50, dtype=torch.uint8)
        return real(pack, slots)

    monkeypatch.setattr(steps, "train_step", train_step)
    for size in (1, 4):
        found = measure._pack_s(short, resources, engines, packs(size))
        assert found is not None and found > 0 and max(counts) == size
    assert measure._pack_s(short, resources, engines, packs(8)) is None
    dropout = short.model_copy(update={"adapter": {**(config.adapter or {}), "dropout": 0.1}})
    assert measure._pack_s(dropout, resources, engines, packs(2)) is None
    for how in ("raise", "exit"):
        strategy = {"_target_": "misbehaving.Misbehaving", "how": how}
        bad = short.model_copy(update={"adapter": {**(config.adapter or {}), "adapter_strategy": strategy}})
        assert measure._pack_s(bad, resources, engines, packs(2)) is None


def test_records_say_what_auto_became(configs: dict[str, TrialConfig]) -> None:
    """The engine that trained, and why it is not packs, where it is not."""
    engines, resources = Engines(), Resources(sealed=True)
    auto = engines.of(Execution(engine="auto", pack=4))
    dropout = {"adapter": {**(configs["residual_add"].adapter or {}), "dropout": 0.1}}
    told = {}
    for name, config in {
        "packed": configs["residual_add"],
        "cut": configs["residual_add"].model_copy(update=dropout),
        "plain": configs["residual_add"].model_copy(update={"train": "full", "adapter": None}),
    }.items():
        trial = Trial(config, resources, engine=auto)
        steps_of_trial = trial.steps()
        next(steps_of_trial)
        steps_of_trial.close()
        told[name] = trial.executed
    assert told["packed"] == {"engine": "packed", "pack": 4, "asked": "auto"}
    assert told["cut"]["engine"] == "cut" and "adapter.dropout" in str(told["cut"]["why"])
    assert told["plain"]["engine"] == "plain" and "train: full" in str(told["plain"]["why"])


def test_the_plans_words(configs: dict[str, TrialConfig]) -> None:
    resources, engines = Resources(sealed=True), Engines()
    config = configs["residual_add"]
    assert re.search(r"\(0\.50 of .* at most 1\.[34]\d times", describe_speed(config, resources, engines, None))
    assert describe_speed(config, resources, engines, PACKED).startswith("engine packed, up to 8 trials in one step; ")
    full = config.model_copy(update={"train": "full", "adapter": None})
    assert ": train: full " in describe_speed(full, resources, engines, None)
    dropout = config.model_copy(update={"adapter": {**(config.adapter or {}), "dropout": 0.1}})
    assert "cannot train together: adapter.dropout " in describe_speed(dropout, resources, engines, None)

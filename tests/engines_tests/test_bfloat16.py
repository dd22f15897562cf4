"""bfloat16 behind a cut: the frozen prefix under autocast, kept in float32; the rest as the plain loop has it.

bfloat16 has eight significant bits: each rounding moves a number by up to 2**-9 of it, about 0.2 %. Adam's first
steps divide a gradient by its own size, so weights whose gradient is near 0 may go the other way: what agrees is what a
training is judged by, its losses, to TOLERANCE. The plain loop of the speech encoder rounds between its layers what the
cut hands over in float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trial_configs import MakeConfig

from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.data.corpus import Split
from harness.engines.cut.prefix_cache import PrefixBudget
from harness.engines.cut.prefixes import Prefixes
from harness.engines.packed import packable
from harness.engines.registry import Engines
from harness.training.resources import Resources
from harness.training.trial import Trial

from .packs import PACKED, Ran, assert_same_bits, chosen, run_all, strategy

pytestmark = pytest.mark.slow

PLAIN, CUT = Execution(), Execution(engine="cut")
TOLERANCE = 0.03  # of a loss: a dozen roundings that do not cancel


@pytest.fixture(params=["text", "speech"])
def make(request: pytest.FixtureRequest) -> MakeConfig:
    name = {"text": "make_config", "speech": "make_speech_config"}[request.param]
    found: MakeConfig = request.getfixturevalue(name)
    return found


def trial_of(make: MakeConfig, precision: str = "bfloat16", seed: int = 0, **adapter: Any) -> TrialConfig:
    """Adapters behind the upper layer, so that a whole layer lies before the cut."""
    loop = {"epochs": 2, "batch_size": 8, "precision": precision, "augment": None}
    options = {"stochastic_depth": 0.2, "l2_lambda": 0.0, **adapter}
    return make(seed=seed, backbone={"layers": [1]}, loop=loop, optim={"lr": 0.005}, adapter=strategy(**options))


def losses_of(ran: Ran) -> list[float]:
    assert ran.error is None, ran.error
    return [entry[name] for entry in ran.history for name in ("train/loss", "valid_target/loss")]


def test_the_cut_is_the_plain_loop_within_the_rounding(make: MakeConfig, resources: Resources, tmp_path: Path) -> None:
    config = trial_of(make)
    (plain,) = run_all([config], resources, tmp_path / "plain", PLAIN)
    (cut,) = run_all([config], resources, tmp_path / "cut", CUT)
    assert losses_of(cut) == pytest.approx(losses_of(plain), rel=TOLERANCE)
    (exact,) = run_all([trial_of(make, "float32")], resources, tmp_path / "exact", CUT)
    assert losses_of(cut) != losses_of(exact)
    assert chosen(config, resources, CUT) == ("cut", None)


@pytest.mark.parametrize("budget", [{"keep": "nothing"}, {"keep": "files"}], ids=["off", "file"])
def test_bits_do_not_depend_on_the_cache(
    budget: dict[str, Any], make: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """In memory, in a mapped file (made and found), or computed anew at each use, beside other items."""
    configs = [trial_of(make), trial_of(make, seed=1)]
    memory = Engines(PrefixBudget(keep="memory"))
    expected = run_all(configs, resources, tmp_path / "memory", CUT, None, memory)
    for run in ("first", "second"):
        engines = Engines(PrefixBudget(folder=tmp_path / "rows", **budget))
        for ours, theirs in zip(run_all(configs, resources, tmp_path / run, CUT, None, engines), expected, strict=True):
            assert_same_bits(ours, theirs)


def test_only_what_is_trained_on_is_rounded(make: MakeConfig, resources: Resources) -> None:
    """Training rows differ from float32's by the rounding; rows to score are float32's; files never mix the two."""
    found: dict[tuple[str, str], Tensor] = {}
    keys = set()
    for precision in ("bfloat16", "float32"):
        config = trial_of(make, precision)
        trial = Trial(config, resources)
        model, prefixes = trial.adapted().model, Prefixes().of(trial.domains)
        splits: tuple[Split, ...] = ("train", "valid")
        for split in splits:
            store = prefixes.store(config, model, config.data.target, split)
            keys.add(store.plan.key)
            found[precision, split] = store.gather(store.rows(store.items), store.plan.num_steps)
    ours, exact = found["bfloat16", "train"], found["float32", "train"]
    assert ours.dtype == torch.float32 and not torch.equal(ours, exact)
    assert float((ours - exact).norm() / exact.norm()) < 0.02
    assert torch.equal(found["bfloat16", "valid"], found["float32", "valid"])
    assert len(keys) == 3


def test_the_rest_runs_in_bfloat16_over_float32_weights(make: MakeConfig, resources: Resources) -> None:
    trial = Trial(trial_of(make), resources, engine=Engines().of(CUT))
    steps = trial.steps()
    fitting = next(steps)
    seen = set()

    def watch(module: nn.Module, args: Any, output: Tensor) -> None:
        seen.add((torch.is_grad_enabled(), output.dtype))

    output: Any = fitting.model.head.output
    output.register_forward_hook(watch)
    fitting.fit()
    assert seen == {(True, torch.bfloat16), (False, torch.float32)}
    assert {weight.dtype for weight in fitting.model.parameters()} == {torch.float32}
    steps.close()


def test_a_processor_does_not_pack_it_and_says_why(make_config: MakeConfig, resources: Resources) -> None:
    why = "loop.precision: bfloat16 on a cpu: the results may depend on how many trials share a step"
    assert chosen(trial_of(make_config), resources, PACKED) == ("cut", why)


def test_a_pack_of_it_is_the_plain_loop_within_the_rounding(
    make: MakeConfig, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU runs, on this processor: noise, penalties, losses."""
    monkeypatch.setattr(packable, "BFLOAT16_DEVICES", ("cuda", "cpu"))
    configs = [trial_of(make, seed=seed, l2_lambda=0.001 * seed) for seed in (0, 1, 2)]
    plain = run_all(configs, resources, tmp_path / "plain", PLAIN, size=1)
    packed = run_all(configs, resources, tmp_path / "packed")
    for ours, theirs in zip(packed, plain, strict=True):
        assert losses_of(ours) == pytest.approx(losses_of(theirs), rel=TOLERANCE)

"""Augmented views: what they are, which one an epoch uses, and that the cut and packs train on the same ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from trial_configs import MakeConfig

from harness.config.execution import Execution
from harness.config.trial import AugmentSettings, TrialConfig
from harness.data.spec_augment import SpecAugment
from harness.engines.cut.prefix_cache import PrefixBudget
from harness.engines.packed import items
from harness.engines.registry import Engines
from harness.engines.speed import describe_speed
from harness.seeding import derive_seed
from harness.training.loop import Fit
from harness.training.resources import Resources
from harness.training.trial import Trial
from harness.training.views import all_views, views_of_epoch

from .packs import PACKED, assert_same_bits, chosen, largest_difference, run_all, strategy
from .test_packed_oracle import stop_after

pytestmark = pytest.mark.slow

PLAIN, CUT = Execution(), Execution(engine="cut")
MASKS = {"num_time_masks": 2, "time_mask": 6, "num_mel_masks": 1, "mel_mask": 5, "max_time_share": 0.4}


def trials(make: MakeConfig, precision: str, l2_reduction: str = "sum", **augment: Any) -> list[TrialConfig]:
    """Trials with two views of each clip: in the l2 sum of one, padded frames count; one is of the second's seed."""
    loop = {"epochs": 3, "precision": precision, "augment": {**MASKS, "views": 2, **augment}}
    noisy = strategy(stochastic_depth=0.4, l2_lambda=0.01, l2_reduction=l2_reduction)
    plain = strategy(stochastic_depth=0.0, l2_lambda=0.0)
    options = [(0, noisy), (1, plain), (1, strategy(stochastic_depth=0.2, l2_lambda=0.0))]
    return [make(seed=seed, adapter=adapter, loop=loop) for seed, adapter in options]


# --- what the views are -----------------------------------------------------------------------------------------------


def test_a_view_is_the_masked_clip_alone(make_speech_config: MakeConfig, resources: Resources) -> None:
    """Masks drawn from (view seed, key, view) for one clip without padding, whatever it is batched with."""
    config = trials(make_speech_config, "float32", view_seed=9)[0]
    domains = resources.domains(config)
    task, items = domains.task(config.loop.augment), all_views(domains.items("high", "train"), 2)
    batch = task.collate(items, torch.Generator())  # what it draws from is not used
    assert (batch.lengths == torch.tensor([len(item.inputs) for item in items])).all()
    assert len({len(item.inputs) for item in items}) > 1
    for row, item in zip(batch.inputs, items, strict=True):
        assert item.view is not None
        generator = torch.Generator().manual_seed(derive_seed(9, "augmentation", "view", item.key, item.view))
        length = torch.tensor([len(item.inputs)])
        expected = SpecAugment(**MASKS)(item.inputs[None], length, generator)[0]  # type: ignore[arg-type]
        assert torch.equal(row[: len(expected)], expected) and not row[len(expected) :].any()
        assert torch.equal(task.collate([item], None).inputs[0], expected)
    assert not torch.equal(task.inputs_of(items[0]), task.inputs_of(items[1]))
    assert not torch.equal(task.inputs_of(items[0]), items[0].inputs)
    other = domains.task(trials(make_speech_config, "float32", view_seed=8)[0].loop.augment)
    assert not torch.equal(task.inputs_of(items[0]), other.inputs_of(items[0]))
    more = domains.task(trials(make_speech_config, "float32", view_seed=9, views=5)[0].loop.augment)
    assert torch.equal(task.inputs_of(items[1]), more.inputs_of(items[1]))  # more of them change none


@pytest.mark.parametrize("num_views", [1, 3, 4])
def test_every_view_once_in_so_many_epochs(num_views: int) -> None:
    """Each item meets each view once in N epochs, in an order of its own, drawn anew for the next N."""
    table_EI = torch.tensor([views_of_epoch(50, num_views, 7, epoch) for epoch in range(2 * num_views)])
    for half_EI in table_EI.chunk(2):
        assert (half_EI.sort(0).values == torch.arange(num_views)[:, None]).all()
    if num_views > 1:
        assert len(set(table_EI[0].tolist())) == num_views  # not all items the same
        assert not torch.equal(*table_EI.chunk(2))
        assert views_of_epoch(50, num_views, 8, 0) != table_EI[0].tolist()


def test_a_trial_uses_the_views_of_its_epoch(make_speech_config: MakeConfig, resources: Resources) -> None:
    """The plain loop collates view `views_in(epoch)[i]` of item i, and nothing else."""
    config = trials(make_speech_config, "float32")[0]
    trial = Trial(config, resources)
    fitting = next(trial.steps())
    seen: list[list[tuple[str, int | None]]] = []
    real = fitting.task.collate

    def collate(items: Any, generator: Any) -> Any:
        if generator is not None:
            seen.append([(item.key, item.view) for item in items])
        return real(items, generator)

    fitting.task.collate = collate  # type: ignore[method-assign]
    fitting.fit()
    fit = Fit(fitting.model, fitting.task, fitting.items, fitting.plan)
    expected = []
    for epoch in range(3):
        views = fit.views_in(epoch)
        assert views is not None
        expected += [[(fitting.items[i].key, views[i]) for i in batch] for batch in fit.batches_of(epoch)]
    assert seen == expected
    assert len({pair for batch in seen for pair in batch}) == 2 * len(fitting.items)


def test_the_plans_words(make_speech_config: MakeConfig, resources: Resources) -> None:
    """phi and the gain, as for any other trial; without views, what would bring them."""
    config = trials(make_speech_config, "float32")[0]
    assert re.fullmatch(
        r".*\(0\.50 of .* the 2 augmented views, .* at most 1\.[34]\d times as fast; .* can train together",
        describe_speed(config, resources, Engines(), None),
    )
    augment = AugmentSettings.model_validate(MASKS)
    anew = config.model_copy(update={"loop": config.loop.model_copy(update={"augment": augment})})
    assert describe_speed(anew, resources, Engines(), None).rpartition("; ")[2].startswith("loop.augment.views: N ")


# --- the engines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("l2_reduction", ["sum", "valid_frame_mean"])
@pytest.mark.parametrize("execution", [PACKED, CUT], ids=["packed", "cut"])
def test_the_engines_are_the_plain_loop(
    execution: Execution, l2_reduction: str, make_speech_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """1e-12 in float64: weights, moments, losses, scores; with padded frames counted and not."""
    configs = trials(make_speech_config, "float64", l2_reduction)
    plain = run_all(configs, resources, tmp_path / "plain", PLAIN, size=1)
    found = run_all(configs, resources, tmp_path / "found", execution)
    for ours, theirs in zip(found, plain, strict=True):
        assert largest_difference(ours, theirs) < 1e-12
    assert chosen(configs[0], resources, execution) == (execution.engine, None)


def test_the_comparison_can_fail(
    make_speech_config: MakeConfig, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pack that uses each item's other view is far outside of what the oracle allows."""
    configs = trials(make_speech_config, "float64")
    plain = run_all(configs, resources, tmp_path / "plain", PLAIN, size=1)
    real = items.ItemSet.view_indices
    monkeypatch.setattr(
        items.ItemSet, "view_indices", lambda s, batches, views: real(s, batches, [1 - v for v in views])
    )
    found = run_all(configs, resources, tmp_path / "found")
    for ours, theirs in zip(found, plain, strict=True):
        assert largest_difference(ours, theirs) > 1e-6


def test_bits_do_not_depend_on_the_pack_or_the_cache(
    make_speech_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """float32: alone, three together, kept in memory, in a file (made and found), computed anew at each use."""
    configs = trials(make_speech_config, "float32")
    alone = run_all(configs, resources, tmp_path / "alone", size=1)
    found = [run_all(configs, resources, tmp_path / "together"), run_all(configs, resources, tmp_path / "two", size=2)]
    for name, budget in {"off": {"keep": "nothing"}, "made": {"keep": "files"}, "found": {"keep": "files"}}.items():
        engines = Engines(PrefixBudget(folder=tmp_path / "rows", **budget))  # type: ignore[arg-type]
        found.append(run_all(configs, resources, tmp_path / name, engines=engines))
    for run in found:
        for ours, theirs in zip(run, alone, strict=True):
            assert ours.error is None
            assert_same_bits(ours, theirs)
    cut = [
        run_all(configs, resources, tmp_path / f"cut{keep}", CUT, 1, Engines(PrefixBudget(keep=keep)))
        for keep in ("memory", "nothing")
    ]
    for ours, theirs in zip(*cut, strict=True):
        assert_same_bits(ours, theirs)


@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_pack_goes_on_to_the_same_bits(
    number: int, make_speech_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """Stopped in the middle of a round of views, taken up beside others."""
    configs = trials(make_speech_config, "float32")
    expected = run_all(configs, resources, tmp_path / "whole")
    stop_after(configs[number], resources, tmp_path / f"{number}.safetensors", PACKED, 1)
    assert_same_bits(run_all(configs, resources, tmp_path)[number], expected[number])


def test_a_killed_plain_loop_goes_on_in_a_pack(
    make_speech_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    config = trials(make_speech_config, "float64")[0]
    (whole,) = run_all([config], resources, tmp_path / "whole", PLAIN)
    stop_after(config, resources, tmp_path / "0.safetensors", PLAIN, 1)
    (resumed,) = run_all([config], resources, tmp_path, PACKED)
    assert largest_difference(resumed, whole) < 1e-12


def test_a_store_has_each_view_once_and_only_those_used(make_speech_config: MakeConfig, tmp_path: Path) -> None:
    """Trials of other seeds share the views; other settings or another view seed have a store of their own."""
    resources, engines = Resources(), Engines()
    loop = {"epochs": 1, "augment": {**MASKS, "views": 4}}
    adapter = strategy(stochastic_depth=0.0, l2_lambda=0.0)
    configs = [make_speech_config(seed=seed, adapter=adapter, loop=loop) for seed in (0, 1)]
    run_all(configs, resources, tmp_path, engines=engines)
    domains = resources.domains(configs[0])
    prefixes = engines.prefixes.of(domains)
    model = Trial(configs[0], resources).adapted().model
    store = prefixes.store(configs[0], model, "high", "train")
    used = set()
    for config in configs:
        items = Trial(config, resources).train_items()
        used |= {(i.key, v) for i, v in zip(items, views_of_epoch(len(items), 4, config.seed, 0), strict=True)}
    assert {(store.items[n].key, store.items[n].view) for n in store.done.nonzero()[0].tolist()} == used
    assert len(store.items) == 4 * len(domains.items("high", "train"))
    keys = {store.plan.key}
    for change in ({"view_seed": 1}, {"mel_mask": 4}, {"views": 3}):
        changed = make_speech_config(adapter=adapter, loop={"epochs": 1, "augment": {**MASKS, "views": 4, **change}})
        keys.add(prefixes.store(changed, model, "high", "train").plan.key)
    assert len(keys) == 4
    valid = prefixes.store(configs[0], model, "high", "valid")
    assert all(item.view is None for item in valid.items)

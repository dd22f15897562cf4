"""MetaAdapter: a training on several domains by turns, against a transcription of its authors' loop, and in a trial."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from trial_configs import MakeConfig

from harness.backbones.recipe import Recipe, load_recipe
from harness.config.trees import merge
from harness.config.trial import TrialConfig
from harness.errors import UserError
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun
from harness.tasks.task import Item
from harness.training.adapting import adapt
from harness.training.fit_plan import FitPlan
from harness.training.loop import fit
from harness.training.meta import MetaFit, halves
from harness.training.resources import Resources
from harness.training.run_trial import run_trial
from harness.training.trial import Trial

INNER = {"lr": 0.01, "betas": [0.0, 0.999], "weight_decay": 0.0, "warmup": 0.0, "decay": "none", "clip_norm": 5.0}
META: dict[str, Any] = {
    "data": {"train_limit": None},
    "optim": INNER,
    "loop": {"epochs": 2, "batch_size": 8, "meta": {"over": ["home"]}},
}


@pytest.fixture
def config(make_config: MakeConfig) -> TrialConfig:
    return make_config("residual_add", **META)


def in_float64(config: TrialConfig) -> TrialConfig:
    return config.model_copy(update={"loop": config.loop.model_copy(update={"precision": "float64"})})


def meta_fit(
    config: TrialConfig, resources: Resources, parts: list[list[Item]], path: Path | None = None, done: int = 0
) -> MetaFit:
    """A training in float64 whose every epoch is better than the one before; `done` of them were before."""
    domains, scores = resources.domains(config), iter(range(1 + done, 100))
    model = adapt(copy.deepcopy(domains.backbone.model).double().eval(), config).model
    plan = FitPlan(config.optim, config.loop, 0, lambda model: {"valid": next(scores) / 100}, "valid", "accuracy", path)
    sizes = [len(part) for part in parts]
    return MetaFit(model, domains.plain_task, [item for part in parts for item in part], plan, sizes=sizes)


def parts_of(config: TrialConfig, resources: Resources) -> list[list[Item]]:
    """Three domains of 20, 9 and 1 items: 3, 2 and 1 batches of 8."""
    items = resources.domains(config).items("home", "train")
    return [items[:20], items[20:29], items[29:30]]


def authors_loop(fitting: MetaFit, batches: list[list[tuple[list[int], ...]]], meta_lr: float) -> dict[str, Tensor]:
    """`train_maml_epoch` of the authors' code on whole state dicts: two steps of one Adam, the second one's delta."""
    model = copy.deepcopy(fitting.model).train()
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    adam = torch.optim.Adam(list(trained.values()), lr=0.01, betas=(0.0, 0.999))
    total, done = sum(map(len, batches)), 0
    for epoch in batches:
        for step in epoch:
            original, deltas = copy.deepcopy(model.state_dict()), []
            for batch in step:
                for half in (batch[::2], batch[1::2] or batch):
                    backup = copy.deepcopy(model.state_dict())
                    made = fitting.task.collate([fitting.items[i] for i in half], None).to(
                        torch.device("cpu"), torch.float64
                    )
                    scores, valid = model(made.inputs, made.lengths)
                    adam.zero_grad()
                    fitting.task.loss(scores, valid, made).backward()  # type: ignore[no-untyped-call]
                    torch.nn.utils.clip_grad_norm_(list(trained.values()), 5.0)
                    adam.step()
                deltas.append({name: value - backup[name] for name, value in model.state_dict().items()})
                model.load_state_dict(original)
            size = meta_lr * (1 - done / total)
            mean = {name: sum(delta[name] for delta in deltas) / len(deltas) for name in trained}
            model.load_state_dict({n: w + size * mean[n] if n in mean else w for n, w in original.items()})
            done += 1
    return {name: weight.detach() for name, weight in trained.items()}


def test_weights_are_those_of_the_authors_loop(config: TrialConfig, resources: Resources) -> None:
    config = in_float64(config)
    strategy = {"_target_": "harness.adapters.ResidualAddAdapterStrategy"}  # no noise
    config = config.model_copy(update={"adapter": {**(config.adapter or {}), "adapter_strategy": strategy}})
    fitting = meta_fit(config, resources, parts_of(config, resources))
    batches = [fitting.batches_by_turns(epoch) for epoch in (0, 1)]
    start = {name: weight.detach().clone() for name, weight in fitting.model.named_parameters() if weight.requires_grad}
    expected = authors_loop(fitting, batches, meta_lr=1.0)
    fitting.run()
    found = {name: weight.detach() for name, weight in fitting.model.named_parameters() if weight.requires_grad}
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-12)
        assert not torch.allclose(weight, start[name], atol=1e-4)


def test_each_step_has_a_batch_of_each_domain(config: TrialConfig, resources: Resources) -> None:
    """The largest domain passes once; the others begin anew, in another order."""
    fitting = meta_fit(config, resources, parts_of(config, resources))
    steps = fitting.batches_by_turns(0)
    assert len(steps) == 3 and all(len(step) == 3 for step in steps)
    first, second, third = ([i for step in steps for i in step[number]] for number in range(3))
    assert sorted(first) == list(range(20))
    assert sorted(second[:9]) == list(range(20, 29)) and set(second[9:]) <= set(range(20, 29)) and len(second) > 9
    assert third == [29] * 3
    assert steps != fitting.batches_by_turns(1)


def test_halves() -> None:
    assert halves([1, 2, 3, 4, 5]) == ([1, 3, 5], [2, 4])
    assert halves([7]) == ([7], [7])


def test_stopped_and_resumed_is_the_same(config: TrialConfig, resources: Resources, tmp_path: Path) -> None:
    parts = parts_of(config, resources)
    config = in_float64(config)
    whole = meta_fit(config, resources, parts)
    whole.run()
    stopped = meta_fit(config, resources, parts, tmp_path / "checkpoint")

    class Stop(Exception):
        pass

    def stop(entry: dict[str, Any]) -> None:
        raise Stop

    stopped.plan = FitPlan(**{**vars(stopped.plan), "report": stop})
    with pytest.raises(Stop):
        stopped.run()
    resumed = meta_fit(config, resources, parts, tmp_path / "checkpoint", done=1)
    make = partial(MetaFit, sizes=[len(part) for part in parts])
    state = fit(resumed.model, resumed.task, resumed.items, resumed.plan, make)
    assert state.epoch == 2
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_trial_trains_on_the_other_domains(config: TrialConfig, resources: Resources, tmp_path: Path) -> None:
    """Its record tells which epoch did best on them, and why it was trained by the plain loop."""
    folder = TrialFolder(tmp_path / config.trial_id)
    summary = run_trial(config, TrialRun(config.trial_id, "e", "a", 0, "confirm"), folder, resources)
    assert summary.state == "complete", summary.message
    assert summary.valid["valid_meta/accuracy"] == summary.valid["valid_source/accuracy"]  # home is both
    trial = Trial(config, resources)
    assert {item.key for item in trial.train_items()} == {
        i.key for i in resources.domains(config).items("home", "train")
    }
    best = max(entry["metrics"]["valid_meta/accuracy"] for entry in folder.read_log())
    assert summary.valid["valid_meta/accuracy"] == best


def test_limit_draws_anew_for_each_seed(make_config: MakeConfig, resources: Resources) -> None:
    def keys(seed: int) -> list[str]:
        changes = META | {"loop": META["loop"] | {"meta": {"over": ["home"], "limit": 12}}}
        return [item.key for item in Trial(make_config("residual_add", seed=seed, **changes), resources).train_items()]

    assert len(keys(0)) == 12 and keys(0) == keys(0) != keys(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"train_limit": 4}}, "data.train_limit 4 has no effect with loop.meta"),
        ({"loop": {"meta": {"over": ["away"]}}}, "loop.meta.over has the target 'away'"),
        ({"loop": {"meta": {"over": ["home", "home"]}}}, "names a domain twice"),
        ({"loop": {"accumulate": 2}}, "accumulate 2 has no effect with meta"),
        ({"train": "none", "adapter": None}, "loop.meta has no effect with train: none"),
    ],
)
def test_settings_without_effect(make_config: MakeConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config("residual_add", **merge(META, changes))


def test_unknown_domain_is_one_line(make_config: MakeConfig, resources: Resources) -> None:
    changes = META | {"loop": META["loop"] | {"meta": {"over": ["home", "mars"]}}}
    with pytest.raises(UserError, match="mars"):
        Trial(make_config("residual_add", **changes), resources).check()


def test_recipes_do_not_take_it() -> None:
    content = load_recipe("text_small").model_dump(by_alias=True)
    with pytest.raises(ValueError, match=r"loop\.meta is a setting of trials"):
        Recipe.model_validate(content | {"loop": {"meta": {"over": ["movie"]}}})


def test_ids_of_other_trials_say_nothing_of_it(make_config: MakeConfig) -> None:
    assert "meta" not in make_config().model_dump(mode="json")["loop"]

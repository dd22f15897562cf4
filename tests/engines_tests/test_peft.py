"""Adapters of PEFT as arms: by the plain loop and behind their cut, killed, saved in PEFT's format, switched off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pretrained_kinds import write_encoder, write_recipe
from safetensors.torch import load_file, save_file
from tiny_text import TinyText
from trial_configs import MakeConfig

from harness.adapters import freeze_backbone, peft_bridge
from harness.adapters.peft_bridge import inject, names_peft
from harness.checks.adapter_effect import measure_effect, random_adapters, trained_adapters
from harness.config.depends import ArmTrials
from harness.config.execution import Execution
from harness.config.trial import L2SpSettings, TrialConfig
from harness.engines.cut.cut import find_cut
from harness.engines.registry import Engines
from harness.errors import UserError
from harness.training.adapting import Adapted
from harness.training.optim import part_of
from harness.training.pulls import WeightPull
from harness.training.resources import Resources
from harness.training.trial import Trial

from .packs import PACKED, assert_same_bits, chosen, largest_difference, pretrained_with, run_all

peft: Any = pytest.importorskip("peft", reason="PEFT is not installed (extra peft)")
QV = ["query", "value"]
ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"_target_": "peft.LoraConfig", "r": 2, "target_modules": QV, "lora_dropout": 0.2},
    "ia3": {"_target_": "peft.IA3Config", "target_modules": ["value", "output.dense"], "feedforward_modules": []},
    "vera": {"_target_": "peft.VeraConfig", "r": 4, "target_modules": QV},
    "norms": {"_target_": "peft.LNTuningConfig", "target_modules": ["output.LayerNorm"]},
}
SIZES = {  # 16 wide, 3 layers, 32 in the feed-forward part
    "lora": 3 * 2 * (2 * 16 + 16 * 2),
    "ia3": 3 * (16 + 16 + 16),
    "vera": 3 * 2 * (4 + 16),
    "norms": 3 * 2 * 2 * 16,
}


@pytest.fixture(scope="module")
def recipe(tiny_text_files: TinyText, data_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head trained on a random BERT of three layers."""
    folder = tmp_path_factory.mktemp("peft")
    path = write_recipe(write_encoder("bert", folder), tiny_text_files, folder / "bert.yaml")
    return pretrained_with(data_cache, path)


@pytest.fixture(scope="module")
def sealed() -> Resources:
    return Resources(sealed=True)


def trial(make: MakeConfig, recipe: Path, adapter: dict[str, Any], seed: int = 0, **changes: Any) -> TrialConfig:
    changes = {"backbone": {"recipe": str(recipe)}, "data": {"train_limit": 12}, **changes}
    changes["loop"] = {"epochs": 2, "batch_size": 4, "valid_limit": 6, **changes.get("loop", {})}
    config = make(seed=seed, **changes)
    return config.model_copy(update={"adapter": adapter})


def learns(adapted: Adapted) -> dict[str, Any]:
    """The weights of PEFT that learn, by path in the model that it was handed."""
    assert adapted.model.encoder.injected is not None
    return dict(adapted.model.encoder.injected.learns)


@pytest.mark.parametrize("name", ADAPTERS)
def test_behind_the_cut_is_the_plain_loop(
    name: str, make_config: MakeConfig, recipe: Path, sealed: Resources, tmp_path: Path
) -> None:
    """Weights, moments, losses and scores, to 1e-12 in float64; what lies below the lowest module is run once."""
    upper = {**ADAPTERS[name], "layers_to_transform": [1, 2]} if name in ("lora", "vera") else ADAPTERS[name]
    config = trial(make_config, recipe, upper, loop={"precision": "float64"})
    (plain,) = run_all([config], sealed, tmp_path / "plain", Execution())
    (behind,) = run_all([config], sealed, tmp_path / "cut", Execution(engine="cut"))
    assert largest_difference(behind, plain) < 1e-12
    assert chosen(config, sealed, Execution(engine="cut")) == ("cut", None)
    lowest = 0 if upper is not ADAPTERS[name] else -1
    assert find_cut(config, sealed.domains(config).backbone.model).layer == lowest
    found, why = chosen(config, sealed, PACKED)
    assert found == "cut" and why == f"{upper['_target_']} is PEFT's, and has no packed form"


@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated", "ignore:Unsupported layer type"
)  # PEFT's
@pytest.mark.parametrize("name", ADAPTERS)
def test_counts_checks_and_files(
    name: str, make_config: MakeConfig, recipe: Path, resources: Resources, tmp_path: Path
) -> None:
    """Its weights alone learn, the base is there without them, and PEFT itself loads the folder to the same outputs."""
    config = trial(make_config, recipe, ADAPTERS[name])
    running = Trial(config, resources)
    outcome = running.run()
    assert outcome.metrics["trainable_parameters"] == sum(outcome.adapters.values()) == SIZES[name]
    assert outcome.checks == {"base_restored": "adapters off: the base model's outputs, bit for bit"}
    adapted = outcome.adapted
    names = {path for path, weight in adapted.model.named_parameters() if weight.requires_grad}
    assert names == {f"encoder.model.{path}" for path in learns(adapted)}
    with adapted.switched_off():
        pass
    assert names == {path for path, weight in adapted.model.named_parameters() if weight.requires_grad}

    adapted.save(tmp_path, "fingerprint")
    files = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == files
    encoder = running.fresh_base().encoder
    inputs, lengths_B = encoder.example()
    base = encoder(inputs, lengths_B)[0]
    peft.PeftModel.from_pretrained(encoder.model, str(tmp_path / "adapter"))
    expected = adapted.model.eval().encoder(inputs, lengths_B)[0]
    assert torch.equal(encoder.eval()(inputs, lengths_B)[0], expected) and not torch.equal(base, expected)


@pytest.mark.slow
def test_its_own_seeds_and_a_kill(make_config: MakeConfig, recipe: Path, sealed: Resources, tmp_path: Path) -> None:
    """The seed draws the first weights and the dropout; a training goes on from its checkpoint to the same bits."""
    first, other = (trial(make_config, recipe, ADAPTERS["lora"], seed) for seed in (0, 1))
    starts = [[*learns(Trial(config, sealed).adapted()).values()] for config in (first, first, other)]
    for a, b, c in zip(*starts, strict=True):
        assert torch.equal(a, b) and (not torch.equal(a, c) or not a.any())
    whole, again, else_ = run_all([first, first, other], sealed, tmp_path / "whole", Execution(), size=1)
    assert_same_bits(again, whole)
    assert whole.history != else_.history

    path = tmp_path / "killed.safetensors"
    for engine in ("plain", "cut"):
        path.unlink(missing_ok=True)

        class Killed(Exception):
            pass

        def kill(entry: dict[str, Any]) -> None:
            raise Killed

        with pytest.raises(Killed):
            Trial(first, sealed, path, kill, Engines().of(Execution(engine=engine))).run()
        (tmp_path / engine).mkdir()
        path.rename(tmp_path / engine / "0.safetensors")
        (resumed,) = run_all([first], sealed, tmp_path / engine, Execution(engine=engine))
        (reference,) = run_all([first], sealed, tmp_path / f"{engine}_whole", Execution(engine=engine))
        assert_same_bits(resumed, reference)


@pytest.mark.parametrize("name", ADAPTERS)
def test_its_weights_are_those_of_adapters(
    name: str, make_config: MakeConfig, recipe: Path, sealed: Resources, tmp_path: Path
) -> None:
    """To the optimizer's groups, and to L2-SP: new weights, which beta pulls to zero, and alpha to nowhere."""
    optim = {"lr": 0.02, "groups": {"adapters": {"lr": 0.01}, "head": {"lr": 0.001}}}
    config = trial(make_config, recipe, ADAPTERS[name], train="adapters_and_head", optim=optim)
    (ran,) = run_all([config], sealed, tmp_path, Execution())
    assert ran.error is None
    model = Trial(config, sealed).adapted().model
    named = [(path, weight) for path, weight in model.named_parameters() if weight.requires_grad]
    adapters = model.learnt_with_adapters()
    assert {part_of(pair, adapters) for pair in named} == {"adapters", "head"}
    pull = WeightPull(named, L2SpSettings(alpha=0.5, beta=0.25), adapters)
    started = dict(Trial(config, sealed).adapted().model.named_parameters())
    with torch.no_grad():
        for _, weight in named:
            weight.fill_(2.0)
        of_head = sum(float((2.0 - started[path]).square().sum()) for path, _ in named if path.startswith("head."))
        num_new = sum(weight.numel() for path, weight in named if not path.startswith("head."))
        found = pull.penalty()
    assert found is not None
    assert float(found) == pytest.approx(0.5 / 2 * of_head + 0.25 / 2 * 4 * num_new, rel=1e-5)


def test_with_a_head_and_with_embeddings(
    make_config: MakeConfig, recipe: Path, sealed: Resources, tmp_path: Path
) -> None:
    config = trial(make_config, recipe, ADAPTERS["lora"], train="adapters_and_head")
    adapted = Trial(config, sealed).adapted()
    head = {f"head.{name}" for name, _ in adapted.model.head.named_parameters()}
    assert head <= {name for name, weight in adapted.model.named_parameters() if weight.requires_grad}
    adapted.save(tmp_path, "fingerprint")
    assert set(load_file(tmp_path / "weights.safetensors")) == head
    tokens = {"_target_": "peft.TrainableTokensConfig", "token_indices": [4, 5], "target_modules": ["word_embeddings"]}
    found, why = chosen(trial(make_config, recipe, tokens), sealed, Execution(engine="cut"))
    assert (
        found == "plain"
        and why == "the adapter changes what the lowest layer reads, so nothing in front of it stays the same"
    )


@pytest.mark.parametrize(
    "adapter, expected",
    [
        ({"_target_": "peft.LoraConfig", "rank": 8}, "adapter: peft.LoraConfig does not accept `rank`; it accepts: "),
        ({"_target_": "peft.LoraConfig", "target_modules": ["qurey"]}, "Target modules {'qurey'} not found"),
        (
            {"_target_": "peft.LoraConfig", "target_modules": ["query", "valu"]},
            "adapter.target_modules: 'valu' matches no module that could be adapted; nearest: value",
        ),
        (
            ADAPTERS["lora"] | {"exclude_modules": ["layer.9.attention.self.query"]},
            "adapter.exclude_modules: 'layer.9.attention.self.query' matches no module",
        ),
        (
            ADAPTERS["lora"] | {"rank_pattern": {"layer.9.*query": 4}},
            "adapter.rank_pattern: 'layer.9.*query' matches no",
        ),
        (
            ADAPTERS["lora"] | {"layers_to_transform": [0, 9]},
            "adapter.layers_to_transform: no module that is adapted is in layer 9",
        ),
        ({"_target_": "peft.Lora"}, "cannot find `peft.Lora`"),
        ({"_target_": "peft.LoraModel"}, "peft.LoraModel"),
        (
            {"_target_": "peft.PrefixTuningConfig", "num_virtual_tokens": 4},
            "it changes what a model reads, and not its layers",
        ),
        ({"_target_": "peft.AdaLoraConfig", "total_step": 10, "target_modules": QV}, "told of every step"),
        (
            ADAPTERS["lora"] | {"bias": "lora_only"},
            "it would train encoder.layer.0.attention.self.query.base_layer.bias",
        ),
        (
            ADAPTERS["lora"] | {"modules_to_save": ["pooler"]},
            "adapter.modules_to_save: train: adapters_and_head trains",
        ),
        (ADAPTERS["lora"] | {"inference_mode": True}, "adapter.inference_mode: true"),
        (
            ADAPTERS["lora"] | {"target_modules": "all-linear"},
            "does not depend on pooler.dense.lora_A.adapter_layer.weight",
        ),
        (
            ADAPTERS["lora"] | {"init_lora_weights": "eva"},
            "adapter.init_lora_weights: eva: its first weights come from",
        ),
        (
            ADAPTERS["lora"] | {"alora_invocation_tokens": [3], "task_type": "CAUSAL_LM"},
            "adapter.alora_invocation_tokens: [3]: it is told where",
        ),
        (
            {"_target_": "peft.AdamssConfig", "target_modules": QV, "use_asa": True},
            "adapter.use_asa: True: it has to be",
        ),
        (
            {"_target_": "peft.ShadowConfig", "target_modules": QV},
            "the weights that learn are not in modules of the backbone",
        ),
        (ADAPTERS["lora"] | {"init_lora_weights": "pissa"}, "switching it off does not give the base model back"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_an_arm(
    adapter: dict[str, Any], expected: str, make_config: MakeConfig, recipe: Path, sealed: Resources
) -> None:
    """One line, before anything is trained."""
    with pytest.raises(UserError) as caught:
        Trial(trial(make_config, recipe, adapter), sealed).check()
    assert expected in str(caught.value) and "\n" not in str(caught.value), caught.value


@pytest.mark.parametrize("name", ADAPTERS)
def test_its_effect_is_measured_and_padding_has_none(
    name: str, make_config: MakeConfig, recipe: Path, sealed: Resources
) -> None:
    """Every module's weights change the output, alone as well; a sentence gives the same beside a longer one."""
    base = Trial(trial(make_config, recipe, ADAPTERS[name], loop={"precision": "float64"}), sealed).fresh_base()
    adapted = random_adapters(base, trial(make_config, recipe, ADAPTERS[name], loop={"precision": "float64"}))
    inputs, lengths_B = base.encoder.example()
    effect = measure_effect(base, adapted, (inputs, lengths_B))
    assert effect.is_restored and not effect.faults and list(effect.by_point) == list(adapted.adapters)
    both = adapted.model(inputs, lengths_B)[0]
    for row, length in enumerate(lengths_B.tolist()):
        alone = adapted.model(inputs[row : row + 1, :length], lengths_B[row : row + 1])[0]
        torch.testing.assert_close(alone[0], both[row], rtol=1e-12, atol=1e-12)


def test_a_trials_folder_is_read_again(
    make_config: MakeConfig, recipe: Path, resources: Resources, tmp_path: Path
) -> None:
    """For `harness adapters check`: only where the class is allowed, and only a file of this adapter."""
    config = trial(make_config, recipe, ADAPTERS["lora"], train="adapters_and_head")
    adapted = Trial(config, resources).run().adapted
    backbone = resources.backbone(config.backbone.recipe)
    adapted.save(tmp_path, backbone.fingerprint)
    (tmp_path / "config.json").write_text(json.dumps(config.model_dump(mode="json", by_alias=True)))
    with pytest.raises(UserError, match=r"built by 'peft.LoraConfig'; if you trust that code, add --allow"):
        trained_adapters(backbone, tmp_path, [])
    again = trained_adapters(backbone, tmp_path, ["peft.LoraConfig"])
    inputs = adapted.model.encoder.example()
    assert torch.equal(again.model.eval()(*inputs)[0], adapted.model.eval()(*inputs)[0])
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({"base_model.model.elsewhere.lora_A.weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="the model has no weight"):
        trained_adapters(backbone, tmp_path, ["peft.LoraConfig"])
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match="cannot be loaded"):
        trained_adapters(backbone, tmp_path, ["peft.LoraConfig"])


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_file_that_lacks_weights_is_refused(
    name: str, make_config: MakeConfig, recipe: Path, sealed: Resources, tmp_path: Path
) -> None:
    """PEFT takes what there is, and leaves the rest as it was drawn."""
    injected = Trial(trial(make_config, recipe, ADAPTERS[name]), sealed).adapted().model.encoder.injected
    assert injected is not None
    injected.save(tmp_path)
    injected.load(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    whole = load_file(path)
    for kept in (dict(list(whole.items())[1:]), {}):
        save_file(kept, path)
        first = min(whole.keys() - kept.keys())
        with pytest.raises(
            UserError, match=f"{len(whole) - len(kept)} weights of the adapter are not in it, .* {first}"
        ):
            injected.load(tmp_path)


def test_where_peft_looks_is_said_by_its_config_alone(make_config: MakeConfig, recipe: Path, sealed: Resources) -> None:
    config = trial(make_config, recipe, ADAPTERS["lora"], backbone={"recipe": str(recipe), "layers": [1]})
    with pytest.raises(UserError, match=r"backbone.layers: \(1,\): PEFT finds its modules by itself"):
        Trial(config, sealed).check()


def test_without_peft_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert names_peft(ADAPTERS["lora"]) and not names_peft({"_target_": "harness.adapters.LinearAdapter"})
    assert not names_peft(None) and not names_peft({"_target_": "nowhere.Adapter"})
    monkeypatch.setattr(peft_bridge, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"^adapter: peft.LoraConfig: PEFT is not installed; run: pip install 'peft>=0\.21,<0\.22'$"
    ):
        names_peft(ADAPTERS["lora"])


def test_it_is_the_only_adapter_of_a_trial(make_config: MakeConfig, recipe: Path, sealed: Resources) -> None:
    """A chain is one of harness's; and a width that follows from a budget is too."""
    config = trial(make_config, recipe, ADAPTERS["lora"] | {"r": {"budget": 100}})
    with pytest.raises(UserError, match=r"adapter.r: \{'budget': 100\}: PEFT needs a number"):
        Trial(config, sealed).check()
    several = {"a": ADAPTERS["lora"], "b": {"_target_": "harness.adapters.LinearAdapter", "dim": 2}}
    content = config.model_dump(mode="json", by_alias=True) | {"adapter": None, "adapters": several}
    with pytest.raises(UserError, match=r"adapters.a: .*a config of PEFT goes into `adapter` of a trial, by itself"):
        Trial(TrialConfig.model_validate(content), sealed).check()


def test_our_own_encoders_take_them_too(make_config: MakeConfig, resources: Resources) -> None:
    """No model of transformers: PEFT takes any module."""
    config = make_config().model_copy(
        update={"adapter": {"_target_": "peft.LoraConfig", "r": 2, "target_modules": ["out_proj"]}}
    )
    outcome = Trial(config, resources).run()
    assert outcome.metrics["trainable_parameters"] == 2 * 2 * (16 + 16)
    assert outcome.checks["base_restored"].startswith("adapters off")


def test_the_frozen_model_is_never_changed() -> None:
    """No flag, mode or weight of what was there before."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(), torch.nn.Linear(4, 4))
    freeze_backbone(model)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    injected = inject(model, {"_target_": "peft.LoraConfig", "r": 1, "target_modules": ["0"], "lora_dropout": 0.5})
    model.train()
    assert list(injected.sites) == ["0"] and injected.sizes == {"0": 8}
    assert not model[1].training and not model[2].training and not model[0].base_layer.training  # type: ignore[union-attr]
    assert model[0].lora_dropout["adapter_layer"].training  # type: ignore[union-attr, index]
    for name, weight in model.named_parameters():
        if name.replace(".base_layer", "") in before:
            assert torch.equal(weight, before[name.replace(".base_layer", "")]) and not weight.requires_grad


def test_a_later_stage_would_lose_its_weights(recipe: Path, tmp_path: Path) -> None:
    """PEFT's folder is no file that a record names, so no other trial can take its weights; the head's it can."""
    base = yaml.safe_load(recipe.read_text(encoding="utf-8"))["data"]
    arm = {
        "data": {"corpus": base["corpus"], "source": base["domains"], "target": "away"},
        "backbone": {"recipe": str(recipe)},
        "adapter": ADAPTERS["lora"],
    }
    head_first = {**arm, "stages": [{"train": "head"}, {"train": "adapters"}]}
    adapters_first = {**arm, "stages": [{"train": "adapters"}, {"train": "adapters_and_head"}]}
    trials = ArmTrials({"head first": head_first, "adapters first": adapters_first}, "file.yaml")
    assert trials.trial("head first", 0).start is not None
    told = r"arms\.adapters first\.stages\.0: its adapter .* is PEFT's, whose weights no other trial takes"
    with pytest.raises(UserError, match=told):
        trials.trial("adapters first", 0)

"""`harness adapters show` and `harness adapters check`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_text import TinyText

from harness.adapters.nemo_files import read_nemo_adapters
from harness.checks import adapter_effect
from harness.checks.adapter_effect import Effect

from .conftest import Cli

SIZE = 2 * 16 * 4 + 2 * 16  # of the adapter of dim 4 at a width of 16
ARMS: dict[str, Any] = {
    "frozen": {"train": "none", "adapter": None},
    "usual": {},
    "houlsby": {"backbone": {"points": "houlsby", "layers": [1]}},
    "beside": {"backbone": {"points": ["out_proj"]}},
    "to_head": {"backbone": {"points": "towards_head"}},
}


@pytest.fixture
def experiment(tiny_text_files: TinyText, tmp_path: Path) -> Path:
    return tiny_text_files.write_experiment(tmp_path / "places.yaml", name="places", arms=ARMS, seeds=[0])


def test_show_lists_the_points_of_a_backbone(cli: Cli, tiny_text_files: TinyText) -> None:
    """Whether it has been trained or not; like layers in one line."""
    result = cli("adapters", "show", tiny_text_files.recipe)
    assert (result.code, result.err) == (0, "")
    lines = [line.split() for line in result.out.splitlines()]
    assert re.match(r"backbone tiny: 2 layers of width 16, [\d,]+ weights in the encoder\n", result.out)
    for line in (
        "behind_layer 0 to 1 behind layer N 16",
        "after_attention 0 to 1 behind layers.N.attention 16",
        "after_feed_forward 0 to 1 behind layers.N.feed_forward 16",
        "towards_head 0 to 1 from layer N 16",
        "attention.in_proj 0 to 1 beside layers.N.attention.in_proj reads 16, gives 48",
        "feed_forward.4 0 to 1 beside layers.N.feed_forward.4 reads 32, gives 16",
    ):
        assert line.split() in lines
    hidden = "and modules without weights, which --format json lists: feed_forward.2, feed_forward.3"
    assert hidden.split() in lines


def test_show_says_what_each_arm_fills(cli: Cli, experiment: Path) -> None:
    result = cli("adapters", "show", experiment, "--format", "json")
    assert (result.code, result.err) == (0, "")
    content = json.loads(result.out)
    (backbone,) = content["backbones"]
    sizes = {(point["points"], point["layer"]): point["num_weights"] for point in backbone["points"]}
    assert sizes["after_attention", 1] == SIZE and sizes["attention.in_proj", 0] is None
    assert sizes["feed_forward.2", 0] == 2 * 32 * 4 + 2 * 32  # an activation is a place as well
    share = next(point["share"] for point in backbone["points"] if point["name"] == "after_attention.0")
    assert share == pytest.approx(SIZE / backbone["num_weights"])
    filled = {arm["arm"]: (arm["filled"], arm["num_weights"]) for arm in content["arms"]}
    assert filled == {
        "frozen": ({}, 0),
        "usual": ({"layers.0.insertion": SIZE, "layers.1.insertion": SIZE}, 2 * SIZE),
        "houlsby": ({"after_attention.1": SIZE, "after_feed_forward.1": SIZE}, 2 * SIZE),
        "beside": ({f"beside.layers/{n}/attention/out_proj": SIZE for n in (0, 1)}, 2 * SIZE),
        "to_head": ({"towards_head.0": SIZE, "towards_head.1": SIZE}, 2 * SIZE + 2),
    }
    lines = [" ".join(line.split()) for line in cli("adapters", "show", experiment).out.splitlines()]
    percent = f"{200 * SIZE / backbone['num_weights']:.2f} %"
    assert f"beside adapters {2 * SIZE} {percent} beside layers.N.attention.out_proj, N = 0 to 1" in lines
    assert "frozen none none" in lines
    budget = f"{{budget: {2 * SIZE + 5}}}"
    sized = cli("adapters", "show", experiment, f"arms.usual.adapter.dim={budget}")
    assert f"dim: {budget}: the width is 4; {2 * SIZE} weights in 2 places" in sized.out.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (
            ["show", "RECIPE", "--arm", "usual"],
            "a recipe has no arms and no settings to change; name an experiment for that",
        ),
        (
            ["show", "FILE", "--arm", "usal"],
            "--arm 'usal': no such arm; choices: frozen, usual, .* Did you mean usual?",
        ),
        (["show", "FILE", "--arm", "frozen"], "it trains no adapter; arms that do: usual, houlsby, beside, to_head"),
        (
            ["show", "FILE", "arms.usual.backbone.points=[nothing]"],
            "arm usual: backbone.points: 'nothing' matches no module",
        ),
        (
            ["show", "text_smal"],
            "no backbone or experiment 'text_smal' comes .*: speech_small, .* Did you mean text_small?",
        ),
        (
            ["check", "FILE", "--arm", "frozen"],
            "arm frozen: train: none trains no adapter, so there is nothing to check",
        ),
        (["check", "FILE", "--inputs", "gone.txt"], "there is no file gone.txt; choices: random, corpus, or a file"),
        (["check", "FILE", "--allow", "my.Adapter"], "--allow is for the folder of a trial"),
        (["check", ".", "--arm", "usual"], "a trial has no arms and no settings to change"),
        (["check", "."], "config.json"),
        (["show", "FILE", "--format", "html"], "--format html: no such format; choices: text, json"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], expected: str, cli: Cli, experiment: Path, tiny_text_files: TinyText
) -> None:
    files = {"FILE": str(experiment), "RECIPE": str(tiny_text_files.recipe)}
    result = cli("adapters", *(files.get(argument, argument) for argument in arguments))
    assert result.code == 2
    assert re.search(expected, result.error)


@pytest.mark.parametrize("inputs", ["random", "corpus", "texts.txt"])
def test_check_proves_an_effect(inputs: str, cli: Cli, experiment: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("the kitchen was lovely\n\nthe train was awful\nferry\n", encoding="utf-8")
    result = cli("adapters", "check", experiment, "--inputs", inputs, "--format", "json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert list(found) == ["usual", "houlsby", "beside", "to_head"]
    for effect in found.values():
        assert effect["num_items"] == {"random": 2, "corpus": 4, "texts.txt": 3}[inputs]
        assert effect["is_restored"] and not effect["faults"] and len(effect["by_point"]) == 2
        assert min(effect["largest"], *effect["by_point"].values()) > 1e-4


def test_an_adapter_that_changes_nothing_is_found(cli: Cli, experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the adapters are before their training; and where one of them alone is."""
    real = adapter_effect.with_random_weights
    monkeypatch.setattr(adapter_effect, "with_random_weights", lambda adapted: None)
    result = cli("adapters", "check", experiment, "--arm", "usual")
    assert result.code == 1
    assert result.error == "usual: layers.0.insertion: the adapter there changes nothing (and 2 more)"

    def all_but_the_last(adapted: Any) -> None:
        real(adapted)
        point = adapted.model.encoder.insertion_points["layers.1.insertion"]
        point.adapter_layer["adapted"].reset_parameters()

    monkeypatch.setattr(adapter_effect, "with_random_weights", all_but_the_last)
    result = cli("adapters", "check", experiment, "--arm", "usual")
    assert result.code == 1
    assert result.error == "usual: layers.1.insertion: the adapter there changes nothing"
    assert "layers.1.insertion NOTHING" in " ".join(result.out.split())


def test_what_is_not_restored_is_a_fault() -> None:
    assert Effect(2, 1.0, {"a": 1.0}, False).faults == ["with all adapters off, the output is not the base model's"]
    (one, all_of_them) = Effect(2, float("nan"), {"a": float("nan")}, True).faults
    assert one == "a: the adapter there gives an output that is not finite" and "all adapters together" in all_of_them


@pytest.mark.slow
def test_check_of_a_trained_trial(cli: Cli, experiment: Path, tmp_path: Path) -> None:
    """With what it has learnt, the shares of the layers included; refused without weights, or with foreign code."""
    assert cli("run", experiment, "--quiet", "--engine", "cut").code == 0
    (tmp_path / "texts.txt").write_text("the kitchen was lovely\n", encoding="utf-8")
    arms = json.loads((tmp_path / "results/places/experiment.json").read_text(encoding="utf-8"))["arms"]
    folders = {arm: tmp_path / "results/places/records" / seeds["0"] for arm, seeds in arms.items()}
    for arm in ("houlsby", "beside", "to_head"):
        result = cli("adapters", "check", folders[arm], "--inputs", "texts.txt")
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith(f"{folders[arm].name}: 1 items; with all adapters, the output moves by up to ")
    weights = folders["to_head"] / "weights.safetensors"
    shares = load_file(weights)
    assert shares.keys() == {"encoder.layer_shares.logits"} and shares["encoder.layer_shares.logits"].abs().max() > 0
    save_file({"encoder.other": shares["encoder.layer_shares.logits"]}, weights)
    assert "the model has no weight encoder.other" in cli("adapters", "check", folders["to_head"]).error
    assert "train: none trains no adapter" in cli("adapters", "check", folders["frozen"]).error
    (folders["beside"] / "adapter.safetensors").unlink()
    assert "there is no adapter.safetensors" in cli("adapters", "check", folders["beside"]).error
    config = folders["houlsby"] / "config.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    content["adapter"]["_target_"] = "antigravity.Fly"
    config.write_text(json.dumps(content), encoding="utf-8")
    refused = cli("adapters", "check", folders["houlsby"])
    assert refused.code == 2 and "built by 'antigravity.Fly'; if you trust that code, add --allow" in refused.error


@pytest.mark.slow
def test_check_of_a_trial_whose_first_stage_changed_the_encoder(cli: Cli, tiny_text_files: TinyText) -> None:
    """Without its adapters it is what that stage left, and neither the base model nor its own weights say so."""
    arms = {"tuned_first": {"stages": [{"train": "full", "adapter": None}, {"train": "adapters"}]}}
    file = tiny_text_files.write_experiment(Path("tuned.yaml"), name="tuned", arms=arms, seeds=[0], table={})
    assert cli("run", file, "--quiet").code == 0
    manifest = json.loads(Path("results/tuned/experiment.json").read_text(encoding="utf-8"))
    folder = Path("results/tuned/records") / manifest["arms"]["tuned_first"]["0"]
    first = folder.parent / json.loads((folder / "config.json").read_text(encoding="utf-8"))["start"]["trial"]
    for inputs in ("random", "corpus"):
        result = cli("adapters", "check", folder, "--inputs", inputs)
        assert (result.code, result.err) == (0, "")
        assert "without: it is that of the model that it started from, bit for bit" in result.out
    own, kept = folder / "weights.safetensors", first / "weights.safetensors"
    weights = load_file(own)
    name = next(name for name in weights if name.startswith("encoder."))
    save_file({**weights, name: weights[name] + 1}, own)
    wrong = cli("adapters", "check", folder)
    assert wrong.code == 1 and "the output is not that of the model that it started from" in wrong.error
    save_file(weights, own)
    kept.unlink()
    missing = cli("adapters", "check", folder)
    assert missing.code == 2 and "what it started from is needed to compare with" in missing.error
    assert f"{kept} is not there" in missing.error


def test_convert_writes_nemos_format_and_ours(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("omegaconf")
    golden = Path(__file__).parents[1] / "golden" / "nemo_adapter.pt"
    ours, back = tmp_path / "an4.safetensors", tmp_path / "back.pt"
    result = cli("adapters", "convert", golden, ours)
    assert (result.code, result.err) == (0, "")
    said, more = result.out.splitlines()
    assert said == f"an4, an4_v2: written to {ours} and {tmp_path / 'an4.json'}"
    assert "needs allow_other_base=True" in more
    result = cli("adapters", "convert", ours, back, "--module", "encoder")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"an4, an4_v2: written to {back}\nleft out")
    before, after = read_nemo_adapters(golden), read_nemo_adapters(back)
    assert after.keys() == before.keys()
    for name, adapter in before.items():
        for one, other in zip(adapter.states, after[name].states, strict=True):
            assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_convert_refuses_in_one_line(cli: Cli, tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "nemo_adapter.pt"
    mms, other = tmp_path / "adapter.deu.safetensors", tmp_path / "other.safetensors"
    save_file({"wav2vec2.encoder.layers.0.adapter_layer.norm.bias": torch.zeros(2)}, mms)
    save_file({"weight": torch.zeros(2)}, other)
    (tmp_path / "taken.json").write_text("{}")
    for arguments, expected in (
        ((golden, tmp_path / "x.pt"), "nemo_adapter.pt to x.pt: one of the two has to end in .pt (NeMo's format)"),
        ((golden, tmp_path / "x"), "one of the two has to end in .pt"),
        ((golden, other), f"{other}: there is such a file already"),
        ((golden, tmp_path / "taken.safetensors"), "taken.json: there is such a file already"),
        ((tmp_path / "no.pt", tmp_path / "x.safetensors"), "no.pt: there is no such adapter file"),
        ((tmp_path / "no.safetensors", tmp_path / "x.pt"), "no.safetensors: there is no such adapter file"),
        ((other, tmp_path / "x.pt"), "not an adapter file: the header `harness` is missing"),
        ((mms, tmp_path / "x.pt"), "an adapter file of MMS: its projections have biases"),
        ((golden, tmp_path / "x.safetensors", "--module", "encoder:an4"), "the name of a module has no colon"),
    ):
        result = cli("adapters", "convert", *arguments)
        assert result.code == 2 and expected in result.error, (arguments, result)
    assert not (tmp_path / "x.pt").exists() and not (tmp_path / "x.safetensors").exists()


def test_the_name_of_a_sweep(cli: Cli) -> None:
    """A shipped sweep is told to be one."""
    shown = cli("adapters", "show", "speech_whisper_depth_x_l2")
    assert shown.code == 2 and "this is a sweep; name its experiment" in shown.error

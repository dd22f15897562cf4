"""Trials that merge adapters: what `fusion` means, what learns, and the attention in the record."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from trial_configs import MakeConfig

from harness.adapters.fusion import AdapterFusion
from harness.checks.record_checks import Place
from harness.checks.retraining import retrain_trial
from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.engines.registry import Engines
from harness.errors import UserError
from harness.figures.attention import parse_attention
from harness.records.digests import record_digest
from harness.records.trial_folder import TrialFolder
from harness.records.trial_run import TrialRun
from harness.training.adapting import adapt
from harness.training.engine import PLAIN_ENGINE, Engine
from harness.training.resources import Resources
from harness.training.run_trial import run_trial

LINEAR: dict[str, Any] = {"_target_": "harness.adapters.LinearAdapter", "dim": 4, "norm_position": "post"}
FUSION = {"_target_": "harness.adapters.AdapterFusion", "over": ["en", "fr"]}
SIM: dict[str, Any] = {
    "_target_": "harness.adapters.SimAdapter",
    "over": ["fr", "en"],
    "with_self": True,
    "guide": "en",
}


def trial(make_config: MakeConfig, fusion: Any, adapters: dict[str, Any] | None = None, **changes: Any) -> TrialConfig:
    plain = make_config(adapter=None, train="head", **changes).model_dump(by_alias=True)
    adapters = {"en": LINEAR, "fr": LINEAR} if adapters is None else adapters
    return TrialConfig.model_validate({**plain, "train": "adapters", "adapters": adapters, "fusion": fusion})


@pytest.fixture
def members(make_config: MakeConfig, resources: Resources, tmp_path: Path) -> dict[str, Any]:
    """Two adapters with random weights, in files."""
    config = trial(make_config, None, {"en": LINEAR, "fr": {**LINEAR, "dim": 3}})
    domains = resources.domains(config)
    model = adapt(copy.deepcopy(domains.backbone.model), config).model
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "adapter_layer" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    model.save_adapters(tmp_path / "members", base_fingerprint=domains.backbone.fingerprint)
    return {name: {"from": {"file": str(tmp_path / "members")}} for name in ("en", "fr")}


def train(
    config: TrialConfig, resources: Resources, folder: Path, engine: Engine = PLAIN_ENGINE, phase: Any = "confirm"
) -> TrialFolder:
    made = TrialFolder(folder / config.trial_id)
    summary = run_trial(config, TrialRun(config.trial_id, "e", "a", 0, phase), made, resources, engine=engine)
    assert summary.state == "complete", summary.message
    return made


def test_fusion_is_the_last_adapter_and_its_members_are_frozen(make_config: MakeConfig) -> None:
    config = trial(make_config, FUSION, {"more": LINEAR, "fr": {**LINEAR, "trainable": True}, "en": LINEAR})
    assert [(one.name, one.trainable, one.in_chain) for one in config.members] == [
        *(("more", True, True), ("fr", True, False), ("en", False, False), ("fusion", True, True)),
    ]
    recorded = config.model_dump(mode="json", by_alias=True)
    assert "fusion" not in recorded and TrialConfig.model_validate(recorded).trial_id == config.trial_id


@pytest.mark.parametrize("fusion", [FUSION, SIM], ids=["fusion", "sim"])
def test_only_the_fusion_learns_alike_behind_the_cut(
    fusion: Any, members: dict[str, Any], make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    # With eps 1e-8, Adam multiplies the rounding of gradients that are far smaller (docs/explanation/engines.md).
    config = trial(make_config, fusion, members, loop={"precision": "float64"}, optim={"eps": 1e-4})
    plain = train(config, resources, tmp_path / "plain")
    cut = train(config, resources, tmp_path / "cut", Engines().of(Execution(engine="cut")))
    record, other = plain.record(), cut.record()
    assert record is not None and other is not None and other.provenance is not None
    assert other.provenance.execution == {"engine": "cut"}
    assert record.summary.metrics["trainable_parameters"] == 2 * (3 * 16**2 + 2 * 16)
    assert record.summary.checks["base_restored"].startswith("adapters off")
    weights = [load_file(folder.path / "adapter.safetensors") for folder in (plain, cut)]
    kept = load_file(tmp_path / "members.safetensors")
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=0, atol=1e-12)
        if not name.startswith(("fusion/", "probe/")):
            assert torch.equal(weight.float(), kept[name].float())
    log = plain.read_log()
    assert all(entry["metrics"]["train/auxiliary_loss"] > 0 for entry in log)


@pytest.mark.parametrize("fusion", [FUSION, SIM], ids=["fusion", "sim"])
def test_the_record_has_the_attention_on_the_test_set(
    fusion: Any, members: dict[str, Any], make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """The mean over all tokens of the target's test set, as a pass over each text alone finds it."""
    config = trial(make_config, fusion, members)
    folder = train(config, resources, tmp_path / "records")
    found = parse_attention(json.loads((folder.path / "attention.json").read_text()), "here")
    names = (*fusion["over"], *(["self"] if "with_self" in fusion else []))
    assert found.adapters == names and list(found.layers) == ["0", "1"]
    domains = resources.domains(config)
    model = adapt(copy.deepcopy(domains.backbone.model), config).model
    for name in list(model.adapter_names_()):
        model.remove_adapter(name)
    model.load_adapters(folder.path / "adapter", base_fingerprint=domains.backbone.fingerprint)
    seen: dict[str, list[Tensor]] = {name: [] for name in found.layers}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdapterFusion, "take_attention", lambda self, attention, module: caught.append(attention))
        for item in domains.test_items(config.data, config.data.target):
            caught: list[Tensor] = []
            batch = domains.plain_task.collate([item], None)
            model.eval()(batch.inputs, batch.lengths)
            for name, attention in zip(seen, caught, strict=True):
                seen[name].append(attention[0, : int(batch.lengths[0])].detach())
    for name, parts in seen.items():
        torch.testing.assert_close(torch.tensor(found.layers[name]), torch.cat(parts).mean(dim=0), rtol=0, atol=1e-5)
    record = folder.record()
    assert record is not None and record.provenance is not None and "attention.json" in record.provenance.files
    before = record_digest(folder)
    (folder.path / "attention.json").write_text("{}")
    assert record_digest(folder) != before


def test_a_search_keeps_no_attention(members: dict[str, Any], make_config: MakeConfig, tmp_path: Path) -> None:
    folder = train(trial(make_config, FUSION, members), Resources(sealed=True), tmp_path, phase="search")
    assert not (folder.path / "attention.json").exists()


def test_the_guide_draws_the_attention(
    members: dict[str, Any], make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """With a heavy guide each layer attends to the guided member more than without one."""
    found = []
    changes: list[dict[str, Any]] = [{"guide": None}, {"guide_weight": 50.0}]
    for number, options in enumerate(changes):
        config = trial(make_config, {**SIM, **options}, members)
        folder = train(config, resources, tmp_path / str(number))
        found.append(json.loads((folder.path / "attention.json").read_text())["layers"])
    place = SIM["over"].index("en")
    assert all(found[1][name][place] > found[0][name][place] + 0.1 for name in found[0])


@pytest.mark.parametrize(
    ("fusion", "changes", "message"),
    [
        (FUSION, {"adapters": {"en": LINEAR}}, r"fusion\.over: no adapter 'fr' in adapters; choices: en"),
        (FUSION, {"adapters": {"en": LINEAR, "fr": None}}, r"fusion\.over: no adapter 'fr' in adapters; choices: en"),
        ({"over": ["en"]}, {}, "fusion: _target_ is missing .*; its keys: over"),
        ({**FUSION, "over": "en"}, {}, r"fusion\.over: expected a list of names of adapters, got 'en'"),
        ([1], {}, r"fusion: expected a mapping with _target_, got \[1\]"),
        (FUSION, {"adapters": {"en": LINEAR, "fr": LINEAR, "fusion": LINEAR}}, "an adapter is called fusion; rename"),
    ],
)
def test_fusions_that_make_no_sense(fusion: Any, changes: Any, message: str, make_config: MakeConfig) -> None:
    with pytest.raises(ValueError, match=message):
        trial(make_config, fusion, **changes)


def test_fusions_that_cannot_be_built(make_config: MakeConfig, resources: Resources) -> None:
    for fusion, adapters, message in (
        ({**FUSION, "over": ["en"]}, None, r"^adapters\.fusion: .*over has to be a list of at least 2 distinct names"),
        ({**SIM, "guide": "de"}, None, r"^adapters\.fusion: .*guide has to be one of fr, en, self, but got 'de'"),
        (FUSION, {"en": LINEAR, "fr": LINEAR, "second": FUSION}, r"^adapters\.second, adapters\.fusion: each merges"),
    ):
        config = trial(make_config, fusion, adapters)
        with pytest.raises(UserError, match=message):
            adapt(copy.deepcopy(resources.domains(config).backbone.model), config)


def test_training_again_compares_the_attention(
    members: dict[str, Any], make_config: MakeConfig, resources: Resources, tmp_path: Path
) -> None:
    """A heat map that was changed by what it shows is a drift; one that differs by rounding is none."""
    folder = train(trial(make_config, FUSION, members), resources, tmp_path / "records")
    place, record, path = Place("fusion", 0, folder), folder.record(), folder.path / "attention.json"
    assert record is not None
    found = retrain_trial(place, record, 0.0)
    assert not found.drifts and "attention.json: no weight differs by more than 0" in found.report
    content = json.loads(path.read_text())
    first, second = content["layers"]["1"]
    content["layers"]["1"] = [first + 0.25, second - 0.25]
    path.write_text(json.dumps(content))
    drifts = retrain_trial(place, record, 0.0).drifts
    assert len(drifts) == 1 and "attention.json" in drifts[0] and "a weight differs by 0.25" in drifts[0]

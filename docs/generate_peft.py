"""Write docs/reference/peft-methods.md: which of PEFT's methods can be an arm here, each tried on two tiny models.

python docs/generate_peft.py            write the page
python docs/generate_peft.py --check    end with 1 if the page is not what the methods do

The models are a random BERT and a random wav2vec2 of three layers, 16 wide, so sizes of a method are made to fit.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "peft-methods.md"
sys.path.insert(0, str(ROOT / "tests"))

from pretrained_kinds import write_encoder, write_speech_encoder  # noqa: E402

from harness.adapters.freezing import freeze_backbone  # noqa: E402
from harness.adapters.peft_bridge import Injected  # noqa: E402
from harness.backbones.encoder_settings import SpeechModelSettings  # noqa: E402
from harness.backbones.encoders import Encoder  # noqa: E402
from harness.backbones.model import ClassifierHead, TaskModel  # noqa: E402
from harness.backbones.pretrained import PretrainedTextEncoder  # noqa: E402
from harness.backbones.speech_models import speech_encoder  # noqa: E402
from harness.config.trial import TrialConfig  # noqa: E402
from harness.errors import UserError  # noqa: E402
from harness.training.peft_arm import BEFORE_LAYERS, cut_layer, inject_peft  # noqa: E402

INTRODUCTION = """\
# PEFT's methods

What each method of PEFT {version} can do here as an arm (`adapter: {{_target_: peft.NAME, ...}}`).
`docs/generate_peft.py` tried it on a random BERT and a random wav2vec2 and wrote this page.
[Use a PEFT method](../how-to/use-a-peft-method.md) says how.

- **text**, **speech**: it trains, its output depends on all its weights, and without it the base model is there, bit
  for bit.
- **starts as the base model**: its first weights change nothing.
- **cut**: what lies below the lowest module that it changes is computed once, to the numbers of a whole pass.
- **folder**: PEFT loads what a trial has written (`adapter/` in its record), to the same outputs.
"""
HEADER = (
    "| config | text | speech | starts as the base model | cut | folder |\n| :--- | :--- | :--- | :--- | :--- | :--- |"
)

# What fits into layers 16 wide; the usual sizes are made for models a hundred times as wide.
SMALL: dict[str, dict[str, Any]] = {
    "AdaLoraConfig": {"total_step": 10},
    "BOFTConfig": {"boft_block_size": 4},
    "C3AConfig": {"block_size": 8},
    "CPTConfig": {"task_type": "CAUSAL_LM"},
    "FourierFTConfig": {"n_frequency": 20},
    "GraloraConfig": {"r": 4, "gralora_k": 2},
    "IA3Config": {"feedforward_modules": []},
    "MissConfig": {"r": 4},
    "MultitaskPromptTuningConfig": {"num_virtual_tokens": 2},
    "OFTConfig": {"oft_block_size": 4},
    "PrefixTuningConfig": {"num_virtual_tokens": 2},
    "PromptEncoderConfig": {"num_virtual_tokens": 2},
    "PromptTuningConfig": {"num_virtual_tokens": 2},
    "PsoftConfig": {"r": 4},
    "RoadConfig": {"group_size": 4},
    "ShiraConfig": {"r": 2},
    "TrainableTokensConfig": {"token_indices": [4, 5], "target_modules": ["word_embeddings"]},
    "VBLoRAConfig": {"vector_length": 4, "num_vectors": 8, "topk": 2},
    "WaveFTConfig": {"n_frequency": 20},
}
MODULES = {"text": ["query", "value"], "speech": ["q_proj", "v_proj"]}
NORMS = {"text": ["LayerNorm"], "speech": ["layer_norm"]}


def build_page(page: str = "", step: int = 1) -> str:
    """The whole page: each `step`th method tried, and of the others what stands in `page`, if it has them."""
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    classes = sorted({cls.__name__: cls for cls in PEFT_TYPE_TO_CONFIG_MAPPING.values()}.items())
    known = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    given = {name for number, (_, cls) in enumerate(classes) if number % step and (name := told(cls)) in known}
    with tempfile.TemporaryDirectory() as root:
        models = {
            "text": PretrainedTextEncoder(write_encoder("bert", Path(root)), 16).eval(),
            "speech": pretrained_speech(write_speech_encoder("wav2vec2", Path(root))),
        }
        lines = [known[told(cls)] if told(cls) in given else row(cls, models) for _, cls in classes]
    return "\n".join([INTRODUCTION.format(version=peft.__version__), HEADER, *lines]) + "\n"


def pretrained_speech(folder: Path) -> Encoder:
    settings = SpeechModelSettings.model_validate({"kind": "transformers", "family": "speech", "path": str(folder)})
    return speech_encoder(settings, folder, with_weights=True).eval()


def told(cls: Any) -> str:
    """The name of a config, as it is written behind `peft.`."""
    name = str(cls.__name__)
    return name if hasattr(__import__("peft"), name) else f"{cls.__module__.removeprefix('peft.')}.{name}"


def row(cls: Any, models: dict[str, Encoder]) -> str:
    """A method's line of the table."""
    tried = [try_method(cls, kind, encoder) for kind, encoder in models.items()]
    same = {text for works, text, *_ in tried if not works}
    cells = ["yes" if works else "no" for works, *_ in tried]
    if not any(works for works, *_ in tried) and len(same) == 1:
        cells = [f"no: {same.pop()}", "no"]
    else:
        cells = ["yes" if works else f"no: {text}" for works, text, *_ in tried]
    found = [_say({one[place] for one in tried if one[0]}) for place in (2, 3, 4)]
    return f"| `{told(cls)}` | {' | '.join([*cells, *found])} |"


def _say(found: set[Any]) -> str:
    return "-" if not found else "no" if False in found else "yes"


def try_method(cls: Any, kind: str, encoder: Encoder) -> tuple[bool, str, bool, bool, bool]:
    """Whether a method works in a model, why not; whether it starts as the model, has a cut, and has files for PEFT."""
    model = TaskModel(copy.deepcopy(encoder), ClassifierHead, 2).eval()
    freeze_backbone(model)
    adapter: dict[str, Any] = {"_target_": f"{cls.__module__}.{cls.__qualname__}"}
    if "target_modules" in {field.name for field in dataclasses.fields(cls)}:
        adapter |= {"target_modules": (NORMS if cls.__name__ == "LNTuningConfig" else MODULES)[kind]}
    config = TrialConfig.model_validate(
        {
            "data": {"corpus": "none", "source": ["a"], "target": "b"},
            "backbone": {"recipe": "none"},
            "train": "adapters",
            "adapter": adapter | SMALL.get(cls.__name__, {}),
            "seed": 0,
        }
    )
    inputs, lengths_B = model.encoder.example()
    with torch.no_grad():
        expected, valid = model.encoder(inputs, lengths_B)
    try:
        injected = inject_peft(model, config)
    except UserError as error:
        reason = re.sub(r"^adapter: (\S+: )?", "", str(error)).removeprefix(f"{cls.__module__}.{cls.__qualname__} ")
        return False, reason.replace("|", "\\|"), False, False, False
    with torch.no_grad():
        found, _ = model.encoder(inputs, lengths_B)
        starts = torch.allclose(found[valid], expected[valid], rtol=1e-4, atol=1e-4)
        for weight in injected.learns.values():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
        whole, _ = model.encoder(inputs, lengths_B)
        layer = cut_layer(model.encoder, config)
        is_cut = layer != BEFORE_LAYERS
        if is_cut:
            x_BTD, _ = encoder.forward_to(inputs, lengths_B, layer)
            behind = model.encoder.forward_from(x_BTD, valid, layer)
            is_cut = torch.allclose(behind[valid], whole[valid], rtol=1e-4, atol=1e-4)
        is_read = torch.allclose(loaded_by_peft(injected, encoder), whole, rtol=1e-4, atol=1e-4)
    return True, "", starts, is_cut, is_read


def loaded_by_peft(injected: Injected, base: Encoder) -> Tensor:
    """What a copy of the base gives with the adapters that PEFT loads from the files."""
    import peft

    encoder: Any = copy.deepcopy(base)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        injected.save(Path(folder))
        peft.PeftModel.from_pretrained(encoder.model, folder)
    hidden_BTD: Tensor = encoder.eval()(*encoder.example())[0]
    return hidden_BTD


if __name__ == "__main__":
    whole = build_page()
    if "--check" in sys.argv[1:]:
        sys.exit(int(whole != PAGE.read_text(encoding="utf-8")))
    PAGE.write_text(whole, encoding="utf-8")

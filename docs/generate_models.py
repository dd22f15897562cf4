"""Write docs/reference/pretrained-models.md: what each type of transformers' models can do here, tried on a tiny one.

python docs/generate_models.py            write the page
python docs/generate_models.py --check    end with 1 if the page is not what the models give

Each model is made at random from its configuration (tests/pretrained_kinds.py), saved, loaded and run.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "pretrained-models.md"
sys.path.insert(0, str(ROOT / "tests"))

from pretrained_kinds import BERT, CONFIGS, GPT, SEQ2SEQ, SPEECH, write_encoder, write_speech_encoder  # noqa: E402

from harness.backbones.encoder_settings import SpeechModelSettings  # noqa: E402
from harness.backbones.encoders import Encoder  # noqa: E402
from harness.backbones.model import ClassifierHead, TaskModel  # noqa: E402
from harness.backbones.pretrained import PretrainedTextEncoder  # noqa: E402
from harness.backbones.speech_models import speech_encoder  # noqa: E402
from harness.engines.cut.cut import Cut, run_prefix, why_not_resumed  # noqa: E402
from harness.engines.cut.slot_layers import Current, slotwise  # noqa: E402
from harness.errors import UserError  # noqa: E402

INTRODUCTION = """\
# Pretrained models

What each type of model of transformers can do here, by its `model_type`. `docs/generate_models.py` tried it on a random
model of two or three layers, made from the type's configuration, and wrote this page. A type of text model that is not
listed may work as well: it is tried in the same way when its folder is loaded.

- **adapters**: behind each layer; where several places of the model share a layer, they share its adapter.
- **cut**: the layers below the lowest adapter are computed once for all epochs and trials, to the numbers of a whole
  pass.
- **packs**: several trials share their steps, each with the bits that it has alone.
- **any batch**: an item gives the same whatever is beside it in its batch.
"""
HEADER = "| type | class | adapters | cut | packs | any batch |\n| :--- | :--- | :--- | :--- | :--- | :--- |"

LLAMA = {**BERT, "num_key_value_heads": 1, "head_dim": 8}
T5 = CONFIGS["t5"][1]
MORE: dict[str, dict[str, Any]] = {  # types that the tests do not try
    **dict.fromkeys(
        ("biogpt", "ernie", "fnet", "gpt_neox", "jina_embeddings_v3", "luke", "megatron-bert", "nomic_bert"), BERT
    ),
    **dict.fromkeys(("nystromformer", "roberta-prelayernorm", "roc_bert", "xlm-roberta-xl"), BERT),
    **dict.fromkeys(
        ("cohere", "gemma", "gemma2", "gemma3_text", "granite", "olmo2", "qwen2", "qwen3", "stablelm"), LLAMA
    ),
    **dict.fromkeys(("longt5", "mt5", "umt5"), T5),
    **dict.fromkeys(("blenderbot-small", "m2m_100", "mbart", "pegasus", "plbart"), SEQ2SEQ),
    "bloom": {"hidden_size": 16, "n_layer": 3, "n_head": 2},
    "canine": BERT | {"max_position_embeddings": 64},
    "codegen": GPT | {"rotary_dim": 4},
    "esm": BERT | {"pad_token_id": 0, "mask_token_id": 5},
    "falcon": {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2},
    "gptj": GPT | {"rotary_dim": 4},
    "mobilebert": BERT | {"embedding_size": 16, "intra_bottleneck_size": 8, "true_hidden_size": 8},
    "phi": BERT | {"partial_rotary_factor": 0.5},
    "phi3": LLAMA | {"pad_token_id": 0},
    "rembert": BERT | {"input_embedding_size": 8},
    "roformer": BERT | {"embedding_size": 16},
}


def build_page(page: str = "", step: int = 1) -> str:
    """The whole page: each `step`th type tried, and of the others what stands in `page`, if it has them."""
    known = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    kinds = CONFIGS | {kind: (kind, options) for kind, options in MORE.items()}
    types = sorted(kind for kind, (model_type, _) in kinds.items() if kind == model_type and kind not in SPEECH)
    given = {kind for number, kind in enumerate([*types, *SPEECH]) if number % step and kind in known}
    with tempfile.TemporaryDirectory() as root:
        text = [
            known[kind] if kind in given else row(kind, write_encoder(kind, Path(root), kinds), text_encoder)
            for kind in types
        ]
        speech = [
            known[kind] if kind in given else row(kind, write_speech_encoder(kind, Path(root) / "s"), pretrained_speech)
            for kind in SPEECH
        ]
    parts = [INTRODUCTION, "## Text (`family: text`)\n", HEADER, *text, "\n## Speech (`family: speech`)\n", HEADER]
    return "\n".join([*parts, *speech]) + "\n"


def text_encoder(folder: Path) -> Encoder:
    return PretrainedTextEncoder(folder, 16).eval()


def pretrained_speech(folder: Path) -> Encoder:
    settings = SpeechModelSettings.model_validate({"kind": "transformers", "family": "speech", "path": str(folder)})
    return speech_encoder(settings, folder, with_weights=True).eval()


def row(kind: str, folder: Path, load: Any) -> str:
    """A model's line of the table."""
    try:
        encoder = load(folder)
    except UserError as error:
        cell = str(error).removeprefix(f"encoder.path: {folder}: ").replace("|", "\\|")
        return f"| `{kind}` | - | refused: {cell} | - | - | - |"
    inputs, lengths_B = encoder.example()
    model = TaskModel(encoder, ClassifierHead, 2).eval()
    cuts = [Cut(layer, encoder.num_layers) for layer in range(encoder.num_layers)]
    reasons = [why_not_resumed(model, inputs, lengths_B, cut) for cut in cuts]
    is_cut = not any(reasons)
    beside = any("beside" in text for text in (*encoder.notes, *filter(None, reasons)))
    cells = [
        f"`{kind}`",
        f"`{type(encoder.model).__name__}`",
        "shared" if any("share layer" in note for note in encoder.notes) else "yes",
        "yes" if is_cut else "no",
        "yes" if is_cut and not encoder.mixes_rows and rows_are_alone(model, inputs, lengths_B) else "no",
        "no" if beside else "yes",
    ]
    return f"| {' | '.join(cells)} |"


@torch.no_grad()
def rows_are_alone(model: TaskModel, inputs: Tensor, lengths_B: Tensor) -> bool:
    """Whether each item has the bits that it has alone, run slot by slot."""
    slots: Current[Any] = Current()
    slots.launch = SimpleNamespace(num_slots=len(inputs))
    copied, cut = slotwise(model, slots), Cut(0, model.encoder.num_layers)
    together = run_prefix(copied, cut, inputs, lengths_B)
    slots.launch.num_slots = 1
    steps = model.encoder.output_lengths(lengths_B).tolist()
    return all(
        torch.equal(run_prefix(copied, cut, inputs[n : n + 1], lengths_B[n : n + 1])[0, :size], together[n, :size])
        for n, size in enumerate(steps)
    )


if __name__ == "__main__":
    whole = build_page()
    if "--check" in sys.argv[1:]:
        sys.exit(int(whole != PAGE.read_text(encoding="utf-8")))
    PAGE.write_text(whole, encoding="utf-8")

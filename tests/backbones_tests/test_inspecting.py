"""Which of transformers' encoders can be adapted, and what has to be known of each: seen by running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pretrained_kinds import CONFIGS, POSITIONS, write_encoder, write_recipe
from tiny_text import TinyText
from torch import Tensor, nn

from harness.adapters.freezing import freeze_backbone
from harness.backbones.inspecting import layers_of, usable_positions
from harness.backbones.pretrained import PretrainedTextEncoder
from harness.backbones.recipe import load_recipe
from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.engines.registry import Engines
from harness.errors import UserError
from harness.training.pretrain import pretrain
from harness.training.resources import Resources
from harness.training.trial import Trial

REFUSED = {
    "funnel": "keeps its layers in 3 lists (encoder.blocks), between which its steps may change",
    "opt_narrow": "gives hidden states of shape [2, 12, 8] for 2 sentences of 12 tokens, and [2, 12, 16] is needed",
    "squeezebert": "adapters behind layers 0, 1, 2 (SqueezeBertModule) of SqueezeBertModel would never be reached",
    "wav2vec2": "Wav2Vec2Model reads speech; set encoder.family to speech",
}
WITH_OFFSET = (
    "camembert",
    "data2vec-text",
    "longformer",
    "mpnet",
    "roberta",
    "xlm-roberta",
)  # positions from 2 upwards
UNBOUNDED = ("t5", "xlnet")
STRETCHED = (
    "deberta-v2",
    "llama",
    "mistral",
    "modernbert",
)  # relative or rotary positions: a longer text runs, untrained for
WHOLE = ("convbert",)  # its convolution sees padded steps, so nothing of it can be kept
UNPACKED = ("xlnet", "albert")  # multiplies raw weights with all rows at once; runs an adapter several times
BESIDE = "what the backbone gives for a text depends on the texts beside it in a batch"
NOTES = {
    "albert": ("3 places of the backbone share layer 0 (AlbertLayerGroup), and its adapter too",),
    "convbert": (BESIDE,),
}
ACCEPTED = sorted(CONFIGS.keys() - REFUSED.keys())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {kind: write_encoder(kind, root) for kind in CONFIGS}


def ids(num_steps: int) -> tuple[Tensor, Tensor]:
    """Two rows of tokens, the second one shorter and padded with 0."""
    ids_BT = torch.arange(2 * num_steps).reshape(2, num_steps) % 100 + 5
    ids_BT[1, num_steps // 2 :] = 0
    return ids_BT, torch.tensor([num_steps, num_steps // 2])


@pytest.mark.parametrize("kind", REFUSED)
def test_an_encoder_that_adapters_cannot_be_put_into_is_one_line(kind: str, folders: dict[str, Path]) -> None:
    with pytest.raises(UserError) as caught:
        PretrainedTextEncoder(folders[kind], 16)
    message = str(caught.value)
    assert message.startswith(f"encoder.path: {folders[kind]}: ") and REFUSED[kind] in message and "\n" not in message


@pytest.mark.parametrize("kind", ACCEPTED)
def test_every_adapter_is_reached_and_sees_its_own_batch(kind: str, folders: dict[str, Path]) -> None:
    """What an adapter gets is [B, T, D] of the batch, whatever the layout of the model; and its gradient is not 0."""
    encoder = PretrainedTextEncoder(folders[kind], 16).eval()
    assert encoder.notes == NOTES.get(kind, ())
    inputs = ids(11)
    freeze_backbone(encoder)  # before the first pass: torch may take another kernel for weights that learn
    with torch.no_grad():
        plain = encoder(*inputs)[0]
    shapes = []
    for point in encoder.insertion_points.values():
        point.add_adapter("a", {"_target_": "harness.adapters.LinearAdapter", "dim": 4})
        adapter: Any = point.get_adapter_module("a")
        nn.init.normal_(adapter.module[-1].weight)
        adapter.register_forward_hook(lambda module, args, output: shapes.append(tuple(output.shape)))
    changed = encoder(*inputs)[0]
    assert set(shapes) == {(2, 11, 16)} and len(shapes) == (3 if kind == "albert" else encoder.num_layers)
    assert not torch.allclose(changed, plain, atol=1e-2)
    changed[0].square().sum().backward()
    for point in encoder.insertion_points.values():
        adapter = point.get_adapter_module("a")
        assert float(adapter.module[-1].weight.grad.norm()) > 0
        point.set_enabled_adapters("a", enabled=False)
    with torch.no_grad():
        assert torch.equal(encoder(*inputs)[0], plain)


@pytest.mark.parametrize("kind", ACCEPTED)
def test_a_text_may_be_exactly_as_long_as_the_usable_positions(kind: str, folders: dict[str, Path]) -> None:
    """RoBERTa's table of 514 serves 512 steps: its padding index and the row before it are never a position."""
    expected = None if kind in UNBOUNDED else POSITIONS - 2 if kind in WITH_OFFSET else POSITIONS
    longest = expected or 100
    encoder = PretrainedTextEncoder(folders[kind], longest).eval()
    assert usable_positions(encoder.model) == expected
    assert encoder(*ids(longest))[0].isfinite().all()
    if expected is None:
        return
    with pytest.raises(UserError, match=f"^encoder.max_length: {expected + 1}, but .* has {expected} positions$"):
        PretrainedTextEncoder(folders[kind], expected + 1)
    if kind not in STRETCHED:  # the bound is the model's, not ours
        with pytest.raises((IndexError, RuntimeError)):
            encoder(*ids(expected + 1))


@torch.no_grad()
@pytest.mark.parametrize("kind", ACCEPTED)
def test_two_parts_are_the_whole_at_every_layer(kind: str, folders: dict[str, Path]) -> None:
    """Masks, positions and biases reach the second part as they are in a whole pass; so does ALBERT's layer run thrice.

    An adapter that is switched on sits behind each layer, so the hooks of the second part are seen to run as well.
    """
    encoder = PretrainedTextEncoder(folders[kind], 16).eval().double()
    inputs, (ids_BT, lengths_B) = ids(12), ids(12)
    for number, point in enumerate(encoder.insertion_points.values()):
        point.add_adapter("a", {"_target_": "harness.adapters.LinearAdapter", "dim": 4})
        adapter: Any = point.get_adapter_module("a")
        adapter.double()
        nn.init.normal_(adapter.module[-1].weight, generator=torch.Generator().manual_seed(number))
    for layer in range(encoder.num_layers + 1):
        for number, point in enumerate(encoder.insertion_points.values()):
            point.set_enabled_adapters("a", enabled=number >= layer)
        whole_BTD, valid_BT = encoder(*inputs)
        x_BTD, _ = encoder.forward_to(ids_BT, lengths_B, layer)
        assert x_BTD.shape == whole_BTD.shape
        found_BTD = encoder.forward_from(x_BTD, valid_BT, layer)
        torch.testing.assert_close(found_BTD[valid_BT], whole_BTD[valid_BT], rtol=1e-12, atol=1e-12)
        if encoder.mixes_rows is None and kind not in WHOLE:
            alone_BTD, _ = encoder.forward_to(ids_BT[1:], lengths_B[1:], layer)
            torch.testing.assert_close(alone_BTD[0][valid_BT[1]], x_BTD[1][valid_BT[1]], rtol=1e-12, atol=1e-12)


HEADS: dict[str, tuple[str, str]] = {  # class of the folder -> kind of CONFIGS, attribute of what is adapted
    "BertForSequenceClassification": ("bert", "bert"),
    "RobertaForMaskedLM": ("roberta", "roberta"),  # has no pooler
    "GPT2LMHeadModel": ("gpt2", "transformer"),
    "LlamaForSequenceClassification": ("llama", "model"),  # a decoder without a token for padding
    "BartForConditionalGeneration": ("bart", "model.encoder"),
    "T5ForConditionalGeneration": ("t5", "encoder"),
    "T5EncoderModel": ("t5", "encoder"),  # has no decoder, and its config says so
    "MarianMTModel": ("bart", "model.encoder"),  # its positions are sines, which the folder does not hold
}


@torch.no_grad()
@pytest.mark.parametrize("name", HEADS)
def test_a_folder_with_a_head_or_without_a_decoder(name: str, tmp_path: Path) -> None:
    """The head is left out, and the encoder is the folder's to the bit."""
    import transformers

    kind, part = HEADS[name]
    cls: Any = getattr(transformers, name)
    options = CONFIGS[kind][1] | ({"pad_token_id": 0, "decoder_start_token_id": 0} if name == "MarianMTModel" else {})
    whole = cls(cls.config_class(vocab_size=150, **options)).eval()
    whole.save_pretrained(tmp_path)
    encoder = PretrainedTextEncoder(tmp_path, 16).eval()
    ids_BT, lengths_B = ids(11)
    hidden_BTD, valid_BT = encoder(ids_BT, lengths_B)
    expected = whole.get_submodule(part)(input_ids=ids_BT, attention_mask=valid_BT.long()).last_hidden_state
    assert torch.equal(hidden_BTD[valid_BT], expected[valid_BT])


def trial(recipe: Path, corpus: TinyText) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"corpus": f"manifest:{corpus.corpus}", "source": ["home"], "target": "away", "train_limit": 8},
            "backbone": {"recipe": str(recipe), "layers": {"from": 0}},
            "train": "adapters",
            "adapter": {"_target_": "harness.adapters.LinearAdapter", "dim": 4},
            "loop": {"epochs": 1, "batch_size": 4, "valid_limit": 4},
            "seed": 0,
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ACCEPTED)
def test_every_engine_trains_it_or_says_why_not(
    kind: str, folders: dict[str, Path], tiny_text_files: TinyText, tmp_path: Path
) -> None:
    """The same numbers by each engine: one that cannot run an encoder in two parts leaves it to the plain loop."""
    recipe = write_recipe(folders[kind], tiny_text_files, tmp_path / "recipe.yaml")
    pretrain(load_recipe(str(recipe)), lambda entry: None)
    config, resources, engines = trial(recipe, tiny_text_files), Resources(), Engines()
    found = {}
    for name in ("plain", "cut", "packed"):
        one = Trial(config, resources, engine=engines.of(Execution.model_validate({"engine": name})))
        one.check()
        found[name] = one.run()
        if name != "plain":
            assert one.executed["engine"] == ("plain" if kind in WHOLE else "cut" if kind in UNPACKED else name)
            assert ("why" in one.executed) == (one.executed["engine"] != name)
        assert [note.text for note in found[name].notes if note.kind == "method"] == [*NOTES.get(kind, ())]
    for name in ("cut", "packed"):
        assert found[name].valid == pytest.approx(found["plain"].valid, abs=1e-4)


def test_the_list_with_the_most_weights_is_the_layers() -> None:
    small, large = (nn.ModuleList(nn.Linear(size, size) for _ in range(2)) for size in (2, 9))
    many = nn.ModuleList(nn.Embedding(100, 9) for _ in range(9))
    assert layers_of(nn.ModuleDict({"small": small, "large": large, "many": many})) is large

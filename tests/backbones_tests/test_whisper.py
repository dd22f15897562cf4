"""Whisper: its weights out of CTranslate2's file, its features, and its encoder on clips as long as they are."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backbones_tests.tiny_whisper import save_tiny_whisper, tiny_whisper
from harness.backbones.ctranslate2 import read_ctranslate2, whisper_weights
from harness.backbones.whisper import WhisperEncoder
from harness.data.errors import DataError
from harness.data.model_features import ModelFeatures
from harness.errors import UserError

SECOND = 16000


def write_ctranslate2(path: Path, weights: dict[str, Tensor], version: int = 6) -> None:
    """A file of the format, written from its description."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    parts = [struct.pack("<I", version), text("WhisperSpec"), struct.pack("<II", 3, len(weights))]
    for name, weight in weights.items():
        values = weight.numpy()
        kind = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}[str(values.dtype)]
        parts += [text(name), struct.pack("<B", values.ndim), struct.pack(f"<{values.ndim}I", *values.shape)]
        parts += [struct.pack("<BI", kind, values.nbytes), values.tobytes()]
    path.write_bytes(b"".join(parts) + struct.pack("<I", 0))


def ctranslate2_names(state: dict[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """What CTranslate2's converter makes of a transformers state: fused projections, zeros for the keys' bias."""
    found = {"encoder/num_heads": torch.tensor(2, dtype=torch.int16)}

    def both(here: str, there: str, names: tuple[str, str] = ("weight", "bias")) -> None:
        found[f"{here}/{names[0]}"], found[f"{here}/{names[1]}"] = state[f"{there}.weight"], state[f"{there}.bias"]

    def fused(here: str, there: str, parts: str) -> None:
        weights = [state[f"{there}.{part}_proj.weight"] for part in parts]
        zeros = torch.zeros(len(weights[0]))
        found[f"{here}/weight"] = torch.cat(weights)
        found[f"{here}/bias"] = torch.cat([state.get(f"{there}.{part}_proj.bias", zeros) for part in parts])

    for half in ("encoder", "decoder"):
        found[f"{half}/position_encodings/encodings"] = state[f"model.{half}.embed_positions.weight"]
        both(f"{half}/layer_norm", f"model.{half}.layer_norm", ("gamma", "beta"))
        for n in range(num_layers):
            here, there = f"{half}/layer_{n}", f"model.{half}.layers.{n}"
            both(f"{here}/self_attention/layer_norm", f"{there}.self_attn_layer_norm", ("gamma", "beta"))
            fused(f"{here}/self_attention/linear_0", f"{there}.self_attn", "qkv")
            both(f"{here}/self_attention/linear_1", f"{there}.self_attn.out_proj")
            if half == "decoder":
                both(f"{here}/attention/layer_norm", f"{there}.encoder_attn_layer_norm", ("gamma", "beta"))
                fused(f"{here}/attention/linear_0", f"{there}.encoder_attn", "q")
                fused(f"{here}/attention/linear_1", f"{there}.encoder_attn", "kv")
                both(f"{here}/attention/linear_2", f"{there}.encoder_attn.out_proj")
            both(f"{here}/ffn/layer_norm", f"{there}.final_layer_norm", ("gamma", "beta"))
            both(f"{here}/ffn/linear_0", f"{there}.fc1")
            both(f"{here}/ffn/linear_1", f"{there}.fc2")
    for n in (1, 2):
        both(f"encoder/conv{n}", f"model.encoder.conv{n}")
    found["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    return found


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_whisper()


def state_of(model: Any) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items() if name != "proj_out.weight"}


def test_weights_of_a_file_come_back_under_their_names(model: Any, tmp_path: Path) -> None:
    state = state_of(model)
    source = ctranslate2_names(state, 2)
    write_ctranslate2(tmp_path / "model.bin", {name: weight.half() for name, weight in source.items()})
    found = whisper_weights(read_ctranslate2(tmp_path / "model.bin"), 2)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name].half()) for name in state)


def test_a_weight_that_is_missing_or_left_over_is_named(model: Any) -> None:
    source = ctranslate2_names(state_of(model), 2)
    with pytest.raises(UserError, match="no weight 'encoder/conv1/bias'"):
        whisper_weights({name: weight for name, weight in source.items() if name != "encoder/conv1/bias"}, 2)
    with pytest.raises(UserError, match="1 weights without a place, for example 'new/weight'"):
        whisper_weights(source | {"new/weight": torch.ones(2)}, 2)
    source["encoder/layer_0/self_attention/linear_0/bias"] = torch.ones_like(
        source["encoder/layer_0/self_attention/linear_0/bias"]
    )
    with pytest.raises(UserError, match="bias of keys"):
        whisper_weights(source, 2)


@pytest.mark.parametrize(
    "damage, told",
    [
        (lambda data: data[:100], "ends too soon"),
        (lambda data: b"\x05" + data[1:], "version 5; expected 6"),
        (lambda data: data[:3], "requires a buffer"),
        (lambda data: data[:22] + b"\xff\xff\xff\xff" + data[26:], "4294967295 weights"),
        (lambda data: b"", "requires a buffer"),
    ],
)
def test_a_damaged_file_is_one_line(damage: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    write_ctranslate2(path, {"a/weight": torch.ones(40)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=told) as caught:
        read_ctranslate2(path)
    assert "\n" not in str(caught.value)


def clips(*seconds: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(int(length * SECOND), generator=generator) for length in seconds]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> ModelFeatures:
    folder = tmp_path_factory.mktemp("whisper")
    save_tiny_whisper(folder)
    return ModelFeatures.of_folder(folder, tail_s=0.3)


def test_features_are_those_of_the_whole_window(features: ModelFeatures) -> None:
    """transformers pads to 30 s before it computes; what lies behind the clip and its tail is silence."""
    from transformers import WhisperFeatureExtractor

    library: Any = WhisperFeatureExtractor
    extractor = library(feature_size=16)
    for clip in clips(1.0, 0.6137, 0.005):
        whole = torch.from_numpy(
            extractor(clip.numpy(), sampling_rate=SECOND, return_tensors="np")["input_features"][0]
        )
        found = features(clip, SECOND)
        assert found.shape[1] == 16 and abs(len(found) - (len(clip) / 160 + 30)) < 4
        assert torch.equal(found.T, whole[:, : len(found)])
        assert torch.allclose(whole[:, len(found) :], found.max() - 2.0)  # the floor: 8 below, in units of 4


def test_a_clip_beyond_the_window_is_cut(features: ModelFeatures) -> None:
    (clip,) = clips(31.0)
    assert features.longest_s == pytest.approx(29.7)
    assert len(features(clip, SECOND)) == 3000
    with pytest.raises(DataError, match="one dimension"):
        features(torch.zeros(0), SECOND)


def test_settings_that_are_missing_or_foreign_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        ModelFeatures.of_folder(tmp_path, 0.3)
    path = tmp_path / "preprocessor_config.json"
    foreign = '{"feature_extractor_type": "os.system"}'
    for content, told in ((foreign, "'os.system'"), ("[1]", "no mapping"), ("{", "read")):
        path.write_text(content)
        with pytest.raises(DataError, match=told):
            ModelFeatures.of_folder(tmp_path, 0.3)
    path.write_text(json.dumps({"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 16}))
    assert ModelFeatures.of_folder(tmp_path, 0.0).longest_s == 30.0


def padded(features: ModelFeatures, seconds: tuple[float, ...]) -> tuple[list[Tensor], Tensor, Tensor]:
    found = [features(clip, SECOND) for clip in clips(*seconds)]
    lengths = torch.tensor([len(item) for item in found])
    return found, torch.nn.utils.rnn.pad_sequence(found, batch_first=True), lengths


@torch.no_grad()
def test_a_window_of_30_s_gives_what_transformers_gives(model: Any, features: ModelFeatures) -> None:
    (item,), _, _ = padded(features, (1.0,))
    window = torch.full((1, 3000, 16), float(item.max()) - 2.0)
    window[0, : len(item)] = item
    hidden, valid = WhisperEncoder(model.get_encoder())(window, torch.tensor([3000]))
    assert valid.all() and valid.shape == (1, 1500)
    assert torch.equal(hidden, model.get_encoder()(window.transpose(1, 2)).last_hidden_state)


@torch.no_grad()
def test_a_clip_gives_the_same_in_any_batch(model: Any, features: ModelFeatures) -> None:
    encoder = WhisperEncoder(model.get_encoder()).double()
    items, batch, lengths = padded(features, (0.7, 0.31, 1.2))
    batch = batch.double()
    hidden, valid = encoder(batch + 5.0 * (batch == 0), lengths)  # whatever lies behind a clip
    for row, item in enumerate(items):
        alone, real = encoder(item[None].double(), lengths[row : row + 1])
        assert torch.allclose(hidden[row][valid[row]], alone[0][real[0]], rtol=0, atol=1e-12)
        assert real.sum() == (len(item) + 1) // 2
    model.float()


@torch.no_grad()
def test_the_parts_at_every_layer_give_what_the_whole_gives(model: Any, features: ModelFeatures) -> None:
    encoder = WhisperEncoder(model.get_encoder())
    _, batch, lengths = padded(features, (0.7, 0.4))
    whole, valid = encoder(batch, lengths)
    for layer in range(encoder.num_layers + 1):
        reached, seen = encoder.forward_to(batch, lengths, layer)
        assert torch.equal(seen, valid)
        assert torch.equal(encoder.forward_from(reached, seen, layer), whole)


def test_the_model_of_the_cache_has_all_weights(tmp_path: Path) -> None:
    """What `write_ctranslate2` cannot show: that transformers finds nothing missing or left in the folder."""
    from harness.backbones.pretrained import build_transformers_model, load_transformers_model

    save_tiny_whisper(tmp_path)
    loaded: Any = load_transformers_model(tmp_path)
    fresh: Any = build_transformers_model(tmp_path)
    assert loaded.state_dict().keys() == fresh.state_dict().keys()
    assert not torch.equal(loaded.conv1.weight, fresh.conv1.weight)

"""Whisper's encoder out of an ONNX file with weights of 8 bits. The tests write the format by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backbones_tests.tiny_whisper import tiny_whisper
from harness.backbones.whisper import WhisperEncoder
from harness.backbones.whisper_onnx import OnnxGraph, encoder_weights, write_whisper_encoder
from harness.data.model_features import ModelFeatures
from harness.errors import UserError

ENCODER = "inner.encoder."
Array = np.ndarray[Any, Any]


def varint(value: int) -> bytes:
    """protobuf's whole numbers: seven bits a byte, lowest first, the top bit on all but the last."""
    value &= 2**64 - 1
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def part(number: int, content: bytes | str | int) -> bytes:
    """One field: its number and wire type (0 a whole number, 2 bytes with their length), then its content."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    raw = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def tensor(name: str, array: Array, is_raw: bool = True) -> bytes:
    """A TensorProto; the converter writes small ones as numbers, and large ones as raw bytes."""
    kind = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float64": 11}[str(array.dtype)]
    found = b"".join(part(1, size) for size in array.shape) + part(2, kind) + part(8, name)
    if is_raw:
        return found + part(9, array.tobytes())
    if kind == 1:
        return found + part(4, array.tobytes())  # packed
    return found + part(5, b"".join(varint(int(value)) for value in array.reshape(-1)))


def node(kind: str, inputs: Sequence[str], output: str, axis: int | None = None) -> bytes:
    attribute = b"" if axis is None else part(5, part(1, "axis") + part(3, axis) + part(20, 2))
    return b"".join(part(1, name) for name in inputs) + part(2, output) + part(3, "a name") + part(4, kind) + attribute


class Writer:
    """Writes a graph as quantize_static does: weights of 8 bits, and every value rounded and turned back."""

    def __init__(self) -> None:
        self.tensors: list[bytes] = []
        self.nodes: list[bytes] = []
        self.weights: dict[str, Tensor] = {}  # what a reader should find

    def rounded(self, name: str, key: str, values: Array, axis: int) -> str:
        """Write a weight in 8 bits, and note what it is worth."""
        shape = [-1 if number == axis else 1 for number in range(values.ndim)]
        scales = (np.abs(values).max(tuple({*range(values.ndim)} - {axis})) / 127).astype(np.float32)
        whole = np.round(values / scales.reshape(shape)).astype(np.int8)
        zeros = np.zeros(len(scales), np.int8)
        zeros[0] = 3
        worth = (whole.astype(np.float32) - zeros.reshape(shape)) * scales.reshape(shape)
        self.weights[key] = torch.from_numpy(worth.T.copy() if values.ndim == 2 else worth)
        self.tensors += [tensor(f"{name}_quantized", whole), tensor(f"{name}_scale", scales, is_raw=False)]
        self.tensors.append(tensor(f"{name}_zero_point", zeros, is_raw=False))
        names = [f"{name}_{kind}" for kind in ("quantized", "scale", "zero_point")]
        self.nodes.append(node("DequantizeLinear", names, f"{name}_turned", axis))
        return f"{name}_turned"

    def plain(self, key: str, values: Array) -> str:
        self.weights[key] = torch.from_numpy(values)
        self.tensors.append(tensor(ENCODER + key, values))
        return ENCODER + key

    def there_and_back(self, name: str) -> str:
        self.nodes.append(node("QuantizeLinear", [name, "s", "z"], f"{name}_whole"))
        self.nodes.append(node("DequantizeLinear", [f"{name}_whole", "s", "z"], f"{name}_again"))
        return f"{name}_again"

    def file(self) -> bytes:
        graph = b"".join(part(1, content) for content in self.nodes) + part(2, "graph")
        graph += b"".join(part(5, content) for content in self.tensors)
        return part(1, 10) + part(2, "a converter") + part(7, graph) + part(8, part(2, 18))


def write_onnx(state: dict[str, Tensor], num_layers: int) -> Writer:
    """The graph of an encoder: keys before queries, as there, and a product that is none of the encoder's."""
    writer = Writer()
    writer.tensors += [tensor("s", np.array(0.1, np.float32), False), tensor("z", np.array(7, np.uint8), False)]
    for key, weight in state.items():
        if "norm" in key or key.startswith("embed") or (key.endswith(".bias") and "conv" not in key):
            writer.plain(key, weight.numpy())
    for name in ("conv1", "conv2"):
        whole = np.round(state[f"{name}.bias"].numpy() / np.float32(1e-4)).astype(np.int32)
        writer.weights[f"{name}.bias"] = torch.from_numpy(whole * np.float32(1e-4))
        writer.tensors += [tensor(f"{name}_b", whole), tensor(f"{name}_bs", np.full(len(whole), 1e-4, np.float32))]
        writer.nodes.append(node("DequantizeLinear", [f"{name}_b", f"{name}_bs"], f"{ENCODER}{name}.bias", 0))
        rounded = writer.rounded(f"{ENCODER}{name}.weight", f"{name}.weight", state[f"{name}.weight"].numpy(), 0)
        inputs = [writer.there_and_back(f"{name}_in"), rounded, f"{ENCODER}{name}.bias"]
        writer.nodes.append(node("Conv", inputs, f"{name}_out"))
    for layer in range(num_layers):
        inner = writer.there_and_back(f"in{layer}")
        for name in ("k_proj", "q_proj", "v_proj", "out_proj", "fc1", "fc2"):
            key = f"layers.{layer}.{name if name.startswith('fc') else f'self_attn.{name}'}"
            matrix = np.ascontiguousarray(state[f"{key}.weight"].numpy().T)
            rounded = writer.rounded(f"val{layer}{name}", f"{key}.weight", matrix, 1)
            writer.nodes.append(node("MatMul", [inner if name[0] in "kqv" else f"{name}{layer}", rounded], f"{key}_p"))
            product = writer.there_and_back(f"{key}_p")
            if name != "k_proj":
                writer.nodes.append(node("Add", [product, f"{ENCODER}{key}.bias"], f"{key}_out"))
        writer.nodes.append(node("MatMul", [f"q{layer}", f"k{layer}"], f"scores{layer}"))  # of two values: no weight
    rounded = writer.rounded("other", "other", np.ones((4, 2), np.float32), 1)
    del writer.weights["other"]
    writer.nodes.append(node("MatMul", ["somewhere", rounded], "pooled"))
    return writer


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in tiny_whisper().get_encoder().state_dict().items()}


@pytest.fixture(scope="module")
def writer(state: dict[str, Tensor]) -> Writer:
    return write_onnx(state, 2)


def test_weights_of_a_graph_come_back_under_their_names(
    state: dict[str, Tensor], writer: Writer, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(writer.file())
    found = encoder_weights(OnnxGraph(path))
    assert found.keys() == state.keys() == writer.weights.keys()
    for name, weight in writer.weights.items():
        assert torch.equal(found[name], weight), name
        assert found[name].dtype == torch.float32


def test_a_product_that_is_no_weights_is_refused(writer: Writer, tmp_path: Path) -> None:
    changed = Writer()
    changed.tensors = writer.tensors
    changed.nodes = [
        content.replace(b"val0fc1_turned", b"val0fc1_gone..") if b"MatMul" in content else content
        for content in writer.nodes
    ]
    path = tmp_path / "model.onnx"
    path.write_bytes(changed.file())
    with pytest.raises(UserError, match=r"adds 'inner.encoder.layers.0.fc1.bias' to something else"):
        encoder_weights(OnnxGraph(path))


def test_another_encoder_is_refused_by_the_recipe(writer: Writer, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(writer.file())
    with pytest.raises(UserError, match=r"not the weights of Whisper-tiny's encoder: .*Missing key") as caught:
        write_whisper_encoder(path, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damaged, told",
    [
        (b"", "it has no nodes"),
        (b"\xff" * 40, "cannot be read as an ONNX model"),
        (part(7, part(1, b"\xff\xff")), "cannot be read as an ONNX model"),
        (part(7, part(1, node("Add", ["a"], "b"))), "without its inputs"),
        (part(7, part(5, tensor("a", np.ones(3, np.float64)))), "tensor 'a' is of type 11; known are 1, 2, 3, 6, 7"),
        (part(7, part(5, part(1, 4) + part(2, 1) + part(8, "a"))), r"tensor 'a' has 0 values for the shape \[4\]"),
        (part(7, part(5, part(1, -1) + part(2, 1) + part(8, "a"))), r"tensor 'a' has 0 values for the shape \[-1\]"),
        (part(7, part(5, part(2, 1) + part(8, "a") + part(9, b"abc"))), "buffer size must be a multiple"),
    ],
)
def test_a_damaged_file_is_one_line(damaged: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=told) as caught:
        OnnxGraph(path)
    assert "\n" not in str(caught.value)


def test_scales_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    names = ["w", "scale"]
    tensors = [tensor("w", np.ones((4, 2), np.int8)), tensor("scale", np.ones(3, np.float32))]
    graph = part(1, node("DequantizeLinear", names, "turned", 1)) + b"".join(part(5, one) for one in tensors)
    path = tmp_path / "model.onnx"
    path.write_bytes(part(7, graph))
    with pytest.raises(UserError, match="scales of 'turned' do not fit") as caught:
        OnnxGraph(path).weight("turned")
    assert "\n" not in str(caught.value)


def test_a_graph_that_turns_in_a_circle_ends(tmp_path: Path) -> None:
    graph = part(1, node("QuantizeLinear", ["a", "s"], "b")) + part(1, node("DequantizeLinear", ["b", "s"], "a"))
    path = tmp_path / "model.onnx"
    path.write_bytes(part(7, graph))
    assert OnnxGraph(path).maker("a") is None


def test_features_are_normalised_where_the_folder_says_so(tmp_path: Path) -> None:
    from transformers import WhisperFeatureExtractor

    library: Any = WhisperFeatureExtractor
    library(feature_size=16, chunk_length=8, do_normalize=True).save_pretrained(tmp_path)
    features = ModelFeatures.of_folder(tmp_path, tail_s=0.0)
    assert features.longest_s == 8.0
    clip = 0.01 * torch.randn(16000, generator=torch.Generator().manual_seed(0)) + 0.2
    settings: Any = {"sampling_rate": 16000, "padding": "do_not_pad", "return_tensors": "np"}
    plain, normalised = (
        library(feature_size=16, chunk_length=8)(clip.numpy(), do_normalize=chosen, **settings)["input_features"][0]
        for chosen in (False, True)
    )
    assert torch.equal(features(clip, 16000), torch.from_numpy(normalised.T))
    assert np.abs(plain - normalised).max() > 0.5


def test_a_clip_beyond_the_positions_is_one_line() -> None:
    model = tiny_whisper().get_encoder()
    with pytest.raises(UserError, match=r"1500 positions, and a clip has 1501 steps; the chunk_length .* at most 30"):
        WhisperEncoder(model)(torch.zeros(1, 3001, 16), torch.tensor([3001]))


def test_the_wire_format_of_these_tests() -> None:
    assert part(1, 150) == b"\x08\x96\x01"  # the example of protobuf's own description
    assert part(2, "testing") == b"\x12\x07testing"
    assert struct.unpack("<f", tensor("a", np.array([1.0], np.float32), False)[-4:]) == (1.0,)

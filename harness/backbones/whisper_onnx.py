"""Whisper's encoder out of an ONNX file with weights of 8 bits, under the names that transformers gives them.

What is needed of the format is described here, and protobuf reads it; nothing of the graph is run. A rounded weight is
turned back by its scales, one for each output. Matrices have no telling names in the file, but the biases that are
added to their products have. Keys have no bias: theirs is the other matrix that the queries' input is multiplied with.
"""

from __future__ import annotations

import re
from functools import cache, cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

import harness.data.audio_backend  # noqa: F401 - transformers imports torchaudio, which may need its stand-in
from harness.errors import UserError, first_line

# The fields that are read, by their numbers in onnx.proto; `*`: any number of them.
FIELDS = {
    "Model": {"graph": (7, "Graph")},
    "Graph": {"node": (1, "Node*"), "initializer": (5, "Tensor*")},
    "Node": {
        "input": (1, "string*"),
        "output": (2, "string*"),
        "op_type": (4, "string"),
        "attribute": (5, "Attribute*"),
    },
    "Attribute": {"name": (1, "string"), "i": (3, "int64")},
    "Tensor": {
        "dims": (1, "int64*"),
        "data_type": (2, "int32"),
        "float_data": (4, "float*"),
        "int32_data": (5, "int32*"),
        "int64_data": (7, "int64*"),
        "name": (8, "string"),
        "raw_data": (9, "bytes"),
    },
}
# A tensor's number of its type -> the type, and the field of its values where they are not raw bytes.
TYPES = {1: ("<f4", "float_data"), 2: ("u1", "int32_data"), 3: ("i1", "int32_data"), 6: ("<i4", "int32_data")}
TYPES[7] = ("<i8", "int64_data")
ROUNDING = ("QuantizeLinear", "DequantizeLinear")
FOLLOWED = (*ROUNDING, "Add", "Conv", "MatMul")  # operations of two inputs or more
ENCODER = "inner.encoder."
WEIGHT = re.compile(r"inner\.encoder\..*\.(weight|bias)")  # what is in the file as it is, in float32

Array = np.ndarray[Any, Any]


class OnnxGraph:
    """The weights of an ONNX file and what is computed with them.

    Attributes:
        tensors: by name, as they are in the file.
        nodes: in their order; each has `op_type`, `input`, `output` and `attribute`.

    Raises:
        UserError: it is no such file, or damaged.
    """

    def __init__(self, path: Path) -> None:
        from google.protobuf.message import DecodeError

        try:
            graph = _onnx_model().FromString(path.read_bytes()).graph
            self.nodes: list[Any] = list(graph.node)
            self.tensors = {tensor.name: _array(tensor) for tensor in graph.initializer}
            if not self.nodes:
                raise ValueError("it has no nodes")
            if any(len(node.input) < 2 or not node.output for node in self.nodes if node.op_type in FOLLOWED):
                raise ValueError("it has an operation without its inputs")
        except (DecodeError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as an ONNX model: {first_line(error)}") from error

    @cached_property
    def _makers(self) -> dict[str, Any]:
        return {name: node for node in self.nodes for name in node.output}

    def maker(self, name: str) -> Any | None:
        """The node that computes a value, before any rounding of it; None where there is none."""
        node = self._makers.get(name)
        for _ in self.nodes:  # no more: a damaged graph may turn in a circle
            if node is None or node.op_type not in ROUNDING:
                return node
            node = self._makers.get(node.input[0])
        return None

    def weight(self, name: str) -> Array | None:
        """A weight, in float32 where the file has whole numbers and their scales; None where it is computed.

        Raises:
            UserError: its scales are not those of its numbers.
        """
        if name in self.tensors:
            return self.tensors[name]
        node = self._makers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or not self.tensors.keys() >= {*node.input}:
            return None
        rounded, scale, *zeros = (self.tensors[part] for part in node.input)
        axis = next((int(found.i) for found in node.attribute if found.name == "axis"), 1)
        shape = [-1 if number == axis else 1 for number in range(rounded.ndim)]
        try:
            scale, *zeros = (part if part.ndim == 0 else part.reshape(shape) for part in (scale, *zeros))
            found = (rounded - zeros[0].astype(np.int64) if zeros else rounded) * scale
        except ValueError as error:
            raise UserError(f"the ONNX model's scales of {name!r} do not fit: {error}") from error
        return found.astype(np.float32)


@cache
def _onnx_model() -> Any:
    """The class of a model in protobuf, with the fields above."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file: Any = descriptor_pb2.FileDescriptorProto(name="onnx_read_here.proto", package="onnx", syntax="proto3")
    for kind, fields in FIELDS.items():
        message = file.message_type.add(name=kind)
        for name, (number, said) in fields.items():
            field, scalar = message.field.add(name=name, number=number), said.rstrip("*")
            field.label = field.LABEL_REPEATED if said.endswith("*") else field.LABEL_OPTIONAL
            if scalar in FIELDS:
                field.type, field.type_name = field.TYPE_MESSAGE, f".onnx.{scalar}"
            else:
                field.type = getattr(field, f"TYPE_{scalar.upper()}")
    pool: Any = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("onnx.Model"))


def _array(tensor: Any) -> Array:
    if tensor.data_type not in TYPES:
        raise ValueError(
            f"tensor {tensor.name!r} is of type {tensor.data_type}; known are {', '.join(map(str, TYPES))}"
        )
    kind, field = TYPES[tensor.data_type]
    found = np.frombuffer(tensor.raw_data, kind) if tensor.raw_data else np.array(getattr(tensor, field), kind)
    shape = [int(size) for size in tensor.dims]
    if min(shape, default=0) < 0 or prod(shape) != found.size:
        raise ValueError(f"tensor {tensor.name!r} has {found.size} values for the shape {shape}")
    return found.reshape(shape)


def encoder_weights(graph: OnnxGraph) -> dict[str, Tensor]:
    """The state of transformers' `WhisperEncoder`, as far as the graph has it; float32."""
    found = {name: array for name, array in graph.tensors.items() if WEIGHT.fullmatch(name)}
    of_queries, claimed = {}, set()
    for node in graph.nodes:
        bias = next((name for name in node.input if name.endswith(".bias") and WEIGHT.fullmatch(name)), None)
        if bias is None or node.op_type not in ("Conv", "Add"):
            continue
        product = node if node.op_type == "Conv" else graph.maker(next(name for name in node.input if name != bias))
        weight = graph.weight(product.input[1]) if product is not None and len(product.input) > 1 else None
        if product is None or weight is None:
            raise UserError(f"the ONNX model adds {bias!r} to something else than a product with a weight")
        claimed.add(product.output[0])
        place = bias.removesuffix(".bias")
        found[f"{place}.weight"] = weight if node.op_type == "Conv" else weight.T
        found[bias] = np.asarray(graph.weight(bias))
        if place.endswith(".q_proj"):
            of_queries[product.input[0]] = place.removesuffix("q_proj")
    for node in graph.nodes:
        is_of_keys = node.op_type == "MatMul" and node.input[0] in of_queries and node.output[0] not in claimed
        if is_of_keys and (weight := graph.weight(node.input[1])) is not None:
            found[f"{of_queries[node.input[0]]}k_proj.weight"] = weight.T
    return {
        name.removeprefix(ENCODER): torch.from_numpy(np.array(array, np.float32, order="C"))
        for name, array in found.items()
    }


def write_whisper_encoder(source: Path, folder: Path) -> None:
    """Write the encoder of Whisper-tiny, for clips of 8 s, as transformers has it.

    Raises:
        UserError: the file is damaged, or is another model.
    """
    import transformers

    library: Any = transformers
    weights = encoder_weights(OnnxGraph(source))
    # No decoder: it comes with no weights, and none is wanted.
    config = library.WhisperConfig(
        d_model=384,
        encoder_layers=4,
        encoder_attention_heads=6,
        encoder_ffn_dim=1536,
        max_source_positions=400,
        decoder_layers=0,
        vocab_size=1,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0),
        architectures=["WhisperModel"],
    )
    encoder = library.WhisperModel(config).get_encoder()
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        told = " ".join(str(error).split())
        raise UserError(f"{source}: not the weights of Whisper-tiny's encoder: {told}") from error
    config.save_pretrained(folder)
    # Its clips were brought to mean 0 and spread 1, which Whisper's were not.
    library.WhisperFeatureExtractor(chunk_length=8, do_normalize=True).save_pretrained(folder)
    state = {f"encoder.{name}": weight for name, weight in weights.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

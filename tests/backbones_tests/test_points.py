"""Insertion points inside layers, beside linear modules and on the way to the head: each against a computation by hand.

At every kind of place: the identity before training, the encoder's own bits when switched off, two parts that are the
whole, and the same output in any batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from pretrained_kinds import CONFIGS, write_encoder
from torch import Tensor, nn

from harness.adapters import AdapterModuleUtil, InsertionPoint, freeze_backbone
from harness.adapters.linear import LinearAdapter
from harness.backbones.encoders import Encoder, SpeechEncoder, TextEncoder
from harness.backbones.pretrained import PretrainedTextEncoder
from harness.backbones.whisper import WhisperEncoder, WindowedWhisperEncoder
from harness.config.points import PointsBefore, PointsBehind, PointsBeside
from harness.data.batching import pad_sequence_batch
from harness.errors import UserError

from .tiny_whisper import tiny_whisper

SIZES: dict[str, Any] = {"dim": 16, "num_layers": 3, "num_heads": 2, "hidden": 32, "dropout": 0.3}
NAME = "a"


class LowRank(nn.Module, AdapterModuleUtil):
    """LoRA's shape: two projections from one width to another, nothing at first."""

    def __init__(self, in_features: int, out_features: int, dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(in_features, dim, bias=False)
        self.up = nn.Linear(dim, out_features, bias=False)
        nn.init.zeros_(self.up.weight)
        self.setup_adapter_strategy()

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


LINEAR = {"_target_": "harness.adapters.LinearAdapter", "dim": 4}
LOW_RANK = {"_target_": f"{__name__}.LowRank", "dim": 2}


def whisper() -> WhisperEncoder:
    model = tiny_whisper(d_model=16, num_mel_bins=6, encoder_layers=3).get_encoder()
    return WhisperEncoder(model)


MAKERS: dict[str, Callable[[], Encoder]] = {
    "text": lambda: TextEncoder(30, **SIZES),
    "conformer": lambda: SpeechEncoder(6, kernel=5, **SIZES),
    "transformer": lambda: SpeechEncoder(6, kernel=0, **SIZES),
    "whisper": whisper,
}
LINEARS = {"text": "out_proj", "conformer": "out_proj", "transformer": "attention.out_proj", "whisper": "[qv]_proj"}
KINDS: tuple[Any, ...] = (
    "after_attention",
    "after_feed_forward",
    "houlsby",
    "towards_head",
    "linear",
    "before",
    "parallel",
    "everywhere",
)


def points_of(kind: str, encoder: str) -> Any:
    """The setting; `everywhere` has every kind at once."""
    if kind == "linear":
        return (LINEARS[encoder],)
    feed_forward = {"conformer": "second_feed_forward", "whisper": "fc2"}.get(encoder, "feed_forward")
    before = (PointsBefore(before=feed_forward), PointsBefore(before=LINEARS[encoder]))
    if kind == "before":
        return before
    first, last = ("fc1", "fc2") if encoder == "whisper" else (f"{feed_forward}.1", f"{feed_forward}.4")
    parallel = PointsBeside(beside=last, reads=first)
    if kind == "parallel":
        return (parallel,)
    more = (PointsBeside(beside="fc1") if encoder == "whisper" else PointsBeside(beside="attention"), *before, parallel)
    return (
        ("behind_layer", "after_attention", "after_feed_forward", "towards_head", *more)
        if kind == "everywhere"
        else kind
    )


@pytest.fixture(params=MAKERS)
def made(request: pytest.FixtureRequest) -> tuple[str, Encoder]:
    """An encoder in float64, frozen, with weights that are not close to nothing."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        encoder = MAKERS[request.param]()
        for weight in encoder.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    encoder = encoder.double().eval()
    freeze_backbone(encoder)
    return request.param, encoder


def filled(encoder: Encoder, points: Any, adapter: dict[str, Any] = LINEAR) -> dict[str, InsertionPoint]:
    """Put adapters at all places of a setting."""
    encoder.put_points(encoder.places(points))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for point in encoder.insertion_points.values():
            fitting = LOW_RANK if point.reads_dim != point.dim else adapter
            point.add_adapter(NAME, fitting)
            point.get_adapter_module(NAME).double()  # type: ignore[union-attr]
    return encoder.insertion_points


@torch.no_grad()
def train(points: dict[str, InsertionPoint]) -> None:
    """Give the adapters some weights."""
    generator = torch.Generator().manual_seed(2)
    for point in points.values():
        for weight in point.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))


def items(encoder: Encoder, lengths: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    if isinstance(encoder, TextEncoder):
        return [torch.randint(30, (n,), generator=generator) for n in lengths]
    return [torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in lengths]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_places_are_exact(kind: str, made: tuple[str, Encoder]) -> None:
    name, encoder = made
    plain = copy.deepcopy(encoder)
    inputs, lengths_B = pad_sequence_batch(items(encoder, [21, 30, 9]))
    expected, valid_BT = plain(inputs, lengths_B)
    points = filled(encoder, points_of(kind, name))
    assert torch.equal(encoder(inputs, lengths_B)[0], expected)  # nothing before training
    train(points)
    for point in points.values():
        point.set_enabled_adapters(NAME, enabled=False)
    assert torch.equal(encoder(inputs, lengths_B)[0], expected)  # nothing when switched off
    for point in points.values():  # each of them alone changes the output, behind its cut as well
        point.set_enabled_adapters(NAME)
        assert not torch.allclose(encoder(inputs, lengths_B)[0], expected, atol=1e-4)
        point.set_enabled_adapters(NAME, enabled=False)
    for place in encoder.places_taken:
        points[place.name].set_enabled_adapters(NAME)
    whole = encoder(inputs, lengths_B)[0]
    lowest = min(place.layer - place.is_inside for place in encoder.places_taken)
    assert lowest == (0 if kind == "towards_head" else -1)
    prefix, _ = plain.forward_to(inputs, lengths_B, lowest)
    assert torch.equal(encoder.forward_from(prefix, valid_BT, lowest), whole)
    for row, item in enumerate(items(encoder, [21, 30, 9])):
        alone = encoder(item[None], lengths_B[row : row + 1])[0][0]
        torch.testing.assert_close(whole[row][valid_BT[row]], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layers", [(1,), (2,), (0, 2)])
@torch.no_grad()
def test_a_prefix_ends_below_the_lowest_layer(layers: tuple[int, ...], made: tuple[str, Encoder]) -> None:
    """Some layers alone: what is kept is what the plain encoder gives below them."""
    name, encoder = made
    plain = copy.deepcopy(encoder)
    inputs, lengths_B = pad_sequence_batch(items(encoder, [12, 30]))
    chosen = [place for place in encoder.places(points_of("houlsby", name)) if place.layer in layers]
    encoder.put_points(chosen)
    for point in encoder.insertion_points.values():
        point.add_adapter(NAME, LINEAR)
        point.get_adapter_module(NAME).double()  # type: ignore[union-attr]
    train(encoder.insertion_points)
    whole, valid_BT = encoder(inputs, lengths_B)
    prefix, _ = plain.forward_to(inputs, lengths_B, layers[0] - 1)
    assert torch.equal(encoder.forward_from(prefix, valid_BT, layers[0] - 1), whole)
    assert not torch.equal(plain(inputs, lengths_B)[0], whole)


@torch.no_grad()
def adapter_of(point: InsertionPoint, x: Tensor) -> Tensor:
    """x plus what a LinearAdapter makes of it, by hand."""
    module: Any = point.get_adapter_module(NAME)
    assert isinstance(module, LinearAdapter)
    parts: Any = module.module
    norm, down, _, up = parts
    return F.silu(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias) @ down.weight.T) @ up.weight.T


@torch.no_grad()
def test_houlsby_in_our_own_block_by_hand() -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(30, **{**SIZES, "num_layers": 1}).double().eval()
    block: Any = copy.deepcopy(encoder.layers[0])
    points = filled(encoder, "houlsby")
    train(points)
    assert list(points) == ["after_attention.0", "after_feed_forward.0"]
    ids, lengths_B = torch.tensor([[3, 1, 4, 1, 5]]), torch.tensor([5])
    x = encoder.embedding(ids)
    attended = block.attention(block.attention_norm(x), torch.ones(1, 5, dtype=torch.bool))
    x = x + attended + adapter_of(points["after_attention.0"], attended)
    fed = block.feed_forward(x)
    expected = encoder.final_norm(x + fed + adapter_of(points["after_feed_forward.0"], fed))
    torch.testing.assert_close(encoder(ids, lengths_B)[0], expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_the_sum_towards_the_head_by_hand(made: tuple[str, Encoder]) -> None:
    """Output + sum of softmax(logits) x adapter(output of the layer); the layers see none of it."""
    _, encoder = made
    plain = copy.deepcopy(encoder)
    inputs, lengths_B = pad_sequence_batch(items(encoder, [12, 30]))
    points = filled(encoder, "towards_head")
    train(points)
    assert encoder.shares is not None and torch.equal(encoder.shares(), torch.full((3,), 1 / 3, dtype=torch.float64))
    encoder.shares.logits.copy_(torch.tensor([0.0, 1.0, -2.0]))
    shares = torch.tensor([0.0, 1.0, -2.0]).double().exp()
    shares /= shares.sum()
    expected, valid_BT = plain(inputs, lengths_B)
    outputs = [plain.forward_to(inputs, lengths_B, layer)[0] for layer in range(3)]
    for share, point, output in zip(shares, points.values(), outputs, strict=True):
        expected = expected + share * adapter_of(point, output)
    torch.testing.assert_close(encoder(inputs, lengths_B)[0][valid_BT], expected[valid_BT], rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_beside_a_linear_module_the_weights_can_be_merged() -> None:
    """W x + up(down(x)) is (W + up down) x: what makes LoRA free of cost when it has been trained."""
    torch.manual_seed(0)
    encoder = TextEncoder(30, **SIZES).double().eval()
    merged = copy.deepcopy(encoder)
    points = filled(encoder, ("in_proj", "feed_forward.1"), LOW_RANK)
    assert {(point.reads_dim, point.dim) for point in points.values()} == {(16, 48), (16, 32)}
    train(points)
    for place in encoder.places_taken:
        adapter: Any = points[place.name].get_adapter_module(NAME)
        module: Any = merged.get_submodule(place.module)
        module.weight.add_(adapter.up.weight @ adapter.down.weight)
    ids, lengths_B = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]]), torch.tensor([5, 3])
    found, valid_BT = encoder(ids, lengths_B)
    torch.testing.assert_close(found[valid_BT], merged(ids, lengths_B)[0][valid_BT], rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_order_is_that_of_the_pass_and_not_of_the_names() -> None:
    """Whisper registers k_proj, v_proj, q_proj and calls q_proj first; noise is drawn in the order of the pass."""
    encoder = whisper().eval()
    ends: list[str] = []
    for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
        layer: Any = encoder.layers[0]
        getattr(layer.self_attn, name).register_forward_hook(lambda *_, name=name: ends.append(name))
    encoder(*encoder.example())
    found = [place.module.rpartition(".")[2] for place in encoder.places(("[qkv]_proj", "out_proj")) if not place.layer]
    assert found == ends[:4] and sorted(found) == ["k_proj", "out_proj", "q_proj", "v_proj"]


@torch.no_grad()
def test_a_parallel_adapter_of_bert_by_hand(folders: dict[str, Path]) -> None:
    """Beside the whole feed-forward part, which is no one module: dense(gelu(intermediate(x))) + adapter(x)."""
    encoder = PretrainedTextEncoder(folders["bert"], 16).double().eval()
    by_hand = copy.deepcopy(encoder)
    points = filled(encoder, (PointsBeside(beside="output.dense", reads="intermediate"),))
    assert next(iter(points)).startswith("beside.") and {(p.reads_dim, p.dim) for p in points.values()} == {(16, 16)}
    train(points)

    def part(block: Any, point: InsertionPoint) -> Callable[[Tensor], Tensor]:
        def forward(attended: Tensor) -> Tensor:
            fed = F.gelu(F.linear(attended, block.intermediate.dense.weight, block.intermediate.dense.bias))
            added = F.linear(fed, block.output.dense.weight, block.output.dense.bias) + adapter_of(point, attended)
            norm = block.output.LayerNorm
            return F.layer_norm(added + attended, added.shape[-1:], norm.weight, norm.bias, norm.eps)

        return forward

    for layer, point in zip(by_hand.layers, points.values(), strict=True):
        block: Any = layer
        block.feed_forward_chunk = part(block, point)
    ids, lengths_B = torch.tensor([[7, 8, 9, 10, 11, 12]]), torch.tensor([6])
    found = copy.deepcopy(encoder)(ids, lengths_B)[0]  # hooks are copied with what they keep
    torch.testing.assert_close(found, by_hand(ids, lengths_B)[0], rtol=1e-12, atol=1e-12)


def test_what_is_not_said_is_not_in_the_settings() -> None:
    """Trials from before `reads` existed keep their ids."""
    assert PointsBeside(beside="fc2").model_dump() == {"beside": "fc2"}
    assert PointsBeside(beside="fc2", reads="fc1").model_dump() == {"beside": "fc2", "reads": "fc1"}


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        ("in_prj", "'in_prj' matches no module in layer 0; nearest: in_proj"),
        ("feed_forward.*", "'feed_forward.*' matches 5 modules: layers.0.feed_forward.0, layers.0.feed_forward.1"),
        ("feed_forward.4", "layers.0.feed_forward.4 runs after layers.0.attention.out_proj, so there would be nothing"),
    ],
)
def test_what_cannot_be_read_is_told(reads: str, message: str) -> None:
    with pytest.raises(UserError) as told:
        TextEncoder(30, **SIZES).places((PointsBeside(beside="out_proj", reads=reads),))
    assert str(told.value).startswith(f"backbone.points: {{beside: out_proj, reads: {reads}}}: {message}")


@torch.no_grad()
def test_order_is_that_in_which_points_are_reached(made: tuple[str, Encoder]) -> None:
    """At every kind of place at once, also before a module that has other points in it."""
    name, encoder = made
    points = filled(encoder, (*points_of("everywhere", name), *points_of("linear", name)))
    reached: list[str] = []
    for path, point in points.items():
        point.register_forward_hook(lambda *_, path=path: reached.append(path))
    encoder(*pad_sequence_batch(items(encoder, [12, 30])))
    assert len(reached) == len(points) and reached == list(points)


@torch.no_grad()
def test_ia3_can_be_merged_into_the_modules_that_it_scales() -> None:
    """Behind a projection it scales the rows of its weight and its bias; before one, the columns of its weight."""
    torch.manual_seed(0)
    encoder = TextEncoder(30, **SIZES).double().eval()
    merged = copy.deepcopy(encoder)
    where: Any = (PointsBehind(behind="in_proj"), PointsBefore(before="feed_forward.4"))
    points = filled(encoder, where, {"_target_": "harness.adapters.IA3"})
    assert [point.dim for point in points.values()] == [48, 32] * 3
    train(points)
    for place in encoder.places_taken:
        adapter: Any = points[place.name].get_adapter_module(NAME)
        module: Any = merged.get_submodule(place.module)
        factor = 1 + adapter.scale
        if place.how == "before":
            module.weight.mul_(factor)
        else:
            module.weight.mul_(factor[:, None])
            module.bias.mul_(factor)
    ids, lengths_B = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]]), torch.tensor([5, 3])
    found, valid_BT = encoder(ids, lengths_B)
    torch.testing.assert_close(found[valid_BT], merged(ids, lengths_B)[0][valid_BT], rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_decoders_points_come_behind_the_layers() -> None:
    """They are no places of the encoder, whose steps are others; the sum towards the head is in front of them."""
    model = tiny_whisper(max_source_positions=20)
    encoder = WindowedWhisperEncoder(model.get_encoder(), 2).eval()
    encoder.put_points(encoder.places(("behind_layer", "after_attention", "towards_head")))
    assert list(encoder.insertion_points) == [
        *("after_attention.0", "points.0", "after_attention.1", "points.1", "towards_head.0", "towards_head.1"),
        *("points.2", "points.3"),
    ]
    encoder(*encoder.example())
    told = [point.valid_frames is not None for point in encoder.insertion_points.values()]
    assert told == [True] * 6 + [False] * 2


# --- encoders of transformers -----------------------------------------------------------------------------------------

NO_PART = {
    ("opt", "after_feed_forward"): "cannot be told by name; .* with the layer's width: self_attn, self_attn_layer_norm",
    ("xlnet", "after_attention"): "cannot be told by name; .* with the layer's width: none",
}
REFUSED = ("funnel", "opt_narrow", "squeezebert", "wav2vec2")
ACCEPTED = sorted(CONFIGS.keys() - {*REFUSED})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {kind: write_encoder(kind, root) for kind in ACCEPTED}


class Nothing(nn.Module, AdapterModuleUtil):
    """Gives zeros in place of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.setup_adapter_strategy({"_target_": "harness.adapters.ReturnResultAdapterStrategy"})

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


@pytest.mark.parametrize("kind", ACCEPTED)
@torch.no_grad()
def test_the_parts_of_transformers_layers_are_those_before_the_residual(kind: str, folders: dict[str, Path]) -> None:
    """Without what attention and feed-forward parts add, no step knows of another one, and each still of itself: a
    point behind a residual would leave nothing of the input, and one beside the part would leave something of it."""
    encoder = PretrainedTextEncoder(folders[kind], 16).eval()
    places: list[Any] = []
    parts: tuple[Literal["after_attention", "after_feed_forward"], ...] = ("after_attention", "after_feed_forward")
    for part in parts:
        if (kind, part) in NO_PART:
            with pytest.raises(UserError, match=rf"^backbone\.points: {part}: .*{NO_PART[kind, part]}$"):
                encoder.places(part)
        else:
            places += encoder.places(part)
    if any(kind == other for other, _ in NO_PART):
        return
    assert [place.layer for place in places] == 2 * [*range(encoder.num_layers)]
    inputs, lengths_B = torch.tensor([[7, 8, 9, 10, 11, 12]]), torch.tensor([6])
    other = inputs.clone()
    other[0, 2] = 30
    twin = copy.deepcopy(encoder)
    attention = copy.deepcopy(encoder)
    for model, chosen in ((twin, places), (attention, [place for place in places if "attention" in place.name])):
        model.put_points(chosen)
        for point in model.insertion_points.values():
            point.add_adapter(NAME, {"_target_": f"{__name__}.Nothing"})
        changed = (model(inputs, lengths_B)[0] - model(other, lengths_B)[0])[0].norm(dim=-1)
        assert changed[2] > 1e-2 and changed[[0, 1, 3, 4, 5]].max() == 0, (kind, changed)
    assert not torch.allclose(twin(inputs, lengths_B)[0], attention(inputs, lengths_B)[0], atol=1e-2)
    mixed = (encoder(inputs, lengths_B)[0] - encoder(other, lengths_B)[0])[0].norm(dim=-1)
    assert mixed[3] > 0  # the comparison can fail


@pytest.mark.parametrize("kind", ["bert", "longformer", "albert", "t5", "gpt2"])
@pytest.mark.parametrize("points", ["houlsby", "towards_head"])
@torch.no_grad()
def test_transformers_layers_are_left_as_they_are(kind: str, points: Any, folders: dict[str, Path]) -> None:
    """Padded rows, shared layers, layers that give tuples: the identity, changed when trained, the same when off."""
    encoder = PretrainedTextEncoder(folders[kind], 16).eval()
    ids_BT = torch.arange(22).reshape(2, 11) % 100 + 5
    ids_BT[1, 6:] = 0
    inputs = ids_BT, torch.tensor([11, 6])
    freeze_backbone(encoder)
    plain, valid_BT = encoder(*inputs)
    encoder.put_points(encoder.places(points))
    for point in encoder.insertion_points.values():
        point.add_adapter(NAME, LINEAR)
    assert torch.equal(encoder(*inputs)[0], plain)
    train(encoder.insertion_points)
    assert not torch.allclose(encoder(*inputs)[0][valid_BT], plain[valid_BT], atol=1e-3)
    for point in encoder.insertion_points.values():
        assert point.adapter_calls[NAME] > 1
        point.set_enabled_adapters(NAME, enabled=False)
    assert torch.equal(encoder(*inputs)[0], plain)


@torch.no_grad()
def test_houlsby_in_bert_by_hand(folders: dict[str, Path]) -> None:
    """BertSelfOutput and BertOutput with an adapter between the dense layer and the sum, as Houlsby et al. have it."""
    encoder = PretrainedTextEncoder(folders["bert"], 16).double().eval()
    by_hand = copy.deepcopy(encoder)
    points = filled(encoder, "houlsby")
    train(points)

    def output(module: Any, point: InsertionPoint) -> Callable[[Tensor, Tensor], Tensor]:
        def forward(hidden: Tensor, residual: Tensor) -> Tensor:
            dense = F.linear(hidden, module.dense.weight, module.dense.bias)
            added = dense + adapter_of(point, dense) + residual
            norm = module.LayerNorm
            return F.layer_norm(added, added.shape[-1:], norm.weight, norm.bias, norm.eps)

        return forward

    for number, layer in enumerate(by_hand.layers):
        block: Any = layer
        block.attention.output.forward = output(block.attention.output, points[f"after_attention.{number}"])
        block.output.forward = output(block.output, points[f"after_feed_forward.{number}"])
    ids, lengths_B = torch.tensor([[7, 8, 9, 10, 11, 12]]), torch.tensor([6])
    torch.testing.assert_close(encoder(ids, lengths_B)[0], by_hand(ids, lengths_B)[0], rtol=1e-12, atol=1e-12)


# --- names and patterns -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("in_proj", ["beside.layers/0/attention/in_proj", "beside.layers/1/attention/in_proj"]),
        ("layers.1.*.in_proj", ["beside.layers/1/attention/in_proj"]),
        ("layers.[01].attention", ["behind.layers/0/attention", "behind.layers/1/attention"]),
        (PointsBehind(behind="0.attention.out_proj"), ["behind.layers/0/attention/out_proj"]),
        (PointsBeside(beside="1.feed_forward"), ["beside.layers/1/feed_forward"]),
        (PointsBefore(before="feed_forward.4"), [f"before.layers/{n}/feed_forward/4" for n in (0, 1)]),
    ],
)
def test_modules_are_named(pattern: Any, expected: list[str]) -> None:
    encoder = TextEncoder(30, **{**SIZES, "num_layers": 2})
    assert [place.name for place in encoder.places((pattern,))] == expected


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("in_prj", "'in_prj' matches no module in the layers; nearest: in_proj"),
        ("after_atention", "'after_atention' matches no module in the layers; nearest: after_attention"),
        ("final_norm", "'final_norm' matches no module in the layers; nearest: .*"),
        ("zzz", "'zzz' matches no module in the layers; choices: behind_layer, .*, in_proj, out_proj, 1, 4, or .*"),
        (PointsBeside(beside="layers.0.feed_forward.2"), None),
    ],
)
def test_a_name_that_matches_nothing_is_one_line(pattern: Any, expected: str | None) -> None:
    encoder = TextEncoder(30, **{**SIZES, "num_layers": 2})
    if expected is None:
        assert len(encoder.places((pattern,))) == 1  # an activation is a place as well
        return
    with pytest.raises(UserError, match=rf"^backbone\.points: {expected}"):
        encoder.places((pattern,))


def test_modules_that_no_adapter_can_be_at(folders: dict[str, Path]) -> None:
    """The first feed-forward layer of OPT works on all steps of a batch at once; T5's wo may never be called."""
    encoder = PretrainedTextEncoder(folders["opt"], 16)
    with pytest.raises(UserError, match=r"no adapter can be at .*fc1 \(Linear\): it gives \[24, 32\], and one vector"):
        encoder.places(("fc1",))
    text = TextEncoder(30, **{**SIZES, "num_layers": 2})
    spare: Any = text.layers[1]
    spare.never = nn.Linear(16, 16)
    with pytest.raises(UserError, match=r"at layers\.1\.never \(Linear\): a pass of the model does not call it"):
        text.places(("never",))


IA3_CONFIG = {"_target_": "harness.adapters.IA3"}


@pytest.mark.parametrize("adapter", [IA3_CONFIG, {"_target_": "harness.adapters.Gated", "adapter": IA3_CONFIG}])
@pytest.mark.parametrize("points", [("out_proj",), "towards_head"])
def test_ia3_scales_nothing_beside_a_module(points: Any, adapter: dict[str, Any]) -> None:
    """The bare name of a linear module means beside it: W x + b + x * scale."""
    encoder = TextEncoder(30, **SIZES)
    encoder.put_points(encoder.places(points))
    point = next(iter(encoder.insertion_points.values()))
    with pytest.raises(ValueError, match=r"IA3 rescales what it reads, .*; choose \{behind: NAME\} or"):
        point.add_adapter(NAME, adapter)
    assert not point.is_adapter_available()


def test_an_adapter_that_does_not_fit_beside_a_module_is_told() -> None:
    encoder = TextEncoder(30, **SIZES)
    encoder.put_points(encoder.places(("in_proj",)))
    point = next(iter(encoder.insertion_points.values()))
    with pytest.raises(
        ValueError, match="gives the width that it reads, but here it would read 16 and be merged with 48"
    ):
        point.add_adapter(NAME, LINEAR)
    assert not point.is_adapter_available()

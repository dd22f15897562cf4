"""The places in the layers of an encoder where adapters may go: seen by running it once, and chosen by name.

    behind_layer         behind each layer; every encoder is built with these points
    after_attention      behind the attention part of each layer, before its residual is added
    after_feed_forward   behind its (last) feed-forward part, before its residual is added
    towards_head         each layer's output on its way to the head: the layers stay as they are, and the head gets
                         the last one's output + the sum over layers of share x adapter(output of the layer)
    a name or pattern    of modules in the layers: beside a linear one, behind any other; {before: PATTERN}: before them

The shares are a softmax over one learnt number a layer. As an adapter's output is 0 at first, so is the whole sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters import BesidePoint, InsertionPoint, attach_before, attach_beside, attach_by_hook
from harness.backbones.survey import SeenModule
from harness.config.points import (
    BEHIND_LAYER,
    KINDS,
    SETS,
    TOWARDS_HEAD,
    Points,
    PointsAt,
    PointsBeside,
    how_of,
    items_of,
    pattern_of,
)
from harness.errors import UserError

# The names of the parts in our own blocks and in those of transformers, or their ends. The first that a layer has, that
# a pass reaches and that gives the layer's width is taken: where a module adds the residual itself (BERT's attention),
# it is the linear module inside.
ATTENTION = (
    *("attention.output.dense", "attention.attn.o", "attention.out_lin", "attention.dense", "self_attention.dense"),
    *("SelfAttention", "attention", "self_attn", "attn", "self_attention"),
)
FEED_FORWARD = (
    *("output.dense", "ffn_output", "DenseReluDense", "second_feed_forward", "ffn2", "feed_forward2"),
    *("mlp.dense_4h_to_h", "feed_forward", "fc2", "mlp", "ffn", "ff.layer_2"),
)
PARTS = {"after_attention": ATTENTION, "after_feed_forward": FEED_FORWARD}
SHOWN = 8  # choices in a message
SHARES = "layer_shares"  # of an encoder with points towards its head


@dataclass(frozen=True)
class Place:
    """A place where an adapter may go.

    Attributes:
        name: of its insertion point, as a path in the encoder; records have it.
        layer: that it is in, from 0.
        how: "layer" for a point that the encoder is built with, "behind", "beside", "before", or "head".
        module: the path of the module that it is at.
        reads: the width of what an adapter reads.
        gives: the width of what it is merged with.
        steps_first: whether the module gives [T, B, D].
        reads_at: the path of the module whose argument an adapter beside the module reads, where that is another one.
    """

    name: str
    layer: int
    how: str
    module: str
    reads: int
    gives: int
    steps_first: bool = False
    reads_at: str = ""

    @property
    def is_inside(self) -> bool:
        """Whether it changes what happens in its layer: what can be kept ends before the layer then."""
        return self.how in ("behind", "beside", "before")


def find_places(seen: Sequence[SeenModule], layer_points: Sequence[str], dim: int, points: Points) -> tuple[Place, ...]:
    """The places that a setting names, in all layers, in the order in which a pass reaches them.

    Args:
        seen: the modules in the layers.
        layer_points: the names of the points behind the layers, lowest first.
        dim: the width of the layers.
        points: the setting `backbone.points`.

    Raises:
        UserError: a kind that this encoder does not have, a pattern that matches nothing, or a module that no adapter
            can be at.
    """
    placed: dict[tuple[str, str, str], tuple[tuple[int, int], Place]] = {}
    at = {(module.path, how): number for module in seen for how, number in _moments(module)}
    tops = _tops(seen)
    for item in items_of(points):
        if item == BEHIND_LAYER:  # those of a decoder come behind the layers
            paths = [top.path for top in tops] + [""] * (len(layer_points) - len(tops))
            found = [Place(name, n, "layer", paths[n], dim, dim) for n, name in enumerate(layer_points)]
        elif item == TOWARDS_HEAD:
            found = [Place(f"{item}.{n}", n, "head", tops[n].path, dim, dim) for n in range(len(tops))]
        elif item in PARTS:
            found = _parts(seen, dim, str(item))
        else:
            found = _matching(seen, item)
        for place in found:
            inside = (0, at.get((place.module, place.how), 0))
            when = (1, place.layer) if place.how == "head" else inside if place.module else (2, place.layer)
            placed.setdefault((place.module or place.name, place.how, place.reads_at), (when, place))
    return tuple(place for _, place in sorted(placed.values(), key=lambda one: one[0]))


def _moments(module: SeenModule) -> Iterator[tuple[str, int]]:
    """When a pass reaches the places at a module: the one before it as it begins, the others as it ends."""
    yield "before", module.begins
    yield from ((how, module.order) for how in ("layer", "behind", "beside"))


def _tops(seen: Sequence[SeenModule]) -> list[SeenModule]:
    """The layers themselves."""
    first: dict[int, SeenModule] = {}
    for module in seen:
        first.setdefault(module.layer, module)
    return [first[number] for number in sorted(first)]


def _parts(seen: Sequence[SeenModule], dim: int, kind: str) -> list[Place]:
    """The attention or the feed-forward part of each layer."""
    found = []
    for top in _tops(seen):
        inside = [module for module in seen if module.layer == top.layer and module is not top]
        usable = {
            module.path.removeprefix(f"{top.path}."): module
            for module in inside
            if module.gives == dim and module.num_runs == 1 and not (kind == "after_attention" and module.has_norm)
        }
        part = _first_part(usable, PARTS[kind])
        if part is None:
            names = ", ".join(name for name in usable if "." not in name) or "none"
            raise UserError(
                f"backbone.points: {kind}: this part of layer {top.layer} ({top.kind}) cannot be told by name; name "
                f"modules yourself, as {{behind: PATTERN}}; those with the layer's width: {names}"
            )
        found.append(Place(f"{kind}.{top.layer}", top.layer, "behind", part.path, dim, dim, part.steps_first))
    return found


def _first_part(usable: Mapping[str, SeenModule], names: Sequence[str]) -> SeenModule | None:
    for name in names:
        found = [name] if name in usable else [path for path in usable if path.endswith(f".{name}")]
        if len(found) == 1:
            return usable[found[0]]
    return None


def _matching(seen: Sequence[SeenModule], item: str | PointsAt) -> list[Place]:
    """The modules in the layers that a name or a pattern matches."""
    pattern = pattern_of(item)
    named = _named(seen, pattern)
    if not named:
        raise UserError(f"backbone.points: {pattern!r} matches no module in the layers; {_nearest(pattern, seen)}")
    found = []
    for module in named:
        if module.num_runs == 0 and not module.is_leaf:
            continue  # a list of modules, say: what is in it has names of its own
        how = ("beside" if module.is_linear else "behind") if isinstance(item, str) else how_of(item)
        if reason := _why_unusable(module, "behind" if isinstance(item, PointsBeside) and item.reads else how):
            raise UserError(
                f"backbone.points: {pattern!r}: no adapter can be at {module.path} ({module.kind}): {reason}"
            )
        path = module.path.replace(".", "/")
        read = module
        if isinstance(item, PointsBeside) and item.reads is not None:
            read = _read_beside(seen, module, item)
            path = f"{path}<{read.path.replace('.', '/')}"
        reads = module.gives if how == "behind" else read.reads
        gives = module.reads if how == "before" else module.gives
        assert reads is not None and gives is not None
        reads_at = "" if read is module else read.path
        found.append(Place(f"{how}.{path}", module.layer, how, module.path, reads, gives, module.steps_first, reads_at))
    if not found:
        raise UserError(f"backbone.points: {pattern!r} matches lists of modules alone; {_nearest(pattern, seen)}")
    return found


def _read_beside(seen: Sequence[SeenModule], module: SeenModule, item: PointsBeside) -> SeenModule:
    """The module whose argument adapters beside another one read: the one of that name in the same layer."""
    pattern = str(item.reads)
    named = _named([other for other in seen if other.layer == module.layer], pattern)
    where = f"backbone.points: {{beside: {item.beside}, reads: {pattern}}}"
    if len(named) != 1:
        which = f"{len(named)} modules: {', '.join(one.path for one in named)}" if named else "no module"
        raise UserError(f"{where}: {pattern!r} matches {which} in layer {module.layer}; {_nearest(pattern, seen)}")
    (read,) = named
    if reason := _why_unusable(read, "before"):
        raise UserError(f"{where}: no adapter can read what {read.path} ({read.kind}) reads: {reason}")
    if read.begins > module.order:
        raise UserError(f"{where}: {read.path} runs after {module.path}, so there would be nothing to read yet")
    return read


def _named(seen: Sequence[SeenModule], pattern: str) -> list[SeenModule]:
    """The modules that a pattern matches by their whole name in a layer; else by their whole path; else by the end.

    BERT has `output.dense` and `attention.output.dense` in a layer: either name means that one alone, `dense` both.
    """
    inside = {module.path: module for module in modules_inside(seen)}
    names = {path: name_in_layer(module, seen) for path, module in inside.items()}
    for known, wanted in (
        (names, pattern),
        ({path: path for path in inside}, pattern),
        ({path: path for path in inside}, f"*.{pattern}"),
    ):
        if found := [module for path, module in inside.items() if fnmatchcase(known[path], wanted)]:
            return found
    return []


def modules_inside(seen: Sequence[SeenModule]) -> list[SeenModule]:
    """All modules in the layers but the layers themselves."""
    tops = {module.path for module in _tops(seen)}
    return [module for module in seen if module.path not in tops]


def name_in_layer(module: SeenModule, seen: Sequence[SeenModule]) -> str:
    """The path of a module from its layer."""
    top = next(other for other in seen if other.layer == module.layer)
    return module.path.removeprefix(f"{top.path}.")


def _why_unusable(module: SeenModule, how: str) -> str | None:
    if module.num_runs == 0:
        return "a pass of the model does not call it as a module"
    if module.num_runs != 1:
        return f"a pass of its layer calls it {module.num_runs:g} times"
    if module.gives is None and how != "before":
        return f"it gives {module.shape}, and one vector for each step of the layer is needed"
    if module.reads is None and how != "behind":
        return "it does not read one vector for each step of the layer"
    return None


def usable_modules(seen: Sequence[SeenModule]) -> list[SeenModule]:
    """The modules inside the layers that an adapter can be behind."""
    return [module for module in modules_inside(seen) if _why_unusable(module, "behind") is None]


def _nearest(pattern: str, seen: Sequence[SeenModule]) -> str:
    """The choices that come nearest to a pattern, for a message."""
    usable = usable_modules(seen)
    tails = [".".join(module.path.split(".")[-size:]) for module in usable for size in (1, 2, 3)]
    choices = list(dict.fromkeys([*KINDS, *SETS, *tails]))
    near = get_close_matches(pattern.replace("*", "").strip("."), choices, n=SHOWN, cutoff=0.5)
    if near:
        return f"nearest: {', '.join(near)}"
    linear = dict.fromkeys(module.path.rpartition(".")[2] for module in usable if module.is_linear)
    return f"choices: {', '.join([*KINDS, *SETS, *linear])}, or a pattern of their paths, as {usable[-1].path}"


class LayerShares(nn.Module):
    """How much each layer adds on the way to the head: a softmax over one learnt number a layer, equal at first."""

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_layers))

    def forward(self) -> Tensor:
        """The shares, [num_layers]."""
        return torch.softmax(self.logits, 0)


@dataclass(eq=False)
class _Keep:
    """A hook on a layer's point that keeps what passes until the end of the pass."""

    point: BesidePoint
    kept: Tensor | None = field(default=None, repr=False)

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> None:
        if self.point.get_enabled_adapters():
            self.kept = output


@dataclass(eq=False)
class _AddKept:
    """A hook on the module that ends an encoder: adds to its output what adapters make of the layers' outputs."""

    keeps: Sequence[_Keep]
    shares: LayerShares

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        shares_L = self.shares()
        merged = None
        for keep, share in zip(self.keeps, shares_L, strict=True):
            kept, keep.kept = keep.kept, None
            if kept is not None:
                merged = keep.point(output if merged is None else merged, kept, share)
        return merged


def put_points(
    root: nn.Module, end: nn.Module, layer_points: Sequence[InsertionPoint], places: Sequence[Place]
) -> dict[str, InsertionPoint]:
    """Make the insertion points of some places in an encoder, and hook them; returns them by name.

    Args:
        root: the encoder.
        end: the module whose output is the encoder's.
        layer_points: the points behind its layers, which it has already.
        places: in it.
    """
    points: dict[str, InsertionPoint] = {}
    keeps = []
    for place in places:
        if place.how == "layer":
            points[place.name] = layer_points[place.layer]
            continue
        if place.how in ("behind", "before"):
            points[place.name] = point = InsertionPoint(place.gives)
            attach = attach_by_hook if place.how == "behind" else attach_before
            attach(root.get_submodule(place.module), point, steps_first=place.steps_first)
        else:
            points[place.name] = point = BesidePoint(place.reads, place.gives)
            if place.how == "beside":
                read = root.get_submodule(place.reads_at) if place.reads_at else None
                attach_beside(root.get_submodule(place.module), point, steps_first=place.steps_first, reads=read)
            else:
                keeps.append(_Keep(point))
                layer_points[place.layer].register_forward_hook(keeps[-1])
        group, _, key = place.name.partition(".")
        if not hasattr(root, group):
            root.add_module(group, nn.ModuleDict())
        getattr(root, group)[key] = point
    if keeps:
        weight = next(root.parameters())
        shares = LayerShares(len(keeps)).to(weight.device, weight.dtype)
        root.add_module(SHARES, shares)
        end.register_forward_hook(_AddKept(keeps, shares))
    return points

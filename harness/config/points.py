"""The setting `backbone.points`: at which places inside the chosen layers adapters go. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, Discriminator, SerializerFunctionWrapHandler, Tag, model_serializer

from harness.config.base import OneLine, Settings

KindOfPoint = Literal["behind_layer", "after_attention", "after_feed_forward", "towards_head"]
KINDS: tuple[str, ...] = get_args(KindOfPoint)
BEHIND_LAYER: Final = "behind_layer"  # where adapters go if nothing else is said
TOWARDS_HEAD: Final = "towards_head"
SETS: Mapping[str, tuple[str, ...]] = {"houlsby": ("after_attention", "after_feed_forward")}  # a name for several kinds


class PointsBehind(Settings):
    """`{behind: PATTERN}`: behind modules, in series: an adapter reads what a module gives, and the model goes on with
    what its strategy makes of both."""

    behind: OneLine
    """The name of a module in a layer, its end, or a pattern."""


class PointsBeside(Settings):
    """`{beside: PATTERN}`: beside modules, in parallel: an adapter reads what a module reads, and its strategy merges
    what it gives with what the module gives."""

    beside: OneLine
    """The name of a module in a layer, its end, or a pattern."""
    reads: OneLine | None = None
    """The name of another module in the same layer, or its end: adapters read what that one reads. So they are in
    parallel to a part of several modules, as `{beside: fc2, reads: fc1}` to a feed-forward part."""

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `reads` out where it says nothing, so that ids are those from before it existed."""
        return {key: value for key, value in handler(self).items() if value is not None}


class PointsBefore(Settings):
    """`{before: PATTERN}`: before modules, in series: an adapter reads what a module is about to read, and the module
    reads what its strategy makes of that."""

    before: OneLine
    """The name of a module in a layer, its end, or a pattern."""


PointsAt = PointsBehind | PointsBeside | PointsBefore


def _kind_of_item(value: Any) -> str | None:
    if isinstance(value, PointsAt):
        return how_of(value)
    if isinstance(value, Mapping):
        return next((how for how in ("behind", "before") if how in value), "beside")
    return "name" if isinstance(value, str) else None


Item = Annotated[
    Annotated[OneLine, Tag("name")]
    | Annotated[PointsBehind, Tag("behind")]
    | Annotated[PointsBeside, Tag("beside")]
    | Annotated[PointsBefore, Tag("before")],
    Discriminator(
        _kind_of_item,
        custom_error_type="points",
        custom_error_message="Input should be a kind of point, the name of a module, a pattern, {behind: PATTERN}, "
        "{beside: PATTERN} or {before: PATTERN}",
    ),
]


def _kind_of_points(value: Any) -> str | None:
    return "name" if isinstance(value, str) else "list" if isinstance(value, (list, tuple)) else None


def _one_form(points: Any) -> Any:
    """One way to write what means the same: trials that are equal have equal ids.

    Raises:
        ValueError: the list is empty, names a place twice, or has an empty pattern.
    """
    if isinstance(points, str):
        return points
    if not points:
        raise ValueError("an empty list names no place; choices: " + ", ".join((*KINDS, *SETS)))
    if any(not str(pattern_of(item)).strip() for item in points):
        raise ValueError("an empty pattern names no module")
    kinds = [kind for item in points for kind in (SETS.get(item, (item,)) if isinstance(item, str) else (item,))]
    if len(set(kinds)) < len(kinds):
        twice = next(item for item in kinds if kinds.count(item) > 1)
        raise ValueError(f"{pattern_of(twice)} is named twice, so nothing would be there a second time")
    ordered = sorted(kinds, key=lambda item: (KINDS.index(item) if item in KINDS else len(KINDS), repr(item)))
    if len(ordered) == 1 and ordered[0] in KINDS:
        return ordered[0]
    return next((name for name, kinds in SETS.items() if list(kinds) == ordered), tuple(ordered))


def how_of(item: PointsAt) -> str:
    """Where an item puts adapters at a module: "behind", "beside" or "before"."""
    return next(iter(type(item).model_fields))


def pattern_of(item: str | PointsAt) -> str:
    """What an item names: a kind of point, or modules."""
    return item if isinstance(item, str) else str(getattr(item, how_of(item)))


def items_of(points: Points) -> tuple[str | PointsAt, ...]:
    """The items of the setting: kinds, and patterns of modules."""
    return SETS.get(points, (points,)) if isinstance(points, str) else points


Points = Annotated[
    Annotated[Literal["behind_layer", "after_attention", "after_feed_forward", "towards_head", "houlsby"], Tag("name")]
    | Annotated[tuple[Item, ...], Tag("list")],
    Discriminator(
        _kind_of_points,
        custom_error_type="points",
        custom_error_message=f"Input should be {', '.join((*KINDS, *SETS))}, or a list of them and of names or "
        "patterns of modules",
    ),
    AfterValidator(_one_form),
]

"""How insertion points, and the effect of adapters, are shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from harness.backbones.points import Place
from harness.checks.adapter_effect import Effect
from harness.checks.adapter_points import ArmPoints, BackbonePoints, OfferedPoint
from harness.cli.printing import print_aligned
from harness.errors import printable

WHERE = {"layer": "behind layer", "behind": "behind", "beside": "beside", "before": "before", "head": "from layer"}


def print_points(found: BackbonePoints, arm: str | None = None) -> None:
    """Print the places of a backbone, those of like layers in one line.

    Args:
        found: the places.
        arm: whose adapter the sizes are of; None: they have none.
    """
    trained = "" if found.is_trained else " (not trained yet)"
    print(
        f"backbone {found.recipe}{trained}: {found.num_layers} layers of width {found.width}, "
        f"{found.num_weights:,} weights in the encoder"
    )
    groups: dict[tuple[object, ...], list[OfferedPoint]] = {}
    shown = [point for point in found.offered if point.has_weights]
    for point in shown:
        place = point.place
        groups.setdefault((point.points, place.how, place.reads, place.gives, point.num_weights), []).append(point)
    sized = arm is not None
    rows = [["points", "layers", "at", "width", *(["weights", "share"] if sized else [])]]
    for points in groups.values():
        first = points[0]
        width = f"{first.place.reads}" if first.place.reads == first.place.gives else _widths(first)
        at = f"{WHERE[first.place.how]} {_without_layer(first.place)}"
        size = [_count(first.num_weights), _share(first.num_weights, found.num_weights)] if sized else []
        rows.append([first.points, ranges(point.place.layer for point in points), at, width, *size])
    print_aligned(rows, indent="  ")
    if hidden := {point.points for point in found.offered if not point.has_weights}:
        print(f"  and modules without weights, which --format json lists: {', '.join(sorted(hidden))}")
    for kind, reason in found.not_offered.items():
        print(f"  no {kind}: {reason}")
    if sized:
        print(f"  weights and share of the encoder's: of the adapter of arm {arm}, at one point")


def print_arms(arms: Sequence[ArmPoints], found: BackbonePoints) -> None:
    """Print what each arm fills, with all its weights."""
    rows = [["arm", "train", "weights", "share", "points filled"]]
    for arm in arms:
        size = [_count(arm.num_weights), _share(arm.num_weights, found.num_weights)] if arm.filled else ["", ""]
        rows.append([arm.arm, arm.train, *size, _filled(arm)])  # the longest last: where it wraps, columns stay columns
    print_aligned(rows, indent="  ")
    for arm in arms:
        for text in arm.told:
            print(printable(f"  {arm.arm}: {text}"))


def _filled(arm: ArmPoints) -> str:
    groups: dict[str, list[int]] = {}
    for place in arm.places:
        groups.setdefault(f"{WHERE[place.how]} {_without_layer(place)}{_reading(place)}", []).append(place.layer)
    if not arm.places:  # PEFT's, which are no insertion points: modules by their paths
        paths = [re.split(r"(?<=\.)(\d+)(?=\.|$)", path, maxsplit=1) for path in arm.filled]
        for path in paths:
            groups.setdefault("N".join(path[::2]), []).extend(map(int, path[1:2]))
        return "; ".join(f"{at}, N = {ranges(layers)}" if layers else at for at, layers in groups.items()) or "none"
    return "; ".join(f"{at}, N = {ranges(layers)}" for at, layers in groups.items()) or "none"


def points_as_json(found: BackbonePoints, arm: str | None = None) -> dict[str, Any]:
    """Every place of a backbone by itself."""
    return {
        "backbone": found.recipe,
        "is_trained": found.is_trained,
        "num_layers": found.num_layers,
        "width": found.width,
        "num_weights": found.num_weights,
        "sizes_of_arm": arm,
        "points": [
            {
                "points": point.points,
                "name": point.place.name,
                "layer": point.place.layer,
                "how": point.place.how,
                "module": point.place.module,
                "reads": point.place.reads,
                "gives": point.place.gives,
                "num_weights": point.num_weights,
                "share": None if point.num_weights is None else point.num_weights / found.num_weights,
            }
            for point in found.offered
        ],
        "not_offered": dict(found.not_offered),
    }


def arms_as_json(arms: Iterable[ArmPoints]) -> list[dict[str, Any]]:
    """What each arm fills."""
    return [
        {
            "arm": a.arm,
            "backbone": a.recipe,
            "train": a.train,
            "filled": dict(a.filled),
            "num_weights": a.num_weights,
            "told": list(a.told),
        }
        for a in arms
    ]


def print_effect(name: str, effect: Effect) -> None:
    """Print what adapters change: all of them, and each of them alone."""
    off = f"{effect.without}, bit for bit" if effect.is_restored else f"NOT {effect.without}"
    print(f"{name}: {effect.num_items} items; with all adapters, the output moves by up to {effect.largest:.3g}")
    print(f"  without: it is {off}")
    rows = [[point, f"{change:.3g}" if change else "NOTHING"] for point, change in effect.by_point.items()]
    print_aligned([["point", "alone, moves it by up to"], *rows], indent="  ")


def effect_as_json(effect: Effect) -> dict[str, Any]:
    """What adapters change."""
    return {
        "num_items": effect.num_items,
        "largest": effect.largest,
        "by_point": effect.by_point,
        "is_restored": effect.is_restored,
        "faults": effect.faults,
    }


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in short: `0 to 3, 5`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _without_layer(place: Place) -> str:
    """The path of a place's module, with N for the number of its layer."""
    if place.how in ("layer", "head"):
        return "N"
    parts = place.module.split(".")
    at = parts.index(str(place.layer))
    return ".".join([*parts[:at], "N", *parts[at + 1 :]])


def _reading(place: Place) -> str:
    """Which other module's argument is read there, if it is another one."""
    return f" (reading what {place.reads_at.rpartition(f'.{place.layer}.')[2]} reads)" if place.reads_at else ""


def _widths(point: OfferedPoint) -> str:
    return f"reads {point.place.reads}, gives {point.place.gives}"


def _count(number: int | None) -> str:
    return "does not fit" if number is None else f"{number:,}"


def _share(number: int | None, whole: int) -> str:
    return "" if number is None else f"{100 * number / whole:.2f} %"

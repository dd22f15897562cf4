"""All figures of a sweep that its points allow."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from harness.figures import contour, expected_validation, importance, isolation, pareto
from harness.figures.style import save
from harness.sweep.points import SearchResult


def draw_sweep(result: SearchResult, folder: Path) -> list[Path]:
    """Draw what applies into a folder, as PNG and SVG; the paths.

    Contours are drawn for every pair of an arm's settings.
    """
    paths = []
    drawings = {
        "importance": importance.draw(result),
        "isolation": isolation.draw(result),
        "expected_validation": expected_validation.draw(result),
        "pareto": pareto.draw(result),
    }
    for arm, axes in result.axes.items():
        numeric = [axis for axis in axes if axis.kind != "categorical"]
        for x_axis, y_axis in combinations(numeric, 2):
            name = f"contour_{arm}_{x_axis.label}_{y_axis.label}"
            drawings[name] = contour.contour(result, arm, x_axis.key, y_axis.key)
    for name, figure in drawings.items():
        if figure is not None:
            paths += save(figure, folder, name)
    return paths

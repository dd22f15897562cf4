"""Fit a smooth surface through scattered scores, for the background of a contour figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.spatial import ConvexHull, QhullError

Array = NDArray[np.float64]

MIN_POINTS = 8  # with fewer scored places there is no surface: too little to interpolate
RESOLUTION = 80  # grid lines in either direction
SMOOTHING = 0.02  # of the thin plate; 0 would go through every noisy score


@dataclass(frozen=True)
class Surface:
    """Interpolated scores z [R, R] on the grid x [R], y [R]; only what lies within `hull` [V, 2] is supported."""

    x: Array
    y: Array
    z: Array
    hull: Array


def fit_surface(x: Sequence[float], y: Sequence[float], z: Sequence[float]) -> Surface | None:
    """A thin-plate spline with mild smoothing through the scores (Duchon 1977), kept within their range.

    Several scores at one place are averaged. The coordinates are scaled to [0, 1] first.

    Returns:
        None for fewer than eight different places, places on a line, or scores that do not differ.
    """
    places = np.column_stack([x, y]).astype(float) if len(x) else np.zeros((0, 2))
    unique, inverse = np.unique(places, axis=0, return_inverse=True)
    scores = np.asarray(z, dtype=float)
    if len(unique) < MIN_POINTS or np.ptp(scores) == 0 or np.any(np.ptp(unique, axis=0) == 0):
        return None
    means = np.bincount(inverse.ravel(), weights=scores) / np.bincount(inverse.ravel())
    start, width = unique.min(axis=0), np.ptp(unique, axis=0)
    scaled = (unique - start) / width
    try:
        hull = ConvexHull(scaled)
        spline = RBFInterpolator(scaled, means, kernel="thin_plate_spline", smoothing=SMOOTHING)
    except (QhullError, np.linalg.LinAlgError):
        return None
    steps = np.linspace(0, 1, RESOLUTION)
    grid_x, grid_y = np.meshgrid(steps, steps)
    heights = spline(np.column_stack([grid_x.ravel(), grid_y.ravel()])).reshape(grid_x.shape)
    return Surface(
        start[0] + steps * width[0],
        start[1] + steps * width[1],
        np.clip(heights, scores.min(), scores.max()),
        start + scaled[hull.vertices] * width,
    )

"""Draw the attention of a fusion arm over its adapters, layer by layer, as a heat map.

As in figure 4 of AdapterFusion (arXiv 2005.00247). A record of such an arm holds `attention.json`:
`{"adapters": [name, ...], "layers": {layer: [weight an adapter, ...]}}`, means over the target's test examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from harness.errors import UserError
from harness.figures.style import add_note, new_figure, styled, words_of


@dataclass(frozen=True)
class Attention:
    """Mean attention weights [L, N] of L layers over N adapters; each layer's sum to 1."""

    adapters: tuple[str, ...]
    layers: Mapping[str, Sequence[float]]


def parse_attention(content: Mapping[str, object], where: str) -> Attention:
    """Read the content of `attention.json`.

    Raises:
        UserError: a key is missing, or a layer has not one finite weight an adapter, or their sum is not 1.
    """
    adapters, layers = content.get("adapters"), content.get("layers")
    if not isinstance(adapters, list) or not isinstance(layers, dict) or not adapters or not layers:
        raise UserError(f"{where}: expected adapters (a list) and layers (a mapping)")
    for layer, weights in layers.items():
        if len(weights) != len(adapters) or not np.all(np.isfinite(np.asarray(weights, dtype=float))):
            raise UserError(
                f"{where}: layer {layer} has {weights}, not one weight for each of {len(adapters)} adapters"
            )
        if abs(sum(weights) - 1.0) > 1e-3:
            raise UserError(f"{where}: the weights of layer {layer} have the sum {sum(weights):g}, not 1: {weights}")
    return Attention(tuple(map(str, adapters)), {str(layer): tuple(weights) for layer, weights in layers.items()})


def mean_attention(runs: Sequence[Attention]) -> Attention:
    """The mean over seeds.

    Raises:
        UserError: they are not about the same adapters and layers.
    """
    first = runs[0]
    if any(run.adapters != first.adapters or list(run.layers) != list(first.layers) for run in runs):
        raise UserError("attention of different adapters or layers cannot be averaged")
    return Attention(
        first.adapters,
        {layer: tuple(np.mean([run.layers[layer] for run in runs], axis=0).tolist()) for layer in first.layers},
    )


@styled
def draw_attention(arm: str, attention: Attention, num_seeds: int) -> Figure:
    """Layers from below (the first) to above, adapters side by side; the number in each field is its weight."""
    layers = list(attention.layers)
    weights = np.asarray([attention.layers[layer] for layer in layers], dtype=float)
    figure = new_figure(max(3.4, 1.6 + 0.62 * len(attention.adapters)), max(2.2, 1.3 + 0.32 * len(layers)))
    axes = figure.subplots()
    image = axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=max(1e-9, float(weights.max())), aspect="auto",
                        origin="lower")  # fmt: skip
    axes.set_xticks(range(len(attention.adapters)), attention.adapters)
    if sum(map(len, attention.adapters)) > 12 * len(attention.adapters) or len(attention.adapters) > 6:
        for label in axes.get_xticklabels():  # each ends at its column
            label.set(rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(layers)), layers)
    axes.set_ylabel("layer")
    axes.set_title(words_of(arm), loc="left", fontweight="bold")
    for (row, column), weight in np.ndenumerate(weights):
        dark = weight > 0.6 * weights.max()
        axes.text(column, row, f"{weight:.2f}", ha="center", va="center", fontsize=7,
                  color="white" if dark else "#222222")  # fmt: skip
    figure.colorbar(image, ax=axes, label="attention weight")
    add_note(figure, f"Mean over the target's test examples and {num_seeds} seed{'s' if num_seeds > 1 else ''}.")
    return figure

"""Run a model of transformers up to one of its layers, or from there on, with the masks and positions that it makes.

In either part the model's own code runs, and the layers of the other part are passed over:

    run_to(2)     embed -> layer 0 -> layer 1 -> layer 2 |
    run_from(2)   embed -> ....... -> ....... -> x ------> layer 3 -> layer 4 -> norm

so whatever the model hands to its layers (causal or sliding masks, rotary tables, position biases) is what it hands to
them in a whole pass; nothing of it is rebuilt here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.backbones.inspecting import MADE, SeenLayer

Forward = Callable[..., Any]
INPUT = -1  # the place before the first layer


class _Reached(Exception):
    """Ends a pass at the layer that it was run for."""


def run_to(
    run: Callable[[], Any],
    layers: Sequence[nn.Module] | nn.ModuleList,
    seen: Sequence[SeenLayer],
    layer: int,
    x_BTD: Tensor | None = None,
) -> Tensor:
    """Return what a layer gives at its first run, [B, T, D]; what follows is not run.

    Args:
        run: a pass of the model.
        layers: of the model.
        seen: how each of them runs.
        layer: its number; `INPUT` stands for what the first layer is handed.
        x_BTD: handed to the first layer instead of what the model hands to it.
    """
    found: list[Any] = []

    def end(output: Any) -> None:
        found.append(output)
        raise _Reached

    def instead_of(number: int, body: Forward) -> Forward:
        def forward(*args: Any, **options: Any) -> Any:
            if layer == INPUT:
                end(hidden_of(args, options))
            if x_BTD is not None and number == 0:
                args, options = handing(x_BTD, args, options)
            output = body(*args, **options)
            if number == layer:
                end(output)
            return output

        return forward

    try:
        _run_with(run, layers, instead_of)
    except _Reached:
        output = found[0] if isinstance(found[0], Tensor) else found[0][0]
        return output.transpose(0, 1) if seen and seen[max(layer, 0)].steps_first else output
    raise AssertionError(f"a pass that runs every layer has not run layer {layer}")


def run_from(
    run: Callable[[], Any],
    layers: Sequence[nn.Module] | nn.ModuleList,
    seen: Sequence[SeenLayer],
    layer: int,
    x_BTD: Tensor,
) -> Any:
    """Run a model as if a layer had given `x_BTD` at its first run; hooks behind that layer run. Returns its output.

    Args:
        run: a pass of the model on inputs as long as `x_BTD`; what they hold does not matter.
        layers: of the model.
        seen: how each of them runs.
        layer: its number; `INPUT` hands `x_BTD` to the first layer.
        x_BTD: what `run_to` gave, at least its real steps.
    """
    is_reached = False

    def instead_of(number: int, body: Forward) -> Forward:
        def forward(*args: Any, **options: Any) -> Any:
            nonlocal is_reached
            if is_reached:
                return body(*args, **options)
            is_reached = layer in (number, INPUT)
            if layer == INPUT:
                hidden = _as_handed(x_BTD, hidden_of(args, options), seen[0].steps_first)
                args, options = handing(hidden, args, options)
                return body(*args, **options)
            handed = hidden_of(args, options)
            hidden = _as_handed(x_BTD, handed, seen[number].steps_first) if is_reached else handed
            rest = seen[number].rest
            if rest is None:
                return hidden
            if MADE in rest:  # for all later layers: T5's and WavLM's first layer makes the position bias
                with torch.no_grad():
                    return (hidden, *body(*args, **options)[1:])
            return (hidden, *(None if place is None else _argument(args, options, place) for place in rest))

        return forward

    return _run_with(run, layers, instead_of)


def _run_with(
    run: Callable[[], Any], layers: Sequence[nn.Module] | nn.ModuleList, instead_of: Callable[[int, Forward], Forward]
) -> Any:
    """Run a model whose layers have another `forward` for a while; hooks behind them still run."""
    kept = [layer.__dict__.get("forward") for layer in layers]  # of one that was replaced already, as packs do
    for number, layer in enumerate(layers):
        layer.__dict__["forward"] = instead_of(number, layer.forward)
    try:
        with whole_masks():
            return run()
    finally:
        for layer, forward in zip(layers, kept, strict=True):
            if forward is None:
                layer.__dict__.pop("forward", None)
            else:
                layer.__dict__["forward"] = forward


def _argument(args: Sequence[Any], options: Mapping[str, Any], place: int | str) -> Any:
    return args[place] if isinstance(place, int) else options[place]


def hidden_of(args: Sequence[Any], options: Mapping[str, Any]) -> Tensor:
    """The hidden states that a layer was handed: its first argument, whether it is named or not."""
    first: Tensor = args[0] if args else next(iter(options.values()))
    return first


def handing(x_BTD: Tensor, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a layer with other hidden states."""
    return ((x_BTD, *args[1:]), options) if args else ((), {**options, next(iter(options)): x_BTD})


def _as_handed(x_BTD: Tensor, handed: Tensor, steps_first: bool) -> Tensor:
    """Hidden states in the layout of those that a layer was handed; Longformer pads them with masked steps."""
    num_steps = handed.shape[0 if steps_first else 1]
    x_BTD = F.pad(x_BTD, (0, 0, 0, num_steps - x_BTD.shape[1])) if num_steps > x_BTD.shape[1] else x_BTD
    return x_BTD.transpose(0, 1) if steps_first else x_BTD


@contextmanager
def whole_masks() -> Iterator[None]:
    """Let transformers make every attention mask, also where nothing is padded and it would leave the mask out.

    A row must give the same bits whatever the rows beside it are, and attention without a mask is another kernel.
    """
    if "transformers" not in sys.modules:  # nobody's model is of transformers
        yield
        return
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

    masks: Any = ALL_MASK_ATTENTION_FUNCTIONS

    def whole(**options: Any) -> Tensor | None:
        return sdpa_mask(**{**options, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})

    masks["sdpa"] = whole  # over the library's own, which is found again when this one is deleted
    try:
        yield
    finally:
        del masks["sdpa"]

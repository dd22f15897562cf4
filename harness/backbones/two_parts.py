"""Run a model of transformers up to one of its layers, or from there on, with the masks and positions that it makes.

In either part the model's own code runs, and the layers of the other part are passed over:

    run_to(2)     embed -> layer 0 -> layer 1 -> layer 2 |
    run_from(2)   embed -> ....... -> ....... -> x ------> layer 3 -> layer 4 -> norm

so whatever the model hands to its layers (causal or sliding masks, rotary tables, position biases) is what it hands to
them in a whole pass; nothing of it is rebuilt here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.backbones.inspecting import MADE, SeenLayer

Forward = Callable[..., Any]


class _Reached(Exception):
    """Ends a pass at the layer that it was run for."""


def run_to(run: Callable[[], Any], layers: Sequence[nn.Module], seen: Sequence[SeenLayer], layer: int) -> Tensor:
    """Return what a layer gives at its first run, [B, T, D]; what follows is not run.

    Args:
        run: a pass of the model.
        layers: of the model.
        seen: how each of them runs.
        layer: its number; -1 returns what the first layer is handed.
    """
    number = max(layer, 0)
    body = layers[number].forward
    found: list[Any] = []

    def run_and_end(*args: Any, **options: Any) -> Any:
        found.append(_hidden(args, options) if layer < 0 else body(*args, **options))
        raise _Reached

    try:
        with _replaced_forwards(layers, {number: run_and_end}), whole_masks():
            run()
    except _Reached:
        output = found[0] if isinstance(found[0], Tensor) else found[0][0]
        return output.transpose(0, 1) if seen[number].steps_first else output
    raise AssertionError(f"a pass that runs every layer has not run layer {layer}")


def run_from(
    run: Callable[[], Any], layers: Sequence[nn.Module], seen: Sequence[SeenLayer], layer: int, x_BTD: Tensor
) -> Any:
    """Run a model as if a layer had given `x_BTD` at its first run; hooks behind that layer run. Returns its output.

    Args:
        run: a pass of the model on inputs as long as `x_BTD`; what they hold does not matter.
        layers: of the model.
        seen: how each of them runs.
        layer: its number; -1 hands `x_BTD` to the first layer.
        x_BTD: what `run_to` gave, at least its real steps.
    """
    is_reached = False

    def instead_of(number: int, body: Forward) -> Forward:
        def forward(*args: Any, **options: Any) -> Any:
            nonlocal is_reached
            if is_reached:
                return body(*args, **options)
            is_reached = number == layer
            handed = _hidden(args, options)
            hidden = _as_handed(x_BTD, handed, seen[number].steps_first) if is_reached else handed
            rest = seen[number].rest
            if rest is None:
                return hidden
            if MADE in rest:  # for all later layers: T5's and WavLM's first layer makes the position bias
                with torch.no_grad():
                    return (hidden, *body(*args, **options)[1:])
            return (hidden, *(None if place is None else _argument(args, options, place) for place in rest))

        return forward

    def handing_over(body: Forward) -> Forward:
        def forward(*args: Any, **options: Any) -> Any:
            nonlocal is_reached
            if is_reached:
                return body(*args, **options)
            is_reached = True
            hidden = _as_handed(x_BTD, _hidden(args, options), seen[0].steps_first)
            if args:
                return body(hidden, *args[1:], **options)
            return body(**{**options, next(iter(options)): hidden})

        return forward

    replaced = {number: instead_of(number, module.forward) for number, module in enumerate(layers)}
    if layer < 0:
        replaced = {0: handing_over(layers[0].forward)}
    with _replaced_forwards(layers, replaced), whole_masks():
        return run()


def _argument(args: Sequence[Any], options: Mapping[str, Any], place: int | str) -> Any:
    return args[place] if isinstance(place, int) else options[place]


def _hidden(args: Sequence[Any], options: Mapping[str, Any]) -> Tensor:
    """The hidden states that a layer was handed: its first argument, whether it is named or not."""
    first: Tensor = args[0] if args else next(iter(options.values()))
    return first


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
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

    masks: Any = ALL_MASK_ATTENTION_FUNCTIONS

    def whole(**options: Any) -> Tensor | None:
        return sdpa_mask(**{**options, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})

    masks["sdpa"] = whole  # over the library's own, which is found again when this one is deleted
    try:
        yield
    finally:
        del masks["sdpa"]


@contextmanager
def _replaced_forwards(layers: Sequence[nn.Module], replaced: Mapping[int, Forward]) -> Iterator[None]:
    """Give some layers another `forward` for a while; hooks behind them still run."""
    try:
        for number, forward in replaced.items():
            layers[number].__dict__["forward"] = forward
        yield
    finally:
        for number in replaced:
            layers[number].__dict__.pop("forward", None)

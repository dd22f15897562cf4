"""A trial whose adapter is a config of PEFT: put into its backbone, tried, and where its frozen prefix ends."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from harness.adapters.peft_bridge import Injected, check, inject
from harness.adapters.widths import open_width
from harness.backbones.encoders import Encoder
from harness.backbones.model import TaskModel
from harness.config.points import BEHIND_LAYER
from harness.config.trial import LayersFrom, TrialConfig
from harness.errors import UserError
from harness.seeding import derive_seed
from harness.training.precision import dtype_of

BEFORE_LAYERS = -2
WHY_BEFORE = "the adapter changes what the lowest layer reads, so nothing in front of it stays the same"
_CUTS: WeakKeyDictionary[Encoder, dict[str, int]] = WeakKeyDictionary()


def inject_peft(model: TaskModel, config: TrialConfig) -> Injected:
    """Put a trial's PEFT adapters into its backbone, their first weights drawn from the trial's seed.

    Args:
        model: frozen, on the trial's device and in its dtype.
        config: of the trial.

    Raises:
        UserError: they cannot be built or do not work there (harness.adapters.peft_bridge), or the trial also says
            where adapters of this package would go.
    """
    backbone = config.backbone
    for key, usual in (("layers", "all"), ("points", BEHIND_LAYER)):
        if (given := getattr(backbone, key)) != usual:
            shown = f"{{from: {given.first}}}" if isinstance(given, LayersFrom) else given
            raise UserError(
                f"backbone.{key}: {shown}: PEFT finds its modules by itself; leave this out, and use target_modules "
                "and layers_to_transform of the adapter"
            )
    if (width := open_width(config.adapter)) is not None:
        raise UserError(
            f"adapter.{width[0]}: {width[1]}: PEFT needs a number; rank_pattern of LoRA has others by module"
        )
    encoder = model.encoder
    was_training = encoder.training
    run = _pass_of(encoder.eval())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "init"))
        with torch.no_grad():
            expected = run()
        encoder.injected = injected = inject(_root(encoder), config.adapter or {})
        for weight in injected.learns.values():
            weight.data = weight.data.to(torch.device(config.loop.device), dtype_of(config.loop))
        check(injected, run, expected)
    encoder.train(was_training)
    return injected


def cut_layer(encoder: Encoder, config: TrialConfig) -> int:
    """The layer behind which a PEFT adapter changes something for the first time, from 0; -1: in the lowest layer.

    It is seen by a pass of a copy of the encoder with the adapter in it, once for each adapter.

    Returns:
        the layer, or `BEFORE_LAYERS` where the adapter changes what the lowest layer reads.
    """
    key = json.dumps(config.adapter, sort_keys=True)
    known = _CUTS.setdefault(encoder, {})
    if key not in known:
        twin = encoder if encoder.injected is not None else copy.deepcopy(encoder)
        with torch.random.fork_rng(devices=[]):
            injected = twin.injected or inject(_root(twin), config.adapter or {})
            known[key] = _lowest(twin, injected)
    return known[key]


@torch.no_grad()
def _lowest(encoder: Encoder, injected: Injected) -> int:
    """Watch a pass: a site that runs when n layers have begun is in layer n - 1, or behind it."""
    begun: set[int] = set()
    under_way: list[int] = []
    cuts: list[int] = []

    def begin(number: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            begun.add(number)
            under_way.append(number)

        return hook

    def end(*_: Any) -> None:
        under_way.pop()

    def reach(*_: Any) -> None:
        cuts.append(under_way[-1] - 1 if under_way else max(begun, default=BEFORE_LAYERS))

    handles = [layer.register_forward_pre_hook(begin(number)) for number, layer in enumerate(encoder.layers)]
    handles += [layer.register_forward_hook(end) for layer in encoder.layers]
    handles += [site.register_forward_pre_hook(reach) for site in injected.sites.values()]
    was_training = encoder.training
    try:
        _pass_of(encoder.eval())()
    finally:
        encoder.train(was_training)
        for handle in handles:
            handle.remove()
    return min(cuts, default=BEFORE_LAYERS)


def _root(encoder: Encoder) -> nn.Module:
    """What PEFT is handed: the model of another library, or the encoder itself."""
    root: nn.Module = getattr(encoder, "model", encoder)
    return root


def _pass_of(encoder: Encoder) -> Callable[[], Tensor]:
    """A pass on the encoder's example, on its device and in its dtype: the real steps of its output, [N, D]."""
    weight = next(encoder.parameters())
    inputs, lengths_B = encoder.example()
    inputs = inputs.to(weight.device, weight.dtype if inputs.is_floating_point() else None)

    def run() -> Tensor:
        hidden_BTD, valid_BT = encoder(inputs, lengths_B.to(weight.device))
        real: Tensor = hidden_BTD[valid_BT]
        return real

    return run

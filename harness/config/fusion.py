"""The setting `fusion`: one adapter more that learns to merge others of the trial. Loads no torch.

    adapters: {en: {from: {arm: en}}, fr: {from: {arm: fr}}}      # the members: frozen, and out of the chain
    fusion: {_target_: harness.adapters.AdapterFusion, over: [en, fr]}

A resolved trial has no `fusion`: it is the adapter FUSION_NAME, the last one of `adapters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FUSION_NAME = "fusion"
MEMBER = {"trainable": False, "in_chain": False}


def with_fusion(content: Any) -> Any:
    """A trial's settings in which `fusion` is one of `adapters`, and the adapters that it merges are its members.

    What a member says of itself stays: `trainable: true` trains it along with the fusion.

    Raises:
        ValueError: there are no adapters to merge, or `over` names one that is not there; one line.
    """
    if not isinstance(content, Mapping) or content.get("fusion") is None:
        return content
    fusion, adapters = content["fusion"], content.get("adapters")
    if not isinstance(fusion, Mapping):
        raise ValueError(f"fusion: expected a mapping with _target_, got {fusion!r}")
    given = {name: one for name, one in adapters.items() if one is not None} if isinstance(adapters, Mapping) else {}
    there = ", ".join(map(str, given)) or "none"
    if "_target_" not in fusion:
        keys = ", ".join(map(str, fusion)) or "none"
        raise ValueError(f"fusion: _target_ is missing (the import path of a fusion's class); its keys: {keys}")
    if FUSION_NAME in given:
        raise ValueError(f"fusion: an adapter is called {FUSION_NAME}; rename it")
    over = fusion.get("over")
    if not isinstance(over, (list, tuple)):
        raise ValueError(f"fusion.over: expected a list of names of adapters, got {over!r}; adapters: {there}")
    for name in over:
        if name not in given:
            raise ValueError(f"fusion.over: no adapter {name!r} in adapters; choices: {there}")
    members = {
        name: {**MEMBER, **one} if name in over and isinstance(one, Mapping) else one for name, one in given.items()
    }
    return {**content, "fusion": None, "adapters": {**members, FUSION_NAME: dict(fusion)}}

"""The mean attention of a model's fusions over what passes through it: what a heat map shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class AttentionMean:
    """The mean attention weight of each member over the valid frames that have passed, [N]."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.total = torch.zeros(len(self.names), dtype=torch.float64)
        self.num_frames = 0

    @torch.no_grad()
    def add(self, attention: Tensor, valid_frames: Tensor | None) -> None:
        """Take the weights [..., N] of a pass, of which those of padded frames are left out."""
        flat = attention.reshape(-1, attention.shape[-1])
        kept = flat if valid_frames is None else flat[valid_frames.reshape(-1)]
        self.total += kept.cpu().double().sum(dim=0)  # in this order: mps has no float64
        self.num_frames += len(kept)

    @property
    def mean(self) -> list[float]:
        """NaN where nothing has passed."""
        return (self.total / self.num_frames if self.num_frames else self.total * float("nan")).tolist()


@contextmanager
def watched_attention(hosts: Mapping[str, Any]) -> Iterator[dict[str, AttentionMean]]:
    """Average the attention of the enabled fusions over all that passes inside the block.

    Args:
        hosts: by name; those without a fusion are left out of what is yielded.
    """
    fusions: dict[str, Any] = {
        name: host.adapter_layer[adapter]
        for name, host in hosts.items()
        for adapter in host.get_enabled_adapters()
        if hasattr(host.adapter_layer[adapter], "take_attention")
    }
    for fusion in fusions.values():
        fusion.watcher = AttentionMean(fusion.members)
    try:
        yield {name: fusion.watcher for name, fusion in fusions.items()}
    finally:
        for fusion in fusions.values():
            fusion.watcher = None


def attention_content(means: Mapping[str, AttentionMean]) -> dict[str, Any]:
    """What `attention.json` of a record holds: the members, and each insertion point's mean weights of them."""
    names = {mean.names for mean in means.values()}
    assert len(names) == 1, "one fusion a trial, with the same members everywhere"
    return {"adapters": list(*names), "layers": {name: mean.mean for name, mean in means.items()}}

"""Batches to score hold items of several domains: each item once, with its own rows, answers and place."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from trial_configs import MakeConfig

from harness.engines.packed.items import ScoreBatch, ScorePart, make_score_set
from harness.engines.registry import Engines
from harness.training.resources import Resources
from harness.training.trial import Trial

from .packs import PACKED


@pytest.mark.parametrize("unpadded", [False, True])
def test_every_item_is_scored_once_from_its_own_rows(
    unpadded: bool, make_config: MakeConfig, resources: Resources
) -> None:
    engines = Engines()
    fitting = next(Trial(make_config(), resources, engine=engines.of(PACKED)).steps())
    items = {name: fitting.validation.items(name) for name in fitting.validation.names}
    found = make_score_set(fitting, engines.prefixes, unpadded)
    assert {name: list(of_domain) for name, of_domain in found.items.items()} == items and len(items) == 2
    scored = Counter((part.domain, index) for batch in found.batches for part in batch.parts for index in part.indices)
    assert scored == Counter({(name, index): 1 for name in items for index in range(len(items[name]))})
    assert any(len(batch.parts) > 1 for batch in found.batches), "a batch has items of both domains"
    for batch in found.batches:
        rows = [(part, index) for part in batch.parts for index in part.indices]
        x_BTD = batch.gather()
        assert x_BTD.shape[:2] == (len(rows), batch.num_steps) and batch.num_steps >= int(batch.lengths_B.max())
        for row, (part, index) in enumerate(rows):
            item, length = items[part.domain][index], int(batch.lengths_B[row])
            assert length == len(item.inputs) and torch.equal(batch.targets_BS[row], item.target.reshape(-1))
            own_PD = part.store.gather(part.store.rows([item]), batch.num_steps)[0]
            assert torch.equal(x_BTD[row, : len(own_PD)], own_PD) and not x_BTD[row, len(own_PD) :].any()


def test_rows_of_a_domain_of_short_items_are_padded_to_the_batch() -> None:
    class Store:
        """Rows of 3 steps and a width of 2, filled with their number."""

        def gather(self, places: Tensor, num_steps: int) -> Tensor:
            return places[:, None, None].expand(-1, min(num_steps, 3), 2).float()

    class LongStore(Store):
        def gather(self, places: Tensor, num_steps: int) -> Tensor:
            return places[:, None, None].expand(-1, num_steps, 2).float()

    parts = [
        ScorePart(name, (0,), cast(Any, store), torch.tensor([place]))
        for name, store, place in (("short", Store(), 7), ("long", LongStore(), 9))
    ]
    none = torch.zeros(2, 1, dtype=torch.int64)
    x_BTD = ScoreBatch(tuple(parts), 8, torch.tensor([3, 8]), none, none[:, 0]).gather()
    assert x_BTD[:, :, 0].tolist() == [[7.0] * 3 + [0.0] * 5, [9.0] * 8]

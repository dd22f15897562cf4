"""Records of a text task with all their test items, so that scores and their errors can be computed again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.metrics import METRICS
from harness.records.predictions import PredictedItem
from harness.records.store import RecordStore

from .records_by_hand import DomainTable, write_records

SIZES = {"tweets": 150, "movie": 60, "product": 60}  # the target, then the sources
PER_GROUP = 2  # items that are not independent of one another; the two sources share their groups
Items = dict[str, list[PredictedItem]]


def answered(right: float, *draws: int) -> Items:
    """Test items, of which about a share `right` is answered correctly: the same items whatever the draws."""
    found: Items = {}
    for place, (domain, size) in enumerate(SIZES.items()):
        truth = np.random.default_rng(place).integers(0, 2, size)
        hard = np.random.default_rng(100 + place).random(size)  # some items are hard for every model
        luck = np.random.default_rng([place, *draws]).random(size)
        correct = 0.5 * hard + 0.5 * luck < right
        found[domain] = [
            PredictedItem(
                f"{domain}-{i}",
                int(truth[i] if correct[i] else 1 - truth[i]),
                int(truth[i]),
                f"{'source' if place else 'target'}-{i // PER_GROUP}",
            )
            for i in range(size)
        ]
    return found


def scores(items: Items) -> DomainTable:
    """Domain -> metric -> score."""
    return {
        domain: {
            name: METRICS[name].score([i.reference for i in of], [i.prediction for i in of], {"num_classes": 2})
            for name in ("accuracy", "macro_f1")
        }
        for domain, of in items.items()
    }


def summary_metrics(base: DomainTable, after: DomainTable) -> dict[str, float]:
    """The test metrics of a record."""
    found = {f"target_{name}": value for name, value in after["tweets"].items()}
    for name in ("accuracy", "macro_f1"):
        found[f"source_{name}"] = (after["movie"][name] + after["product"][name]) / 2
    before = (base["movie"]["macro_f1"] + base["product"]["macro_f1"]) / 2
    return found | {"forgetting": before - found["source_macro_f1"], "constrained_score": 0.0}


def write_items(
    results: Path,
    arms: Mapping[str, float],
    *,
    num_seeds: int = 4,
    references: bool = True,
    one_trial: bool = True,
    name: str = "mine",
    **manifest: Any,
) -> tuple[RecordStore, dict[str, Items]]:
    """An experiment of `frozen`, which nothing is trained in, and arms with the share that they answer correctly.

    Args:
        references: whether the records keep them.
        one_trial: whether all seeds of `frozen` are one trial, or one trial each (as they once were).

    Returns:
        the records, and trial id -> its items.
    """
    base_items = answered(0.5, 0)
    base, items, tables = scores(base_items), {}, {}
    outcomes: dict[str, dict[int, Any]] = {}
    data = {"corpus": "vader", "source": ["movie", "product"], "target": "tweets"}
    configs = {"frozen": {"data": data, "train": "none"}, **{arm: {"data": data, "train": "adapters"} for arm in arms}}
    for number, (arm, right) in enumerate({"frozen": 0.5, **arms}.items()):
        for seed in range(num_seeds):
            own = base_items if arm == "frozen" else answered(right, number, seed)
            outcomes.setdefault(arm, {})[seed] = summary_metrics(base, scores(own))
            items[f"{arm}-{seed}"], tables[f"{arm}-{seed}"] = own, (base, scores(own))
    store = write_records(
        results,
        outcomes,
        name=name,
        config_of=configs,
        by_domain_of=tables,
        items_of=items if references else None,
        table={"baseline": "frozen", "metrics": []} | manifest.pop("table", {}),
        **manifest,
    )
    if one_trial:
        known = store.manifest()
        ids = known.arms | {"frozen": dict.fromkeys(range(num_seeds), "frozen-0")}
        store.write_manifest(known.model_copy(update={"arms": ids}))
    return store, items

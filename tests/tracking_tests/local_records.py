"""Records on disk as a sweep leaves them, written by hand: confirm and search trials, a race's, a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.disk import write_json
from harness.records.schema import Manifest, Summary, TrialState
from harness.records.search import Axis, Objective, SearchPoint, SearchResult
from harness.records.store import RecordStore
from harness.records.trial_folder import TrialFolder

KEY = "adapter.adapter_strategy.l2_lambda"
RESULT = SearchResult(
    name="sweep",
    objectives=(Objective(metric="valid_target_accuracy", direction="maximize"),),
    axes={"l2": (Axis(key=KEY, kind="zero_or_log", low=1e-4, high=1.0),)},
    points=(
        SearchPoint(
            arm="l2", number=0, state="complete", params={KEY: 0.1}, values=(0.5,), trial_ids=("5ea0",), epochs=3
        ),
        SearchPoint(arm="l2", number=1, state="pruned", params={KEY: 0.0}, trial_ids=("5ea1",), epochs=2),
        SearchPoint(arm="l2", number=2, state="failed", params={KEY: 1.0}, trial_ids=("5ea2",), reason="nan"),
    ),
)


FROZEN = {
    "fingerprint": "f",
    "objectives": [{"metric": "valid_target/accuracy", "direction": "maximize"}],
    "constraints": [],
    "space": {KEY: {"type": "log_float", "low": 1e-4}},
    "sampler": {"name": "tpe"},
    "pruner": {"name": "none"},
    "budget": {"trials": 3},
    "search": {"seeds": [1000]},
    "race": {"seeds": [], "candidates": 1},
    "confirm": {"seeds": [0], "rules": ["best"]},
    "arms": {
        "l2": {
            "trials": {"complete": 1},
            "winners": {"best": {"trial": 0, "params": {}, "validation": {}, "standard_error": None}},
            "raced": [],
        }
    },
}


def write_record(
    path: Path, seed: int, state: str = "complete", *, num_epochs: int = 3, train: str = "adapter", l2: float = 0.0
) -> TrialFolder:
    """A finished record in the folder `path`."""
    folder = TrialFolder(path)
    folder.start({"seed": seed, "train": train, "adapter": {"adapter_strategy": {"l2_lambda": l2}}})
    folder.restart_log([entry(epoch) for epoch in range(1, num_epochs + 1)])
    summary = Summary(
        trial_id=path.name,
        state=TrialState(state),
        reason="nan" if state == "failed" else None,
        epochs_run=num_epochs,
        metrics={"target_accuracy": 0.5 + seed / 100, "target_macro_f1": 0.4} if state == "complete" else {},
        costs={"seconds": 1.5},
    )
    write_json(path / "summary.json", summary.model_dump(mode="json"))
    return folder


def entry(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "metrics": {"train/loss": 1 / epoch}, "seconds": 0.5}


def write_sweep(results: Path) -> Path:
    """A sweep's whole folder: 3 confirm trials, 3 search trials, a race's, one that no point explains yet."""
    store = RecordStore(results, "sweep")
    store.write_manifest(
        Manifest(
            name="sweep",
            arms={"frozen": {10: "c0f0"}, "l2": {10: "c0f1", 11: "c0f2"}},
            table={"metrics": ["target_accuracy", "target_macro_f1"], "title": "A table"},
        )
    )
    write_record(store.path / "records" / "c0f0", 10, num_epochs=0, train="none")
    write_record(store.path / "records" / "c0f1", 10, l2=0.1)
    write_record(store.path / "records" / "c0f2", 11, l2=0.1)
    write_record(store.path / "search" / "5ea0", 1, l2=0.1)
    write_record(store.path / "search" / "5ea1", 1, "pruned", num_epochs=2)
    write_record(store.path / "search" / "5ea2", 1, "failed", num_epochs=1, l2=1.0)
    write_record(store.path / "search" / "5eaf", 2, l2=0.1)  # the race: point 0's settings on another seed
    write_record(store.path / "search" / "aaaa", 1, l2=0.7)
    write_json(store.path / "search.json", RESULT.model_dump(mode="json"))
    write_json(store.path / "frozen.json", FROZEN)
    write_figure(store.path / "figures" / "front.png")
    return store.path


def write_figure(path: Path) -> Path:
    """A small PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), "red").save(path)
    return path

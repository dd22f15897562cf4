"""A text experiment small enough for a test: two domains of generated sentences, a two-layer encoder, three arms.

The domains share nine words, which tell the classes, and differ in what is judged. `tests/conftest.py` writes the
files and trains the backbone once a session (fixture `tiny_text_files`).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Protocol

import yaml

WORDS = {
    "bad": ("awful", "broken", "dull"),
    "fair": ("plain", "usual", "medium"),
    "good": ("lovely", "bright", "superb"),
}
THINGS = {
    "home": ("kitchen", "garden", "sofa", "window", "lamp", "roof", "carpet", "kettle", "shelf", "door"),
    "away": ("train", "hotel", "museum", "beach", "ferry", "market", "bridge", "airport", "tour", "café"),
}
FRAMES = ("the {thing} was {word}", "what a {word} {thing} it is", "we found our {thing} {word}", "{word} {thing}")


@dataclass(frozen=True)
class TinyText:
    """Paths of the files, and the environment in which the backbone is found (`HARNESS_CACHE`, `HARNESS_DATA`)."""

    root: Path
    corpus: Path
    recipe: Path
    experiment: Path
    env: Mapping[str, str]

    def write_experiment(self, path: Path, **changes: Any) -> Path:
        """Write a copy of the experiment to `path` with some of its top-level keys replaced; returns `path`."""
        content = yaml.safe_load(self.experiment.read_text(encoding="utf-8")) | changes
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path


class RunCli(Protocol):
    """The fixture `run_cli`."""

    def __call__(
        self,
        *args: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout_s: float = 120,
    ) -> CompletedProcess[str]:
        """Run `python -m harness ARGS`; `env` is added to the environment, `cwd` is the test's tmp_path by default."""


def corpus_rows() -> list[dict[str, str]]:
    """240 sentences, 120 a domain and 40 a class in each; those about the same thing are one group."""
    rows: list[dict[str, str]] = []
    for domain, things in THINGS.items():
        for thing, (label, words), frame in itertools.product(things, WORDS.items(), FRAMES):
            word = words[len(rows) % len(words)]
            text = frame.format(thing=thing, word=word)
            rows.append({"domain": domain, "text": text, "label": label, "group": f"{thing}/{label}"})
    return rows


def write_corpus(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write rows as a JSONL manifest."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def recipe_settings(corpus: Path) -> dict[str, Any]:
    """The recipe: trained on `home` alone."""
    return {
        "name": "tiny",
        "data": {"corpus": f"manifest:{corpus}", "domains": ["home"]},
        "encoder": {
            "kind": "text",
            "vocab_size": 200,
            "max_length": 16,
            "dim": 16,
            "num_layers": 2,
            "num_heads": 2,
            "hidden": 32,
            "dropout": 0.0,
        },
        "optim": {"lr": 0.01},
        "loop": {"epochs": 2, "batch_size": 8, "valid_limit": None},
    }


def experiment_settings(corpus: Path, recipe: Path) -> dict[str, Any]:
    """Three arms, two seeds, three epochs."""
    return {
        "name": "tiny_strategies",
        "description": "Tiny sentences",
        "base": {
            "data": {"corpus": f"manifest:{corpus}", "source": ["home"], "target": "away", "train_limit": 48},
            "backbone": {"recipe": str(recipe), "layers": "all"},
            "train": "adapters",
            "adapter": {
                "_target_": "harness.adapters.LinearAdapter",
                "dim": 4,
                "adapter_strategy": {
                    "_target_": "harness.adapters.ResidualAddAdapterStrategy",
                    "stochastic_depth": 0.3,
                    "l2_lambda": 0.001,
                },
            },
            "optim": {"lr": 0.02},
            "loop": {"epochs": 3, "batch_size": 4},
        },
        "arms": {
            "frozen": {"train": "none", "adapter": None},
            "head_only": {"train": "head", "adapter": None},
            "residual_add": {},
        },
        "seeds": [0, 1],
        "table": {"baseline": "frozen"},
    }

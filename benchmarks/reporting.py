"""Where results of benchmarks go, and what they say of the machine they were taken on."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from harness.records.provenance import machine

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "optuna", "wandb", "joblib", "adapters", "peft", "accelerate", "ray")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, GPU (None without one), versions, date, and the load average when the run began."""
    return {
        **machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "date": datetime.now(UTC).date().isoformat(),
        "load_average": round(os.getloadavg()[0], 2),
        "packages": installed(PACKAGES),
    }


def installed(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of those packages that are installed here."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_result(name: str, content: dict[str, Any]) -> Path:
    """Write benchmarks/results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def read_result(name: str) -> dict[str, Any] | None:
    """Read benchmarks/results/NAME.json; None if it has not been made."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

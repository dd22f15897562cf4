"""What one training costs: from records of this machine, where there are some, else measured (measure.py).

Trainings cost the same when they have the same *shape*: data, backbone, what learns, adapter and batches. Learning
rates, strengths of regularisation, epochs and seeds do not change it (epochs are counted separately). Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from harness.config.base import content_hash
from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.records.provenance import machine
from harness.records.store import RecordStore
from harness.records.trial_folder import TrialFolder

RECORD_FOLDERS = ("search", "records")
LOG_LINE_BYTES = 400  # an epoch's entry in log.jsonl
RECORD_BYTES = 40_000  # config, summary, provenance, predictions


@dataclass(frozen=True)
class Price:
    """One training of one shape.

    Attributes:
        seconds: a whole training with its evaluation; None when nobody could measure it.
        test_s: what the confirm phase adds, for its test sets.
        source: where the numbers come from, in words.
        trainable: how many weights learn.
        is_probed: whether one training was timed now, on this machine.
    """

    seconds: float | None
    source: str
    test_s: float = 0.0
    peak_memory_mb: float | None = None
    trainable: int | None = None
    is_probed: bool = False

    @property
    def weights_mb(self) -> float:
        """The size of the weights that a finished training keeps, in MB."""
        return (self.trainable or 0) * 4 / 2**20


def shape_of(content: Mapping[str, Any]) -> str:
    """The shape of a trial's config (as dumped to JSON): trials of one shape cost the same, epoch by epoch."""
    adapter, several = content["adapter"], content.get("adapters")
    shapes = _adapter_shape(adapter) if several is None else [_adapter_shape(one) for one in several.values()]
    loop = {key: value for key, value in content["loop"].items() if key not in ("epochs", "patience")}
    kept = {key: content[key] for key in ("data", "backbone", "train")}
    return content_hash({**kept, "adapter": shapes, "loop": loop})


def _adapter_shape(adapter: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if adapter is None:
        return None
    strategy = adapter.get("adapter_strategy")
    target = strategy.get("_target_") if isinstance(strategy, Mapping) else strategy
    taken = {key: value for key, value in (adapter.get("from") or {}).items() if key not in ("trial", "arm")}
    return {**adapter, "adapter_strategy": target, **({"from": taken} if "from" in adapter else {})}


def config_shape(config: TrialConfig) -> str:
    """`shape_of` a config."""
    return shape_of(config.model_dump(mode="json", by_alias=True))


@dataclass(frozen=True)
class _Sample:
    epochs: int
    patience: int | None
    seconds: float
    peak_memory_mb: float | None
    trainable: int | None
    folder: str
    engine: str


class RecordedPrices:
    """Prices from the complete records under some names of a results folder that this kind of machine has made.

    Args:
        names: folders of `results`, the first one's records first.
    """

    def __init__(self, results: Path, names: tuple[str, ...]) -> None:
        self.samples: dict[str, list[_Sample]] = {}
        for name in dict.fromkeys(names):
            for folder in RECORD_FOLDERS:
                for trial in RecordStore(results, name).finished(folder):
                    self._read(trial, name)

    def _read(self, trial: TrialFolder, name: str) -> None:
        try:
            config, summary, made_with = (
                trial.files.json(f"{part}.json") for part in ("config", "summary", "provenance")
            )
            if summary["state"] != "complete" or made_with["machine"] != machine():
                return  # another machine's seconds say nothing about this one's
            costs, trainable = summary["costs"], summary["metrics"].get("trainable_parameters")
            sample = _Sample(
                config["loop"]["epochs"],
                config["loop"].get("patience"),
                costs["seconds"],
                costs.get("peak_memory_mb"),
                None if trainable is None else int(trainable),
                name,
                (made_with.get("execution") or {}).get("engine", "plain"),
            )
            self.samples.setdefault(shape_of(config), []).append(sample)
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # a price is an estimate: whoever needs this record reports what is wrong with it

    def price(self, config: TrialConfig) -> Price | None:
        """The price of a config's shape; None when no record has it."""
        samples = self.samples.get(config_shape(config), [])
        samples = [s for s in samples if s.patience == config.loop.patience or config.train == "none"]
        if not samples:
            return None
        name = samples[0].folder
        samples = [sample for sample in samples if sample.folder == name]
        engine = "plain" if any(sample.engine == "plain" for sample in samples) else samples[0].engine
        samples = [sample for sample in samples if sample.engine == engine]  # a pack's seconds are no lone trial's
        epochs = 0 if config.train == "none" else config.loop.epochs
        seconds = median(s.seconds * (epochs / s.epochs if epochs else 1) for s in samples)
        memory = [sample.peak_memory_mb for sample in samples if sample.peak_memory_mb is not None]
        trainable = [sample.trainable for sample in samples if sample.trainable is not None]
        return Price(
            seconds=seconds,
            source=f"{len(samples)} {'record' if len(samples) == 1 else 'records'} of {name}, engine {engine}",
            peak_memory_mb=median(memory) if memory else None,
            trainable=trainable[0] if trainable else None,
        )


class PriceMeter(Protocol):
    """What measures the price of a config that no record has (harness.engines.measure; it loads torch)."""

    def price(self, config: TrialConfig) -> Price:
        """Measure one training."""

    def speed(self, config: TrialConfig, known: Execution | None) -> str:
        """Say what makes its trainings fast."""


class Prices:
    """The price of any config: recorded, else measured.

    Args:
        recorded: what the records say.
        make_meter: makes what measures; called when the first config has to be measured.
    """

    def __init__(self, recorded: RecordedPrices, make_meter: Callable[[], PriceMeter]) -> None:
        self.recorded = recorded
        self._make_meter = make_meter

    @cached_property
    def _meter(self) -> PriceMeter:
        return self._make_meter()

    def price(self, config: TrialConfig) -> Price:
        """One training of this config, all its epochs.

        Raises:
            UserError: the config does not fit its data, backbone or layers.
        """
        return self.recorded.price(config) or self._meter.price(config)

    def speed(self, config: TrialConfig, known: Execution | None) -> str:
        """Say what makes trainings of this config fast.

        Raises:
            UserError: the config does not fit its data, backbone or layers.
        """
        return self._meter.speed(config, known)


def disk_mb(price: Price, epochs: int, num_search: int, num_confirm: int) -> float:
    """The disk space in MB of the trainings: a record each, and the weights of the confirm phase."""
    records = (num_search + num_confirm) * (RECORD_BYTES + LOG_LINE_BYTES * epochs) / 2**20
    return records + num_confirm * price.weights_mb


def duration(seconds: float) -> str:
    """A time for people: `0.4 s`, `45 s`, `12 min`, `1 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

"""How a training is executed: recorded beside its numbers, and no part of its config or id.

Engines (harness/engines/registry.py): `plain` is the reference loop (harness/training/loop.py). `cut` runs the frozen
layers below the first adapter once, keeps their output, and trains what is above. `packed` does this for several
trainings in one step. `auto` is the fastest of them that can train a trial: packed, else the cut, else the plain loop.
They compute the same function: equal to 1e-12 in float64, and in float32 up to rounding. A search keeps one engine for
all of an arm's trials.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator

from harness.config.base import PositiveInt, Settings, refuse_unplain
from harness.errors import UserError, must_be_in

EngineName = Literal["auto", "plain", "cut", "packed"]
ENGINE_NAMES: tuple[EngineName, ...] = get_args(EngineName)
PACKING: tuple[EngineName, ...] = ("auto", "packed")
MOST = 16  # trials in a pack, where nothing else is said: more have not been seen to be faster on a CPU


class Execution(Settings):
    """The engine that a training asks for, and how many trainings share a step."""

    engine: EngineName = "plain"
    """The engine that trains."""
    pack: PositiveInt = 1
    """The most trials that share a step; on a CPU it changes no bit of any of them."""
    capture: bool = False
    """Whether the steps of packs are captured as CUDA graphs, on a GPU."""

    @property
    def text(self) -> str:
        """For people: `engine auto, up to 8 trials in one step`."""
        return f"engine {self.engine}" + (f", up to {self.pack} trials in one step" if self.pack > 1 else "")

    def record(self, engine: EngineName, why: str | None) -> dict[str, object]:
        """What provenance says: the engine that was used, and why it is not the one asked for (or the fastest)."""
        content: dict[str, object] = {"engine": engine}
        if engine == "packed":
            content |= {"pack": self.pack, **({"capture": True} if self.capture else {})}
        if engine != self.engine:
            content |= {"asked": self.engine, **({} if why is None else {"why": why})}
        return content


PLAIN = Execution()


def execution_of(engine: str, pack: int | None, capture: bool = False) -> Execution:
    """An execution from a command's options.

    Raises:
        UserError: an unknown engine, or options that the engine has no use for.
    """
    must_be_in(engine, ENGINE_NAMES, f"--engine {engine!r}")
    if pack is not None and engine not in PACKING:
        raise UserError(f"--pack {pack} works only with --engine packed (or auto), not with --engine {engine}")
    if capture and engine not in PACKING:
        raise UserError(f"--capture works only with --engine packed (or auto), not with --engine {engine}")
    most = pack or (MOST if engine in PACKING else 1)
    return Execution.model_validate({"engine": engine, "pack": most, "capture": capture})


def _as_launcher(value: Any) -> Any:
    if not isinstance(value, Mapping):
        if value is not None and not isinstance(value, str):
            raise ValueError(f"expected a launcher's name, or a mapping with `name` and its options, got {value!r}")
        return value
    if not isinstance(value.get("name", ""), str):
        raise ValueError(f"name: expected a launcher's name, got {value['name']!r}")
    return {key: refuse_unplain(item, str(key)) for key, item in value.items()}


# Which launchers there are, and their options, is known further up (harness/launch/launchers.py).
LauncherSetting = Annotated[str | dict[str, Any] | None, BeforeValidator(_as_launcher)]

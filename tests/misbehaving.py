"""Strategies of a user's own that go wrong in training, named in configs as `misbehaving.CLASS`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters import ResidualAddAdapterStrategy


class Mute(Exception):
    """An exception without a message that can be read."""

    def __str__(self) -> str:
        raise KeyError("no message")


class Odd(BaseException):
    """No Exception, and none of Python's own."""


RAISED: dict[str, BaseException] = {
    "exit": SystemExit(0),
    "generator": GeneratorExit(),
    "interrupt": KeyboardInterrupt(),  # by the code itself: nobody has pressed Ctrl-C
    "odd": Odd("neither"),
    "surrogate": ValueError("half \ud800 of a pair"),
    "escape": ValueError("\x1b[31mred\u202e"),
    "mute": Mute(),
    "deep": RecursionError("too deep"),
    "warning": UserWarning("turned into an error"),
}


class Misbehaving(ResidualAddAdapterStrategy):
    """Residual add that does something wrong at one of its calls in training.

    Args:
        how: "raise", "memory", "nan", "kill" (its own process, with SIGKILL), "leave" (its process, without a word),
            "wait" (a tenth of a second), "hang" (a year), or a key of RAISED.
        call: at which call, counted from 1 in each layer.
        marker: a file that is made when it goes wrong; while it is there, nothing does. None: always.
    """

    def __init__(self, how: str, call: int = 1, marker: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.how, self.call, self.marker = how, call, None if marker is None else Path(marker)
        self.num_calls = 0

    def forward(self, input: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        result = super().forward(input, adapter, module=module)
        if not module.training:
            return result
        self.num_calls += 1
        if self.num_calls != self.call or (self.marker is not None and self.marker.exists()):
            return result
        if self.marker is not None:
            self.marker.touch()
        return self.go_wrong(result)

    def go_wrong(self, result: Tensor) -> Tensor:
        """Do it; [B, T, D] -> [B, T, D]."""
        if self.how == "raise":
            raise ZeroDivisionError("a bug\nof the user's own")
        if self.how == "memory":
            raise torch.OutOfMemoryError("a tensor too many\nand more")
        if self.how == "nan":
            return result * torch.nan
        if self.how in RAISED:
            raise RAISED[self.how]
        if self.how == "leave":
            os._exit(0)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how in ("wait", "hang"):
            time.sleep(0.1 if self.how == "wait" else 3e7)
        return result

"""Worker processes that are forked from one that has loaded what they train with, so that a test's start at once."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any

import pytest

LOADED = ["torch._dynamo", "harness.launch.remote_worker", "harness.training.resources", "harness.training.run_trial"]
STREAMS = (1, 2)


class _Surrounded:
    """A function that is called in another process with what a process of this one would have from it.

    That is its environment, stdout and stderr; the other one was forked from a third.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def __getstate__(self) -> Any:
        return self.function, dict(os.environ), [DupFd(stream) for stream in STREAMS]

    def __setstate__(self, state: Any) -> None:
        self.function, self.environment, self.streams = state

    def __call__(self, *arguments: Any) -> None:
        os.environ.clear()
        os.environ.update(self.environment)
        for stream, given in zip(STREAMS, self.streams, strict=True):
            own = given.detach()
            os.dup2(own, stream)
            os.close(own)
        self.function(*arguments)


class _Context:
    """What `RemoteWorker` needs of a context of multiprocessing."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(LOADED)
        self.Pipe = self.context.Pipe

    def Process(self, *, target: Callable[..., object], **options: Any) -> Any:
        return self.context.Process(target=_Surrounded(target), **options)


class _Multiprocessing:
    def get_context(self, name: str) -> _Context:
        assert name == "spawn"
        return _Context()


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes start within a moment, not after the seconds that torch takes to load.

    What they are then is the same: processes of their own, at the other end of a pipe, which may die. That they also
    train when they are started as a launch starts them is held by the tests without this fixture.
    """
    monkeypatch.setattr("harness.launch.remote_worker.multiprocessing", _Multiprocessing())

"""How a launch is asked for: its launcher, and the `harness work` that does the same. For the commands and the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.launch.launchers import LauncherChoice, choose_launcher


def work_arguments(
    file: str | Path | Mapping[str, Any],
    overrides: Iterable[str] | None,
    results: str | Path,
    engine: str,
    pack: int | None,
    capture: bool = False,
    *,
    arm: Iterable[str] | None = None,
    seed: Iterable[int] | None = None,
    retry_failed: bool = False,
) -> tuple[str, ...]:
    """The arguments of the `harness work` that does what a launch is to do; none where settings are in no file."""
    if isinstance(file, Mapping):
        return ()
    told = [text for text in overrides or () if text.partition("=")[0].partition(".")[0] != "launcher"]
    options = [f"--arm={one}" for one in arm or ()] + [f"--seed={one}" for one in seed or ()]
    options += ["--retry-failed"] * retry_failed + ([] if pack is None else [f"--pack={pack}"])
    options += ["--capture"] * capture
    return ("work", str(file), *told, f"--results={results}", f"--engine={engine}", *options)


def launching_of(
    given: str | Mapping[str, Any] | None,
    setting: str | Mapping[str, Any] | None,
    num_workers: int,
    where: str,
    work: tuple[str, ...],
    *,
    overrides: Iterable[str] = (),
    is_command: bool = True,
) -> LauncherChoice:
    """The launcher of a launch, with the command of its workers. Ask before engines are chosen: it may be refused.

    Args:
        given: what the launch names: a launcher, or a mapping with a name and options. It goes before the file.
        setting: the file's `launcher`, and `where`, its place, for errors.
        work: see `work_arguments`.
        overrides: see `choose_launcher`.
        is_command: whether the user gave options of a command (`--launcher`), for errors.

    Raises:
        UserError: as `choose_launcher` and `LauncherChoice.for_work`.
    """
    if isinstance(given, Mapping):
        choice = choose_launcher(None, num_workers, given, "launcher", is_command=is_command)
    else:
        choice = choose_launcher(given, num_workers, setting, where, overrides=overrides, is_command=is_command)
    return choice.for_work(work)

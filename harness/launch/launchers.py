"""The launchers by name, and the choice of one with its options. A new one is a file here and a line in `LAUNCHERS`.

A launcher's class is named as `FILE:CLASS`, not imported: the choices can be listed without loading any.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from harness.errors import UserError, must_be_in
from harness.launch.process_memory import give_back_free_memory
from harness.launch.stopping import Stop

if TYPE_CHECKING:
    from harness.config.base import Settings
    from harness.config.trial import TrialConfig
    from harness.launch.launcher import Launcher, Tell

LAUNCHERS: Mapping[str, str] = {
    "in_process": "in_process:InProcessLauncher",
    "processes": "processes:ProcessLauncher",
    "shell": "shell:ShellLauncher",
    "slurm": "slurm:SlurmLauncher",
    "ray": "ray_launcher:RayLauncher",
}


def launcher_type(name: str) -> type[Launcher]:
    """The class of a launcher, by its name in `LAUNCHERS`."""
    found: type[Launcher] = resolve_name(f"harness.launch.{LAUNCHERS[name]}")
    return found


@dataclass(frozen=True)
class LauncherChoice:
    """A launcher with its options, checked; makes one for each phase of a launch.

    Attributes:
        num_slots: trials under way in each worker; None leaves it to the size of the packs.
        work: the arguments of the `harness work` that trains the launch's trials; empty where none can.
    """

    name: str
    kind: type[Launcher]
    options: Settings
    num_workers: int
    num_slots: int | None = None
    work: tuple[str, ...] = ()
    stop: Stop = field(default_factory=Stop)
    began: dict[Path, float] = field(default_factory=dict)  # shared by the launchers of one command
    _loaded: dict[bool, Any] = field(default_factory=dict)  # likewise

    @property
    def loaded(self) -> dict[bool, Any] | None:
        """What a command and the launcher share in one process, by whether it is sealed; None where they do not."""
        return self._loaded if self.kind.is_here else None

    def make(self, tell: Tell, num_slots: int = 1) -> Launcher:
        """A new launcher, for packs of some size."""
        self.stop.check()
        if not self.kind.is_here:
            give_back_free_memory()
        made = self.kind(tell, self.num_workers, self.num_slots or num_slots, self.options)
        made.work, made.stop = self.work, self.stop
        made.began, made.loaded = self.began, self.loaded
        return made

    def for_work(self, work: tuple[str, ...]) -> LauncherChoice:
        """The choice with the command of its workers.

        Raises:
            UserError: the launcher only starts workers, and the command cannot be given to them, or this machine
                cannot start them.
        """
        if not self.trains:
            from harness.launch.elsewhere import check_work

            check_work(self.name, work)
            if lacks := self.kind.needs():
                raise UserError(f"launcher {self.name}: {lacks}")
        return replace(self, work=work)

    def get_ready(self, configs: Iterable[TrialConfig]) -> None:
        """Begin, in the background, what its workers will need to train some trials."""
        self.kind.get_ready({config.backbone.recipe for config in configs})

    @property
    def trains(self) -> bool:
        """Whether the launcher trains the trials itself, or leaves that to workers elsewhere."""
        return self.kind.trains


def choose_launcher(
    name: str | None,
    num_workers: int,
    setting: str | Mapping[str, Any] | None = None,
    where: str = "launcher",
    *,
    overrides: Iterable[str] = (),
    is_command: bool = True,
) -> LauncherChoice:
    """The launcher that a command's option, or else a file, names; without either, the one that fits `num_workers`.

    Args:
        name: of the option `--launcher`, which replaces what the file says, unless the file has options for it.
        setting: the file's `launcher`, changed by overrides: a name, or a mapping with a name and options.
        where: the place of the file's `launcher`, for errors.
        overrides: `key=value` arguments. They are blamed for what they gave, and the option keeps it.
        is_command: whether name and number of workers are options of a command, for errors.

    Raises:
        UserError: there is no such launcher, an option is wrong, or it cannot have so many workers.
    """
    given = {"name": setting} if isinstance(setting, str) else dict(setting or {})
    changed = _changed(given, overrides)
    named_in = "override launcher" if "name" in changed or given.keys() <= changed else where
    named = given.pop("name", None)
    if name is not None and named not in (None, name):
        given = {} if "name" in changed else {key: value for key, value in given.items() if key in changed}
    if name is None and named is None and given:
        raise UserError(f"{named_in}: name: missing; choices: {', '.join(LAUNCHERS)}")
    chosen = name or named or ("in_process" if num_workers == 1 else "processes")
    dashes = "--" if is_command else ""
    start = f"{dashes}launcher {chosen!r}" if name else f"{named_in}: unknown launcher {chosen!r}"
    must_be_in(chosen, LAUNCHERS, start)
    kind = launcher_type(chosen)
    options = _options(kind, given, where, changed)
    if kind.max_workers is not None and num_workers > kind.max_workers:
        raise UserError(f"{dashes}jobs {num_workers}: the launcher {chosen} runs at most {kind.max_workers}")
    kind.check(options, num_workers)
    return LauncherChoice(chosen, kind, options, num_workers)


def _changed(given: Mapping[str, Any], overrides: Iterable[str]) -> frozenset[str]:
    """The keys of a launcher's mapping that overrides gave."""
    keys = [text.partition("=")[0] for text in overrides]
    if "launcher" in keys:
        return frozenset(given)
    return frozenset(key.split(".")[1] for key in keys if key.startswith("launcher."))


def _options(kind: type[Launcher], given: Mapping[str, Any], where: str, changed: Collection[str]) -> Settings:
    """The options that a launcher is given; errors of those that overrides gave name the override.

    Raises:
        UserError: an option is wrong.
    """
    from harness.config.messages import validated  # loads pydantic, which a list of choices needs not

    try:
        return validated(kind.options_type, given, where)
    except UserError:
        validated(kind.options_type, {key: value for key, value in given.items() if key not in changed}, where)
        return validated(kind.options_type, given, "override launcher.")  # without them, nothing was wrong

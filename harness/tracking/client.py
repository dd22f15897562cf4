"""The one door to wandb: credentials, how a run is opened, filled and closed, and when the server is given up.

A run has the same id, group, job type, tags and config whether the tracker logs it while it trains or `harness sync`
replays its record. `harness_content` in its summary is the hash of everything that was logged.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.config.base import content_hash
from harness.records.schema import Summary
from harness.tracking.tracker import TrialRun

PROJECT = "harness"
CONTENT = "harness_content"
INIT_TIMEOUT_S = 20.0  # less than a trial waits at its end: a process that ends never waits for a pending start
HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")  # wandb's own server: under its old and its new name


class Server:
    """Whether W&B's server is still tried in this process.

    One trial that waited for it in vain is enough: the next ones are kept offline, so that none waits again.
    """

    def __init__(self) -> None:
        self._given_up = threading.Event()

    def mode(self, wanted: str) -> str:
        """The wanted mode, or "offline" for "online" once the server was given up."""
        return "offline" if wanted == "online" and self._given_up.is_set() else wanted

    def give_up(self) -> None:
        self._given_up.set()

    def try_again(self) -> None:
        self._given_up.clear()


SERVER = Server()


def is_logged_in() -> bool:
    """Whether there is an API key, in the environment or where `wandb login` leaves it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc

    base_url = os.environ.get("WANDB_BASE_URL")
    hosts = (urlsplit(base_url).netloc,) if base_url else HOSTS
    try:
        found = netrc.netrc(os.environ.get("NETRC"))  # the same file that wandb reads
    except (OSError, netrc.NetrcParseError):
        return False
    return any(found.authenticators(host) for host in hosts)


def project_name() -> str:
    """The W&B project."""
    return os.environ.get("WANDB_PROJECT", PROJECT)


def import_wandb() -> Any:
    """wandb, without its own lines on the terminal and without its error reports (they wait for a dead server too)."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


def describe_error(error: BaseException) -> str:
    """An exception as one line."""
    cause = f": {str(error).splitlines()[0]}" if str(error) else ""
    return f"{type(error).__name__}{cause}"


def is_deleted(error: BaseException) -> bool:
    """Whether a run cannot be opened because one of its id was deleted on the server, which keeps such ids."""
    return "previously created and deleted" in str(error)


def call_bounded(function: Callable[[], Any], timeout_s: float) -> Any:
    """Call a function that may hang in wandb, in a thread that is left behind when it does.

    Raises:
        TimeoutError: it has not returned in time.
        Exception: whatever the function raised.
    """
    outcome: dict[str, Any] = {}

    def work() -> None:
        try:
            outcome["value"] = function()
        except Exception as error:  # raised again by the caller
            outcome["error"] = error

    thread = threading.Thread(target=work, daemon=True, name="wandb")
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def open_run(
    run_id: str,
    directory: Path,
    mode: str,
    *,
    name: str,
    group: str,
    job_type: str,
    tags: Sequence[str],
    config: Mapping[str, Any],
    again: bool = False,
) -> Any:
    """Start a wandb run, or go on with the one of this id.

    Args:
        directory: where wandb keeps its files (a folder `wandb` is made there); an offline run of the same id, which a
            killed process left there, is replaced.
        again: another process may have left one since this one first looked.
    """
    wandb = import_wandb()
    directory.mkdir(parents=True, exist_ok=True)
    for stale in _offline_runs(directory, run_id, again):
        shutil.rmtree(stale)  # the whole log is sent again from its first epoch
    return wandb.init(
        project=project_name(),
        dir=str(directory),
        id=run_id,
        name=name,
        group=group,
        job_type=job_type,
        tags=list(tags),
        config=dict(config),
        mode=mode,
        resume="allow" if mode == "online" else None,
        reinit="create_new",
        settings=wandb.Settings(
            silent=True,
            console="off",
            x_disable_stats=True,
            # Reading every installed package's metadata took nine tenths of a run's start; the record has the versions.
            x_save_requirements=False,
            disable_git=True,
            init_timeout=INIT_TIMEOUT_S,
        ),
    )


_known_ids: dict[Path, set[str]] = {}  # of the offline runs in a folder: those found there first, and this process's


def _offline_runs(directory: Path, run_id: str, again: bool) -> list[Path]:
    """The folders of offline runs of an id.

    The folder of a long study has thousands of others: it is read once a process, and for an id that may be there.
    """
    folder = directory / "wandb"
    known = _known_ids.get(folder)
    if known is not None and run_id not in known and not again:
        known.add(run_id)
        return []
    names = [name for name in (os.listdir(folder) if folder.is_dir() else []) if name.startswith("offline-run-")]
    ids = [name.split("-", 3)[-1] for name in names]  # offline-run-TIME-ID
    _known_ids[folder] = {*ids, run_id}
    return [folder / name for name, found in zip(names, ids, strict=True) if found == run_id]


def trial_config(run: TrialRun) -> dict[str, Any]:
    """The config of a trial's run: the trial's own, and what it is in its experiment."""
    config = run.config | {"arm": run.arm, "experiment": run.experiment}
    if run.number is not None:
        config["number"] = run.number
    return config | {f"search/{key}": value for key, value in run.params.items()}


def open_trial(run: TrialRun, directory: Path, mode: str, run_id: str | None = None, content: str | None = None) -> Any:
    """Start a trial's run; `content` says what is going to be logged, where that is known beforehand."""
    return open_run(
        run_id or run.trial_id,
        directory,
        mode,
        name=run.title,
        group=run.experiment,
        job_type=run.phase,
        tags=[run.arm],
        config=trial_config(run) | ({} if content is None else {CONTENT: content}),
        again=run.again,
    )


def log_entry(wandb_run: Any, entry: Mapping[str, Any], first_step: int) -> None:
    """Log an epoch, unless a resumed run has it already: W&B would refuse the step."""
    if entry["epoch"] >= first_step:
        wandb_run.log(entry["metrics"] | {"epoch": entry["epoch"]}, step=entry["epoch"])


def state_label(summary: Summary) -> str:
    """`complete`, `pruned@EPOCH`, `failed:REASON`."""
    if summary.state == "pruned":
        return f"pruned@{summary.epochs_run}"
    return summary.state.value + (f":{summary.reason}" if summary.reason else "")


def trial_content(entries: Sequence[Mapping[str, Any]], summary: Summary) -> str:
    """The hash of a trial's log and summary."""
    return content_hash([list(entries), summary.model_dump(mode="json")], length=16)


def close_trial(wandb_run: Any, arm: str, summary: Summary, content: str | None) -> None:
    """Write how the trial ended, and end its run. `content` is None when the run does not hold the whole log."""
    label = state_label(summary)
    told = {f"final/{name}": value for name, value in (summary.metrics | summary.costs).items()}
    # Of an older run that is resumed, the content may be another one. One call: each is a message to wandb's service.
    wandb_run.summary.update({**told, "state": label, CONTENT: content or ""})
    wandb_run.tags = (arm, label)
    wandb_run.finish(exit_code=1 if summary.state == "failed" else 0)  # to prune is no failure

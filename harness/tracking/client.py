"""All use of the wandb package: credentials, and how a run is opened, filled and closed.

A run has the same id, group, job type, tags and config whether it is logged while its trial trains or `harness sync`
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

from harness.records.names import shorten
from harness.records.schema import Summary
from harness.tracking.study import Study
from harness.tracking.tracker import Entry, TrackedTrial

PROJECT = "harness"
CONTENT = "harness_content"
INIT_TIMEOUT_S = 20.0  # less than a tracker may take, so that wandb gives up a start before it is given up itself
HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")  # wandb's own server: under its old and its new name
MAX_TAG, MAX_NAME = 64, 128  # the most characters that W&B takes in a tag, and in a run's name or group


def choose_mode() -> str:
    """ "online" when the user is logged in, else "offline"; `WANDB_MODE` wins over both."""
    return os.environ.get("WANDB_MODE") or ("online" if is_logged_in() else "offline")


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


def is_deleted(error: BaseException) -> bool:
    """Whether a run cannot be opened because its id was deleted on the server, which never gives an id again."""
    return "previously created and deleted" in str(error)


def group_name(experiment: str) -> str:
    """The group of an experiment's runs."""
    return shorten(experiment, MAX_NAME)


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
    experiment: str,
    job_type: str,
    tags: Sequence[str],
    config: Mapping[str, Any],
) -> Any:
    """Start a wandb run, or go on with the one of this id.

    Args:
        directory: where wandb keeps its files (a folder `wandb` is made there); an offline run of the same id, which a
            killed process left there, is replaced.
    """
    wandb = import_wandb()
    directory.mkdir(parents=True, exist_ok=True)
    for stale in _offline_runs(directory, run_id):
        shutil.rmtree(stale)  # the whole log is sent again from its first epoch
    return wandb.init(
        project=project_name(),
        dir=str(directory),
        id=run_id,
        name=shorten(name, MAX_NAME),
        group=group_name(experiment),
        job_type=job_type,
        tags=[shorten(tag, MAX_TAG) for tag in tags],
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


_known_ids: dict[Path, set[str]] = {}  # folder -> ids of its offline runs: those found at first, and this process's


def _offline_runs(directory: Path, run_id: str) -> list[Path]:
    """The folders of offline runs of an id.

    A long study has thousands of them, so a process lists the folder once, and again only for an id that is known.
    """
    folder = directory / "wandb"
    known = _known_ids.get(folder)
    if known is not None and run_id not in known:
        known.add(run_id)
        return []
    names = [name for name in (os.listdir(folder) if folder.is_dir() else []) if name.startswith("offline-run-")]
    ids = [name.split("-", 3)[-1] for name in names]  # offline-run-TIME-ID
    _known_ids[folder] = {*ids, run_id}
    return [folder / name for name, found in zip(names, ids, strict=True) if found == run_id]


def open_trial(
    trial: TrackedTrial, directory: Path, mode: str, run_id: str | None = None, content: str | None = None
) -> Any:
    """Start a trial's run; `content` says what is going to be logged, where that is known beforehand."""
    run = trial.run
    config = trial.config | {"arm": run.arm, "experiment": run.experiment}
    if run.number is not None:
        config["number"] = run.number
    config |= {f"search/{key}": value for key, value in run.params.items()}
    return open_run(
        run_id or trial.trial_id,
        directory,
        mode,
        name=run.title,
        experiment=run.experiment,
        job_type=run.phase,
        tags=[run.arm],
        config=config | ({} if content is None else {CONTENT: content}),
    )


def num_epochs_of(wandb_run: Any) -> int:
    """How many epochs a run holds that was opened; W&B refuses to take them a second time."""
    return max(0, int(wandb_run.step) - 1) if wandb_run.resumed else 0  # epochs count from 1, and are the steps


def log_entries(wandb_run: Any, entries: Sequence[Entry]) -> None:
    """Log epochs."""
    for entry in entries:
        wandb_run.log({**entry["metrics"], "epoch": entry["epoch"]}, step=entry["epoch"])


def state_label(summary: Summary) -> str:
    """`complete`, `pruned@EPOCH`, `failed:REASON`."""
    if summary.state == "pruned":
        return f"pruned@{summary.epochs_run}"
    return summary.state.value + (f":{summary.reason}" if summary.reason else "")


def close_trial(wandb_run: Any, arm: str, summary: Summary, content: str | None) -> None:
    """Write how the trial ended, and end its run. `content` is None when the run may hold another log."""
    label = state_label(summary)
    told = {f"final/{name}": value for name, value in (summary.metrics | summary.costs).items()}
    # CONTENT is always written, as a resumed run may have another one. One call: each is a message to wandb's service.
    wandb_run.summary.update({**told, "state": label, CONTENT: content or ""})
    wandb_run.tags = tuple(shorten(tag, MAX_TAG) for tag in (arm, label))
    wandb_run.finish(exit_code=1 if summary.state == "failed" else 0)  # a pruned trial is no failure


def send_study(study: Study, directory: Path, mode: str, run_id: str | None = None) -> None:
    """Open a sweep's own run, add what it shows (unless it shows just that already), close it.

    One run a sweep: when the sweep goes on, a new version is added to it.
    """
    wandb = import_wandb()
    run = open_run(
        run_id or study.run_id,
        directory,
        mode,
        name=study.name,
        experiment=study.name,
        job_type="study",
        tags=[],
        config=study.config,
    )
    content = study.content
    if run.summary.get(CONTENT) != content:
        run.config.update(dict(study.config), allow_val_change=True)
        shown: dict[str, Any] = {
            name: wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
            for name, (columns, rows) in study.tables.items()
        }
        shown |= {f"figures/{name}": wandb.Image(str(path)) for name, path in study.figures.items()}
        run.log(shown)
        run.summary["state"] = "complete"
        run.summary[CONTENT] = content
        run.tags = ("complete",)
    run.finish(exit_code=0)

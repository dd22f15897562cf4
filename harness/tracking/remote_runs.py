"""What W&B's server has of an experiment, through wandb's public API."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from harness.tracking.client import CONTENT, group_name, import_wandb, project_name

TIMEOUT_S = 30  # of one request
ENDED = ("finished", "failed")  # the server has been told the run's end


@dataclass(frozen=True)
class RemoteRun:
    """A run on the server.

    Attributes:
        content: hash of what the run holds, "" unless its end has arrived.
        begun: hash of what an upload set out to send.
    """

    run_id: str
    content: str
    begun: str
    handle: Any = None

    def belongs_to(self, run_id: str) -> bool:
        """Whether this is the run, or one that took its place (`RUN_ID-CONTENT`)."""
        return self.run_id == run_id or self.run_id.startswith(f"{run_id}-")


def list_runs(experiment: str) -> list[RemoteRun]:
    """Ask the server for an experiment's runs; none while the project does not exist.

    Raises:
        Exception: whatever wandb raises when the server fails or refuses.
    """
    wandb = import_wandb()
    api = wandb.Api(timeout=TIMEOUT_S)  # a new one each time, because it caches its answers
    entity = os.environ.get("WANDB_ENTITY") or api.default_entity
    found = api.runs(f"{entity}/{project_name()}", filters={"group": group_name(experiment)}, per_page=200, lazy=False)
    try:
        return [_describe(run) for run in found]
    except ValueError as error:
        if "Could not find project" in str(error):
            return []
        raise


def delete_run(run: RemoteRun) -> None:
    """Delete a run. Its id can never be used again: the server keeps the ids of deleted runs."""
    run.handle.delete()


def _describe(run: Any) -> RemoteRun:
    content = dict(run.summary_metrics or {}).get(CONTENT) or ""
    return RemoteRun(run.id, content if run.state in ENDED else "", run.config.get(CONTENT) or "", run)

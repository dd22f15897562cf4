"""A Ray cluster as the launcher sees it: its address, what a worker takes of it, and how many have room."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from harness.config.base import NonNegativeFloat, PositiveFloat, Settings
from harness.errors import UserError, first_line
from harness.launch.ray_address import checked_address, found_head
from harness.launch.ray_token import make_own_token, use_token
from harness.launch.ray_worker import NUM_CALLS, TrialActor

# As in pyproject.toml, and not by the extra: another package of this project's name is on the index.
INSTALL = "pip install 'ray>=2.50,<3'"
OBJECT_STORE_BYTES = 256 * 2**20  # of an own cluster: nothing that matters is kept there


class RayOptions(Settings):
    """Where the workers run, and what each of them takes."""

    address: Annotated[str | None, AfterValidator(checked_address)] = None
    """The cluster: `auto` for the one that this machine belongs to, or `HOST:PORT` of its head. Without an address the
    command starts Ray on this machine alone, and ends it."""
    cpus: PositiveFloat = 1
    """Processors that a worker takes."""
    gpus: NonNegativeFloat = 0
    """GPUs that a worker takes. With a fraction several workers share one: 0.25 is four a GPU."""
    resources: dict[str, PositiveFloat] = {}
    """What else a worker takes, by the names that the nodes were started with: `{fast_disk: 1}`."""
    shared: bool = True
    """Whether every node sees the results folder under the same path. If not, records travel to the
    command as bytes."""
    checkpoint_s: NonNegativeFloat = 60
    """Without a shared folder: how often, at most, the checkpoint of a trial under way comes back, in seconds."""
    scales: bool = False
    """Whether the cluster adds nodes by itself. Then a worker that has room on no node now is waited for."""

    @property
    def asked(self) -> dict[str, float]:
        """What a worker takes, by Ray's names."""
        return {name: value for name, value in {"CPU": self.cpus, "GPU": self.gpus, **self.resources}.items() if value}


def lacks() -> str | None:
    """What this machine lacks to use Ray, in words; None where nothing is missing."""
    return None if importlib.util.find_spec("ray") else f"the package ray is not installed; run: {INSTALL}"


def check_options(options: RayOptions) -> None:
    """Refuse, before anything starts, what cannot work; starts no cluster of its own.

    Raises:
        UserError: Ray is not installed, the cluster is not there, or no node has room for a worker.
    """
    if options.address is not None:
        room_for(options)
        return
    if missing := lacks():
        raise UserError(f"launcher ray: {missing}")
    if options.resources or options.cpus > (os.cpu_count() or 1):
        asked, cpus = resources_text(options.asked), os.cpu_count()
        raise UserError(f"launcher ray: a worker takes {asked}, and this machine has CPU {cpus}; set launcher.address")


def room_for(options: RayOptions) -> int:
    """How many workers the cluster has room for, if nobody else uses it; connects to it.

    Raises:
        UserError: Ray is not installed, the cluster is not there, or no node has room for one.
    """
    connect(options.address)
    import ray

    list_nodes: Callable[[], Any] = ray.nodes  # it has no types
    nodes = [node for node in list_nodes() if node["Alive"]]
    # A thousandth more, since 0.3 / 0.1 is a little less than 3.
    rooms = [[node["Resources"].get(name, 0) / asked for name, asked in options.asked.items()] for node in nodes]
    room = sum(int(min(times) + 1e-3) for times in rooms)
    if not room and not options.scales:
        has = "; ".join(
            f"{node['NodeManagerHostname']}: {resources_text(_countable(node['Resources']))}" for node in nodes
        )
        raise UserError(
            f"launcher ray: a worker takes {resources_text(options.asked)}, and no node has so much ({has})"
        )
    return room


def _countable(resources: Mapping[str, float]) -> dict[str, float]:
    """What a worker can ask for: without memory, and what Ray counts for itself."""
    hidden = ("memory", "object_store_memory", "node:", "accelerator_type:")
    return {name: value for name, value in resources.items() if not name.startswith(hidden)}


def resources_text(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in sorted(resources.items())) or "nothing"


def connect(address: str | None) -> None:
    """Join a cluster, or start one on this machine; once a process, until it ends.

    Raises:
        UserError: Ray is not installed, there is no cluster at the address, or it does not let this user in.
    """
    if missing := lacks():
        raise UserError(f"launcher ray: {missing}")
    # Read by Ray when it is imported: no reports of its use, and a worker without a GPU is to see none.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    import ray

    if not ray.is_initialized():
        _join(address)
    # Ray prints to stdout, between the lines of a table, 20 lines of its own log for each node that dies.
    printing: Any = importlib.import_module("ray._private.worker")
    printing.print_to_stdstream = lambda *given, **named: None
    for number, handler in handlers.items():
        signal.signal(number, handler)  # Ray puts its own in their place


def _join(address: str | None) -> None:
    """Have Ray join the cluster, or start one."""
    import ray

    head, own = "local", {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    if address is None:
        make_own_token()
    else:
        head, own = found_head(address), {}
        use_token(head, address)
    begin: Any = ray.init  # its types know less than it takes
    try:
        begin(address=head, log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # of many classes: no cluster, another version, a machine too slow to start one
        raise UserError(f"launcher ray: {address or 'starting Ray on this machine'}: {first_line(error)}") from error


def make_actor(options: RayOptions, num_slots: int) -> Any:
    """Ask the cluster for a worker; it may have to wait for its place."""
    import ray

    remote: Any = ray.remote  # its types know less than it takes
    kind = remote(
        num_cpus=options.cpus,
        num_gpus=options.gpus,
        resources=options.resources,
        max_restarts=0,
        max_concurrency=NUM_CALLS,
        scheduling_strategy="SPREAD",
    )(TrialActor)
    return kind.remote(num_slots, [*sys.path], os.getcwd())

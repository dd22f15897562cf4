"""A Ray cluster on this machine: a head that trains nothing, and nodes that may die. Its fixture is `ray_nodes`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SMALL: dict[str, Any] = {"object_store_memory": 100 * 2**20, "include_dashboard": False}


class RayNodes:
    """The cluster, with as many nodes as a test wants.

    Args:
        caches: a folder for the nodes' caches.
    """

    def __init__(self, caches: Path) -> None:
        from ray.cluster_utils import Cluster

        from harness.launch.ray_token import MODE, make_own_token, read_environment_again

        # Of this cluster alone, and of what this process starts and joins: with the one in the home folder, a node that
        # is started after another program has made or removed that one would be refused.
        make_own_token()
        os.environ[MODE] = "token"
        read_environment_again()
        self.cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
        self._caches = caches
        self._alive: list[Any] = []

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def have_two(self) -> None:
        """Have two nodes of one processor, each with a cache of its own, in which there is no backbone yet."""
        while len(self._alive) < 2:
            cache = self._caches / f"node{len(os.listdir(self._caches))}"
            cache.mkdir()
            env = {"HARNESS_CACHE": str(cache), "HARNESS_LEASE_S": "30"}  # how long a dead node's trial is waited for
            self._alive.append(self.cluster.add_node(num_cpus=1, resources={"disk": 2}, env_vars=env, **SMALL))
        self.cluster.wait_for_nodes()

    def kill_one(self) -> None:
        """Take a node away as a power cut does."""
        self.cluster.remove_node(self._alive.pop(), allow_graceful=False)


@pytest.fixture(scope="session")
def ray_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    """The cluster; a test that uses it in this process is the first to connect, or connects anew."""
    made = RayNodes(tmp_path_factory.mktemp("caches"))
    yield made
    import ray

    ray.shutdown()
    made.cluster.shutdown()

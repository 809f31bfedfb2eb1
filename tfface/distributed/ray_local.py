"""Nodes of Ray's own cluster utility on this machine, for trials and tests; nobody else reaches them."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.errors import UserError
from tfface.utils.tensorflow_logs import held_stderr

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

_OBJECTS = 2**27
"""Bytes of memory a node shares between its processes: jobs are sent through it, and nothing large."""
_LOOPBACK = "127.0.0.1"
"""The one address at which Ray's servers listen to this machine alone."""
_SOON_NOTICED = {
    "health_check_initial_delay_ms": 5000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 10000,
    "health_check_failure_threshold": 8,
}
"""That a node was killed is noticed within ten seconds, not half a minute; a busy one may take its time."""


@contextlib.contextmanager
def nodes_here(count: int) -> Iterator[str]:
    """Nodes on this machine, each with its share of the cores; their address.

    Raises:
        UserError: this machine's system cannot hold them.
    """
    with empty_cluster() as cluster:
        with held_stderr():
            for number in range(count):
                add_node(cluster, number, count)
        yield str(cluster.address)


@contextlib.contextmanager
def empty_cluster() -> Iterator["Cluster"]:
    """A cluster to which nodes are added; they end with it."""
    if sys.platform != "linux":
        raise UserError("--cluster local:N is for Linux: give the address of a cluster, or leave it out")
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    # Or Ray takes 127.0.0.1 for a name of the machine's outward address, at which these nodes do not listen.
    flag = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    with _folder() as folder, _variables({flag: "0", "RAY_TMPDIR": folder}):
        cluster = Cluster()
        try:
            yield cluster
        finally:
            cluster.shutdown()
            ray_constants.ENABLE_RAY_CLUSTER = before


def add_node(cluster: "Cluster", number: int, count: int) -> None:
    """Starts a node with its share of the cores.

    Args:
        cluster: to which it belongs; number 0 is its head.
        number: of the node, from 0.
        count: how many nodes share this machine.
    """
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // count)
    head: dict[str, Any] = {} if number else {"include_dashboard": False, "_system_config": _SOON_NOTICED}
    # What a node starts inherits the cores of who starts it.
    os.sched_setaffinity(0, {cores[(number * share + place) % len(cores)] for place in range(share)})
    try:
        cluster.add_node(num_cpus=share, object_store_memory=_OBJECTS, node_ip_address=_LOOPBACK, **head)
    finally:
        os.sched_setaffinity(0, cores)


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    """A folder for sockets and logs that goes with the nodes; in Ray's own, those of every run would stay."""
    for left in Path("/tmp").glob("tfr-*-*"):
        if not Path("/proc", left.name.split("-")[1]).exists():
            shutil.rmtree(left, ignore_errors=True)  # its process was killed
    # Short, since the path of a socket may have but 107 characters.
    folder = tempfile.mkdtemp(prefix=f"tfr-{os.getpid()}-", dir="/tmp")
    # Where Ray notes the address of the nodes for others on this machine.
    Path(folder, "ray").mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """Environment variables, for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

"""Three nodes of Ray's test cluster on this machine, and workers on them."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

NODES = 3
SOON_NOTICED = {
    "health_check_initial_delay_ms": 5000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 10000,
    "health_check_failure_threshold": 8,
}
"""That a node was killed is noticed within ten seconds, not half a minute; a busy one may take its time."""


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    """A cluster to which nodes are added."""
    if sys.platform != "linux":
        pytest.skip("Ray's test cluster is for Linux")
    from tfface.distributed import cluster

    cluster.settle_ray()
    from ray.cluster_utils import Cluster

    with cluster.private_ray():
        nodes = Cluster()
        try:
            yield nodes
        finally:
            nodes.shutdown()


@pytest.fixture
def nodes(cluster):
    """Three nodes, of which all but the head may be removed; those that a test before removed are replaced."""
    for number in range(len(cluster.list_all_nodes()), NODES):
        add_node(cluster, number)
    return cluster


def add_node(cluster, number: int) -> None:
    """Starts a node with its share of the cores; number 0 is the head."""
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // NODES)
    head: dict[str, Any] = {} if number else {"include_dashboard": False, "_system_config": SOON_NOTICED}
    # What a node starts inherits the cores of who starts it.
    os.sched_setaffinity(0, {cores[(number * share + place) % len(cores)] for place in range(share)})
    try:
        cluster.add_node(num_cpus=share, object_store_memory=2**27, node_ip_address="127.0.0.1", **head)
    finally:
        os.sched_setaffinity(0, cores)


@pytest.fixture
def pool(nodes, request) -> Iterator:
    """Workers on the nodes; what the test's own module defines is sent to them as it is."""
    import ray

    from tfface.distributed.cluster import executor_at

    ray.cloudpickle.register_pickle_by_value(request.module)
    with executor_at(nodes.address) as executor:
        yield executor
    ray.cloudpickle.unregister_pickle_by_value(request.module)

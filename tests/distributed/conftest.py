"""Three nodes of Ray on this machine, and workers on them."""

from collections.abc import Iterator

import pytest

NODES = 3


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    """A cluster to which nodes are added."""
    from tfface.distributed import cluster, ray_local

    cluster.settle_ray()
    with ray_local.empty_cluster() as cluster:
        yield cluster


@pytest.fixture
def nodes(cluster):
    """Three nodes, of which all but the head may be removed; those that a test before removed are replaced."""
    from tfface.distributed import ray_local

    for number in range(len(cluster.list_all_nodes()), NODES):
        ray_local.add_node(cluster, number, NODES)
    return cluster


@pytest.fixture
def pool(nodes, request) -> Iterator:
    """Workers on the nodes; what the test's own module defines is sent to them as it is."""
    import ray

    from tfface.distributed.cluster import executor_at

    ray.cloudpickle.register_pickle_by_value(request.module)
    with executor_at(nodes.address) as executor:
        yield executor
    ray.cloudpickle.unregister_pickle_by_value(request.module)

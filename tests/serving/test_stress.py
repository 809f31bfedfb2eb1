import numpy as np

from benchmarks.serving import _right, stress
from tests.serving.stand_in import Refusal, StandIn


def test_many_clients_at_once(artifact, jpegs, expected):
    files = [*jpegs, jpegs[0][:200], b"text"]
    answers = [*expected(jpegs), None, None]
    server = StandIn("tiny", {1: artifact.path}, wait=0.02).start()
    try:
        servers = {"grpc": server.grpc, "rest": server.rest}
        stress(servers, "tiny", files, answers, clients=2, seconds=0.1)  # the first call compiles
        batcher = server.versions[1].batchers["embed_jpeg"]
        batcher.sizes.clear()
        server.fail = [Refusal("UNAVAILABLE", "full")] * 5
        found = stress(servers, "tiny", files, answers, clients=8, seconds=3)
    finally:
        server.stop()
    assert (found["wrong"], found["lost"], found["clients_that_failed"]) == (0, 0, 0)
    assert found["answered"] == sum(batcher.sizes) >= 8
    # One call holds four at most: these were merged.
    assert max(batcher.sizes) > 4


def test_what_is_right():
    vector = np.array([0.6, 0.8])
    assert _right(vector, True, vector + 5e-5) and _right(vector, False, None)
    assert not _right(vector, True, vector + 5e-4)
    assert not _right(vector, True, None) and not _right(vector, False, vector)

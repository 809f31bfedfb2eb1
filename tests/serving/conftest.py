"""The tiny embedder's SavedModel behind a stand-in for TensorFlow Serving."""

import socket
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.serving.stand_in import StandIn
from tfface.artifacts.artifact import Artifact
from tfface.artifacts.golden import drawn_photograph, jpeg_of
from tfface.artifacts.making import Order, make
from tfface.preprocessing.images import crop_files, recipe
from tfface.serving.client import connect
from tfface.serving.connection import Connection


@pytest.fixture(scope="session")
def artifact(tiny_embedder, tmp_path_factory) -> Artifact:
    out = tmp_path_factory.mktemp("served")
    return make(Order(tiny_embedder, recipe("center-140"), "savedmodel", "none"), out)


@pytest.fixture(scope="module")
def server(artifact) -> Iterator[StandIn]:
    """Serves the artifact as version 1 of `tiny`; messages up to 150 kB."""
    stand_in = StandIn("tiny", {1: artifact.path}, message_bytes=150_000).start()
    yield stand_in
    stand_in.stop()


@pytest.fixture(params=["grpc", "rest"])
def protocol(request) -> str:
    return request.param


@pytest.fixture
def connection(server, protocol) -> Iterator[Connection]:
    with connect(protocol, server.address(protocol), "tiny", deadline=20) as opened:
        yield opened


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Ports on which nobody listened a moment ago."""

    def find() -> int:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            return found.getsockname()[1]

    return find


@pytest.fixture(scope="session")
def jpegs() -> list[bytes]:
    return [jpeg_of(drawn_photograph(seed, 90 + seed, 80)) for seed in range(6)]


@pytest.fixture(scope="session")
def expected(tiny_embedder) -> Callable[[list[bytes]], np.ndarray]:
    """What the Keras model makes of photographs."""
    return lambda files: tiny_embedder.embed(crop_files(files, recipe("center-140"), 32)[0])

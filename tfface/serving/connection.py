"""A server's model, however it is reached."""

import abc
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tfface.errors import UserError

Inputs = Mapping[str, Sequence[bytes] | np.ndarray]
"""By name: files (N,), or an array of float32."""


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives: the types (`DT_STRING`) by name."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


class Connection(abc.ABC):
    """One model of one server; every call raises `ServerError` where it fails.

    Attributes:
        server: `host:port`.
        model: the name that it is served under.
        deadline: seconds that a call may take.
    """

    protocol: str

    def __init__(self, server: str, model: str, *, deadline: float = 30.0) -> None:
        self.server = server
        self.model = model
        self.deadline = deadline

    @abc.abstractmethod
    def states(self) -> dict[int, str]:
        """Each version's state: `LOADING`, `AVAILABLE`, ..."""

    @abc.abstractmethod
    def signatures(self, version: int) -> dict[str, Signature]:
        """What a version can be asked."""

    @abc.abstractmethod
    def predict(self, version: int, signature: str, inputs: Inputs) -> dict[str, np.ndarray]:
        """The outputs by name."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends the connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


def connect(protocol: str, server: str, model: str, *, deadline: float = 30.0) -> Connection:
    """A connection over `grpc` or `rest`; nothing is sent yet.

    Raises:
        UserError: the server is no `host:port`.
    """
    if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):\d{1,5}", server):
        raise UserError(f"{server!r} is no server: give HOST:PORT, as localhost:8500")
    # Each only where it is wanted: REST needs none of gRPC's packages.
    if protocol == "grpc":
        from tfface.serving.over_grpc import GrpcConnection

        return GrpcConnection(server, model, deadline=deadline)
    from tfface.serving.over_rest import RestConnection

    return RestConnection(server, model, deadline=deadline)

"""Connection to one model of a server, its errors, and retries of calls that failed."""

import abc
import time
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, TypeVar

import numpy as np
import tenacity

T = TypeVar("T")
Inputs = Mapping[str, Sequence[bytes] | np.ndarray]
"""By name: files (N,), or an array of float32."""

TRANSIENT = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})
"""Codes of errors that may pass. Every call here may be repeated: an answer that came too late does no harm."""
TOO_LARGE = "TOO_LARGE"
"""More than the server takes in one message: gRPC calls that RESOURCE_EXHAUSTED too, but it will not pass."""


class ServerError(Exception):
    """A call that failed.

    Attributes:
        code: by gRPC's name, over REST too; or `TOO_LARGE`.
        message: of the server, or of the network.
        attempts: number of tries.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = " ".join(message.split())
        self.attempts = 1


@dataclass(frozen=True)
class Retry:
    """Retries with exponential back-off and full jitter.

    Many clients of a server that comes back would otherwise all ask at once
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).

    Attributes:
        retries: of a call, after the first try.
        first: longest wait before the first of them, in seconds; it doubles from there.
        longest: bound of every wait, in seconds.
        pause: waits so many seconds.
    """

    retries: int = 4
    first: float = 0.25
    longest: float = 8.0
    pause: Callable[[float], None] = field(default=time.sleep, repr=False)

    def call(self, action: Callable[[], T]) -> T:
        """Return the answer of `action`, tried again where that may help.

        Raises:
            ServerError: the last one.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_pass),
            stop=tenacity.stop_after_attempt(self.retries + 1),
            wait=tenacity.wait_random_exponential(multiplier=self.first, max=self.longest),
            sleep=self.pause,
            reraise=True,
        )
        try:
            return retrying(action)
        except ServerError as error:
            error.attempts = retrying.statistics["attempt_number"]
            raise


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ServerError) and error.code in TRANSIENT


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a served function: the types (`DT_STRING`) by name."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


class Connection(abc.ABC):
    """One model of one server; every call raises `ServerError` where it fails.

    Attributes:
        server: `host:port`.
        model: name that it is served under.
        deadline: seconds that a call may take.
    """

    protocol: str

    def __init__(self, server: str, model: str, *, deadline: float = 30.0) -> None:
        self.server = server
        self.model = model
        self.deadline = deadline

    @abc.abstractmethod
    def states(self) -> dict[int, str]:
        """Return each version's state: `LOADING`, `AVAILABLE`, ..."""

    @abc.abstractmethod
    def signatures(self, version: int) -> dict[str, Signature]:
        """Return the functions that a version has."""

    @abc.abstractmethod
    def predict(self, version: int, signature: str, inputs: Inputs) -> dict[str, np.ndarray]:
        """Return the outputs by name."""

    @abc.abstractmethod
    def close(self) -> None:
        """End the connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

"""What a server may fail with, and how often it is asked again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

TRANSIENT = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})
"""What may pass. All that is asked here may be asked twice, so an answer that came too late does no harm."""
TOO_LARGE = "TOO_LARGE"
"""More than the server takes in one message: gRPC calls that RESOURCE_EXHAUSTED too, but it will not pass."""


class ServerError(Exception):
    """A call that failed.

    Attributes:
        code: by gRPC's name, over REST too; or `TOO_LARGE`.
        message: what the server said, or what came in its way.
        attempts: how often it was tried.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = " ".join(message.split())
        self.attempts = 1


@dataclass(frozen=True)
class Patience:
    """Exponential back-off with full jitter, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter.

    Many clients of a server that comes back would otherwise all ask at once.

    Attributes:
        retries: how often a call is tried again.
        first: the longest wait before the first of them, in seconds; it doubles from there.
        longest: which no wait exceeds.
        pause: waits so many seconds.
        draw: a number between two.
    """

    retries: int = 4
    first: float = 0.25
    longest: float = 8.0
    pause: Callable[[float], None] = field(default=time.sleep, repr=False)
    draw: Callable[[float, float], float] = field(default=random.uniform, repr=False)

    def call(self, action: Callable[[], T]) -> T:
        """The answer of `action`, tried again where that may help.

        Raises:
            ServerError: the last of them.
        """
        attempt = 1
        while True:
            try:
                return action()
            except ServerError as error:
                error.attempts = attempt
                if error.code not in TRANSIENT or attempt > self.retries:
                    raise
            self.pause(self.draw(0, min(self.longest, self.first * 2 ** (attempt - 1))))
            attempt += 1

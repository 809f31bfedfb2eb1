"""Where pieces of work are done: in this process, or on the workers of a cluster (`tfface.cluster`).

What is done is a `Job`. It holds what it needs as plain values; where another process is to do it, it is sent there
once, and what is large or bound to a process (networks, compiled functions) is made there, by `open`. What a job
yields goes to disk; only counts of what is done come back.
"""

import abc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Job(abc.ABC, Generic[Item]):
    """Something to be done to many items, in any order and on any worker.

    Attributes:
        whole_node: opening it is dear and it uses all cores itself: one worker a node does it. Else one a core.
    """

    whole_node = True

    @abc.abstractmethod
    def open(self) -> Callable[[Item], Iterator[int]]:
        """Loads what all items need; returns what does one, which yields how many units it has just done.

        Raises:
            UserError: something is missing here; another item would fail likewise.
        """


@dataclass(frozen=True)
class Step(Generic[Item]):
    """A part of an item was done, or the item could not be.

    Attributes:
        item: which.
        units: done since the last step.
        error: why it was given up; empty where all is well.
    """

    item: Item
    units: int
    error: str = ""


class Executor(abc.ABC):
    """Those who do the items of jobs."""

    together: int | None = None
    """How many items of a job that takes whole nodes are worked on at once; None: all is done in this process."""

    @abc.abstractmethod
    def run(self, job: Job[Item], items: Iterable[Item], *, apart: bool = False) -> Iterator[Step[Item]]:
        """Does all items, in any order.

        Args:
            job: what is done.
            items: to which.
            apart: by processes that may be lost, not by those that hold a node's work.

        Yields:
            What was done. An item that fails again and again, or ends every process that tries it, is given up and
            said so in a last step; in this process whatever it raises is raised.

        Raises:
            UserError: a worker lacks something that all items need; names the worker.
        """


class _Here(Executor):
    def run(self, job: Job[Item], items: Iterable[Item], *, apart: bool = False) -> Iterator[Step[Item]]:
        do = job.open()
        for item in items:
            yield from (Step(item, units) for units in do(item))


LOCAL: Executor = _Here()
"""This process."""

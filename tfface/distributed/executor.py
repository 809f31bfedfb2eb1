"""Pieces of work, done in this process or on the workers of a cluster.

A `Job` holds what it needs as plain values. Where another process does it, it is sent there once, and what is large or
bound to a process (networks, compiled functions) is made there, by `open`. What a job yields goes to disk; only counts
of what is done come back.
"""

import abc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Job(abc.ABC, Generic[Item]):
    """Work to be done on many items, in any order and on any worker.

    Attributes:
        whole_node: one worker a node, which uses all of its cores: for jobs that take long to open. Else one a core.
    """

    whole_node = True

    @abc.abstractmethod
    def open(self) -> Callable[[Item], Iterator[int]]:
        """Load what all items need.

        Returns:
            Function that does one item, and yields how many units it has just done.

        Raises:
            UserError: something is missing here; another item would fail likewise.
        """


@dataclass(frozen=True)
class Step(Generic[Item]):
    """Progress on an item, or its failure.

    Attributes:
        item: the item.
        units: done since the last step.
        error: why it was given up; empty where all is well.
    """

    item: Item
    units: int
    error: str = ""


class Executor(abc.ABC):
    """Base of those that do the items of jobs."""

    together: int | None = None
    """Items of a job of whole nodes that are worked on at once; None: all is done in this process."""

    @abc.abstractmethod
    def run(self, job: Job[Item], items: Iterable[Item], *, apart: bool = False) -> Iterator[Step[Item]]:
        """Do all items, in any order.

        Args:
            job: the work.
            items: the items to do it on.
            apart: use processes that may be lost, not those that hold a node's work.

        Yields:
            What was done. An item that fails repeatedly, or ends every process that tries it, is given up and reported
            in a last step; in this process, whatever it raises is raised.

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

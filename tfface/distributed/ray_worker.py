"""What runs in a worker process of a cluster: it opens a job once and does items of it."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tfface.distributed.executor import Job
from tfface.errors import UserError


@dataclass(frozen=True)
class TaskResult:
    """What a worker answers.

    Attributes:
        units: that were done.
        lacking: what is missing on its node, so that no item can be done there; empty where nothing is.
    """

    units: int = 0
    lacking: str = ""


class Worker:
    """Holds one open job at a time.

    It is the body of an actor where a job takes a whole node, and is kept in the process of tasks where not.
    """

    def __init__(self, node: str, environment: Mapping[str, str], cores: int) -> None:
        """
        Args:
            node: its name for messages.
            environment: variables to set, before anything heavy is imported.
            cores: how many threads it may use.
        """
        self._node, self._job = node, ""
        self._do: Callable[[Any], Iterator[int]] | None = None
        os.environ.update(environment)
        _limit_threads(cores)

    def open(self, name: str, job: list[Any]) -> TaskResult:
        """Opens a job unless it is open.

        Args:
            name: of the job.
            job: a reference to it, in a list: so it is fetched here, once, and not with every call.
        """
        if self._job == name:
            return TaskResult()
        import ray

        try:
            opened: Job[Any] = ray.get(job[0])
            self._do, self._job = opened.open(), name
        except UserError as error:
            return TaskResult(lacking=f"node {self._node}: {error}")
        return TaskResult()

    def do(self, name: str, job: list[Any], item: Any) -> TaskResult:
        """Does an item; what it raises, other than of what is lacking, is Ray's to repeat."""
        opened = self.open(name, job)
        if opened.lacking:
            return opened
        assert self._do is not None, "opened above"
        try:
            return dataclasses.replace(opened, units=sum(self._do(item)))
        except UserError as error:
            return TaskResult(lacking=f"node {self._node}: {error}")


_workers: dict[str, Worker] = {}


def do_task(node_environment: Mapping[str, str], name: str, job: list[Any], item: Any) -> TaskResult:
    """Does an item in a process that Ray keeps for tasks; the job stays open for the next."""
    if "task" not in _workers:
        _workers["task"] = Worker(address_here(), node_environment, 1)
    return _workers["task"].do(name, job, item)


def address_here() -> str:
    """The address of the node that this process is on."""
    import ray.util

    return str(ray.util.get_node_ip_address())


def _limit_threads(cores: int) -> None:
    """TensorFlow, OpenMP and OpenCV each take all cores of the machine unless they are told."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(cores)
    from tfface.utils import tensorflow_logs

    tensorflow_logs.install()
    import cv2

    cv2.setNumThreads(cores)

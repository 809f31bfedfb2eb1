"""Workers of a Ray cluster: actors that hold a model, one a node, and tasks that hold none, one a core.

`Worker` and what it calls run in the processes of the cluster, all else in the process that hands out the work.
"""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tfface.distributed.executor import Executor, Item, Job, Step
from tfface.errors import UserError

ITEM_RETRIES = 1
"""Repeats of an item whose process ended or that raised, before it is given up.

Few, since a process that holds a model takes long to start again; what is given up is tried anew, apart.
"""
TASK_RETRIES = 3
OPEN_RETRIES = 60
"""About one a second, while Ray starts an actor's process again, or finds out that its node died."""


class Pool(Executor):
    """Executor of Ray's actors and tasks."""

    def __init__(self, nodes: list[dict[str, Any]], environment: Mapping[str, str]) -> None:
        """
        Args:
            nodes: one for each worker, alive and with cores, as `ray.nodes()` has them.
            environment: variables that every worker sets.
        """
        self._nodes, self._environment = nodes, dict(environment)
        self._numbers = itertools.count()
        self._actors: list[Any] = []
        self.together = len(nodes)

    def run(self, job: Job[Item], items: Iterable[Item], *, apart: bool = False) -> Iterator[Step[Item]]:
        name, reference = f"job-{next(self._numbers)}", [ray.put(job)]
        if job.whole_node and not apart:
            return self._on_actors(name, reference, iter(items))
        return self._as_tasks(name, reference, items, ITEM_RETRIES if apart else TASK_RETRIES)

    def _on_actors(self, name: str, job: list[Any], items: Iterator[Item]) -> Iterator[Step[Item]]:
        if not self._actors:
            self._actors = [self._actor(node) for node in self._nodes]

        def opened(actor: Any) -> Any:
            return actor.open.options(max_task_retries=OPEN_RETRIES).remote(name, job)

        # All open it first, so that a node that lacks something says so before any work is done.
        opening = [(actor, _answer(opened(actor))) for actor in self._actors]
        idle = [actor for actor, answer in opening if not answer.error]
        if not idle:
            raise UserError(f"no worker can begin: {opening[0][1].error}")
        busy: dict[Any, tuple[Any, Item]] = {}
        ended: dict[Any, tuple[Any, Item, _Answer]] = {}
        while True:
            for actor, item in zip(list(idle), items, strict=False):
                idle.remove(actor)
                busy[actor.do.options(retry_exceptions=True).remote(name, job, item)] = actor, item
            if not busy and not ended:
                break
            (done,), _ = ray.wait([*busy, *ended], num_returns=1)
            answer = _answer(done)
            if done in busy:
                actor, item = busy.pop(done)
                if answer.ended:
                    # Did the item end the process, or is its node dead? Ray needs a while to find out.
                    ended[opened(actor)] = actor, item, answer
                    continue
            else:
                actor, item, before = ended.pop(done)
                if answer.ended:
                    self._actors.remove(actor)
                    items = itertools.chain([item], items)  # for another node
                    continue
                answer = before
            idle.append(actor)
            yield Step(item, answer.units, answer.error)
        if not idle:
            raise UserError("no worker is left: all nodes of the cluster ended; the same command goes on with others")

    def _as_tasks(self, name: str, job: list[Any], items: Iterable[Item], retries: int) -> Iterator[Step[Item]]:
        task = ray.remote(do_task).options(
            num_cpus=1, max_retries=retries, retry_exceptions=True, scheduling_strategy="SPREAD"
        )
        left = {task.remote(self._environment, name, job, item): item for item in items}
        while left:
            ray.wait(list(left), num_returns=1)
            done, _ = ray.wait(list(left), num_returns=len(left), timeout=0)
            for reference in done:
                answer = _answer(reference)
                yield Step(left.pop(reference), answer.units, answer.error)

    def _actor(self, node: dict[str, Any]) -> Any:
        """Start an actor on a node: it starts again if its process ends, and ends with its node."""
        resources = node["Resources"]
        options = {
            "max_restarts": -1,
            "max_task_retries": ITEM_RETRIES,
            # It keeps no core from tasks, which run when it is idle, and may share a card with another run's.
            "num_cpus": 0,
            "num_gpus": min(0.5, resources.get("GPU", 0)),
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        }
        created = ray.remote(Worker).options(**options)
        return created.remote(node["NodeManagerAddress"], self._environment, int(resources["CPU"]))


@dataclass(frozen=True)
class _Answer:
    """Outcome of an item: units done, or an error; `ended`: the process that did it is gone."""

    units: int = 0
    error: str = ""
    ended: bool = False


def _answer(reference: Any) -> _Answer:
    """Return the outcome of an item.

    Raises:
        UserError: its worker lacks something.
    """
    try:
        outcome: TaskResult = ray.get(reference)
    except RayTaskError as error:
        cause = error.cause if isinstance(error.cause, BaseException) else error
        return _Answer(error=f"{type(cause).__name__}: {cause}".splitlines()[0])
    except RayError as error:
        return _Answer(error=f"the process that did it ended ({type(error).__name__})", ended=True)
    if outcome.lacking:
        raise UserError(outcome.lacking)
    return _Answer(outcome.units)


@dataclass(frozen=True)
class TaskResult:
    """Answer of a worker.

    Attributes:
        units: done.
        lacking: what is missing on its node, so that no item can be done there; empty for nothing.
    """

    units: int = 0
    lacking: str = ""


class Worker:
    """Process that holds one open job at a time.

    It is the body of an actor where a job takes a whole node, else it lives in the process of tasks.
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
        """Open a job unless it is open.

        Args:
            name: of the job.
            job: reference to it, in a list, so that it is fetched here, once, and not with every call.
        """
        if self._job == name:
            return TaskResult()
        try:
            opened: Job[Any] = ray.get(job[0])
            self._do, self._job = opened.open(), name
        except UserError as error:
            return TaskResult(lacking=f"node {self._node}: {error}")
        return TaskResult()

    def do(self, name: str, job: list[Any], item: Any) -> TaskResult:
        """Do an item; Ray repeats it if it raises anything but a lack."""
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
    """Do an item in a process that Ray keeps for tasks; the job stays open for the next."""
    if "task" not in _workers:
        _workers["task"] = Worker(address_here(), node_environment, 1)
    return _workers["task"].do(name, job, item)


def address_here() -> str:
    """Return the address of the node that this process is on."""
    return str(ray.util.get_node_ip_address())


def _limit_threads(cores: int) -> None:
    """Limit TensorFlow, OpenMP and OpenCV, which would each take all cores of the machine."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(cores)
    import cv2

    cv2.setNumThreads(cores)

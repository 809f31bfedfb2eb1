"""The workers of a Ray cluster: actors that hold a model, one a node, and tasks that hold none, one a core."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tfface.distributed.executor import Executor, Item, Job, Step
from tfface.distributed.ray_worker import TaskResult, Worker, do_task
from tfface.errors import UserError

ITEM_RETRIES = 1
"""How often Ray repeats an item whose process ended or that raised, before it is given up.

Few, since a process that holds a model takes long to start again; what is given up is tried anew, apart.
"""
TASK_RETRIES = 3
OPEN_RETRIES = 60
"""Ray makes about one a second while it starts an actor's process again, or finds out that its node died."""


class Pool(Executor):
    """Ray's actors and tasks as workers."""

    def __init__(self, nodes: list[dict[str, Any]], environment: Mapping[str, str]) -> None:
        """
        Args:
            nodes: alive and with cores, as `ray.nodes()` has them.
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
        """An actor that starts again should its process end, and ends with its node: another node has its own."""
        resources = node["Resources"]
        options = {
            "max_restarts": -1,
            "max_task_retries": ITEM_RETRIES,
            # It keeps no core from tasks, which run when it is idle, and may share a card with another run's.
            "num_cpus": 0,
            "num_gpus": 0.5 if resources.get("GPU") else 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        }
        created = ray.remote(Worker).options(**options)
        return created.remote(node["NodeManagerAddress"], self._environment, int(resources["CPU"]))


@dataclass(frozen=True)
class _Answer:
    """What Ray gives for an item: what was done, or why nothing; `ended`: not even the process lives."""

    units: int = 0
    error: str = ""
    ended: bool = False


def _answer(reference: Any) -> _Answer:
    """What became of an item.

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

"""Missing rows of a store, computed here or on the workers of a cluster; rows that cannot be computed are left out."""

import abc
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from tfface.distributed.executor import LOCAL as LOCAL
from tfface.distributed.executor import Executor as Executor
from tfface.distributed.executor import Job, Step
from tfface.errors import UserError
from tfface.utils.cache import Range, Store
from tfface.utils.progress import progress

logger = logging.getLogger(__name__)

T = TypeVar("T")
_SECONDS_TO_SEE = 90
MOST_GIVEN_UP = 100
"""Rows that may be given up in one run; where more fail, the fault is not theirs."""


@dataclass(frozen=True)
class Piece:
    """Rows to compute: the item of a `RowJob`.

    Attributes:
        parts: whole shards that follow on each other, or, in a trial, any range.
        given_up: rows to leave out, and why.
        trial: only find out if they can be computed; nothing is saved.
    """

    parts: tuple[Range, ...]
    given_up: Mapping[int, str] = field(default_factory=dict)
    trial: bool = False


Save = Callable[[Range, pa.Table], None]


class RowJob(Job[Piece]):
    """Computation of the rows of a store.

    Attributes:
        store: the store; its folder is the same on all workers.
        longest: most shards that a worker is given at once.
        separable: a row may be given up while the others go on.
    """

    store: Store
    longest = 4
    separable = True

    def open(self) -> Callable[[Piece], Iterator[int]]:
        self.prepare()
        return self._piece

    @abc.abstractmethod
    def prepare(self) -> None:
        """Load what all rows need.

        Raises:
            UserError: it cannot be had here.
        """

    @abc.abstractmethod
    def compute(self, parts: Sequence[Range], given_up: Mapping[int, str], save: Save) -> Iterator[int]:
        """Compute and save each part; yield how many units are done, as they are."""

    def check(self) -> None:
        """Check that computed rows may be saved; by default they may.

        Raises:
            UserError: what they were computed from has changed meanwhile.
        """

    def units(self, part: Range) -> int:
        """Return how many units of progress a part is."""
        return part[1] - part[0]

    def _piece(self, piece: Piece) -> Iterator[int]:
        if piece.trial:
            yield from self.compute(piece.parts, piece.given_up, _discard)
            return
        # A worker before this one may have done some and died before it could report them.
        parts = [part for part in piece.parts if not self.store.has(part)]
        yield sum(map(self.units, piece.parts)) - sum(map(self.units, parts))
        yield from self.compute(parts, piece.given_up, self._save)

    def _save(self, part: Range, table: pa.Table) -> None:
        self.check()
        self.store.save(part, table)


def fill(job: RowJob, *, label: str, unit: str = "images", executor: Executor = LOCAL) -> None:
    """Compute what is missing in a job's store.

    Args:
        job: computation of the rows.
        label: of the progress, as a gerund.
        unit: of the progress.
        executor: does the work.

    Raises:
        UserError: a worker lacks something, or rows fail that cannot be given up.
    """

    def compute(missing: Sequence[Range], save: Save) -> None:
        total = sum(map(job.units, job.store.ranges()))
        done = total - sum(map(job.units, missing))
        failed: list[Step[Piece]] = []
        units = _units(executor.run(job, pieces(missing, job.longest, executor.together)), failed)
        for _ in progress(units, total=total, done=done, label=label, unit=unit):
            pass
        if failed:
            _go_round(job, failed, executor)
        if executor.together is not None:
            _await_all(job.store)

    job.store.fill(compute)


def _await_all(store: Store) -> None:
    """Wait until files that other machines wrote are seen here: a network file system may remember them as absent."""
    deadline = time.monotonic() + _SECONDS_TO_SEE
    while store.missing() and time.monotonic() < deadline:
        os.listdir(store.folder)  # has it look again
        time.sleep(0.5)


def _units(steps: Iterator[Step[Piece]], failed: list[Step[Piece]]) -> Iterator[int]:
    """Yield once for each unit done; steps that were given up go to `failed`."""
    for step in steps:
        if step.error:
            failed.append(step)
        yield from range(step.units)


def pieces(missing: Sequence[Range], longest: int, together: int | None) -> Iterator[Piece]:
    """Cut work into pieces of neighbours: long ones first, single shards at the end, so that all end together.

    Args:
        missing: the shards, in order.
        longest: most shards in a piece.
        together: workers at once; None: one does all, as one piece.
    """
    start = 0
    while start < len(missing):
        left = len(missing) - start
        size = left if together is None else min(longest, max(1, left // (3 * together)))
        yield Piece(tuple(missing[start : start + size]))
        start += size


def _go_round(job: RowJob, failed: list[Step[Piece]], executor: Executor) -> None:
    """Compute what failed: as it is, then without the rows that make it fail, which are found by halving."""
    parts = [part for step in failed for part in step.item.parts if not job.store.has(part)]
    failed = _still_failing(executor.run(job, [Piece((part,)) for part in parts], apart=True))
    if not failed:
        return
    if not job.separable:
        raise UserError(f"{len(failed)} parts of {job.store.folder} fail again and again: {failed[0].error}")
    parts = [step.item.parts[0] for step in failed]
    given_up = _culprits(job, parts, executor)
    for row, reason in sorted(given_up.items()):
        logger.warning(f"row {row} is given up: {reason}")
    again = [Piece((part,), {row: why for row, why in given_up.items() if part[0] <= row < part[1]}) for part in parts]
    failed = _still_failing(executor.run(job, again, apart=True))
    if failed:
        raise UserError(f"rows {failed[0].item.parts[0]} of {job.store.folder} fail again and again: {failed[0].error}")


def _still_failing(steps: Iterator[Step[Piece]]) -> list[Step[Piece]]:
    return [step for step in steps if step.error]


def _culprits(job: RowJob, parts: Sequence[Range], executor: Executor) -> dict[int, str]:
    """Find the rows that fail by themselves, and their errors."""
    found: dict[int, str] = {}
    suspects = list(parts)
    while suspects:
        trials = [Piece((half,), trial=True) for part in suspects for half in _halves(part)]
        failed = _still_failing(executor.run(job, trials, apart=True))
        ranges = [(step.item.parts[0], step.error) for step in failed]
        found |= {start: error for (start, stop), error in ranges if stop - start == 1}
        suspects = [part for part, _ in ranges if part[1] - part[0] > 1]
        if len(found) + len(suspects) > MOST_GIVEN_UP:
            raise UserError(f"more than {MOST_GIVEN_UP} rows of {job.store.folder} fail: {ranges[0][1]}")
    return found


def _halves(part: Range) -> Iterator[Range]:
    middle = (part[0] + part[1]) // 2
    return itertools.pairwise(sorted({part[0], middle, part[1]}))


def _discard(part: Range, table: pa.Table) -> None:
    """Save nothing."""

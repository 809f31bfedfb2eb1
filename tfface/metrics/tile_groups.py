"""Tiles by threads, and groups of tiles as rows of a store: what a large set's pairs are scored in.

A group is a square of neighbouring tiles, which share the rows that they read. What it yields is kept
as one row, so that a killed run, or another machine, goes on with the groups that are missing.
"""

import abc
import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
import pyarrow as pa
import threadpoolctl

from tfface.distributed.executor import LOCAL, Executor
from tfface.distributed.rows import RowJob, Save, fill
from tfface.metrics.pair_tiles import Tile, TilePlan
from tfface.utils.array_file import FlatRows
from tfface.utils.cache import Range, Store
from tfface.utils.files import digest_of

T = TypeVar("T")
Arrays = dict[str, np.ndarray]
_LONGEST_SIDE = 16
"""Tiles: a group of 16 x 16 takes a core some seconds."""
_AT_ONCE = 1024
_FORMAT = 1


def over_tiles(function: Callable[[Tile], T], tiles: Iterable[Tile], *, threads: int | None = None) -> Iterator[T]:
    """Yields a function's value for each tile, in order, computed by threads.

    A thread takes a whole tile, so the libraries underneath get one thread each meanwhile.
    """
    pool = ThreadPoolExecutor(threads or _cores())
    left = iter(tiles)
    try:
        with threadpoolctl.threadpool_limits(1), _one_thread_in_opencv():
            while some := list(itertools.islice(left, _AT_ONCE)):
                yield from pool.map(function, some)
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    # Where the system can tell, those that this process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _one_thread_in_opencv() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@dataclass(frozen=True)
class TileGroups:
    """A plan's tiles in groups; how they are grouped depends on nothing but the plan.

    Attributes:
        plan: the tiles.
        region: of which tiles; None for all.
    """

    plan: TilePlan
    region: str | None = None

    def all(self) -> list[tuple[range, range]]:
        """The blocks of rows and of columns of each group that has tiles."""
        count = len(self.plan.blocks)
        side = min(max(count // _LONGEST_SIDE, 1), _LONGEST_SIDE)
        spans = [range(start, min(start + side, count)) for start in range(0, count, side)]
        pairs = itertools.combinations_with_replacement(spans, 2)
        return [pair for pair in pairs if self.region is None or any(True for _ in self.tiles(pair))]

    def tiles(self, group: tuple[range, range]) -> Iterator[Tile]:
        """A group's tiles, in order."""
        found = (self.plan.at(row, column) for row in group[0] for column in group[1] if column >= row)
        return (tile for tile in found if self.region in (None, tile.region))


class TileJob(RowJob):
    """What is to be found out about each group of tiles.

    Attributes:
        rows: sorted embeddings.
        codes: (N,) identity of each row, never descending.
        groups: which tiles.
        threads: that work on a group.
    """

    whole_node = False
    longest = 1
    separable = False

    rows: FlatRows
    codes: np.ndarray
    groups: TileGroups
    threads: int | None

    @abc.abstractmethod
    def arrays(self, tiles: Iterable[Tile]) -> Arrays:
        """What is found out about the tiles of a group."""

    def units(self, part: Range) -> int:
        return 1

    def prepare(self) -> None:
        self.rows[:1]

    def compute(self, parts: Sequence[Range], given_up: Mapping[int, str], save: Save) -> Iterator[int]:
        groups = self.groups.all()
        for part in parts:
            save(part, _packed(self.arrays(self.groups.tiles(groups[part[0]]))))
            yield 1


def tile_store(kind: str, rows: FlatRows, codes: np.ndarray, groups: TileGroups, facts: dict[str, Any]) -> Store:
    """The store of what is found out about groups of tiles.

    Args:
        kind: what is found out.
        rows: sorted embeddings, in a file named by its content.
        codes: (N,) identity of each row.
        groups: which tiles.
        facts: JSON-able; all else that it depends on.
    """
    edges = np.flatnonzero(np.diff(codes)).tolist()
    fingerprint = {
        "format": _FORMAT,
        **facts,
        "rows_digest": rows.path.stem,
        "columns": rows.shape[1],
        "identities": digest_of(edges),
        "blocks": digest_of([list(block) for block in groups.plan.blocks]),
        "region": groups.region,
    }
    return Store(kind, fingerprint, len(groups.all()), shard_rows=1)


def found_by(job: TileJob, *, label: str, executor: Executor = LOCAL) -> Iterator[Arrays]:
    """What is found out about each group; what is not on disk is computed first."""
    fill(job, label=label, unit="parts", executor=executor)
    for table in job.store.tables():
        yield {name: table[name][0].values.to_numpy(zero_copy_only=False) for name in table.column_names}


def _packed(arrays: Arrays) -> pa.Table:
    """Flat arrays as one row, a column each."""
    return pa.table(
        {name: pa.array([values], pa.list_(pa.from_numpy_dtype(values.dtype))) for name, values in arrays.items()}
    )

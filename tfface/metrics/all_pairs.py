"""Exact scores of all pairs of a set of embeddings.

`all_pairs` counts every pair of N embeddings, genuine and impostor apart, in memory that does not
grow with the number of pairs. The people are split at random into halves A and B, so that a
threshold can be chosen on one half and tested on the other; pairs across the halves are counted
apart. Scores are float32 cosine distances, clipped to [0, 2]; sums are float64.

Threads work on tiles. A large set is scored in groups of tiles: squares of neighbouring tiles, which
share the rows that they read. What a group yields is one row of a store, so that a killed run, or
another machine, goes on with the groups that are missing.
"""

import abc
import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import cv2
import numpy as np
import pyarrow as pa
import threadpoolctl

from tfface.distributed.rows import LOCAL, Executor, RowJob, Save, fill
from tfface.errors import UserError
from tfface.metrics.pair_merging import Merger, PairSummary
from tfface.metrics.pair_tiles import TILE, WORST, Tile, TilePlan, TileResult, score_tile, tile_plan
from tfface.utils.cache import MOST_IN_MEMORY, FlatRows, Range, Store, chunks_of, reordered
from tfface.utils.files import cache_dir, digest_of
from tfface.utils.progress import progress

MOST_GENUINE_KEPT = 5_000_000
"""Genuine pairs are returned one by one up to this many; beyond it they are only counted."""

T = TypeVar("T")
Arrays = dict[str, np.ndarray]
_LONGEST_SIDE = 16
"""Tiles: a group of 16 x 16 takes a core some seconds."""
_AT_ONCE = 1024
_FORMAT = 1


@dataclass(frozen=True)
class Arrangement:
    """Order in which images are scored: by half of the people, then by identity.

    Attributes:
        order: (N,) the image at each row.
        codes: (N,) the identity at each row; identities of half A come first.
        names: the identity of each code.
        boundary: the first row of half B.
    """

    order: np.ndarray
    codes: np.ndarray
    names: np.ndarray
    boundary: int

    @cached_property
    def sizes(self) -> np.ndarray:
        """Images of each identity."""
        return np.bincount(self.codes, minlength=len(self.names))

    @property
    def genuine_pairs(self) -> int:
        """Number of pairs that show one person."""
        return int((self.sizes * (self.sizes - 1) // 2).sum())


def arrange(identities: Sequence[str] | Sequence[int] | np.ndarray, *, seed: int) -> Arrangement:
    """Split the people at random into two halves (A gets the odd one) and sort the images by them."""
    names, codes = np.unique(np.asarray(identities), return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    people_in_a = (len(names) + 1) // 2
    listed = np.concatenate([np.sort(shuffled[:people_in_a]), np.sort(shuffled[people_in_a:])])
    codes = np.argsort(listed)[codes]
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    return Arrangement(order, codes, names[listed], int(np.searchsorted(codes, people_in_a)))


def all_pairs(
    embeddings: np.ndarray,
    identities: Sequence[str] | Sequence[int] | np.ndarray,
    *,
    seed: int,
    images: np.ndarray | None = None,
    tile: int = TILE,
    worst: int = WORST,
    threads: int | None = None,
    executor: Executor = LOCAL,
) -> PairSummary:
    """Score every pair of images; pairs in the summary name images by their place in `identities`.

    Args:
        embeddings: (M, D) unit vectors.
        identities: (N,) the person on each image; people with one image count for impostor pairs alone.
        seed: random seed of the split of the people into halves.
        images: (N,) row of `embeddings` of each image; the rows in order if None.
        tile: longest side of a block of pairs; the counts do not depend on it.
        worst: number of the worst pairs of each kind to return.
        threads: threads of this process; by default one a core.
        executor: this process, or a cluster, which stores the scores of groups of tiles on disk.

    Raises:
        UserError: fewer than two images, or embeddings that are not unit vectors.
    """
    arrangement = arrange(identities, seed=seed)
    rows = sorted_rows(embeddings, arrangement, images, on_disk=executor is not LOCAL)
    keep = arrangement.genuine_pairs <= MOST_GENUINE_KEPT
    plan = tile_plan(len(arrangement.order), tile, boundary=arrangement.boundary)
    merger = Merger(worst=worst, keep_genuine=keep)
    if isinstance(rows, FlatRows):
        job = scoring_job(rows, arrangement.codes, plan, worst, keep, threads if executor is LOCAL else 1)
        for held in found_by(job, label="scoring pairs", executor=executor):
            merger.absorb(held)
    else:
        in_memory = rows

        def score(part: Tile) -> TileResult:
            return score_tile(in_memory, arrangement.codes, part, worst=worst, keep_genuine=keep)

        results = over_tiles(score, plan, threads=threads)
        for result in progress(results, total=len(plan), label="scoring pairs", unit="blocks"):
            merger.add(result)
    return merger.summary().of_images(arrangement.order)


def sorted_rows(
    embeddings: np.ndarray, arrangement: Arrangement, images: np.ndarray | None = None, *, on_disk: bool = False
) -> np.ndarray | FlatRows:
    """Return the checked embeddings as float32 in the arrangement's order, on disk if asked or if they are large.

    Args:
        embeddings: (M, D) unit vectors.
        arrangement: order of N images.
        images: (N,) row of `embeddings` of each image; the rows in order if None.
        on_disk: on disk even if they are not large.

    Raises:
        UserError: not one for each image, fewer than two, or one that is no unit vector.
    """
    count = len(embeddings) if images is None else len(images)
    if count != len(arrangement.order):
        raise UserError(f"{count} embeddings for {len(arrangement.order)} identities: give one an image")
    if count < 2:
        raise UserError(f"{count} images make no pair: give at least two")
    order = arrangement.order if images is None else images[arrangement.order]
    _check_units(embeddings, images)
    if on_disk or count * embeddings.shape[1] * 4 > MOST_IN_MEMORY:
        return reordered(cache_dir("pair-rows"), embeddings, order)
    return np.ascontiguousarray(embeddings[order], dtype=np.float32)


def _check_units(embeddings: np.ndarray, images: np.ndarray | None) -> None:
    used = np.ones(len(embeddings), bool) if images is None else np.isin(np.arange(len(embeddings)), images)
    for start, chunk in chunks_of(embeddings):
        off = np.abs(np.linalg.norm(chunk.astype(np.float32), axis=1) - 1)
        # Written so that NaN is caught too.
        wrong = np.flatnonzero(~(off <= 1e-3) & used[start : start + len(chunk)])
        if len(wrong):
            image = start + wrong[0]
            raise UserError(f"the embedding of image {image} is not a unit vector: divide embeddings by their norms")


def over_tiles(function: Callable[[Tile], T], tiles: Iterable[Tile], *, threads: int | None = None) -> Iterator[T]:
    """Yield the value of a function for each tile, in order, computed by threads.

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
    """Tiles of a plan in groups, which depend on nothing but the plan.

    Attributes:
        plan: the tiles.
        region: of which tiles; None for all.
    """

    plan: TilePlan
    region: str | None = None

    def all(self) -> list[tuple[range, range]]:
        """Return the blocks of rows and of columns of each group that has tiles."""
        count = len(self.plan.blocks)
        side = min(max(count // _LONGEST_SIDE, 1), _LONGEST_SIDE)
        spans = [range(start, min(start + side, count)) for start in range(0, count, side)]
        pairs = itertools.combinations_with_replacement(spans, 2)
        return [pair for pair in pairs if self.region is None or any(True for _ in self.tiles(pair))]

    def tiles(self, group: tuple[range, range]) -> Iterator[Tile]:
        """Yield the tiles of a group, in order."""
        found = (self.plan.at(row, column) for row in group[0] for column in group[1] if column >= row)
        return (tile for tile in found if self.region in (None, tile.region))


class TileJob(RowJob):
    """Computation of some arrays for each group of tiles.

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
        """Compute the arrays of the tiles of a group."""

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
    """Open the store of the arrays of groups of tiles.

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
    """Yield the arrays of each group; those that are not on disk are computed first."""
    fill(job, label=label, unit="parts", executor=executor)
    for table in job.store.tables():
        yield {name: table[name][0].values.to_numpy(zero_copy_only=False) for name in table.column_names}


def _packed(arrays: Arrays) -> pa.Table:
    """Pack flat arrays as one row, a column each."""
    return pa.table(
        {name: pa.array([values], pa.list_(pa.from_numpy_dtype(values.dtype))) for name, values in arrays.items()}
    )


@dataclass(frozen=True, eq=False)
class _Scoring(TileJob):
    """Scores of each group of tiles."""

    rows: FlatRows
    codes: np.ndarray
    groups: TileGroups
    worst: int
    keep_genuine: bool
    threads: int | None
    store: Store

    def arrays(self, tiles: Iterable[Tile]) -> Arrays:
        merger = Merger(worst=self.worst, keep_genuine=self.keep_genuine)
        for result in over_tiles(self._score, tiles, threads=self.threads):
            merger.add(result)
        return merger.arrays()

    def _score(self, tile: Tile) -> TileResult:
        return score_tile(self.rows, self.codes, tile, worst=self.worst, keep_genuine=self.keep_genuine)


def scoring_job(
    rows: FlatRows, codes: np.ndarray, plan: TilePlan, worst: int, keep_genuine: bool, threads: int | None
) -> TileJob:
    """Make the job that scores all pairs of rows on disk."""
    groups = TileGroups(plan)
    store = tile_store("pair-scores", rows, codes, groups, {"worst": worst, "keep_genuine": keep_genuine})
    return _Scoring(rows, codes, groups, worst, keep_genuine, threads, store)

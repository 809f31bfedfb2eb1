"""Distances of unit vectors, and the exact scores of all pairs of a set.

`all_pairs` counts every pair of N embeddings, genuine and impostor apart, in memory that does not
grow with the number of pairs. The people are split at random into halves A and B, so that a
threshold can be chosen on the one and judged on the other; pairs across the halves are counted
apart. Scores are float32 cosine distances, clipped to [0, 2]; sums are float64.
"""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import cv2
import numpy as np
import threadpoolctl

from tfface.console import progress
from tfface.errors import UserError
from tfface.pair_tiles import BINS, TILE, WORST, Pairs, Tally, Tile, TileResult, join, score_tile, tile_plan

METRICS = ("cosine", "euclidean")
REGIONS = ("a", "b", "across")
MOST_GENUINE_KEPT = 5_000_000
"""Genuine pairs are returned one by one up to this many; beyond it they are only counted."""

T = TypeVar("T")


def cosine_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 minus the inner product of each row of `a` with that of `b`, in [0, 2].

    Args:
        a: (N, D) unit vectors.
        b: (N, D) unit vectors.

    Returns:
        (N,) float64.
    """
    return np.clip(1 - np.vecdot(a.astype(np.float64), b.astype(np.float64)), 0, 2)


def euclidean_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The length of the difference of each row of `a` and that of `b`: sqrt(2 x cosine distance)."""
    return np.linalg.norm(a.astype(np.float64) - b.astype(np.float64), axis=1)


def from_cosine(distance: T, metric: str) -> T:
    """Cosine distances (or thresholds), an array or a number, in another metric."""
    return distance if _checked(metric) == "cosine" else np.sqrt(2 * distance)  # type: ignore[operator]


def to_cosine(threshold: float, metric: str) -> float:
    """A metric's threshold as one on the cosine distance.

    Rounded to 13 digits: that gives back the exact edges of the bins (multiples of 2**-13) after the
    detour over a square root, and is far below what float32 scores tell apart.
    """
    return threshold if _checked(metric) == "cosine" else round(threshold * threshold / 2, 13)


def _checked(metric: str) -> str:
    if metric not in METRICS:
        raise UserError(f"unknown metric {metric!r}; valid: {', '.join(METRICS)}")
    return metric


@dataclass(frozen=True)
class Arrangement:
    """The order in which images are scored: by half, then by identity.

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
        """How many pairs show one person."""
        return int((self.sizes * (self.sizes - 1) // 2).sum())


def arrange(identities: Sequence[str] | Sequence[int] | np.ndarray, *, seed: int) -> Arrangement:
    """Splits the people at random into two halves (A gets the odd one) and sorts the images."""
    names, codes = np.unique(np.asarray(identities), return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    people_in_a = (len(names) + 1) // 2
    listed = np.concatenate([np.sort(shuffled[:people_in_a]), np.sort(shuffled[people_in_a:])])
    codes = np.argsort(listed)[codes]
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    return Arrangement(order, codes, names[listed], int(np.searchsorted(codes, people_in_a)))


@dataclass(frozen=True)
class Distances:
    """All that is counted of many distances; bins as in `tfface.pair_tiles`."""

    tally: Tally

    @cached_property
    def count(self) -> int:
        return int(self.tally.histogram.sum())

    def mean(self, metric: str) -> float | None:
        """Mean distance; None of no pairs."""
        total = self.tally.cosine if _checked(metric) == "cosine" else self.tally.euclidean
        return total / self.count if self.count else None

    def variance(self, metric: str) -> float | None:
        """Mean squared deviation from the mean distance; None of no pairs."""
        mean = self.mean(metric)
        if mean is None:
            return None
        squares = self.tally.cosine_squares if metric == "cosine" else 2 * self.tally.cosine
        return max(squares / self.count - mean * mean, 0.0)


@dataclass(frozen=True)
class RegionScores:
    """The pairs within half A, within half B, across, or all."""

    genuine: Distances
    impostor: Distances


@dataclass(frozen=True)
class PairSummary:
    """Every pair, counted.

    Attributes:
        regions: scores of `a`, `b` and `across`.
        closest_impostors: the worst impostor pairs, closest first.
        farthest_genuine: the worst genuine pairs, farthest first.
        genuine_pairs: every genuine pair; None where there are too many.
    """

    regions: dict[str, RegionScores]
    closest_impostors: Pairs
    farthest_genuine: Pairs
    genuine_pairs: Pairs | None

    @cached_property
    def total(self) -> RegionScores:
        """The sum of the regions."""
        return RegionScores(
            _added([part.genuine.tally for part in self.regions.values()]),
            _added([part.impostor.tally for part in self.regions.values()]),
        )

    def of_images(self, order: np.ndarray) -> "PairSummary":
        """The same with rows replaced by the images `order[row]`."""

        def named(pairs: Pairs) -> Pairs:
            return Pairs(order[pairs.first], order[pairs.second], pairs.distance)

        kept = None if self.genuine_pairs is None else named(self.genuine_pairs)
        return dataclasses.replace(
            self,
            closest_impostors=named(self.closest_impostors),
            farthest_genuine=named(self.farthest_genuine),
            genuine_pairs=kept,
        )


def _added(tallies: Sequence[Tally]) -> Distances:
    return _Sum.of(tallies).distances()


class _Sum:
    """Adds tallies. `math.fsum` rounds once, at the end, so their order leaves no trace."""

    def __init__(self) -> None:
        self._histogram = np.zeros(BINS, np.int64)
        self._parts: list[tuple[float, float, float]] = []

    @classmethod
    def of(cls, tallies: Iterable[Tally]) -> "_Sum":
        total = cls()
        for tally in tallies:
            total.add(tally)
        return total

    def add(self, tally: Tally) -> None:
        self._histogram += tally.histogram
        self._parts.append((tally.cosine, tally.cosine_squares, tally.euclidean))

    def distances(self) -> Distances:
        cosine, squares, euclidean = (math.fsum(part[place] for part in self._parts) for place in range(3))
        return Distances(Tally(self._histogram, cosine, squares, euclidean))


def merge(results: Iterable[TileResult], *, worst: int = WORST, keep_genuine: bool = True) -> PairSummary:
    """Merges the results of all tiles of a plan, in whatever order they come, to the same bits."""
    sums = {region: (_Sum(), _Sum()) for region in REGIONS}
    closest = farthest = join([])
    kept: dict[int, Pairs] = {}
    for result in results:
        genuine, impostor = sums[result.tile.region]
        genuine.add(result.genuine)
        impostor.add(result.impostor)
        closest = join([closest, result.closest_impostors]).extreme(worst)
        farthest = join([farthest, result.farthest_genuine]).extreme(worst, farthest=True)
        kept[result.tile.number] = result.genuine_pairs
    regions = {
        region: RegionScores(genuine.distances(), impostor.distances()) for region, (genuine, impostor) in sums.items()
    }
    every = join([kept[number] for number in sorted(kept)]) if keep_genuine else None
    return PairSummary(regions, closest, farthest, every)


def all_pairs(
    embeddings: np.ndarray,
    identities: Sequence[str] | Sequence[int] | np.ndarray,
    *,
    seed: int,
    tile: int = TILE,
    worst: int = WORST,
    workers: int | None = None,
) -> PairSummary:
    """Scores every pair of images; pairs in the summary name images by their place in `embeddings`.

    Args:
        embeddings: (N, D) unit vectors.
        identities: (N,) who each image shows; people with one image count for impostor pairs alone.
        seed: of the split of the people into halves.
        tile: the longest side of a block of pairs; the counts do not depend on it.
        worst: how many of the worst pairs of each kind to keep.
        workers: threads; by default one a core.

    Raises:
        UserError: fewer than two images, or embeddings that are not unit vectors.
    """
    arrangement = arrange(identities, seed=seed)
    rows = sorted_rows(embeddings, arrangement)
    keep = arrangement.genuine_pairs <= MOST_GENUINE_KEPT

    def score(part: Tile) -> TileResult:
        return score_tile(rows, arrangement.codes, part, worst=worst, keep_genuine=keep)

    plan = tile_plan(len(rows), tile, boundary=arrangement.boundary)
    results = over_tiles(score, plan, workers=workers)
    return merge(results, worst=worst, keep_genuine=keep).of_images(arrangement.order)


def sorted_rows(embeddings: np.ndarray, arrangement: Arrangement) -> np.ndarray:
    """The embeddings as float32 in the arrangement's order, checked.

    Raises:
        UserError: not one for each image, fewer than two, or one that is no unit vector.
    """
    if len(embeddings) != len(arrangement.order):
        raise UserError(f"{len(embeddings)} embeddings for {len(arrangement.order)} identities: give one an image")
    if len(embeddings) < 2:
        raise UserError(f"{len(embeddings)} images make no pair: give at least two")
    rows = np.ascontiguousarray(embeddings[arrangement.order], dtype=np.float32)
    off = np.abs(np.linalg.norm(rows, axis=1) - 1)
    # Written so that NaN is caught too.
    if not (off <= 1e-3).all():
        image = arrangement.order[np.flatnonzero(~(off <= 1e-3))[0]]
        raise UserError(f"the embedding of image {image} is not a unit vector: divide embeddings by their norms")
    return rows


def over_tiles(function: Callable[[Tile], T], plan: Sequence[Tile], *, workers: int | None = None) -> Iterator[T]:
    """Yields a function's value for each tile, in order, computed by threads.

    A thread takes a whole tile, so the libraries underneath get one thread each meanwhile.
    """
    pool = ThreadPoolExecutor(workers or _cores())
    try:
        with threadpoolctl.threadpool_limits(1), _one_thread_in_opencv():
            yield from progress(pool.map(function, plan), total=len(plan), label="scoring pairs", unit="blocks")
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

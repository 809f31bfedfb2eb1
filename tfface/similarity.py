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
from tfface.pair_tiles import BINS, TILE, WORST, Pairs, Tally, Tile, TileResult, join, score_tile, strips, tile_plan

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
    rows = _sorted_rows(embeddings, arrangement)
    keep = arrangement.genuine_pairs <= MOST_GENUINE_KEPT

    def score(part: Tile) -> TileResult:
        return score_tile(rows, arrangement.codes, part, worst=worst, keep_genuine=keep)

    plan = tile_plan(len(rows), tile, boundary=arrangement.boundary)
    results = over_tiles(score, plan, workers=workers)
    return merge(results, worst=worst, keep_genuine=keep).of_images(arrangement.order)


def _sorted_rows(embeddings: np.ndarray, arrangement: Arrangement) -> np.ndarray:
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


@dataclass(frozen=True)
class IdentityErrors:
    """Errors at one threshold, by identity; each impostor pair counts for both of its people.

    Attributes:
        threshold: on the cosine distance; pairs at or below it are taken for one person.
        genuine_pairs: (P,) pairs of images of each person.
        genuine_errors: (P,) those above the threshold.
        impostor_pairs: (P,) pairs with another person.
        impostor_errors: (P,) those at or below the threshold.
    """

    threshold: float
    genuine_pairs: np.ndarray
    genuine_errors: np.ndarray
    impostor_pairs: np.ndarray
    impostor_errors: np.ndarray


def error_counts(
    embeddings: np.ndarray,
    arrangement: Arrangement,
    thresholds: Sequence[float],
    *,
    region: str | None = None,
    tile: int = TILE,
    workers: int | None = None,
) -> list[IdentityErrors]:
    """Goes over all pairs again and counts each person's errors at thresholds on the cosine distance.

    Args:
        embeddings: (N, D) unit vectors, in the order of the images.
        arrangement: what `arrange` made of their identities.
        thresholds: on the cosine distance (`to_cosine`).
        region: `a` or `b`: only pairs, and people, within that half.
        tile: as `all_pairs` was given, for the same scores to the last bit.
        workers: threads; by default one a core.
    """
    if region not in (None, "a", "b"):
        raise ValueError(f"region {region!r}: a, b or None")
    rows = _sorted_rows(embeddings, arrangement)
    limits = [_float32_below(threshold) for threshold in thresholds]

    def count(part: Tile) -> list[_Counts]:
        return _tile_errors(rows, arrangement.codes, part, limits)

    plan = tile_plan(len(rows), tile, boundary=arrangement.boundary)
    chosen = [part for part in plan if region in (None, part.region)]
    errors = np.zeros((2, len(limits), len(arrangement.names)), np.int64)
    for parts in over_tiles(count, chosen, workers=workers):
        for kind, first, counts in parts:
            errors[kind, :, first : first + counts.shape[1]] += counts
    people = _people(arrangement, region)
    sizes = arrangement.sizes[people]
    genuine_pairs, impostor_pairs = sizes * (sizes - 1) // 2, sizes * (sizes.sum() - sizes)
    return [
        IdentityErrors(threshold, genuine_pairs, genuine[people], impostor_pairs, impostor[people])
        for threshold, genuine, impostor in zip(thresholds, *errors, strict=True)
    ]


_GENUINE, _IMPOSTOR = 0, 1
_Counts = tuple[int, int, np.ndarray]
"""A kind, the code of a first person, and errors by threshold and by person from that one on."""


def _tile_errors(rows: np.ndarray, codes: np.ndarray, tile: Tile, limits: Sequence[np.float32]) -> list[_Counts]:
    row_codes, column_codes = codes[slice(*tile.rows)], codes[slice(*tile.columns)]
    # Only the people in the tile: at most as many as it has rows, however many there are.
    genuine, by_row = (np.zeros((len(limits), np.ptp(row_codes) + 1), np.int64) for _ in range(2))
    by_column = np.zeros((len(limits), np.ptp(column_codes) + 1), np.int64)
    for strip in strips(rows, codes, tile):
        hits = strip.pairs(np.flatnonzero(strip.distances <= max(limits, default=-1)))
        for place, limit in enumerate(limits):
            near, far = hits.distance <= limit, strip.genuine.distance > limit
            by_row[place] += _by_person(codes[hits.first[near]], row_codes[0], by_row.shape[1])
            by_column[place] += _by_person(codes[hits.second[near]], column_codes[0], by_column.shape[1])
            genuine[place] += _by_person(codes[strip.genuine.first[far]], row_codes[0], genuine.shape[1])
    return [
        (_GENUINE, int(row_codes[0]), genuine),
        (_IMPOSTOR, int(row_codes[0]), by_row),
        (_IMPOSTOR, int(column_codes[0]), by_column),
    ]


def _by_person(codes: np.ndarray, first: int, people: int) -> np.ndarray:
    return np.bincount(codes - first, minlength=people)


def _people(arrangement: Arrangement, region: str | None) -> slice:
    in_a = int(arrangement.codes[arrangement.boundary - 1]) + 1
    return {None: slice(None), "a": slice(in_a), "b": slice(in_a, None)}[region]


def _float32_below(threshold: float) -> np.float32:
    """The largest float32 up to the threshold: comparing scores with it decides as exact numbers would."""
    threshold = min(threshold, 2.0)  # no distance is beyond, but the mask of what is no pair is
    near = np.float32(threshold)
    return near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf))

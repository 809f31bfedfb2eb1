"""Distances of unit vectors, and the exact scores of all pairs of a set.

`all_pairs` counts every pair of N embeddings, genuine and impostor apart, in memory that does not
grow with the number of pairs. The people are split at random into halves A and B, so that a
threshold can be chosen on the one and judged on the other; pairs across the halves are counted
apart. Scores are float32 cosine distances, clipped to [0, 2]; sums are float64.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from tfface.distributed.executor import LOCAL, Executor
from tfface.errors import UserError
from tfface.metrics.pair_merging import Merger, PairSummary, checked_metric
from tfface.metrics.pair_tiles import TILE, WORST, Tile, TilePlan, TileResult, score_tile, tile_plan
from tfface.metrics.tile_groups import Arrays, TileGroups, TileJob, found_by, over_tiles, tile_store
from tfface.utils.array_file import MOST_IN_MEMORY, FlatRows, chunks_of, reordered
from tfface.utils.cache import Store
from tfface.utils.files import cache_dir
from tfface.utils.progress import progress

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
    return distance if checked_metric(metric) == "cosine" else np.sqrt(2 * distance)  # type: ignore[operator]


def to_cosine(threshold: float, metric: str) -> float:
    """A metric's threshold as one on the cosine distance.

    Rounded to 13 digits: that gives back the exact edges of the bins (multiples of 2**-13) after the
    detour over a square root, and is far below what float32 scores tell apart.
    """
    return threshold if checked_metric(metric) == "cosine" else round(threshold * threshold / 2, 13)


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


@dataclass(frozen=True, eq=False)
class _Scoring(TileJob):
    """The scores of each group of tiles."""

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
    """Scores every pair of images; pairs in the summary name images by their place in `identities`.

    Args:
        embeddings: (M, D) unit vectors.
        identities: (N,) who each image shows; people with one image count for impostor pairs alone.
        seed: of the split of the people into halves.
        images: (N,) the embedding of each image; as they stand if None.
        tile: the longest side of a block of pairs; the counts do not depend on it.
        worst: how many of the worst pairs of each kind to keep.
        threads: of this process; by default one a core.
        workers: who scores them; a cluster's keep what they find on disk.

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


def scoring_job(
    rows: FlatRows, codes: np.ndarray, plan: TilePlan, worst: int, keep_genuine: bool, threads: int | None
) -> TileJob:
    """The scoring of all pairs of rows on disk, as work for anybody."""
    groups = TileGroups(plan)
    store = tile_store("pair-scores", rows, codes, groups, {"worst": worst, "keep_genuine": keep_genuine})
    return _Scoring(rows, codes, groups, worst, keep_genuine, threads, store)


def sorted_rows(
    embeddings: np.ndarray, arrangement: Arrangement, images: np.ndarray | None = None, *, on_disk: bool = False
) -> np.ndarray | FlatRows:
    """The embeddings as float32 in the arrangement's order, checked; on disk if asked, or if they are large.

    Args:
        embeddings: (M, D) unit vectors.
        arrangement: of N images.
        images: (N,) the embedding of each image; as they stand if None.
        on_disk: even if they are not large.

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

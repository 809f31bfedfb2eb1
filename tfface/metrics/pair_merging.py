"""Merge the scores of tiles: counts by whole numbers, sums rounded once, the worst pairs in a settled order.

Results merge in any order, and in any groups, to the same bits.
"""

import dataclasses
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tfface.metrics.distances import checked_metric
from tfface.metrics.pair_tiles import BINS, WORST, PairDistances, Tally, TileResult, join

REGIONS = ("a", "b", "across")


@dataclass(frozen=True)
class Distances:
    """Counts and sums of many distances; bins as in `tfface.metrics.pair_tiles`."""

    tally: Tally

    @cached_property
    def count(self) -> int:
        return int(self.tally.histogram.sum())

    def mean(self, metric: str) -> float | None:
        """Return the mean distance; None of no pairs."""
        total = self.tally.cosine if checked_metric(metric) == "cosine" else self.tally.euclidean
        return total / self.count if self.count else None

    def variance(self, metric: str) -> float | None:
        """Return the mean squared deviation from the mean distance; None of no pairs."""
        mean = self.mean(metric)
        if mean is None:
            return None
        squares = self.tally.cosine_squares if metric == "cosine" else 2 * self.tally.cosine
        return max(squares / self.count - mean * mean, 0.0)


@dataclass(frozen=True)
class RegionScores:
    """Scores of the pairs within half A, within half B, across, or of all."""

    genuine: Distances
    impostor: Distances


@dataclass(frozen=True)
class PairSummary:
    """Scores of all pairs of a set.

    Attributes:
        regions: scores of `a`, `b` and `across`.
        closest_impostors: the worst impostor pairs, closest first.
        farthest_genuine: the worst genuine pairs, farthest first.
        genuine_pairs: every genuine pair; None where there are too many.
    """

    regions: dict[str, RegionScores]
    closest_impostors: PairDistances
    farthest_genuine: PairDistances
    genuine_pairs: PairDistances | None

    @cached_property
    def total(self) -> RegionScores:
        """The sum of the regions."""
        return RegionScores(
            _added([part.genuine.tally for part in self.regions.values()]),
            _added([part.impostor.tally for part in self.regions.values()]),
        )

    def of_images(self, order: np.ndarray) -> "PairSummary":
        """Return the same summary with each row replaced by the image `order[row]`."""

        def named(pairs: PairDistances) -> PairDistances:
            return PairDistances(order[pairs.first], order[pairs.second], pairs.distance)

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
    """Sum of tallies. `math.fsum` rounds once, at the end, so that their order leaves no trace."""

    def __init__(self) -> None:
        self.histogram = np.zeros(BINS, np.int64)
        self.parts = array("d")  # three sums of each tally, one after the other

    @classmethod
    def of(cls, tallies: Iterable[Tally]) -> "_Sum":
        total = cls()
        for tally in tallies:
            total.add(tally)
        return total

    def add(self, tally: Tally) -> None:
        self.histogram += tally.histogram
        self.parts.extend((tally.cosine, tally.cosine_squares, tally.euclidean))

    def absorb(self, histogram: np.ndarray, parts: np.ndarray) -> None:
        """Add the content of another."""
        self.histogram += histogram
        self.parts.frombytes(np.ascontiguousarray(parts, np.float64).tobytes())

    def distances(self) -> Distances:
        cosine, squares, euclidean = (math.fsum(self.parts[place::3]) for place in range(3))
        return Distances(Tally(self.histogram, cosine, squares, euclidean))


class Merger:
    """Sum of results of tiles, and of other mergers."""

    def __init__(self, *, worst: int = WORST, keep_genuine: bool = True) -> None:
        """Start empty.

        Args:
            worst: number of the worst pairs of each kind to keep.
            keep_genuine: keep every genuine pair.
        """
        self._worst, self._keep = worst, keep_genuine
        self._sums = {region: (_Sum(), _Sum()) for region in REGIONS}
        self._closest = self._farthest = join([])
        self._genuine: dict[int, PairDistances] = {}

    def add(self, result: TileResult) -> None:
        """Merge the result of a tile."""
        genuine, impostor = self._sums[result.tile.region]
        genuine.add(result.genuine)
        impostor.add(result.impostor)
        self._merge_worst(result.closest_impostors, result.farthest_genuine)
        if self._keep:
            self._genuine[result.tile.number] = result.genuine_pairs

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the whole content as flat arrays."""
        sums = [one for both in self._sums.values() for one in both]
        numbers = sorted(self._genuine)
        return {
            "histograms": np.concatenate([one.histogram for one in sums]),
            "sums": np.concatenate([np.array(one.parts, np.float64) for one in sums]),
            "sum_lengths": np.array([len(one.parts) for one in sums], np.int64),
            **_flat("closest", self._closest),
            **_flat("farthest", self._farthest),
            "genuine_tiles": np.array(numbers, np.int64),
            "genuine_lengths": np.array([len(self._genuine[number]) for number in numbers], np.int64),
            **_flat("genuine", join([self._genuine[number] for number in numbers])),
        }

    def absorb(self, held: Mapping[str, np.ndarray]) -> None:
        """Add the content of another.

        Args:
            held: its `arrays`.
        """
        sums = [one for both in self._sums.values() for one in both]
        parts = np.split(held["sums"], np.cumsum(held["sum_lengths"])[:-1])
        for one, histogram, part in zip(sums, held["histograms"].reshape(len(sums), BINS), parts, strict=True):
            one.absorb(histogram, part)
        self._merge_worst(_pairs(held, "closest"), _pairs(held, "farthest"))
        genuine, ends = _pairs(held, "genuine"), np.cumsum(held["genuine_lengths"]).tolist()
        for number, start, stop in zip(held["genuine_tiles"].tolist(), [0, *ends], ends, strict=False):
            self._genuine[number] = genuine.take(np.arange(start, stop))

    def summary(self) -> PairSummary:
        """Return all that was merged, in terms of rows."""
        regions = {
            region: RegionScores(genuine.distances(), impostor.distances())
            for region, (genuine, impostor) in self._sums.items()
        }
        every = join([self._genuine[number] for number in sorted(self._genuine)]) if self._keep else None
        return PairSummary(regions, self._closest, self._farthest, every)

    def _merge_worst(self, closest: PairDistances, farthest: PairDistances) -> None:
        self._closest = join([self._closest, closest]).extreme(self._worst)
        self._farthest = join([self._farthest, farthest]).extreme(self._worst, farthest=True)


def merge(results: Iterable[TileResult], *, worst: int = WORST, keep_genuine: bool = True) -> PairSummary:
    """Merge the results of all tiles of a plan, in whatever order they come, to the same bits."""
    merger = Merger(worst=worst, keep_genuine=keep_genuine)
    for result in results:
        merger.add(result)
    return merger.summary()


def _flat(name: str, pairs: PairDistances) -> dict[str, np.ndarray]:
    return {f"{name}_{field}": getattr(pairs, field) for field in ("first", "second", "distance")}


def _pairs(held: Mapping[str, np.ndarray], name: str) -> PairDistances:
    return PairDistances(*(held[f"{name}_{field}"] for field in ("first", "second", "distance")))

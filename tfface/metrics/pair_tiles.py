"""All pairs of a set of embeddings, scored tile by tile: the work that threads or machines share.

The rows are sorted by identity, so genuine pairs lie beside the diagonal. A tile is a block of the
upper triangle of the matrix of distances; it is worked through in strips that stay in a core's
cache. What a tile yields depends on nothing but the embeddings and the tile, and results merge in
any order to the same bits (`tfface.metrics.pair_merging`).
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

TILE = 2048
STRIP = 256
"""Rows worked on at once: few enough for a strip to stay in cache, enough for a fast matrix product."""

BINS_PER_UNIT = 8192
"""A power of two, so that scaling a float32 distance to its bin is exact."""
BINS = 2 * BINS_PER_UNIT + 1
"""Bin k counts cosine distances in ((k - 1) / 8192, k / 8192]; bin 0 those that are exactly 0."""

_LONGEST = 2**24 // STRIP

WORST = 100
"""Number of the closest impostor and of the farthest genuine pairs that are returned."""
_MASKED = np.float32(4.0)
"""Stands for "no pair of this kind": beyond every distance, its bin beyond every bin, and exact in sums."""


class Tile(NamedTuple):
    """Block of the matrix of pairs; on the diagonal, the part above it.

    Attributes:
        number: its place in the plan, which settles every order.
        region: `a` or `b`: both people in that half; `across`: one in each.
        rows: first row and the one after the last.
        columns: first column and the one after the last.
    """

    number: int
    region: str
    rows: tuple[int, int]
    columns: tuple[int, int]


@dataclass(frozen=True)
class PairDistances:
    """Pairs of rows (or images) with the cosine distance of each."""

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray

    def __len__(self) -> int:
        return len(self.distance)

    def take(self, chosen: np.ndarray) -> "PairDistances":
        """Return the pairs at some places, or where a mask is True."""
        return PairDistances(self.first[chosen], self.second[chosen], self.distance[chosen])

    def extreme(self, limit: int, *, farthest: bool = False) -> "PairDistances":
        """Return the `limit` closest (or farthest) pairs; equal distances go by first, then second."""
        key = -self.distance if farthest else self.distance
        kept = self
        if len(self) > limit > 0:
            near = key <= np.partition(key, limit - 1)[limit - 1]
            kept, key = self.take(near), key[near]
        return kept.take(np.lexsort((kept.second, kept.first, key))[:limit])


NO_PAIRS = PairDistances(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


def join(parts: Sequence[PairDistances]) -> PairDistances:
    """Join the pairs of all parts, in order."""
    parts = [NO_PAIRS, *parts]
    return PairDistances(
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.second for part in parts]),
        np.concatenate([part.distance for part in parts]),
    )


@dataclass(frozen=True)
class Tally:
    """Distances of one kind, counted and summed.

    Attributes:
        histogram: counts by bin, (BINS,) int64.
        cosine: sum of the cosine distances.
        cosine_squares: sum of their squares.
        euclidean: sum of the Euclidean distances (their squares sum to twice `cosine`).
    """

    histogram: np.ndarray
    cosine: float
    cosine_squares: float
    euclidean: float


@dataclass(frozen=True)
class TileResult:
    """Scores of one tile; `genuine_pairs` is empty where they were not wanted."""

    tile: Tile
    genuine: Tally
    impostor: Tally
    closest_impostors: PairDistances
    farthest_genuine: PairDistances
    genuine_pairs: PairDistances


@dataclass(frozen=True)
class TilePlan(Sequence[Tile]):
    """All pairs of some rows, cut into tiles; a tile is made when it is looked at, since there may be millions.

    Attributes:
        blocks: (half, first row, the one after the last), in order.
    """

    blocks: tuple[tuple[str, int, int], ...]

    def __len__(self) -> int:
        return len(self.blocks) * (len(self.blocks) + 1) // 2

    def __iter__(self) -> Iterator[Tile]:
        count = len(self.blocks)
        return (self.at(row, column) for row in range(count) for column in range(row, count))

    def __getitem__(self, number: Any) -> Any:
        return next(itertools.islice(self, number, None)) if isinstance(number, int) else list(self)[number]

    def at(self, row: int, column: int) -> Tile:
        """Return the tile of two blocks, `row` not above `column`."""
        (half, *rows), (other, *columns) = self.blocks[row], self.blocks[column]
        number = row * len(self.blocks) - row * (row - 1) // 2 + column - row
        return Tile(number, half if half == other else "across", (rows[0], rows[1]), (columns[0], columns[1]))


def tile_plan(rows: int, tile: int = TILE, *, boundary: int = 0) -> TilePlan:
    """Cuts all pairs of `rows` rows into tiles of at most `tile` x `tile`.

    Args:
        rows: number of rows.
        tile: the longest side of a tile.
        boundary: rows before it are half A, the others half B; no tile straddles it.
    """
    if not 0 < tile <= _LONGEST:
        raise ValueError(f"a tile of {tile} rows: from 1 to {_LONGEST} can be counted exactly")
    halves = (("a", 0, boundary), ("b", boundary, rows))
    return TilePlan(tuple((half, *block) for half, *span in halves for block in _blocks(span[0], span[1], tile)))


def _blocks(start: int, stop: int, longest: int) -> list[tuple[int, int]]:
    """Return ranges of nearly equal length, none above `longest`."""
    count = -(-(stop - start) // longest)
    edges = [start + (stop - start) * part // count for part in range(count + 1)] if count else []
    return list(itertools.pairwise(edges))


class RowSource(Protocol):
    """Rows of float32 numbers, in memory or on disk."""

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...


def score_tile(
    embeddings: RowSource, codes: np.ndarray, tile: Tile, *, worst: int = WORST, keep_genuine: bool = True
) -> TileResult:
    """Count and sum the distances of one tile, and find its worst pairs.

    Args:
        embeddings: (N, D) float32 unit vectors, sorted by identity.
        codes: (N,) identity of each row, an integer; never descending.
        tile: which pairs.
        worst: number of the closest impostor and the farthest genuine pairs to return.
        keep_genuine: return every genuine pair.
    """
    genuine, impostor = _Counter(), _Counter()
    closest, farthest = NO_PAIRS, NO_PAIRS
    kept: list[PairDistances] = []
    for strip in strips(embeddings, codes, tile):
        impostor.add(strip.distances, strip.masked, strip.scratch, strip.bins)
        closest = _closest(closest, strip, worst)
        if len(strip.genuine):
            genuine.add(strip.genuine.distance.reshape(1, -1), 0)
            farthest = join([farthest, strip.genuine]).extreme(worst, farthest=True)
            kept += [strip.genuine] * keep_genuine
    return TileResult(tile, genuine.tally(), impostor.tally(), closest, farthest, join(kept))


@dataclass(frozen=True)
class Strip:
    """Some rows of a tile, with their distances.

    Attributes:
        row: the first row.
        column: the first column.
        distances: cosine distances of impostor pairs; where there is none, a value beyond all.
        masked: number of places with that value.
        genuine: the genuine pairs, taken out.
        scratch: float32 room of the shape of `distances`, to overwrite.
        bins: uint16 room of that shape.
    """

    row: int
    column: int
    distances: np.ndarray
    masked: int
    genuine: PairDistances
    scratch: np.ndarray
    bins: np.ndarray

    def pairs(self, chosen: np.ndarray) -> PairDistances:
        """Return the pairs at flat places of `distances`."""
        rows, columns = np.divmod(chosen, self.distances.shape[1])
        return PairDistances(rows + self.row, columns + self.column, self.distances.ravel()[chosen])


def strips(embeddings: RowSource, codes: np.ndarray, tile: Tile) -> Iterator[Strip]:
    """Yield the distances of a tile, some rows at a time; each strip overwrites the one before."""
    (row, last_row), (column, last_column) = tile.rows, tile.columns
    width = last_column - column
    # Where each row's identity ends: the columns before it are genuine pairs or, at and below the diagonal, none.
    ends = np.minimum(np.searchsorted(codes, codes[row:last_row], side="right"), last_column)
    room = min(STRIP, last_row - row) * width
    distances, scratch, bins = np.empty(room, np.float32), np.empty(room, np.float32), np.empty(room, np.uint16)
    rows, columns = embeddings[row:last_row], embeddings[column:last_column]
    if row == column:
        # Of an array with itself numpy asks BLAS for another product (syrk), which may round otherwise; rows that are
        # read from disk twice are two arrays already, and both ways are to agree to the bit.
        columns = columns.copy()
    transposed = columns.T
    for start in range(row, last_row, STRIP):
        stop = min(start + STRIP, last_row)
        shape = stop - start, width
        part = slice(shape[0] * width)
        strip = distances[part].reshape(shape)
        _cosine_distances(rows[start - row : stop - row], transposed, strip)
        genuine, masked = _take_out_genuine(strip, start, column, ends[start - row : stop - row])
        yield Strip(start, column, strip, masked, genuine, scratch[part].reshape(shape), bins[part].reshape(shape))


def _cosine_distances(rows: np.ndarray, transposed: np.ndarray, out: np.ndarray) -> None:
    np.matmul(rows, transposed, out=out)
    np.subtract(1, out, out=out)
    # Rounding lifts the similarity of like vectors above 1. Looking is cheaper than always clipping.
    if out.min() < 0 or out.max() > 2:
        np.clip(out, 0, 2, out=out)


def _take_out_genuine(strip: np.ndarray, row: int, column: int, ends: np.ndarray) -> tuple[PairDistances, int]:
    """Mask all that is no impostor pair; return the genuine pairs and the count of what was masked."""
    if ends[-1] <= column:
        return NO_PAIRS, 0
    rows = np.arange(row, row + len(ends))
    starts = np.maximum(rows + 1, column)
    counts = np.maximum(ends - starts, 0)
    first = np.repeat(rows, counts)
    second = np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)
    genuine = PairDistances(first, second, strip[first - row, second - column])
    widths = np.maximum(ends - column, 0)
    for place in np.flatnonzero(widths):
        strip[place, : widths[place]] = _MASKED
    return genuine, int(widths.sum())


def _closest(found: PairDistances, strip: Strip, limit: int) -> PairDistances:
    """Return the closest impostor pairs among those found and a strip's."""
    flat = strip.distances.ravel()
    if len(found) == limit:
        # Later rows lose ties, so a pair at the same distance as the last one kept is out.
        near = np.flatnonzero(flat < found.distance[-1]) if limit else np.zeros(0, np.int64)
    else:
        # A part of the strip bounds what the whole can need, at a part of the cost.
        sample = flat[:16384]
        bound = np.partition(sample, limit - 1)[limit - 1] if len(sample) >= limit else _MASKED
        near = np.flatnonzero((flat <= bound) & (flat < _MASKED))
    return join([found, strip.pairs(near)]).extreme(limit) if len(near) else found


class _Counter:
    """Sum of a tile's distances of one kind, strip by strip."""

    def __init__(self) -> None:
        self._histogram = np.zeros(BINS, np.int64)
        self._sums = [0.0, 0.0, 0.0]

    def add(
        self,
        distances: np.ndarray,
        masked: int,
        scratch: np.ndarray | None = None,
        bins: np.ndarray | None = None,
    ) -> None:
        """Add (R, C) float32 distances, `masked` of which stand for no pair.

        OpenCV sums float32 in double precision, and counts 16-bit codes five times as fast as floats.
        """
        bins = np.empty(distances.shape, np.uint16) if bins is None else bins
        scratch = np.multiply(distances, BINS_PER_UNIT, out=scratch)
        np.copyto(bins, np.ceil(scratch, out=scratch), casting="unsafe")
        # The counts come as float32, exact up to 2**24, which no strip passes (`_LONGEST`).
        self._histogram += cv2.calcHist([bins], [0], None, [BINS], [0, BINS]).ravel().astype(np.int64)
        self._sums[0] += cv2.sumElems(distances)[0] - 4.0 * masked
        self._sums[1] += cv2.norm(distances, cv2.NORM_L2SQR) - 16.0 * masked
        self._sums[2] += cv2.sumElems(cv2.sqrt(distances, scratch))[0] - 2.0 * masked

    def tally(self) -> Tally:
        cosine, squares, roots = self._sums
        return Tally(self._histogram, cosine, squares, roots * 2.0**0.5)

"""Error rates per identity: a second pass over all pairs, counted by person."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tfface.distributed.executor import LOCAL, Executor
from tfface.metrics.all_pairs import (
    Arrangement,
    Arrays,
    TileGroups,
    TileJob,
    found_by,
    over_tiles,
    sorted_rows,
    tile_store,
)
from tfface.metrics.intervals import IdentityErrors
from tfface.metrics.pair_tiles import TILE, RowSource, Tile, strips, tile_plan
from tfface.utils.cache import FlatRows, Store
from tfface.utils.progress import progress


def error_counts(
    embeddings: np.ndarray,
    arrangement: Arrangement,
    thresholds: Sequence[float],
    *,
    images: np.ndarray | None = None,
    region: str | None = None,
    tile: int = TILE,
    threads: int | None = None,
    executor: Executor = LOCAL,
) -> list[IdentityErrors]:
    """Count each person's errors at thresholds on the cosine distance, in a second pass over all pairs.

    Args:
        embeddings: (M, D) unit vectors.
        arrangement: what `arrange` made of the identities of N images.
        thresholds: on the cosine distance (`to_cosine`).
        images: (N,) row of `embeddings` of each image; the rows in order if None.
        region: `a` or `b`: only pairs, and people, within that half.
        tile: as `all_pairs` was given, for the same scores to the last bit.
        threads: threads of this process; by default one a core.
        executor: this process, or a cluster, which stores the counts of groups of tiles on disk.
    """
    if region not in (None, "a", "b"):
        raise ValueError(f"region {region!r}: a, b or None")
    rows = sorted_rows(embeddings, arrangement, images, on_disk=executor is not LOCAL)
    limits = [_float32_below(threshold) for threshold in thresholds]
    plan = tile_plan(len(arrangement.order), tile, boundary=arrangement.boundary)
    errors = np.zeros((2, len(limits), len(arrangement.names)), np.int64)
    for kind, first, counts in _counted(rows, arrangement.codes, TileGroups(plan, region), limits, threads, executor):
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


def _counted(
    rows: np.ndarray | FlatRows,
    codes: np.ndarray,
    groups: TileGroups,
    limits: Sequence[np.float32],
    threads: int | None,
    executor: Executor,
) -> Iterator[_Counts]:
    label = "counting errors by person"
    if isinstance(rows, FlatRows):
        store = tile_store("pair-errors", rows, codes, groups, {"limits": [float(limit) for limit in limits]})
        job = _Counting(rows, codes, groups, tuple(limits), threads if executor is LOCAL else 1, store)
        for held in found_by(job, label=label, executor=executor):
            yield from _unpacked(held, len(limits))
        return
    in_memory = rows
    chosen = [part for part in groups.plan if groups.region in (None, part.region)]
    results = over_tiles(lambda part: _tile_errors(in_memory, codes, part, limits), chosen, threads=threads)
    for found in progress(results, total=len(chosen), label=label, unit="blocks"):
        yield from found


@dataclass(frozen=True, eq=False)
class _Counting(TileJob):
    """Errors by person in each group of tiles."""

    rows: FlatRows
    codes: np.ndarray
    groups: TileGroups
    limits: tuple[np.float32, ...]
    threads: int | None
    store: Store

    def arrays(self, tiles: Iterable[Tile]) -> Arrays:
        parts = list(over_tiles(self._count, tiles, threads=self.threads))
        # Genuine pairs, impostor pairs by row, and by column: the people of each lie together.
        merged = [_together(found) for found in zip(*parts, strict=True)]
        return {
            "kinds": np.array([kind for kind, _, _ in merged], np.int64),
            "firsts": np.array([first for _, first, _ in merged], np.int64),
            "counts": np.concatenate([counts.ravel() for _, _, counts in merged]),
            "lengths": np.array([counts.size for _, _, counts in merged], np.int64),
        }

    def _count(self, tile: Tile) -> list[_Counts]:
        return _tile_errors(self.rows, self.codes, tile, self.limits)


def _together(parts: Sequence[_Counts]) -> _Counts:
    """Add up counts of one kind."""
    low = min(first for _, first, _ in parts)
    high = max(first + counts.shape[1] for _, first, counts in parts)
    total = np.zeros((parts[0][2].shape[0], high - low), np.int64)
    for _, first, counts in parts:
        total[:, first - low : first - low + counts.shape[1]] += counts
    return parts[0][0], low, total


def _unpacked(held: Arrays, limits: int) -> Iterator[_Counts]:
    counts = np.split(held["counts"], np.cumsum(held["lengths"])[:-1])
    for kind, first, flat in zip(held["kinds"].tolist(), held["firsts"].tolist(), counts, strict=True):
        yield kind, first, flat.reshape(limits, -1)


def _tile_errors(rows: RowSource, codes: np.ndarray, tile: Tile, limits: Sequence[np.float32]) -> list[_Counts]:
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
    """Return the largest float32 up to the threshold: comparing scores with it decides as exact numbers would."""
    threshold = min(threshold, 2.0)  # no distance is beyond, but the mask of what is no pair is
    near = np.float32(threshold)
    return near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf))

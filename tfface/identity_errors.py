"""Who the errors at a threshold are about: a second pass over all pairs, counted by person."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfface.pair_tiles import TILE, Tile, strips, tile_plan
from tfface.similarity import Arrangement, over_tiles, sorted_rows


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
    rows = sorted_rows(embeddings, arrangement)
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

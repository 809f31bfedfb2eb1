"""Tiles: every pair once, masked and counted as a plain double loop would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfface.metrics import pair_tiles
from tfface.metrics.pair_tiles import BINS, NO_PAIRS, PairDistances, Tile, join, score_tile, tile_plan


def unit_vectors(rows: int, size: int = 32, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(st.integers(0, 40), st.integers(1, 50), st.data())
def test_plan_holds_every_pair_once(rows, tile, data):
    boundary = data.draw(st.integers(0, rows))
    seen = np.zeros((rows, rows), int)
    for part in tile_plan(rows, tile, boundary=boundary):
        (top, bottom), (left, right) = part.rows, part.columns
        assert 0 < bottom - top <= tile
        assert 0 < right - left <= tile
        seen[top:bottom, left:right] += 1
        halves = {"a" if row < boundary else "b" for row in (top, bottom - 1, left, right - 1)}
        assert halves == ({"a", "b"} if part.region == "across" else {part.region})
    upper = np.triu(np.ones((rows, rows), bool), 1)
    assert (seen[upper] == 1).all()


def test_plan_refuses_tiles_too_long_to_count():
    """256 rows of 65,536 columns make 2**24 distances, the most that float32 counts hold exactly."""
    assert tile_plan(3, 65_536)
    for tile in (0, 65_537):
        with pytest.raises(ValueError, match="counted exactly"):
            tile_plan(3, tile)


def test_tile_by_hand():
    """Rows x, x, y, -x; people 0, 0, 1, 2. Genuine: (0, 1) at 0. Impostors: (0, 2), (1, 2), (2, 3) at 1, (0, 3) and
    (1, 3) at 2. Cosine sum 3 + 4 = 7, squares 3 + 8 = 11, Euclidean 3 sqrt(2) + 2 x 2.
    """
    rows = np.array([[1, 0], [1, 0], [0, 1], [-1, 0]], np.float32)
    result = score_tile(rows, np.array([0, 0, 1, 2]), Tile(0, "a", (0, 4), (0, 4)), worst=4)
    assert np.flatnonzero(result.genuine.histogram).tolist() == [0]
    assert result.genuine.histogram[0] == 1
    assert np.flatnonzero(result.impostor.histogram).tolist() == [8192, 16384]
    assert result.impostor.histogram[[8192, 16384]].tolist() == [3, 2]
    assert result.impostor.cosine == 7
    assert result.impostor.cosine_squares == 11
    assert result.impostor.euclidean == pytest.approx(3 * 2**0.5 + 4, rel=1e-7)
    assert as_list(result.closest_impostors) == [(0, 2, 1), (1, 2, 1), (2, 3, 1), (0, 3, 2)]
    assert as_list(result.genuine_pairs) == as_list(result.farthest_genuine) == [(0, 1, 0)]


def as_list(pairs: PairDistances) -> list[tuple[int, int, float]]:
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.distance.tolist(), strict=True))


def test_bins_hold_their_upper_edge():
    """0.5 is 4096/8192, the upper edge of bin 4096; the float32 above it is in bin 4097."""
    above = np.nextafter(np.float32(0.5), np.float32(1))
    counter = pair_tiles._Counter()
    counter.add(np.array([[0, 0.5, above, 2]], np.float32), 0)
    histogram = counter.tally().histogram
    assert np.flatnonzero(histogram).tolist() == [0, 4096, 4097, 16384]
    assert len(histogram) == BINS


@pytest.mark.parametrize("tile", [Tile(0, "a", (0, 700), (0, 700)), Tile(1, "a", (0, 350), (350, 700))])
@pytest.mark.parametrize("people", [3, 60, 700])
def test_tile_equals_double_loop(tile, people):
    """700 rows make three strips; a few people make genuine pairs reach far from the diagonal."""
    rows = unit_vectors(700)
    codes = np.sort(np.random.default_rng(1).integers(0, people, 700))
    first, second = np.meshgrid(np.arange(*tile.rows), np.arange(*tile.columns), indexing="ij")
    distance = 1 - rows[tile.rows[0] : tile.rows[1]] @ rows[tile.columns[0] : tile.columns[1]].T
    above, same = first < second, codes[first] == codes[second]
    result = score_tile(rows, codes, tile, worst=50)
    for tally, mask in ((result.genuine, above & same), (result.impostor, above & ~same)):
        chosen = distance[mask]
        expected = np.bincount(np.ceil(chosen * 8192).astype(int), minlength=BINS)
        assert tally.histogram.sum() == len(chosen)
        # Another shape of product may round a distance to the neighbouring bin.
        assert np.abs(np.cumsum(tally.histogram - expected)).max() <= 2
        assert tally.cosine == pytest.approx(chosen.sum(dtype=np.float64), rel=1e-6)
        assert tally.cosine_squares == pytest.approx(np.square(chosen, dtype=np.float64).sum(), rel=1e-6)
        assert tally.euclidean == pytest.approx(np.sqrt(2 * chosen, dtype=np.float64).sum(), rel=1e-6)
    assert len(result.genuine_pairs) == (above & same).sum()
    worst = np.sort(distance[above & ~same])[:50]
    np.testing.assert_allclose(result.closest_impostors.distance, worst, atol=1e-6)
    farthest = -np.sort(-distance[above & same])[:50]
    np.testing.assert_allclose(result.farthest_genuine.distance, farthest, atol=1e-6)
    assert (result.farthest_genuine.first < result.farthest_genuine.second).all()


def test_few_pairs_in_the_first_rows_hide_no_later_ones():
    """The first 60 rows show one person, so in the first strip only columns 60 on hold impostor pairs."""
    rows = unit_vectors(64)
    codes = np.array([0] * 60 + [1, 2, 3, 4])
    result = score_tile(rows, codes, Tile(0, "a", (0, 64), (0, 64)), worst=1000)
    assert len(result.closest_impostors) == 60 * 4 + 6


def test_extreme_breaks_ties_by_place():
    pairs = PairDistances(np.array([3, 1, 1, 0]), np.array([4, 9, 2, 5]), np.array([0.5, 0.5, 0.5, 0.7], np.float32))
    assert as_list(pairs.extreme(2)) == [(1, 2, 0.5), (1, 9, 0.5)]
    assert [first for first, *_ in as_list(pairs.extreme(2, farthest=True))] == [0, 1]
    assert as_list(pairs.extreme(0)) == []
    assert len(join([])) == len(NO_PAIRS) == 0

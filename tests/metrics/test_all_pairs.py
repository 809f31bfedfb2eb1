"""All pairs: against brute force, by hand, and what no tile, order or thread may change."""

import random

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfface.errors import UserError
from tfface.metrics import all_pairs as all_pairs_module
from tfface.metrics import distances, identity_errors, pair_merging
from tfface.metrics.all_pairs import all_pairs, arrange
from tfface.metrics.distances import cosine_distance, euclidean_distance, from_cosine, to_cosine
from tfface.metrics.identity_errors import error_counts
from tfface.metrics.pair_merging import merge
from tfface.metrics.pair_tiles import BINS, score_tile, tile_plan


def clustered(images: int, people: int, size: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    identities = generator.integers(0, people, images)
    vectors = generator.standard_normal((people, size))[identities] + 0.6 * generator.standard_normal((images, size))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), identities


@st.composite
def exact_sets(draw, least=2):
    """Corners of a cube with sides of 1/2, of 16 dimensions: inner products are exact, ties abound."""
    images = draw(st.integers(least, 30))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    vectors = generator.choice(np.array([-0.25, 0.25], np.float32), (images, 16))
    return vectors, generator.integers(0, draw(st.integers(1, 8)), images)


def brute_force(embeddings, identities):
    first, second = np.triu_indices(len(embeddings), 1)
    distance = cosine_distance(embeddings[first], embeddings[second])
    return first, second, distance, identities[first] == identities[second]


def same_bits(one, other):
    for region in (*one.regions, None):
        left, right = (part.total if region is None else part.regions[region] for part in (one, other))
        for kind in ("genuine", "impostor"):
            ours, theirs = getattr(left, kind).tally, getattr(right, kind).tally
            np.testing.assert_array_equal(ours.histogram, theirs.histogram)
            assert (ours.cosine, ours.cosine_squares, ours.euclidean) == (
                theirs.cosine,
                theirs.cosine_squares,
                theirs.euclidean,
            )
    for name in ("closest_impostors", "farthest_genuine", "genuine_pairs"):
        for field in ("first", "second", "distance"):
            np.testing.assert_array_equal(getattr(getattr(one, name), field), getattr(getattr(other, name), field))


def test_distances_by_hand():
    """(1, 0) with (0.6, 0.8): inner product 0.6, so 0.4 and sqrt(0.8); with itself 0; with its opposite 2 and 2."""
    a = np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    b = np.array([[0.6, 0.8], [1, 0], [-1, 0]], np.float32)
    np.testing.assert_allclose(cosine_distance(a, b), [0.4, 0, 2], atol=1e-7)
    np.testing.assert_allclose(euclidean_distance(a, b), [0.8**0.5, 0, 2], atol=1e-7)


def test_thresholds_change_metric_and_back():
    """A Euclidean threshold of 1 is a cosine one of 1/2; every edge of a bin survives the detour exactly."""
    assert to_cosine(1.0, "euclidean") == 0.5
    assert from_cosine(0.5, "euclidean") == 1.0
    assert to_cosine(0.3, "cosine") == from_cosine(0.3, "cosine") == 0.3
    edges = np.arange(BINS) / 8192
    assert [to_cosine(float(edge), "euclidean") for edge in from_cosine(edges, "euclidean")] == edges.tolist()
    with pytest.raises(UserError, match=r"manhattan.*cosine, euclidean"):
        to_cosine(1.0, "manhattan")


@pytest.mark.parametrize("tile", [2048, 100])
def test_all_pairs_equals_brute_force(tile):
    embeddings, identities = clustered(600, 80)
    summary = all_pairs(embeddings, identities, seed=3, tile=tile)
    first, second, distance, same = brute_force(embeddings, identities)
    for kind, mask in ((summary.total.genuine, same), (summary.total.impostor, ~same)):
        chosen, euclidean = distance[mask], np.sqrt(2 * distance[mask])
        assert kind.count == mask.sum()
        assert kind.mean("cosine") == pytest.approx(chosen.mean(), rel=1e-6)
        assert kind.variance("cosine") == pytest.approx(chosen.var(), rel=1e-6)
        assert kind.mean("euclidean") == pytest.approx(euclidean.mean(), rel=1e-6)
        assert kind.variance("euclidean") == pytest.approx(euclidean.var(), rel=1e-5)
    worst = np.lexsort((second, first, distance))
    worst = worst[~same[worst]][:100]
    expected = {frozenset(pair) for pair in zip(first[worst].tolist(), second[worst].tolist(), strict=True)}
    closest = summary.closest_impostors
    assert {frozenset(pair) for pair in zip(closest.first.tolist(), closest.second.tolist(), strict=True)} == expected
    np.testing.assert_allclose(closest.distance, distance[worst], atol=5e-7)
    np.testing.assert_allclose(summary.farthest_genuine.distance, -np.sort(-distance[same])[:100], atol=5e-7)
    every = summary.genuine_pairs
    assert len(every) == same.sum()
    assert (identities[every.first] == identities[every.second]).all()
    np.testing.assert_allclose(
        every.distance, cosine_distance(embeddings[every.first], embeddings[every.second]), atol=5e-7
    )


def test_regions_are_the_halves():
    embeddings, identities = clustered(200, 30)
    arrangement = arrange(identities, seed=5)
    in_a = np.isin(identities, arrangement.names[:15])
    assert sorted(set(identities[arrangement.order[: arrangement.boundary]])) == sorted(arrangement.names[:15])
    assert len(arrangement.names) == 30
    summary = all_pairs(embeddings, identities, seed=5)
    first, second, _, same = brute_force(embeddings, identities)
    masks = {"a": in_a[first] & in_a[second], "b": ~in_a[first] & ~in_a[second], "across": in_a[first] ^ in_a[second]}
    for region, mask in masks.items():
        assert summary.regions[region].genuine.count == (mask & same).sum()
        assert summary.regions[region].impostor.count == (mask & ~same).sum()
    assert summary.regions["across"].genuine.count == 0
    assert not np.array_equal(arrange(identities, seed=6).names, arrangement.names)


@settings(max_examples=40)
@given(exact_sets(), st.integers(1, 12), st.randoms(use_true_random=False))
def test_tiles_merge_in_any_order_to_the_same_bits(made, tile, shuffler: random.Random):
    embeddings, identities = made
    arrangement = arrange(identities, seed=0)
    rows = embeddings[arrangement.order] * np.float32(0.9999)
    plan = tile_plan(len(rows), tile, boundary=arrangement.boundary)
    results = [score_tile(rows, arrangement.codes, part) for part in plan]
    shuffled = results.copy()
    shuffler.shuffle(shuffled)
    same_bits(merge(results, worst=7), merge(shuffled, worst=7))


@settings(max_examples=40)
@given(exact_sets(), st.integers(1, 12), st.integers(0, 20))
def test_neither_tile_nor_threads_change_counts(made, tile, worst):
    embeddings, identities = made
    whole = all_pairs(embeddings, identities, seed=0, threads=1, worst=worst)
    cut = all_pairs(embeddings, identities, seed=0, tile=tile, threads=2, worst=worst)
    for kind in ("genuine", "impostor"):
        ours, theirs = getattr(whole.total, kind), getattr(cut.total, kind)
        np.testing.assert_array_equal(ours.tally.histogram, theirs.tally.histogram)
        # Multiples of 1/8 sum without rounding.
        assert ours.tally.cosine == theirs.tally.cosine
        assert ours.tally.cosine_squares == pytest.approx(theirs.tally.cosine_squares, rel=1e-12, abs=1e-12)
        assert ours.tally.euclidean == pytest.approx(theirs.tally.euclidean, rel=1e-12, abs=1e-12)
    for name in ("closest_impostors", "farthest_genuine"):
        for field in ("first", "second", "distance"):
            np.testing.assert_array_equal(getattr(getattr(whole, name), field), getattr(getattr(cut, name), field))


@settings(max_examples=40)
@given(exact_sets(), st.integers(0, 2**16))
def test_order_of_images_changes_nothing(made, seed):
    embeddings, identities = made
    order = np.random.default_rng(seed).permutation(len(embeddings))
    one, other = (all_pairs(embeddings[chosen], identities[chosen], seed=1) for chosen in (slice(None), order))
    for region, scores in one.regions.items():
        for kind in ("genuine", "impostor"):
            ours, theirs = getattr(scores, kind).tally, getattr(other.regions[region], kind).tally
            np.testing.assert_array_equal(ours.histogram, theirs.histogram)
            assert ours.cosine == theirs.cosine
    np.testing.assert_array_equal(one.closest_impostors.distance, other.closest_impostors.distance)


def test_threads_change_no_bit():
    embeddings, identities = clustered(700, 90)
    same_bits(*(all_pairs(embeddings, identities, seed=0, tile=150, threads=threads) for threads in (1, 2)))


def test_like_images_of_length_a_bit_above_one():
    """Two images of squared norm 1.0002 have an inner product above 1: distance 0, not below, and no NaN."""
    embeddings = np.full((2, 4), 0.50005, np.float32)
    genuine = all_pairs(embeddings, ["a", "a"], seed=0).total.genuine
    assert genuine.tally.histogram[0] == 1
    assert [genuine.mean(metric) for metric in distances.METRICS] == [0, 0]
    assert [genuine.variance(metric) for metric in distances.METRICS] == [0, 0]


def test_one_person_has_no_impostor_pairs():
    embeddings, _ = clustered(5, 5)
    summary = all_pairs(embeddings, ["a"] * 5, seed=0)
    assert (summary.total.genuine.count, summary.total.impostor.count) == (10, 0)
    assert summary.total.impostor.mean("cosine") is None
    assert summary.total.impostor.variance("euclidean") is None
    assert len(summary.closest_impostors) == 0
    assert len(summary.farthest_genuine) == 10


def test_single_images_have_no_genuine_pairs():
    embeddings, _ = clustered(5, 5)
    summary = all_pairs(embeddings, list("abcde"), seed=0)
    assert (summary.total.genuine.count, summary.total.impostor.count) == (0, 10)
    assert summary.total.genuine.mean("euclidean") is None
    assert len(summary.genuine_pairs) == len(summary.farthest_genuine) == 0
    # Three people in A, two in B: 3 pairs, 1 pair, 6 across.
    assert [summary.regions[region].impostor.count for region in pair_merging.REGIONS] == [3, 1, 6]


def test_two_images_of_two_people():
    summary = all_pairs(np.eye(2, dtype=np.float32), ["a", "b"], seed=0)
    assert summary.total.impostor.mean("cosine") == 1
    assert summary.regions["across"].impostor.count == 1


def test_too_many_genuine_pairs_are_only_counted(monkeypatch):
    monkeypatch.setattr(all_pairs_module, "MOST_GENUINE_KEPT", 9)
    embeddings, _ = clustered(5, 5)
    summary = all_pairs(embeddings, ["a"] * 5, seed=0)
    assert summary.genuine_pairs is None
    assert summary.total.genuine.count == len(summary.farthest_genuine) == 10


@pytest.mark.parametrize(
    ("embeddings", "identities", "message"),
    [
        (np.zeros((0, 4)), [], "0 images make no pair"),
        (np.eye(1), ["a"], "1 images make no pair"),
        (np.eye(3), ["a", "b"], "3 embeddings for 2 identities"),
        (np.eye(3) * [[1], [1.1], [1]], ["a", "b", "c"], "image 1 is not a unit vector"),
        (np.eye(3) * [[1], [1], [np.nan]], ["c", "b", "a"], "image 2 is not a unit vector"),
    ],
)
def test_bad_input_is_named(embeddings, identities, message):
    with pytest.raises(UserError, match=message):
        all_pairs(embeddings, identities, seed=0)


def test_threads_of_opencv_are_given_back():
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        all_pairs(np.eye(3, dtype=np.float32), [0, 1, 2], seed=0)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("region", [None, "a", "b"])
def test_error_counts_equal_brute_force(region):
    embeddings, identities = clustered(300, 40, seed=2)
    arrangement = arrange(identities, seed=0)
    results = error_counts(embeddings, arrangement, [0.3, 0.9, 5.0], region=region, tile=64)
    in_a = np.isin(identities, arrangement.names[:20])
    keep = {None: np.ones(300, bool), "a": in_a, "b": ~in_a}[region]
    names = {None: arrangement.names, "a": arrangement.names[:20], "b": arrangement.names[20:]}[region]
    first, second, distance, same = brute_force(embeddings[keep], identities[keep])
    shown = identities[keep]
    for threshold, errors in zip([0.3, 0.9, 5.0], results, strict=True):
        assert errors.threshold == threshold
        for place, name in enumerate(names):
            one, either = shown[first] == name, (shown[first] == name) | (shown[second] == name)
            assert errors.genuine_pairs[place] == (one & same).sum()
            assert errors.genuine_errors[place] == (one & same & (distance > threshold)).sum()
            assert errors.impostor_pairs[place] == (either & ~same).sum()
            assert errors.impostor_errors[place] == (either & ~same & (distance <= threshold)).sum()


@settings(max_examples=30)
@given(exact_sets(), st.integers(0, 16), st.integers(1, 9))
def test_error_counts_agree_with_the_histogram_at_an_edge(made, eighths, tile):
    """Distances are multiples of 1/8: each lies on the upper edge of bin 1024 x eighths."""
    embeddings, identities = made
    total = all_pairs(embeddings, identities, seed=0).total
    (errors,) = error_counts(embeddings, arrange(identities, seed=0), [eighths / 8], tile=tile)
    assert errors.impostor_errors.sum() == 2 * total.impostor.tally.histogram[: 1024 * eighths + 1].sum()
    assert errors.genuine_errors.sum() == total.genuine.tally.histogram[1024 * eighths + 1 :].sum()
    assert errors.impostor_pairs.sum() == 2 * total.impostor.count
    assert errors.genuine_pairs.sum() == total.genuine.count


def test_threshold_between_two_floats_accepts_only_the_lower():
    """The float32 nearest to 0.4 is 0.4000000059, above it: a score of that is beyond 0.4, whatever float32 says."""
    assert float(np.float32(0.4)) > 0.4
    assert float(identity_errors._float32_below(0.4)) < 0.4
    assert identity_errors._float32_below(0.5) == np.float32(0.5)
    assert identity_errors._float32_below(-1.0) == -1


def test_error_counts_of_no_threshold_and_of_no_such_region():
    arrangement = arrange([0, 1], seed=0)
    assert error_counts(np.eye(2), arrangement, []) == []
    with pytest.raises(ValueError, match="across"):
        error_counts(np.eye(2), arrangement, [0.1], region="across")

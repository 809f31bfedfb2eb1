import numpy as np
import pytest

from tfface.data import Pairs
from tfface.evaluation.embeddings import Embeddings
from tfface.training import comparison
from tfface.training.split import Split


def at(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_first_two_photographs_of_those_who_have_two(listed):
    dataset = listed({"a": 3, "b": 1, "c": 2, "d": 2})
    ok = np.array([False, True, True, True, True, True, True, False])
    assert comparison.first_two(dataset, ok).tolist() == [[1, 2], [4, 5]]
    assert comparison.first_two(dataset, ok, {"c", "d"}).tolist() == [[4, 5]]
    assert comparison.first_two(dataset, ok, {"b"}).shape == (0, 2)


def test_misses_and_moments():
    """Euclidean distance at an angle: 2 sin(angle / 2), so 1.3 is 81.1 degrees.

    Genuine: 60 and 90 degrees, 1 and 1.41421. First photographs at 0, 120: one impostor pair, 1.73205.
    """
    vectors = at(0, 60, 120, 210)
    found = comparison.misses(vectors, np.array([[0, 1], [2, 3]]))
    assert (found["misses"], found["people"], found["rate"]) == (1, 2, 0.5)
    assert found["genuine"]["mean"] == pytest.approx((1 + 2**0.5) / 2, abs=1e-6)
    assert found["genuine"]["variance"] == pytest.approx(((2**0.5 - 1) / 2) ** 2, abs=1e-6)
    assert found["impostor"]["count"] == 1
    assert found["impostor"]["mean"] == pytest.approx(3**0.5, abs=1e-6)
    assert found["impostor"]["share_nearer"] == 0


def test_a_collapsed_embedding_has_no_misses_and_is_found_out():
    found = comparison.misses(at(0, 1, 2, 3, 4, 5), np.array([[0, 1], [2, 3], [4, 5]]))
    assert found["misses"] == 0
    assert found["impostor"]["share_nearer"] == 1
    assert found["impostor"]["mean"] < 0.1


def test_impostor_pairs_nearer_than_a_miss():
    """First photographs at 0, 80, 170: pairs of 80 and 90 and 170 degrees; 1.3 is 81.1 degrees."""
    found = comparison.misses(at(0, 0, 80, 80, 170, 170), np.array([[0, 1], [2, 3], [4, 5]]))
    assert found["impostor"]["share_nearer"] == pytest.approx(1 / 3)


def test_each_fold_is_judged_at_the_others_threshold(listed, tiny_embedder):
    """Fold 8: genuine 0, impostor 90 degrees; fold 9: genuine 40, impostors 50 and 120 degrees.

    Fold 9's best threshold lies between the cosine distances of 40 and 50 degrees, 0.23396 and
    0.35721; fold 8 is all right at it. Fold 8's lies between 0 and 1: at 0.5 fold 9 accepts its
    genuine pair and one of its two impostors, (1 + 0.5) / 2.
    """
    dataset = listed({"a": 2, "b": 2, "c": 2, "d": 2}, "lfw/deepfunneled")
    vectors = at(0, 0, 90, 90, 0, 40, 50, 120)
    rows = [(0, 1, 1, 8), (0, 2, 0, 8), (4, 5, 1, 9), (4, 6, 0, 9), (4, 7, 0, 9)]
    first, second, same, fold = (np.array(column) for column in zip(*rows, strict=True))
    pairs = Pairs("view2-folds-9-10", first, second, same.astype(bool), fold)
    embeddings = Embeddings(vectors, np.ones(8, bool), [])
    split = Split(np.array([]), np.array([]), np.arange(8), "", "", pairs)
    metrics = comparison.heldout_metrics(dataset, embeddings, tiny_embedder.preset, split, seed=0)
    found = metrics["calibrated"]
    assert found["folds"] == [1.0, pytest.approx((1 + 0.5) / 2)]
    assert found["accuracy"] == pytest.approx(0.875)
    assert found["threshold"] == pytest.approx((0.5 + (0.23396 + 0.35721) / 2) / 2, abs=1e-4)
    assert found["ci95"][0] < 0.875 < found["ci95"][1] <= 1
    assert metrics["genuine"]["count"] == 2 and metrics["impostor"]["count"] == 3


def test_speed_is_of_the_embedders_in_their_order(tiny_embedder, monkeypatch):
    slow, fast = object(), object()
    monkeypatch.setattr(comparison, "_prepared", lambda embedder: lambda: 2.0 if embedder is slow else 0.5)
    assert comparison.speeds(fast, slow) == (128.0, 32.0)

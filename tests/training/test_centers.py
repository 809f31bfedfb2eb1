import numpy as np
import pytest

from tfface.training.centers import drawn_to_centers

ANSWERS = np.array([[1, 0], [0, 1], [0, -1], [0.6, 0.8]], np.float16)
PEOPLE = np.array([1, 1, 0, 2])


def test_no_weight_leaves_answers():
    np.testing.assert_allclose(drawn_to_centers(ANSWERS, PEOPLE, 0.0), ANSWERS, atol=1e-3)


def test_full_weight_gives_the_persons_mean():
    """Of (1, 0) and (0, 1) it is (1, 1) / sqrt 2; who has one photograph keeps its answer."""
    half = 0.5**0.5
    found = drawn_to_centers(ANSWERS, PEOPLE, 1.0)
    np.testing.assert_allclose(found, [[half, half], [half, half], [0, -1], [0.6, 0.8]], atol=1e-3)
    assert found.dtype == np.float32


def test_between_by_hand():
    """Half way from (1, 0) to the center at 45 degrees is at 22.5."""
    angle = np.deg2rad(22.5)
    found = drawn_to_centers(ANSWERS, PEOPLE, 0.5)
    np.testing.assert_allclose(found[0], [np.cos(angle), np.sin(angle)], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_opposite_answers_have_no_center():
    found = drawn_to_centers(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([0, 0]), 0.5)
    np.testing.assert_allclose(found, [[1, 0], [-1, 0]])


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_people_come_closer(weight):
    random = np.random.default_rng(0)
    answers = random.standard_normal((40, 8))
    answers /= np.linalg.norm(answers, axis=1, keepdims=True)
    people = np.repeat(np.arange(10), 4)
    found = drawn_to_centers(answers, people, weight)
    cosines = [(one[people == 3] @ one[people == 3].T).mean() for one in (answers, found)]
    assert cosines[1] > cosines[0] + 0.05

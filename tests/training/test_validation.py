import numpy as np
import pytest

from tfface.data import load_dataset
from tfface.preprocessing.images import recipe
from tfface.training.validation import Validation, validation_of


def at(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_balanced_accuracy_at_the_best_threshold():
    """Two people of two photographs: genuine cosines cos 10 and cos 60, impostors cos 30, 90, 40 and 100.

    Accepting up to 10 degrees: half of the genuine and all four impostors right: (0.5 + 1) / 2. Up
    to 60: all genuine, two of four impostors right: 0.75 too; the wider range of thresholds wins.
    """
    same = np.array([True, False, False, False, False, True])
    vectors = at(0, 10, 40, 100)
    score = Validation(np.zeros((4, 1, 1, 3), np.uint8), same).score(lambda _: vectors)
    assert score.accuracy == pytest.approx(0.75)
    assert score.auc == pytest.approx(0.75)  # 10 degrees below all four impostors, 60 below two
    assert 1 - np.cos(np.radians(60)) < score.threshold < 1 - np.cos(np.radians(90))


def test_a_diverged_training(user_error):
    validation = Validation(np.zeros((3, 1, 1, 3), np.uint8), np.array([True, False, False]))
    with user_error("lower --learning-rate"):
        validation.score(lambda _: np.full((3, 2), np.nan))


def test_a_few_crops_of_each_person(tiny_faces, monkeypatch):
    monkeypatch.setattr("tfface.training.validation.IMAGES_PER_PERSON", 2)
    dataset = load_dataset(str(tiny_faces))
    validation = validation_of(dataset, np.arange(6), recipe("whole"), 24, seed=0)
    assert validation.images.shape == (4, 24, 24, 3)
    assert validation.same.tolist() == [True, False, False, False, False, True]


def test_people_who_make_no_genuine_pair(tiny_faces, user_error):
    with user_error("make no pair of one kind"):
        validation_of(load_dataset(str(tiny_faces)), np.array([0, 3]), recipe("whole"), 24, seed=0)

import numpy as np
import pytest

from tfface.data import load_dataset
from tfface.errors import UserError
from tfface.evaluation.embeddings import embed_dataset
from tfface.metrics.distances import FarThreshold
from tfface.preprocessing.images import recipe
from tfface.training.config import Hardening
from tfface.training.distillation import released_preset
from tfface.training.validation import Validation, embed_part, hard_validation, under_noise, validation_of


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
    with user_error("lower `learning_rate`"):
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


@pytest.fixture
def validation():
    """Four people of three photographs: a colour each, a little noise."""
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(4), 3)
    colours = random.integers(30, 226, (4, 1, 1, 3))
    images = np.clip(colours[people] + random.normal(0, 3, (12, 8, 8, 3)), 0, 255).astype(np.uint8)
    first, second = np.triu_indices(12, 1)
    return Validation(images, people[first] == people[second])


def plain(validation, student):
    return validation.score(lambda images: np.asarray(student(images.astype("float32") / 255)))


def test_no_noise_is_no_change(validation, network):
    student = network()
    score = plain(validation, student)
    assert under_noise(validation, student, 1e-7, 0) == pytest.approx(score.accuracy)
    measure = hard_validation(validation, student, Hardening(method="noise", sigma=0.5), seed=0)
    assert measure(score.threshold) < score.accuracy


def test_the_larger_the_budget_the_fewer_pairs_survive(validation, network):
    """All pairs are attacked here, so a budget of next to nothing leaves the accuracy as it is."""
    student = network()
    score = plain(validation, student)

    def survive(epsilon):
        hardening = Hardening(method="pgd-at", epsilon=epsilon)
        return hard_validation(validation, student, hardening, seed=0)(score.threshold)

    found = [survive(epsilon) for epsilon in (1e-6, 0.004, 0.05)]
    assert found[0] == pytest.approx(score.accuracy, abs=1e-3)
    assert found[0] > found[1] > found[2]
    assert found[2] < 0.2


def test_it_judges_the_weights_of_the_moment(validation, network):
    student, other = network(), network(seed=3)
    threshold = plain(validation, student).threshold
    hardening = Hardening(method="pgd-at", epsilon=0.002)
    measure = hard_validation(validation, student, hardening, seed=0)
    first = measure(threshold)
    assert measure(threshold) == first
    student.set_weights(other.get_weights())
    assert measure(threshold) == hard_validation(validation, other, hardening, seed=0)(threshold) != first


def test_a_diverged_training_under_noise(validation, network):
    student = network()
    student.set_weights([weight * np.nan for weight in student.get_weights()])
    with pytest.raises(UserError, match="the training diverged"):
        under_noise(validation, student, 0.1, 0)


def test_all_photographs_of_the_validation_people_are_embedded(faces, tiny_embedder):
    """As `embed_dataset` embeds them, whole batches and the rest; nobody else's."""
    indices = np.flatnonzero([identity in ("person 1", "person 2", "person 7") for identity in faces.identities])
    chosen, found = embed_part(faces, indices, tiny_embedder, recipe("whole"))
    expected = embed_dataset(faces, tiny_embedder, recipe("whole"))
    assert chosen.keys == [faces.keys[index] for index in indices] and found.ok.all() and not found.failed
    np.testing.assert_allclose(found.vectors, expected.vectors[indices], atol=1e-6)


def test_a_released_student_s_own_threshold_is_that_of_the_lowest_rate(tiny_embedder):
    preset = tiny_embedder.preset
    best = ("cosine", 0.7, "best balanced accuracy on them")
    rows = [FarThreshold(far, 20 * far, 0, 1, 40, "made up", "whole") for far in (0.001, 0.01)]
    made = released_preset(preset, rows, best, "the people of a fold")
    assert (made.threshold, made.other_thresholds) == (0.02, (best,))
    assert made.threshold_source == "FAR 0.001 on all pairs of the people of a fold, whole"
    assert made.decide(far=0.01, recipe="whole")[1:] == (0.2, "FAR 0.01 on all pairs of the people of a fold, whole")
    few = released_preset(preset, [], best, "two people")
    assert (few.threshold, few.threshold_source, few.other_thresholds) == (*best[1:], preset.other_thresholds)

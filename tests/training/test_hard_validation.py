import numpy as np
import pytest

from tfface.errors import UserError
from tfface.training.hard_validation import hard_validation, under_noise
from tfface.training.hardening import Hardening
from tfface.training.validation import Validation


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
    judge = hard_validation(validation, student, Hardening(method="noise", sigma=0.5), seed=0)
    assert judge(score.threshold) < score.accuracy


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
    judge = hard_validation(validation, student, hardening, seed=0)
    first = judge(threshold)
    assert judge(threshold) == first
    student.set_weights(other.get_weights())
    assert judge(threshold) == hard_validation(validation, other, hardening, seed=0)(threshold) != first


def test_a_diverged_training(validation, network):
    student = network()
    student.set_weights([weight * np.nan for weight in student.get_weights()])
    with pytest.raises(UserError, match="the training diverged"):
        under_noise(validation, student, 0.1, 0)

from dataclasses import dataclass

import numpy as np
import pytest

from tfface.attacks._attack import Attack, run
from tfface.attacks._criteria import Misclassification
from tfface.attacks._victim import Batch, Victim
from tfface.attacks.bim import BIM
from tfface.attacks.cw import CarliniWagner
from tfface.attacks.fgsm import FGSM
from tfface.attacks.pgd import PGD
from tfface.attacks.square import Square
from tfface.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Cheat(Attack):
    """Returns what it was made with, whatever the budget."""

    title = "Cheat"
    paper = "none"

    answers: tuple = ()

    @property
    def attempts(self) -> int:
        return len(self.answers)

    def perturb(self, victim, batch):
        return np.broadcast_to(np.asarray(self.answers[batch.restart], np.float32), batch.images.shape)


@pytest.fixture(scope="session")
def bright(make_linear):
    """Says 1 where the mean of an image is above 0.6."""
    return Victim(make_linear(np.full((16, 16, 3), 1 / 768), 0.1), Misclassification())


GREY = np.full((2, 16, 16, 3), 0.5, np.float32)
LABELS = np.zeros(2, np.int64)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("answer", [7.0, 1e30, np.inf])
def test_an_attack_beyond_its_budget_is_brought_back(bright, norm, answer):
    found = run(Cheat(norm=norm, answers=(answer,)), bright, GREY, LABELS, np.array([0.05, 0.3]))
    # All values move by epsilon at most: the mean is 0.55, which is not enough, and 0.8. Infinity is no value.
    expected = [0.0, 0.0] if answer == np.inf else [0.05, 0.3]
    np.testing.assert_allclose(found.images.mean(axis=(1, 2, 3)) - 0.5, expected, atol=1e-6)
    np.testing.assert_allclose(found.distance, expected, atol=1e-6)
    assert found.success.tolist() == [False, answer != np.inf]


def test_what_is_no_number_is_no_success(bright):
    found = run(Cheat(answers=(np.nan,)), bright, GREY, LABELS, 1.0)
    np.testing.assert_array_equal(found.images, GREY)
    assert not found.success.any()


def test_a_model_that_answers_no_number_is_not_beaten(bright, make_linear):
    broken = make_linear(np.full((16, 16, 3), np.nan), 0.0)
    found = run(FGSM(), Victim(broken, Misclassification()), GREY, LABELS, 0.1)
    assert not found.success.any()


@pytest.mark.parametrize(
    ("answers", "mean", "success"),
    [
        ((0.55, 0.7, 0.9), 0.7, True),  # the first that succeeds
        ((0.5, 0.58, 0.52), 0.58, False),  # else the nearest to it
    ],
)
def test_the_best_of_several_attempts_is_kept(bright, answers, mean, success):
    found = run(Cheat(answers=answers), bright, GREY, LABELS, 1.0)
    np.testing.assert_allclose(found.images.mean(axis=(1, 2, 3)), mean, atol=1e-6)
    assert found.success.tolist() == [success] * 2
    np.testing.assert_allclose(found.margin, mean - 0.6, atol=1e-5)


def test_a_judge_sees_before_the_victim_does(bright):
    found = run(Cheat(answers=(0.7,)), bright, GREY, LABELS, 1.0, judge=lambda images: images - 0.15)
    np.testing.assert_allclose(found.images, 0.55, atol=1e-6)
    assert not found.success.any()
    np.testing.assert_allclose(found.distance, 0.05, atol=1e-6)


def test_a_loop_that_steps_out_again_keeps_the_iterate_that_had_succeeded(classifier):
    import keras
    from keras import ops

    # Wins where the mean is between 0.56 and 0.64. The gradient of the loss points to the brighter side throughout
    # what two steps of 0.1 can see: 0.5 to 0.6, and on to 0.7.
    inputs = keras.Input((16, 16, 3))
    mean = ops.mean(inputs, axis=(1, 2, 3))
    rising = ops.sin((mean - 0.57) * 20.0) - 0.5 * ops.relu(mean - 0.64) * 100.0
    victim = Victim(keras.Model(inputs, ops.stack([ops.zeros_like(mean), rising], axis=1)), Misclassification())
    attack = BIM(steps=2, alpha=0.1)
    last = attack.perturb(victim, Batch.checked(victim, GREY, LABELS, 1.0))
    np.testing.assert_allclose(last, 0.7, atol=1e-6)
    found = run(attack, victim, GREY, LABELS, 1.0)
    assert found.success.all()
    np.testing.assert_allclose(found.images, 0.6, atol=1e-6)


def test_nothing_is_traced_twice(classifier, images):
    traced = []

    class Counting(Misclassification):
        def loss(self, outputs, targets):
            traced.append("loss")
            return super().loss(outputs, targets)

        def margin(self, outputs, targets):
            traced.append("margin")
            return super().margin(outputs, targets)

    victim = Victim(classifier, Counting())
    for count in (1, 3, 2, 6):
        run(PGD(steps=2), victim, images[:count], np.zeros(count, int), 0.01)
        run(FGSM(norm="l2"), victim, images[:count], np.zeros(count, int), 0.01)
    # Once for gradients and once for judging.
    assert sorted(traced) == ["loss", "margin", "margin"]


def test_only_images_are_differentiated(classifier, images, victims):
    weights = [np.array(weight) for weight in classifier.weights]
    gradient, success, margin = victims["classify"].gradient(images, np.zeros(len(images), int))
    assert gradient.shape == images.shape and success.shape == margin.shape == (len(images),)
    for before, after in zip(weights, classifier.weights, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GREY[:, :8], LABELS, 0.1), "resize them"),
        ((GREY, LABELS[:1], 0.1), "1 targets for 2 images"),
        ((GREY * 255, LABELS, 0.1), "divide 8-bit images by 255"),
        ((GREY * np.nan, LABELS, 0.1), "must be finite"),
        ((GREY, LABELS, 1.01), "epsilon 1.01 is outside"),
        ((GREY, LABELS, np.nan), "epsilon nan is outside"),
        ((GREY, LABELS, -0.1), "epsilon -0.1 is outside"),
    ],
)
def test_bad_input_is_named(bright, arguments, message):
    with pytest.raises(UserError, match=message):
        run(FGSM(), bright, *arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FGSM(norm="l1"), "FGSM knows no norm 'l1'; valid: linf, l2"),
        (lambda: CarliniWagner(norm="linf"), "C&W knows no norm 'linf'; valid: l2"),
        (lambda: CarliniWagner(steps=0), "at least one step"),
        (lambda: BIM(steps=0), "at least one step"),
        (lambda: BIM(alpha=0.0), "outside"),
        (lambda: PGD(restarts=0), "at least one random start"),
        (lambda: Square(queries=0), "at least one query"),
        (lambda: Square(share=2.0), "outside"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_fgsm_takes_one_step_and_nothing_else():
    with pytest.raises(TypeError):
        FGSM(steps=2)

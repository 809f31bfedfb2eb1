"""Attacks on a model that draws at random: gradients are means over draws of the attacker's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfface.attacks._attack import run
from tfface.attacks._criteria import Misclassification
from tfface.attacks._victim import Victim
from tfface.attacks.cw import CarliniWagner
from tfface.attacks.fgsm import FGSM


@keras.saving.register_keras_serializable(package="tests")
class Tilted(keras.layers.Layer):
    """Two logits, 0 and (first value - 1/2) * (draw + 1); the model's own draw is 0."""

    def call(self, images, draws=None):
        slope = 1.0 if draws is None else 1.0 + tf.cast(draws, tf.float32)
        value = (images[:, 0, 0, 0] - 0.5) * slope
        return tf.stack([tf.zeros_like(value), value], axis=1)

    def compute_output_shape(self, input_shape):
        return None, 2


@pytest.fixture(scope="module")
def victim():
    images, draws = keras.Input((1, 1, 3)), keras.Input((), dtype="int32")
    layer = Tilted()
    drawn = keras.Model([images, draws], layer(images, draws))
    return Victim(keras.Model(images, layer(images)), Misclassification(), drawn=drawn, draws=3)


IMAGES = np.array([0.5, 0.25], np.float32).reshape(2, 1, 1, 1).repeat(3, axis=3)


def test_the_gradient_is_the_mean_over_draws_but_the_models_own(victim):
    """At 1/2 both logits are 0: of label 0 the loss's slope is half the logit's, 2, 3 and 4 for draws 1 to 3.

    The margins at 1/4 are -1/4 times 2, 3 and 4: -0.75 in the mean.
    """
    gradient, success, margin = victim.gradient(IMAGES, np.array([0, 0]))
    np.testing.assert_allclose(gradient[0, 0, 0], [(2 + 3 + 4) / 3 / 2, 0, 0], atol=1e-6)
    np.testing.assert_allclose(margin, [0, -0.75], atol=1e-6)
    assert not np.any(success)


def test_the_judge_is_the_models_own_draw(victim):
    success, margin = victim.assess(IMAGES + 0.25, np.array([0, 0]))
    np.testing.assert_allclose(margin, [0.25, 0], atol=1e-6)
    assert success.tolist() == [True, False]


@pytest.mark.parametrize(
    ("attack", "epsilon"), [(FGSM(), 0.3), (CarliniWagner(steps=100, searches=3, initial_constant=1.0), 1.0)]
)
def test_attacks_succeed_on_it(victim, attack, epsilon):
    found = run(attack, victim, IMAGES[1:], np.array([0]), epsilon)
    assert found.success.all()
    assert found.images[0, 0, 0, 0] > 0.5

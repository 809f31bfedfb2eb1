"""Attacks made to transfer, each against the formula of its paper on a model whose gradient is known."""

import numpy as np
import pytest
import tensorflow as tf

from tfface.attacks._victim import Batch
from tfface.attacks.dim import DIM, _moved, _moved_back
from tfface.attacks.mim import MIM
from tfface.attacks.si_ni import SINI
from tfface.attacks.tim import TIM, gaussian
from tfface.attacks.vmi import VMI
from tfface.errors import UserError


@pytest.fixture
def batch(victims, images, targets):
    return Batch.checked(victims["dodging"], images, targets["dodging"], 0.03, seed=3)


@pytest.mark.parametrize(
    "plain",
    [DIM(probability=0.0, steps=4), TIM(kernel=1, steps=4), SINI(copies=1, steps=1), VMI(steps=1)],
    ids=lambda attack: attack.title,
)
def test_without_its_own_part_it_is_mim(plain, victims, batch):
    mim = MIM(steps=plain.steps)
    np.testing.assert_allclose(
        plain.perturb(victims["dodging"], batch), mim.perturb(victims["dodging"], batch), atol=1e-6
    )


def test_the_gaussian_is_the_papers():
    kernel = gaussian(15)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert kernel[7, 7] == kernel.max()
    # The edge is three deviations out: exp(-9 / 2) of the middle.
    assert kernel[7, 0] / kernel[7, 7] == pytest.approx(np.exp(-4.5), rel=1e-5)


def test_tim_smooths_the_gradient():
    gradient = np.zeros((1, 9, 9, 3), np.float32)
    gradient[0, 4, 4, 1] = 1
    direction, velocity = TIM(kernel=3, norm="l2").direction(tf.constant(gradient), tf.zeros((1, 9, 9, 3)))
    np.testing.assert_allclose(velocity[0, 3:6, 3:6, 1], gaussian(3), atol=1e-6)
    assert not np.any(velocity[..., 0])
    assert float(tf.sqrt(tf.reduce_mean(direction**2))) == pytest.approx(1, rel=1e-5)


def test_a_copy_is_shrunk_and_its_gradient_comes_back_to_its_pixels():
    images = tf.ones((1, 8, 8, 1))
    half = np.array([[2, 0, -4, 0, 2, -4, 0, 0]], np.float32)  # half the size, two pixels from the corner
    copies = _moved(images, half)
    np.testing.assert_array_equal(copies[0, :, :, 0].numpy().sum(), 16)
    back = _moved_back(copies, images, half)
    assert back.shape == images.shape
    assert float(tf.reduce_sum(back)) > 0


def test_the_scaled_copies_are_averaged_at_the_point_ahead(victims, batch):
    victim = victims["dodging"]
    velocity = tf.constant(np.random.default_rng(0).normal(size=batch.images.shape).astype(np.float32))
    found, _ = SINI(copies=2, steps=4).ascent(victim, batch, tf.constant(batch.images), velocity, {"step": 1})
    ahead = batch.images + 0.03 / 4 * np.sign(velocity)
    whole = victim.gradient(ahead.astype(np.float32), batch.targets)[0]
    half = victim.gradient((ahead / 2).astype(np.float32), batch.targets)[0] / 2
    np.testing.assert_allclose(found, (whole + half) / 2, atol=1e-6)


def test_the_variance_of_the_last_iterate_moves_the_next_gradient(victims, batch):
    victim, attack = victims["dodging"], VMI(steps=3, neighbours=4)
    carried = {"step": 0}
    images = tf.constant(batch.images)
    first, _ = attack.ascent(victim, batch, images, images, carried)
    own = victim.gradient(images, batch.targets)[0]
    np.testing.assert_allclose(first, own, atol=1e-7)
    changes = attack._changes(batch, {"step": 0})
    assert np.abs(changes).max() <= 1.5 * 0.03
    near = np.mean([victim.gradient(batch.images + change, batch.targets)[0] for change in changes], axis=0)
    carried["step"] = 1
    second, _ = attack.ascent(victim, batch, images, images, carried)
    np.testing.assert_allclose(second, near, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [lambda: DIM(probability=2.0), lambda: TIM(kernel=4), lambda: SINI(copies=0), lambda: VMI(neighbours=0)],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(UserError):
        make()

"""Results equal those of other packages, and of the paper's formula by hand."""

import math

import numpy as np
import pytest

from tfface.attacks._victim import Batch
from tfface.attacks.bim import BIM
from tfface.attacks.fgsm import FGSM
from tfface.attacks.mim import MIM

EPSILON, STEPS, ALPHA = 0.03, 5, 0.008
LENGTH = math.sqrt(16 * 16 * 3)  # of an L2 epsilon of 1
CLOSE = 1e-6


@pytest.fixture(scope="module")
def labels(victims):
    return np.arange(6) % 5


@pytest.fixture
def own(victims, labels):
    """Our result before judging."""

    def perturb(attack, images):
        victim = victims["classify"]
        return attack.perturb(victim, Batch.checked(victim, images, labels, EPSILON))

    return perturb


@pytest.fixture(scope="module")
def foolbox_run(classifier, labels):
    foolbox = pytest.importorskip("foolbox")
    import tensorflow as tf

    model = foolbox.TensorFlowModel(classifier, bounds=(0, 1))

    def run(name, images, epsilon, **settings):
        attack = getattr(foolbox.attacks, name)(random_start=False, **settings)
        # `run` is the attack alone: calling it would replace images that it need not have attacked.
        return attack.run(model, tf.constant(images), tf.constant(labels), epsilon=epsilon).numpy()

    return run


@pytest.fixture(scope="module")
def art_run(classifier, labels):
    evasion = pytest.importorskip("art.attacks.evasion")
    import keras
    from art.estimators.classification import TensorFlowV2Classifier

    model = TensorFlowV2Classifier(
        model=classifier,
        nb_classes=5,
        input_shape=(16, 16, 3),
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )

    def run(name, images, norm, scale, **settings):
        settings = {key: value * scale if key.startswith("eps") else value for key, value in settings.items()}
        return getattr(evasion, name)(model, norm=norm, num_random_init=0, **settings).generate(images, labels)

    return run


# In L2 the peers clip before or after the projection; nothing is clipped where values are middling.


def test_fgsm_equals_foolbox(own, foolbox_run, images, middling):
    theirs = foolbox_run("LinfFastGradientAttack", images, EPSILON)
    np.testing.assert_allclose(own(FGSM(), images), theirs, atol=CLOSE, rtol=0)
    theirs = foolbox_run("L2FastGradientAttack", middling, EPSILON * LENGTH)
    np.testing.assert_allclose(own(FGSM(norm="l2"), middling), theirs, atol=CLOSE, rtol=0)


def test_pgd_without_a_random_start_equals_foolbox(own, foolbox_run, images, middling):
    settings = {"steps": STEPS, "rel_stepsize": ALPHA / EPSILON}
    theirs = foolbox_run("LinfProjectedGradientDescentAttack", images, EPSILON, **settings)
    np.testing.assert_allclose(own(BIM(steps=STEPS, alpha=ALPHA), images), theirs, atol=CLOSE, rtol=0)
    theirs = foolbox_run("L2ProjectedGradientDescentAttack", middling, EPSILON * LENGTH, **settings)
    np.testing.assert_allclose(own(BIM(norm="l2", steps=STEPS, alpha=ALPHA), middling), theirs, atol=CLOSE, rtol=0)


def test_fgsm_equals_art(own, art_run, images, middling):
    theirs = art_run("FastGradientMethod", images, np.inf, 1, eps=EPSILON)
    np.testing.assert_allclose(own(FGSM(), images), theirs, atol=CLOSE, rtol=0)
    theirs = art_run("FastGradientMethod", middling, 2, LENGTH, eps=EPSILON)
    np.testing.assert_allclose(own(FGSM(norm="l2"), middling), theirs, atol=CLOSE, rtol=0)


def test_pgd_without_a_random_start_equals_art(own, art_run, images, middling):
    settings = {"eps": EPSILON, "eps_step": ALPHA, "max_iter": STEPS, "verbose": False}
    theirs = art_run("ProjectedGradientDescent", images, np.inf, 1, **settings)
    np.testing.assert_allclose(own(BIM(steps=STEPS, alpha=ALPHA), images), theirs, atol=CLOSE, rtol=0)
    theirs = art_run("ProjectedGradientDescent", middling, 2, LENGTH, **settings)
    np.testing.assert_allclose(own(BIM(norm="l2", steps=STEPS, alpha=ALPHA), middling), theirs, atol=CLOSE, rtol=0)


def by_hand(gradient, images, norm, decay, steps):
    """The paper's equations 6 and 7 in numpy (8 in L2)."""
    current, momentum = images.copy(), np.zeros_like(images)
    for _ in range(steps):
        slope = gradient(current)
        momentum = decay * momentum + slope / np.abs(slope).sum(axis=(1, 2, 3), keepdims=True)
        size = np.linalg.norm(momentum.reshape(len(images), -1), axis=1)[:, None, None, None]
        step = np.sign(momentum) if norm == "linf" else momentum / size * LENGTH
        current = np.clip(current + EPSILON / steps * step, 0, 1)
    return current


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_mim_is_the_papers_formula(own, victims, labels, middling, norm, decay):
    def gradient(images):
        return victims["classify"].gradient(images.astype(np.float32), labels)[0].numpy().astype(np.float64)

    expected = by_hand(gradient, middling.astype(np.float64), norm, decay, STEPS)
    ours = own(MIM(norm=norm, steps=STEPS, decay=decay), middling)
    np.testing.assert_allclose(ours, expected, atol=CLOSE, rtol=0)
    # The decay is felt.
    assert np.abs(expected - by_hand(gradient, middling.astype(np.float64), norm, 0.0, STEPS)).max() > 1e-3

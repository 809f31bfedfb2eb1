"""APGD and FMN against hand-computed steps, Foolbox, and plain PGD."""

import keras
import numpy as np
import pytest

from tfface.attacks._attack import run
from tfface.attacks._criteria import Dodging, Misclassification
from tfface.attacks._victim import Batch, Victim
from tfface.attacks.apgd import APGD, checkpoints
from tfface.attacks.fmn import FMN
from tfface.attacks.pgd import PGD
from tfface.errors import UserError


def test_checkpoints_are_the_papers():
    # 0.22, then 0.22 + 0.19, + 0.16, + 0.13 ... down to steps of 0.06.
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_a_step_of_two_epsilons_reaches_the_edge_of_the_ball(make_linear):
    weights = np.random.default_rng(0).normal(size=(4, 4, 3)).astype(np.float32)
    victim = Victim(make_linear(weights, gap=3.0), Misclassification())
    images = np.full((1, 4, 4, 3), 0.5, np.float32)
    found = APGD(steps=2).perturb(victim, Batch.checked(victim, images, np.array([0]), 0.1))
    np.testing.assert_allclose(found, images + 0.1 * np.sign(weights), atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_climbs_at_least_as_high_as_pgd(victims, images, targets, norm):
    victim, given = victims["dodging"], targets["dodging"]
    ours = run(APGD(norm=norm, steps=40), victim, images, given, 0.02)
    plain = run(PGD(norm=norm, steps=40), victim, images, given, 0.02)
    assert (ours.margin >= plain.margin - 1e-4).all()


def test_a_climb_that_stalls_halves_its_step_and_returns_to_its_best_point(victims, images, targets):
    from tfface.attacks.apgd import _Climb

    batch = Batch.checked(victims["dodging"], images, targets["dodging"], 0.02)
    climb = _Climb(APGD(steps=10), victims["dodging"], batch)
    for _ in range(4):
        climb.step(momentum=0.75)
    climb._rises[:] = [4, 3, 2, 0, 4, 4]  # of four steps: at least three are asked for
    climb._at_last = (climb._size.copy(), climb._best_margin - 1)
    climb.adapt()
    np.testing.assert_allclose(climb._size, 0.04 * np.array([1, 1, 0.5, 0.5, 1, 1]), rtol=1e-6)
    np.testing.assert_array_equal(climb._current[2:4], climb.best[2:4])
    np.testing.assert_allclose(victims["dodging"].assess(climb.best, batch.targets)[1], climb._best_margin, atol=1e-6)


def as_classifier(embedder, targets):
    """Two logits, 0 and the margin of dodging one pair: what Foolbox can attack."""
    inputs = keras.Input(embedder.input_shape[1:])
    cosine = keras.layers.Dense(1, use_bias=False)(embedder(inputs))
    margin = keras.layers.Rescaling(-1.0, 1.0 - float(targets[-1]))(cosine)
    model = keras.Model(inputs, keras.layers.Concatenate()([keras.layers.Rescaling(0.0)(margin), margin]))
    model.layers[2].set_weights([targets[:-1, None]])
    return model


@pytest.mark.parametrize(("norm", "name", "unit"), [("linf", "LInfFMNAttack", 1.0), ("l2", "L2FMNAttack", 768**0.5)])
def test_fmn_is_foolboxs_or_nearer(victims, images, targets, norm, name, unit):
    foolbox = pytest.importorskip("foolbox")
    import tensorflow as tf

    victim = victims["dodging"]
    for image, target in zip(images[:2, None], targets["dodging"][:2], strict=True):
        peer = foolbox.TensorFlowModel(as_classifier(victim.model, target), bounds=(0, 1))
        attack = getattr(foolbox.attacks, name)(steps=30)
        theirs = attack.run(peer, tf.constant(image), tf.constant([0], tf.int64)).numpy() - image
        batch = Batch.checked(victim, image, target[None], 1.0)
        ours = FMN(norm=norm, steps=30).perturb(victim, batch) - image
        size = [np.abs(change).max() if norm == "linf" else np.linalg.norm(change) / unit for change in (ours, theirs)]
        assert 0 < size[0] <= size[1] * (1 + 1e-3)
        if norm == "linf":  # Foolbox 3.3.4's L2 attack leaves its ball: it ends 150 times as far out
            assert size[0] >= size[1] * (1 - 1e-3)


def test_fmn_finds_the_distance_of_a_linear_model(make_linear):
    weights = np.random.default_rng(1).normal(size=(4, 4, 3)).astype(np.float32)
    victim = Victim(make_linear(weights, gap=1.0), Misclassification())
    images = np.full((1, 4, 4, 3), 0.5, np.float32)
    found = run(FMN(steps=200), victim, images, np.array([0]), 1.0)
    assert found.success.all()
    np.testing.assert_allclose(found.distance, 1.0 / np.abs(weights).sum(), rtol=0.02)


def test_nothing_succeeds_and_the_clean_image_stays():
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.layers[-1].set_weights([np.zeros((48, 2)), np.array([1.0, 0.0])])
    victim, images = Victim(model, Misclassification()), np.full((2, 4, 4, 3), 0.5, np.float32)
    for attack in (FMN(steps=5), APGD(steps=5)):
        found = run(attack, victim, images, np.zeros(2, int), 0.0)
        assert not found.success.any()
        np.testing.assert_array_equal(found.images, images)


def test_a_photograph_against_itself_has_no_gradient_and_is_attacked_all_the_same(victims, images):
    victim = victims["dodging"]
    targets = victim.targets(images[:2], 0.01)
    assert isinstance(victim.goal, Dodging)
    assert run(APGD(steps=20), victim, images[:2], targets, 0.3).success.all()


@pytest.mark.parametrize("make", [lambda: APGD(steps=1), lambda: APGD(restarts=0), lambda: FMN(steps=0)])
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(UserError, match="needs at least"):
        make()

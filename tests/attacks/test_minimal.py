import math

import numpy as np
import pytest

from tfface.attacks import _stepwise
from tfface.attacks._attack import run
from tfface.attacks._bracket import START
from tfface.attacks._criteria import Misclassification
from tfface.attacks._minimal import TOLERANCE, search_minimal
from tfface.attacks._quantization import quantized
from tfface.attacks._victim import Victim
from tfface.attacks.bim import BIM
from tfface.attacks.cw import CarliniWagner
from tfface.attacks.fgsm import FGSM
from tfface.attacks.mim import MIM
from tfface.attacks.pgd import PGD
from tfface.attacks.square import Square
from tfface.errors import UserError

GREY = np.full((2, 16, 16, 3), 0.5, np.float32)
LABELS = np.zeros(2, np.int64)
# A weight of +-1 on each of 768 values, one half of it 3: |w|_1 = 2 x 768, |w|_2 = sqrt(5 x 768).
WEIGHTS = np.where(np.arange(768) % 2, 1.0, -3.0).reshape(16, 16, 3)
GAP = 12.0
LINF = GAP / (2 * 768)
L2 = GAP / math.sqrt(5 * 768) / math.sqrt(768)


class Counting(Victim):
    """Counts images through the model, and remembers the batches."""

    def __init__(self, model, goal):
        super().__init__(model, goal)
        self.gradients, self.judged = [], []

    def gradient(self, images, targets):
        self.gradients.append(len(images))
        return super().gradient(images, targets)

    def assess(self, images, targets):
        self.judged.append(len(images))
        return super().assess(images, targets)


@pytest.fixture(scope="module")
def linear(make_linear):
    return Victim(make_linear(WEIGHTS, GAP), Misclassification())


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (FGSM(), LINF),
        (BIM(), LINF),
        (PGD(), LINF),
        (MIM(), LINF),
        (FGSM(norm="l2"), L2),
        (BIM(norm="l2"), L2),
        (MIM(norm="l2"), L2),
    ],
    ids=str,
)
def test_the_minimum_on_a_linear_model_is_the_distance_to_its_plane(linear, attack, expected):
    found = search_minimal(attack, linear, GREY, LABELS)
    assert found.success.all()
    assert (found.epsilon >= expected - 1e-7).all()
    np.testing.assert_allclose(found.epsilon, expected, atol=TOLERANCE)


def test_carlini_and_wagner_find_the_distance_themselves(linear):
    found = search_minimal(CarliniWagner(steps=200, searches=6, initial_constant=0.1), linear, GREY, LABELS)
    np.testing.assert_allclose(found.epsilon, L2, rtol=0.02)
    length = np.linalg.norm((found.images - GREY).reshape(2, -1), axis=1)
    np.testing.assert_allclose(found.epsilon, length / math.sqrt(768), rtol=1e-5)


def test_a_minimum_below_half_a_grey_level(make_linear):
    victim = Victim(make_linear(np.full((16, 16, 3), 1 / 768), START / 3), Misclassification())
    found = search_minimal(FGSM(), victim, GREY, LABELS, tolerance=1e-5)
    np.testing.assert_allclose(found.epsilon, START / 3, atol=1e-5)


def waves(gap: float = 0.5):
    """Logits whose difference swings with the mean brightness m: sin(2 pi (m - 0.3) / 0.4 - 1) - gap."""
    import keras
    from keras import ops

    inputs = keras.Input((16, 16, 3))
    mean = ops.mean(inputs, axis=(1, 2, 3))
    swing = ops.sin((mean - 0.3) * (2 * math.pi / 0.4) - 1.0) - gap
    return Victim(keras.Model(inputs, ops.stack([ops.zeros_like(mean), swing], axis=1)), Misclassification())


def test_fgsm_is_bracketed_at_its_first_success():
    # From brightness 0.3 it wins between 0.0970 and 0.2303 and again from 0.4970: 2 pi e / 0.4 - 1 = pi / 6.
    victim, dim = waves(), np.full((1, 16, 16, 3), 0.3, np.float32)
    found = search_minimal(FGSM(), victim, dim, LABELS[:1])
    assert found.epsilon[0] == pytest.approx(0.4 * (1 + math.pi / 6) / (2 * math.pi), abs=TOLERANCE)
    wins = run(FGSM(), victim, np.repeat(dim, 3, axis=0), np.zeros(3, int), np.array([0.2, 0.3, 0.55])).success
    assert wins.tolist() == [True, False, True]


def test_what_fails_even_at_one_is_infinitely_far():
    found = search_minimal(BIM(steps=3), waves(gap=1.5), GREY, LABELS)
    assert np.isinf(found.epsilon).all()
    assert not found.success.any()
    np.testing.assert_array_equal(found.images, GREY)


@pytest.mark.parametrize("attack", [FGSM(), Square(queries=5)], ids=str)
def test_what_wins_unchanged_is_no_distance_away(victims, targets, images, attack):
    others = (targets["classify"] + 1) % 5
    found = search_minimal(attack, victims["classify"], images, others)
    assert (found.epsilon == 0).all() and found.success.all()
    np.testing.assert_array_equal(found.images, images)


EVERY = [
    FGSM(),
    FGSM(norm="l2"),
    BIM(steps=5),
    MIM(steps=5),
    PGD(norm="l2", steps=4, restarts=2),
    Square(queries=6),
    CarliniWagner(steps=30, searches=2, initial_constant=1.0),
]


@pytest.mark.parametrize("attack", EVERY, ids=str)
def test_the_attack_succeeds_at_the_reported_epsilon_whatever_the_batch(victims, targets, images, attack):
    goal = "dodging"
    inputs = victims[goal], images, targets[goal]
    found = search_minimal(attack, *inputs, seed=3, batch_size=6, tolerance=1e-3)
    assert np.isfinite(found.epsilon).any()
    outcome = run(attack, *inputs, np.where(found.success, found.epsilon, 1.0), seed=3)
    if attack.minimal_norm:
        assert (outcome.distance <= found.epsilon + 1e-6).all()
    else:
        np.testing.assert_array_equal(outcome.success, found.success)
    np.testing.assert_array_equal(victims[goal].assess(found.images, targets[goal])[0], found.success)
    for batch_size in (1, 4):
        again = search_minimal(attack, *inputs, seed=3, batch_size=batch_size, tolerance=1e-3)
        np.testing.assert_allclose(again.epsilon, found.epsilon, atol=1e-5)
    keys = np.array([2, 5])
    part = search_minimal(attack, victims[goal], images[keys], targets[goal][keys], seed=3, keys=keys, tolerance=1e-3)
    np.testing.assert_allclose(part.epsilon, found.epsilon[keys], atol=1e-5)


@pytest.mark.parametrize("attack", [FGSM(), BIM(steps=3)], ids=str)
def test_a_judge_decides(victims, targets, images, attack):
    inputs = victims["classify"], images, targets["classify"]
    found = search_minimal(attack, *inputs, judge=quantized, tolerance=1e-3)
    assert found.success.all()
    np.testing.assert_allclose(found.images * 255, np.rint(found.images * 255), atol=1e-4)
    assert inputs[0].assess(found.images, targets["classify"])[0].all()
    assert run(attack, *inputs, found.epsilon, judge=quantized).success.all()


def test_fgsm_takes_one_gradient_an_image_and_is_three_times_faster_than_the_plain_search(classifier, images, targets):
    victim = Counting(classifier, Misclassification())
    many, labels = np.concatenate([images, images[:, ::-1], images[:, :, ::-1]]), np.tile(targets["classify"], 3)
    labels = np.argmax(victim.outputs(many), axis=1)
    found = search_minimal(FGSM(), victim, many, labels, batch_size=5)
    assert sum(victim.gradients) == len(many)
    assert max(victim.gradients + victim.judged) <= 5
    # A gradient costs about two forward passes; the plain search takes one and a judgement at every level.
    low = np.exp2(np.floor(np.log2(found.epsilon / START))) * START
    bisections = math.ceil(np.log2(np.maximum(low, START) / TOLERANCE).max())
    plain = len(many) * (10 + bisections) * 3
    assert plain / (2 * sum(victim.gradients) + sum(victim.judged)) > 3


def test_an_iterative_trial_ends_at_its_first_success(make_linear):
    # The smallest epsilon is a little below 2/510: at 2/510, steps of an eighth of it succeed at the eighth.
    victim = Counting(make_linear(np.full((16, 16, 3), 1 / 768), 1.95 / 510), Misclassification())
    search_minimal(BIM(), victim, GREY[:1], LABELS[:1], tolerance=1 / 510)
    # The clean image, at most 19 more in the failure at 1/510, and iterates 1 to 8 in the success.
    assert len(victim.gradients) <= 1 + 19 + 8
    assert sum(victim.judged) <= 2


def test_images_wait_outside_the_batch(victims, targets, images, monkeypatch):
    alive, most = set(), []
    enter, finish = _stepwise.Stepwise._enter, _stepwise.Stepwise._round

    def entered(self, row):
        alive.add(row)
        return enter(self, row)

    def round_of(self, places):
        most.append(len(alive))
        yield from finish(self, places)
        alive.difference_update(place.row for place in places if place.done)

    monkeypatch.setattr(_stepwise.Stepwise, "_enter", entered)
    monkeypatch.setattr(_stepwise.Stepwise, "_round", round_of)
    search_minimal(FGSM(), victims["classify"], images, targets["classify"], batch_size=2)
    assert max(most) == 2
    assert not alive


def test_hopeless_trials_are_given_up_except_at_epsilon_one():
    place = _stepwise._Place(0, *[np.zeros(1)] * 5, epsilon=0.5, step=3, margins=[-1.0, -0.99, -0.98])
    # At most 0.01 a step in 18 steps, twice that: 0.36.
    assert place.hopeless(20)
    place.margins = [-1.0, -0.97, -0.94]
    assert not place.hopeless(20)  # 18 x 0.03 x 2 = 1.08
    place.margins = [-1.0, -0.999, -0.990]
    assert not place.hopeless(20)  # rises ever faster
    place.margins, place.epsilon = [-1.0, -0.99, -0.98], 1.0
    assert not place.hopeless(20)


def test_nothing_to_search(victims):
    found = search_minimal(FGSM(), victims["classify"], np.zeros((0, 16, 16, 3), np.float32), np.zeros(0, int))
    assert len(found.epsilon) == 0


@pytest.mark.parametrize("settings", [{"tolerance": 0.0}, {"tolerance": math.nan}, {"batch_size": 0}])
def test_bad_settings_are_named(victims, targets, images, settings):
    with pytest.raises(UserError, match="must be positive"):
        search_minimal(FGSM(), victims["classify"], images, targets["classify"], **settings)

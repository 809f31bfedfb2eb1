import json

import numpy as np
import pytest

from tfface.attacks._attack import run
from tfface.attacks._minimal import search_minimal
from tfface.attacks._transfer import Transfer, resized
from tfface.attacks._victim import Batch, Victim
from tfface.attacks.bim import BIM
from tfface.attacks.cw import CarliniWagner
from tfface.attacks.pgd import PGD
from tfface.errors import UserError


@pytest.fixture(scope="module")
def larger(victims):
    """The victim's twin for images of twice the size, which it shrinks to its own."""
    import keras
    from keras import layers

    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, victims["dodging"].model(layers.AveragePooling2D(2)(inputs)), name="twin")


@pytest.fixture
def surrogate(larger, victims):
    return Victim(resized(larger, victims["dodging"].input_shape[:2]), victims["dodging"].goal)


def test_a_surrogate_of_another_size_sees_resized_images(larger, images):
    import tensorflow as tf

    behind = resized(larger, (16, 16))
    assert behind.input_shape == (None, 16, 16, 3)
    assert behind.name == "twin"
    expected = larger(tf.image.resize(images, (32, 32), antialias=True))
    np.testing.assert_allclose(behind(images), expected, atol=1e-6)
    assert resized(larger, (32, 32)) is larger


def test_is_the_attack_on_the_surrogate_judged_on_the_victim(surrogate, victims, targets, images):
    victim, own = victims["dodging"], targets["dodging"]
    theirs = surrogate.targets(images[::-1].copy(), 0.5)
    inner = PGD(steps=3)
    found = run(Transfer(inner=inner, surrogate=surrogate, surrogate_targets=theirs), victim, images, own, 0.1, seed=2)
    expected = inner.perturb(surrogate, Batch.checked(surrogate, images, theirs, 0.1, seed=2))
    np.testing.assert_allclose(found.images, expected, atol=1e-6)
    np.testing.assert_array_equal(found.success, victim.assess(expected, own)[0])


def test_a_twin_as_surrogate_is_as_good_as_the_victim(victims, targets, images):
    victim, own = victims["dodging"], targets["dodging"]
    attack = Transfer(inner=BIM(steps=3), surrogate=victim, surrogate_targets=own)
    np.testing.assert_array_equal(
        run(attack, victim, images, own, 0.1).images, run(BIM(steps=3), victim, images, own, 0.1).images
    )
    whole = search_minimal(attack, victim, images, own, batch_size=4, tolerance=1e-3).epsilon
    np.testing.assert_allclose(whole, search_minimal(BIM(steps=3), victim, images, own).epsilon, atol=1.1e-3)


def test_targets_follow_their_keys(victims, targets, images):
    victim, own = victims["dodging"], targets["dodging"]
    order = np.array([4, 1, 3])
    attack = Transfer(inner=BIM(steps=2), surrogate=victim, surrogate_targets=own[order], keys=order + 70)
    found = run(attack, victim, images[[1, 4]], own[[1, 4]], 0.1, keys=np.array([71, 74]))
    np.testing.assert_array_equal(found.images, run(BIM(steps=2), victim, images[[1, 4]], own[[1, 4]], 0.1).images)


def test_is_what_its_inner_attack_is(surrogate):
    made = {"surrogate": surrogate, "surrogate_targets": np.zeros((0, 9))}
    attack = Transfer(inner=PGD(norm="l2", restarts=3), **made)
    assert (attack.title, attack.norm, attack.attempts) == ("PGD transferred", "l2", 3)
    assert attack.black_box and not attack.deterministic and not attack.minimal_norm
    assert Transfer(inner=CarliniWagner(), **made).minimal_norm
    assert Transfer(inner=BIM(), **made).deterministic
    record = json.loads(json.dumps(attack.record()))
    assert record["surrogate"] == "twin" and record["restarts"] == 3


def test_a_surrogate_of_the_wrong_size_is_named(larger, victims, targets, images):
    attack = Transfer(
        inner=BIM(), surrogate=Victim(larger, victims["dodging"].goal), surrogate_targets=targets["dodging"]
    )
    with pytest.raises(UserError, match="resize it"):
        run(attack, victims["dodging"], images, targets["dodging"], 0.1)

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from tfface.attacks._checks import check_gradients
from tfface.attacks._criteria import Misclassification
from tfface.attacks._transfer import Transfer
from tfface.attacks._victim import Victim
from tfface.attacks.bim import BIM
from tfface.errors import UserError

QUICK = {"steps": 30, "restarts": 2, "epsilons": (0.02, 0.1)}


def behind(classifier, layer):
    inputs = keras.Input((16, 16, 3))
    return Victim(keras.Model(inputs, classifier(layer(inputs))), Misclassification())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_smooth_model_passes(victims, targets, images, norm):
    victim, own = victims["classify"], targets["classify"]
    transfer = Transfer(inner=BIM(norm=norm, steps=5), surrogate=victim, surrogate_targets=own)
    verdict = check_gradients(victim, images, own, norm=norm, transfer=transfer, **QUICK)
    assert not verdict.masked
    assert [row.passed for row in verdict.rows] == [True, True, True, True, None]
    assert verdict.attacked == 6
    assert "6 of 6" in verdict.rows[1].measured


MASKS = {
    # Five grey levels: flat but for the steps.
    "rounded": lambda images: ops.round(images * 4.0) / 4.0,
    # So steep that every value is at one end, where float32 leaves no slope.
    "saturated": lambda images: ops.sigmoid((images - 0.5) * 5000.0),
}


@pytest.mark.parametrize("mask", MASKS)
def test_a_model_that_masks_its_gradients_is_flagged(classifier, images, mask):
    victim = behind(classifier, MASKS[mask])
    own = np.argmax(victim.outputs(images), axis=1)
    verdict = check_gradients(victim, images, own, **QUICK)
    assert verdict.masked
    assert verdict.record()["masks_gradients"] is True
    failed = [row["check"] for row in verdict.record()["rows"] if row["passed"] is False]
    assert "PGD is no weaker than Square" in failed or "PGD always succeeds at epsilon 1" in failed


def test_images_that_win_unchanged_are_left_out(victims, targets, images):
    own = targets["classify"].copy()
    own[:2] = (own[:2] + 1) % 5
    assert check_gradients(victims["classify"], images, own, steps=2, restarts=1, epsilons=(0.1,)).attacked == 4
    with pytest.raises(UserError, match=r"all of the 2 images reach the goal classify unchanged"):
        check_gradients(victims["classify"], images[:2], own[:2])


def test_pgd_is_given_a_hundred_steps_and_two_starts():
    defaults = inspect.signature(check_gradients).parameters
    assert (defaults["steps"].default, defaults["restarts"].default) == (100, 2)

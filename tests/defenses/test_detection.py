import keras
import numpy as np
import pytest
import tensorflow as tf

from tfface.attacks._criteria import Dodging
from tfface.defenses._defense import parse
from tfface.defenses._detection import VIEWS, Detector, Evading, Squeezed, disagreements
from tfface.errors import UserError


def test_the_score_is_the_farthest_views_distance(tiny_embedder, images):
    own = tiny_embedder.embed(images)
    distances = [1 - np.sum(own * tiny_embedder.embed(np.asarray(parse(view)(images))), axis=1) for view in VIEWS]
    scores = Detector(tiny_embedder).scores(images)
    np.testing.assert_allclose(scores, np.max(distances, axis=0), atol=1e-6)
    assert (scores > 1e-5).all()
    np.testing.assert_allclose(Detector(tiny_embedder).scores(images[2:]), scores[2:], atol=1e-6)


def test_a_detector_saves_and_loads(tiny_embedder, images, tmp_path):
    model = Detector(tiny_embedder, ("median", "bit-depth:bits=3")).model
    assert model.output_shape == (None, 3 * 16)
    model.save(tmp_path / "detector.keras")
    loaded = keras.models.load_model(tmp_path / "detector.keras", safe_mode=True)
    np.testing.assert_allclose(loaded(images), model(images), atol=1e-6)


@pytest.mark.parametrize("views", [(), ("noise:copies=2",), ("median", "blur")])
def test_refuses_what_is_no_view(views):
    with pytest.raises(UserError):
        Squeezed(views)


OUTPUTS = tf.constant([[1.0, 0, 0.6, 0.8, 0, 1]])
"""An image at (1, 0), its views at (0.6, 0.8) and (0, 1): cosine distances 0.4 and 1."""
TARGETS = tf.constant([[0.0, 1, 0.3]])
"""The reference at (0, 1), where a distance above 0.3 is another person: the margin of dodging is 1 - 0.3."""


def test_disagreements_by_hand():
    np.testing.assert_allclose(disagreements(OUTPUTS, 2), [[0.4, 1]], atol=1e-6)


def test_evading_by_hand():
    """The margin of dodging is 0.7, of which 0.05 is enough; the views' mean distance is 0.7, the largest 1."""
    for limit, success, margin in ((0.9, False, -0.1), (1.2, True, 0.2)):
        goal = Evading(Dodging(), limit, weight=2)
        np.testing.assert_allclose(goal.loss(OUTPUTS, TARGETS), 0.05 - 2 * 0.7, atol=1e-6)
        np.testing.assert_allclose(goal.margin(OUTPUTS, TARGETS), margin, atol=1e-6)
        assert bool(goal.success(OUTPUTS, TARGETS)[0]) is success


def test_evading_needs_the_goal_too():
    """A pair that still matches, its views agreeing: nothing is won, and the loss rises with the distance."""
    same = tf.constant([[0.0, 1, 0, 1, 0, 1]])
    goal = Evading(Dodging(), 0.5)
    assert not goal.success(same, TARGETS)
    np.testing.assert_allclose(goal.margin(same, TARGETS), -0.3, atol=1e-6)
    np.testing.assert_allclose(goal.loss(same, TARGETS), -0.3, atol=1e-6)

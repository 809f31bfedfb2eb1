import math

import numpy as np
import pytest
import tensorflow as tf

from tfface.attacks._criteria import GOALS, Dodging, Impersonation, Misclassification
from tfface.errors import UserError


def values(goal, outputs, targets):
    outputs, targets = tf.constant(outputs, tf.float32), tf.constant(targets, goal.dtype)
    return [getattr(goal, name)(outputs, targets).numpy().tolist() for name in ("loss", "margin", "success")]


def test_classify_by_hand():
    # The first is right by 1, the second wrong by 3; softmax of (2, 1, 0) gives the first e^2 / (e^2 + e + 1).
    loss, margin, success = values(Misclassification(), [[2, 1, 0], [0, 3, 1]], [0, 0])
    assert loss[0] == pytest.approx(-math.log(math.e**2 / (math.e**2 + math.e + 1)), abs=1e-6)
    assert margin == [-1, 3]
    assert success == [False, True]


# Cosine distances 0.4 and 1.0.
OUTPUTS = [[0.6, 0.8], [1.0, 0.0]]
REFERENCES = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)


def test_dodging_by_hand():
    loss, margin, success = values(Dodging(), OUTPUTS, np.c_[REFERENCES, [0.5, 0.7]])
    assert loss == pytest.approx([-0.6, 0])
    assert margin == pytest.approx([-0.1, 0.3])
    assert success == [False, True]


def test_impersonation_by_hand():
    loss, margin, success = values(Impersonation(), OUTPUTS, np.c_[REFERENCES, [0.5, 0.7]])
    assert loss == pytest.approx([0.6, 0])
    assert margin == pytest.approx([0.1, -0.3])
    assert success == [True, False]


def test_at_the_threshold_a_pair_matches():
    # 1 - 1/2 and a threshold of 1/2 are exact.
    targets = [[1.0, 0.0, 0.5]]
    assert values(Dodging(), [[0.5, 0.5]], targets)[2] == [False]
    assert values(Impersonation(), [[0.5, 0.5]], targets)[2] == [True]


def test_targets_of_pairs_are_embeddings_and_thresholds():
    photographs = np.zeros((130, 2, 2, 3), np.float32)
    photographs[:, 0, 0, 0] = np.arange(130)
    seen = []

    def model(batch):
        seen.append(len(batch))
        return tf.constant(np.c_[batch[:, 0, 0, 0], batch[:, 0, 0, 0] + 1])

    targets = Dodging().targets(model, photographs, np.arange(130) / 100)
    assert (targets.dtype, targets.shape) == (np.float32, (130, 3))
    np.testing.assert_allclose(targets[129], [129, 130, 1.29])
    assert max(seen) <= 64
    np.testing.assert_allclose(Impersonation().targets(model, photographs[:2], 0.4)[:, 2], 0.4)


def test_a_pair_needs_a_threshold():
    with pytest.raises(UserError, match="dodging needs the `threshold`"):
        Dodging().targets(None, np.zeros((1, 2, 2, 3)))


@pytest.mark.parametrize("labels", [np.zeros((2, 1), int), np.array([0.5])])
def test_labels_are_whole_numbers(labels):
    with pytest.raises(UserError, match="labels are integers"):
        Misclassification().targets(None, labels)


def test_goals_are_found_by_name():
    assert {name: goal.name for name, goal in GOALS.items()} == {name: name for name in GOALS}
    assert list(GOALS) == ["classify", "dodging", "impersonation"]

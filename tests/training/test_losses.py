import math

import numpy as np
import pytest

from tfface.training import losses

# Angles of two-dimensional unit vectors.
TEACHER = np.radians([0.0, 90.0])
STUDENT = np.radians([0.0, 60.0])


def unit(angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype("float32")


def test_pull_is_the_mean_cosine_distance():
    """Cosines 1 and cos 30 degrees: 1 - (1 + 0.866025) / 2."""
    assert float(losses.pull(unit(STUDENT), unit(TEACHER))) == pytest.approx(0.0669873, abs=1e-6)


def test_relation_compares_the_cosines_between_views():
    """The one pair: cos 60 = 0.5 for the student, cos 90 = 0 for the teacher; 0.5 squared."""
    assert float(losses.relation(unit(STUDENT), unit(TEACHER))) == pytest.approx(0.25, abs=1e-6)


def test_relation_does_not_see_a_common_turn():
    assert float(losses.relation(unit(TEACHER + 1.0), unit(TEACHER))) == pytest.approx(0, abs=1e-6)
    assert float(losses.pull(unit(TEACHER + 1.0), unit(TEACHER))) == pytest.approx(1 - math.cos(1.0), abs=1e-6)


def test_contrast_is_least_at_the_teachers_own_embeddings():
    """Cross-entropy is least where the distributions are equal: there it is the entropy."""
    angles = np.radians([0.0, 30.0, 100.0, 220.0])
    cosines = np.cos(angles[:, None] - angles[None]) / 0.1
    target = np.exp(cosines - cosines.max(1, keepdims=True))
    target /= target.sum(1, keepdims=True)
    entropy = -(target * np.log(target)).sum(1).mean()
    own = float(losses.contrast(unit(angles), unit(angles)))
    assert own == pytest.approx(entropy, rel=1e-4)
    assert float(losses.contrast(unit(angles + 0.3), unit(angles))) > own + 0.01


def test_hints_are_standardised_within_a_batch():
    """Features 1 and 3, 20 and 10 are -1 and 1, 1 and -1; foretold (0, 1), (1, -1): cosines 1/sqrt 2 and 1."""
    features = np.array([[1, 20], [3, 10]], "float32")
    foretold = np.array([[0, 1], [1, -1]], "float32")
    assert float(losses.hint(foretold, features)) == pytest.approx(1 - (math.sqrt(0.5) + 1) / 2, abs=1e-6)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfface.attacks import _norms
from tfface.errors import UserError

few = settings(max_examples=25, deadline=None)
# The library's arithmetic flushes subnormal numbers to zero.
arrays = hnp.arrays(np.float32, (2, 3, 4, 3), elements=st.floats(-2, 2, width=32, allow_subnormal=False))
budgets = hnp.arrays(np.float32, 2, elements=st.floats(0, 1, width=32, allow_subnormal=False))
each = pytest.mark.parametrize("norm", _norms.NORMS)


@each
@few
@given(images=arrays, clean=arrays, epsilon=budgets)
def test_projection_is_inside_and_nearest(norm, images, clean, epsilon):
    projected = _norms.project(images, clean, epsilon, norm).numpy()
    assert (_norms.distance(projected, clean, norm) <= epsilon + 1e-6).all()
    # Inside already: stays where it is. Outside: no point of the ball is nearer, the scaled change among them.
    inside = _norms.distance(images, clean, norm) <= epsilon - 1e-6
    np.testing.assert_allclose(projected[inside], images[inside], atol=1e-6)
    far = np.maximum(_norms.distance(images, clean, norm), 1e-12)
    scaled = clean + (images - clean) * np.minimum(1, epsilon / far)[:, None, None, None]
    to_scaled = np.linalg.norm((images - scaled).reshape(2, -1), axis=1)
    assert (np.linalg.norm((images - projected).reshape(2, -1), axis=1) <= to_scaled + 1e-4).all()


@each
@few
@given(images=arrays, clean=arrays)
def test_projection_onto_nothing_is_the_clean_image(norm, images, clean):
    np.testing.assert_array_equal(_norms.project(images, clean, np.zeros(2, np.float32), norm), clean)


@each
@few
@given(gradient=arrays)
def test_the_steepest_direction_has_length_one_and_ascends_most(norm, gradient):
    direction = _norms.steepest(gradient, norm).numpy()
    moving = np.abs(gradient).max(axis=(1, 2, 3)) > 0
    length = _norms.distance(direction, np.zeros_like(direction), norm)
    np.testing.assert_allclose(length, moving, atol=1e-5)
    # Against a direction of the same length drawn at random.
    other = _norms.random_change(gradient.shape[1:], norm, seed=0, key=0, restart=0)
    gain, others = (np.sum(gradient.astype(float) * way, axis=(1, 2, 3)) for way in (direction, other))
    assert (gain >= others - 1e-4).all()


@each
def test_directions_of_vanishing_gradients_are_found(norm):
    gradient = np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype(np.float32)
    tiny = _norms.steepest(gradient * np.float32(1e-30), norm)
    np.testing.assert_allclose(tiny, _norms.steepest(gradient, norm), atol=1e-5)


@each
@few
@given(seed=st.integers(0, 2**32), key=st.integers(0, 2**32), restart=st.integers(0, 9))
def test_a_random_change_is_in_the_ball_and_repeats(norm, seed, key, restart):
    change = _norms.random_change((3, 4, 3), norm, seed=seed, key=key, restart=restart)
    assert _norms.distance(change[None], np.zeros((1, 3, 4, 3)), norm)[0] <= 1 + 1e-6
    np.testing.assert_array_equal(change, _norms.random_change((3, 4, 3), norm, seed=seed, key=key, restart=restart))
    assert (change != _norms.random_change((3, 4, 3), norm, seed=seed, key=key, restart=restart + 1)).all()


@pytest.mark.parametrize(("norm", "expected"), [("linf", 0.5), ("l2", 0.25)])
def test_distance_by_hand(norm, expected):
    # One of four values changes by a half: root mean square sqrt(0.25 / 4).
    changed = np.zeros((1, 2, 2, 1), np.float32)
    changed[0, 0, 1] = -0.5
    assert _norms.distance(changed, np.zeros((1, 2, 2, 1), np.float32), norm) == [expected]


def test_the_plain_length_of_a_root_mean_square():
    # 1 / 255 at every value of a 160 x 160 colour image: sqrt(76,800) / 255.
    assert _norms.length(1 / 255, (160, 160, 3)) == pytest.approx(1.0868, abs=1e-4)


def test_other_norms_are_refused():
    with pytest.raises(UserError, match=r"^unknown norm 'l1'; valid: linf, l2$"):
        _norms.checked("l1")

import numpy as np
import pytest

from tfface.training.jitter import jittered


class Drawn:
    """A generator whose draws are given: chances for mirroring, and six changes from -1 to 1."""

    def __init__(self, mirrored=False, **changes):
        names = ("right", "down", "turn", "scale", "gain", "light")
        self.chance = 0.0 if mirrored else 1.0
        self.changes = [changes.get(name, 0.0) for name in names]

    def random(self, count):
        return np.full(count, self.chance)

    def uniform(self, low, high, shape):
        return np.tile(self.changes, (shape[0], 1))


@pytest.fixture
def views():
    return np.random.default_rng(0).integers(0, 256, (2, 20, 20, 3), np.uint8)


def test_nothing_drawn_is_nothing_changed(views):
    np.testing.assert_array_equal(jittered(views, 0.1, Drawn()), views)


def test_mirrored_left_to_right(views):
    np.testing.assert_array_equal(jittered(views, 0.1, Drawn(mirrored=True)), views[:, :, ::-1])


def test_moved_by_a_share_of_the_side(views):
    moved = jittered(views, 0.1, Drawn(right=1.0, down=-0.5))
    # A tenth of 20 pixels is 2 to the right; half of it, upwards, is 1.
    np.testing.assert_array_equal(moved[:, :-1, 2:], views[:, 1:, :-2])


def test_turned_clockwise_by_radians(views):
    turned = jittered(views, 0.1, Drawn(turn=np.pi / 0.2))
    np.testing.assert_allclose(turned.astype(int), np.rot90(views, -1, (1, 2)).astype(int), atol=1)


def test_light_and_contrast_by_hand():
    grey = np.full((1, 4, 4, 3), 100, np.uint8)
    # Contrast 1 + 2 * 0.1 around 127.5: 127.5 - 1.2 * 27.5 = 94.5; light 2 * 0.1 * 255 = 51 more.
    np.testing.assert_array_equal(jittered(grey, 0.1, Drawn(gain=1.0)), np.full_like(grey, 94))
    np.testing.assert_array_equal(jittered(grey, 0.1, Drawn(light=1.0)), np.full_like(grey, 151))


def test_each_view_is_changed_on_its_own_by_the_seed(views):
    same = np.repeat(views[:1], 4, axis=0)
    first, again, other = (jittered(same, 0.1, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first[0] != first[1]).any()

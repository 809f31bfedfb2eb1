import dataclasses

import cv2
import numpy as np
import pytest

from tfface.preprocessing.images import crop_resize
from tfface.training.views import PLAIN, Augmentation, jittered, make_view


@pytest.fixture(scope="module")
def photographs():
    """Four smooth coloured pictures, with boxes of fractions of a pixel."""
    random = np.random.default_rng(0)
    pictures = [
        cv2.resize(random.integers(0, 256, (9, 7, 3)).astype(np.uint8), (70, 90), interpolation=cv2.INTER_CUBIC)
        for _ in range(4)
    ]
    return lambda index: (pictures[index], np.array([8.3, 12.7, 49.9, 61.2]))


def view(photographs, augmentation=PLAIN, *, index=0, number=0, seed=0, size=64):
    return make_view(index, number, photographs, 4, size, augmentation, seed)


def test_a_plain_view_is_the_crop_that_models_are_evaluated_on(photographs):
    pixels, box = photographs(2)
    expected = crop_resize(pixels, box.astype(np.float32), 64).numpy() * 255
    # The border apart: a view, which may turn and shift, sees the pixels beyond it where a crop sees none.
    inside = (slice(2, -2), slice(2, -2))
    assert np.abs(view(photographs, index=2) - expected)[inside].max() < 1  # rounded to whole levels


def test_a_large_photograph_is_scaled_down_without_aliasing():
    """Stripes of one pixel are grey from afar; picked pixel by pixel they would be black or white."""
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    small = make_view(0, 0, lambda _: (stripes, np.array([40.0, 40, 360, 360])), 1, 32, PLAIN, 0)
    assert np.abs(small.astype(float) - 127.5).max() < 8


def test_mirroring(photographs):
    mirrored = view(photographs, dataclasses.replace(PLAIN, flip=1.0))
    np.testing.assert_allclose(mirrored, view(photographs)[:, ::-1], atol=1)


def test_a_view_depends_on_seed_number_and_photograph_alone(photographs):
    strong = Augmentation()
    first = view(photographs, strong)
    np.testing.assert_array_equal(first, view(photographs, strong))
    for other in ({"seed": 1}, {"number": 1}, {"index": 1}):
        assert np.abs(first.astype(int) - view(photographs, strong, **other)).mean() > 3


@pytest.mark.parametrize(
    "change", ["scale", "shift", "brightness", "contrast", "grey", "blur", "jpeg", "erase", "mix", "warp"]
)
def test_every_change_changes_something(photographs, change):
    strength = {"scale": 0.5, "shift": 0.3, "brightness": 0.3, "contrast": 0.5, "warp": 0.1}.get(change, 1.0)
    changed = view(photographs, dataclasses.replace(PLAIN, **{change: strength}))
    assert np.abs(changed.astype(int) - view(photographs)).max() > 5


def test_turning_keeps_the_middle():
    """A dot in the middle of the box stays there, one at its side moves by the sine of the angle."""
    picture = np.zeros((101, 101, 3), np.uint8)
    cv2.circle(picture, (50, 50), 3, (255, 255, 255), -1)
    cv2.circle(picture, (80, 50), 3, (255, 0, 0), -1)
    turned = make_view(
        0, 0, lambda _: (picture, np.array([0.0, 0, 101, 101])), 1, 101, dataclasses.replace(PLAIN, rotation=40.0), 3
    ).astype(float)
    rows, columns = np.mgrid[:101, :101]
    white, red = turned[..., 2], turned[..., 0] - turned[..., 2]
    assert np.hypot((white * rows).sum() / white.sum() - 50, (white * columns).sum() / white.sum() - 50) < 0.1
    row, column = (red * rows).sum() / red.sum() - 50, (red * columns).sum() / red.sum() - 50
    assert abs(row) > 1
    assert np.hypot(row, column) == pytest.approx(30, abs=0.3)


def test_mixing_lets_the_other_face_shine_through():
    """Black with white shining through by 10 to 50%."""
    pictures = [np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)]
    box = np.array([4.0, 4, 36, 36])
    means = [
        make_view(0, number, lambda index: (pictures[index], box), 2, 32, dataclasses.replace(PLAIN, mix=1.0), 0).mean()
        for number in range(20)
    ]
    mixed = [mean for mean in means if mean > 0]  # some are mixed with themselves
    assert 3 < len(mixed) < 20
    assert min(mixed) >= 25 and max(mixed) <= 128


def test_patches_take_the_place_of_a_part():
    """Black with white in 10 to 50% of it, and nearly nothing between the two."""
    pictures = [np.zeros((80, 80, 3), np.uint8), np.full((80, 80, 3), 255, np.uint8)]
    box = np.array([4.0, 4, 76, 76])
    patched = dataclasses.replace(PLAIN, mix=1.0, patch=1.0)
    views = [make_view(0, number, lambda index: (pictures[index], box), 2, 64, patched, 0) for number in range(20)]
    mixed = np.stack([one for one in views if one.any()])
    assert 3 < len(mixed) < 20
    shares = (mixed > 127).mean(axis=(1, 2, 3))
    assert shares.min() > 0.08 and shares.max() < 0.52
    assert ((mixed < 64) | (mixed > 191)).mean() > 0.8


def test_a_warp_leaves_the_light_and_moves_by_little():
    """The picture's two coordinates as two colours: their change is the displacement."""
    rows, columns = np.mgrid[:128, :128]
    picture = np.stack([columns, rows, np.full_like(rows, 77)], axis=-1).astype(np.uint8)
    warped = dataclasses.replace(PLAIN, warp=0.02)
    box = np.array([0.0, 0, 128, 128])
    views = np.stack([make_view(0, number, lambda _: (picture, box), 1, 128, warped, 0) for number in range(12)])
    moved = (views[..., :2].astype(float) - picture[..., :2])[:, 20:-20, 20:-20]
    assert (views[..., 2] == 77).all()
    assert 0.2 < moved.std() < 0.02 * 128
    assert np.abs(moved).max() < 5 * 0.02 * 128


def test_the_record_is_without_what_is_off():
    assert {"patch", "warp"}.isdisjoint(Augmentation().record())
    assert Augmentation(patch=0.5, warp=0.01).record()["patch"] == 0.5


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

"""Augmentations and corruptions: what they draw by, how much they change, what they refuse."""

import cv2
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from tfface import data
from tfface.augmentation import changes, pixels
from tfface.augmentation.changes import (
    CORRUPTIONS,
    KINDS,
    PAPER,
    augment_batch,
    augmented,
    corruption,
    key_number,
    kinds,
)
from tfface.data.crops import crop_stream
from tfface.errors import UserError
from tfface.preprocessing.images import recipe

KEYS = np.arange(8)
GREY = np.full((200, 8, 8, 3), 0.5, np.float32)


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """Eight smooth images, (8, 24, 24, 3)."""
    noise = np.random.default_rng(0).random((8, 24, 24, 3))
    return ndimage.gaussian_filter(noise, (0, 1, 1, 0)).astype(np.float32)


def corrupt(text: str, images: np.ndarray, seed: int = 0) -> np.ndarray:
    change = corruption(text, seed).change()
    return np.stack([change(tf.constant(image), tf.constant(key, tf.int64)) for key, image in enumerate(images)])


class TestDraws:
    def test_are_of_the_seed_the_key_and_the_copy_alone(self, faces):
        everything = augment_batch(faces, kinds=KINDS, seed=3, keys=KEYS)
        part = augment_batch(faces[5:7], kinds=KINDS, seed=3, keys=KEYS[5:7])
        assert np.array_equal(everything[5:7], part)
        for other in ({"seed": 4}, {"copy": 1}, {"keys": KEYS + 8}):
            changed = augment_batch(faces, **{"kinds": KINDS, "seed": 3, "keys": KEYS, **other})
            assert not any(np.array_equal(a, b) for a, b in zip(everything, changed, strict=True)), other

    def test_no_two_images_get_the_same(self):
        found = augment_batch(GREY[:50], kinds=["brightness"], seed=0, keys=np.arange(50))
        assert len(np.unique(found[:, 0, 0, 0])) == 50

    def test_of_a_kind_do_not_hang_on_the_others_nor_on_their_order(self, faces):
        alone = augment_batch(faces, kinds=["flip"], seed=3, keys=KEYS)
        beside = augment_batch(faces, kinds=["brightness:0", "rotation:0", "flip"], seed=3, keys=KEYS)
        assert beside == pytest.approx(alone, abs=1e-5)
        assert any(not np.array_equal(a, b) for a, b in zip(alone, faces, strict=True))

    def test_a_pipeline_makes_what_a_batch_does_and_passes_the_rest_on(self, faces):
        elements = tf.data.Dataset.from_tensor_slices((faces, KEYS, [f"face {key}" for key in KEYS]))
        found = list(augmented(elements, PAPER, seed=5, copies=2).as_numpy_iterator())
        assert [(key, copy, text.decode()) for _, key, copy, text in found] == [
            (key, copy, f"face {key}") for key in KEYS for copy in (0, 1)
        ]
        for copy in (0, 1):
            expected = augment_batch(faces, seed=5, keys=KEYS, copy=copy)
            assert np.array_equal([image for image, _, own, _ in found if own == copy], expected)

    @pytest.mark.parametrize("seed", [-1, 0, 2**40, 10**30])
    def test_take_any_seed(self, faces, seed):
        assert augment_batch(faces[:1], seed=seed, keys=KEYS[:1]).shape == (1, 24, 24, 3)

    def test_of_no_images_there_are_none(self, faces):
        assert augment_batch(faces[:0], seed=0, keys=KEYS[:0]).shape == (0, 24, 24, 3)


class TestKinds:
    @pytest.mark.parametrize("kind", KINDS)
    def test_each_changes_images_and_leaves_shape_and_range(self, faces, kind):
        found = augment_batch(faces, kinds=[kind], seed=1, keys=KEYS)
        assert (found.shape, found.dtype) == (faces.shape, np.float32)
        assert found.min() >= 0
        assert found.max() <= 1
        assert np.abs(found - faces).max() > 0.01

    def test_flip_mirrors_about_half(self):
        image = np.zeros((200, 4, 4, 3), np.float32)
        image[:, :, 0] = 1
        found = augment_batch(image, kinds=["flip"], seed=0, keys=np.arange(200))
        mirrored = found[:, 0, 3, 0] == 1
        assert np.array_equal(found[~mirrored], image[~mirrored])
        assert np.array_equal(found[mirrored], image[mirrored][:, :, ::-1])
        # 200 throws of a coin: 4 standard deviations of 7.07 around 100.
        assert 72 <= mirrored.sum() <= 128

    def test_brightness_adds_up_to_its_strength_each_way(self):
        found = augment_batch(GREY, kinds=["brightness:0.1"], seed=0, keys=np.arange(200))[:, 0, 0, 0]
        # The extremes of 200 even draws from 0.4 to 0.6 are about 1/200 of the way off the ends.
        assert 0.4 <= found.min() < 0.41
        assert 0.59 < found.max() <= 0.6

    def test_rotation_turns_up_to_its_strength_each_way(self):
        image = np.zeros((100, 41, 41, 3), np.float32)
        image[:, 20, 30:] = 1  # from the middle to the right: 10 pixels out and more
        found = augment_batch(image, kinds=["rotation:30"], seed=0, keys=np.arange(100))[..., 0]
        rows, columns = np.mgrid[-20:21, -20:21]
        inside = np.hypot(rows, columns) < 19  # beyond, mirrored edges come in
        weight = found * inside
        angles = np.degrees(np.arctan2((weight * rows).sum((1, 2)), (weight * columns).sum((1, 2))))
        assert -30.5 < angles.min() < -28
        assert 28 < angles.max() < 30.5

    def test_zoom_shows_more_and_less(self):
        ramp = np.broadcast_to(np.linspace(0, 1, 41, dtype=np.float32)[None, :, None], (100, 41, 41, 3))
        found = augment_batch(ramp, kinds=["zoom:0.4"], seed=0, keys=np.arange(100))[:, 20, :, 0]
        # Between columns 18 and 22 of the middle the ramp rises by 4/40 as it stands.
        seen = (found[:, 22] - found[:, 18]) / 0.1
        assert 0.6 - 1e-3 < seen.min() < 0.62
        assert 1.38 < seen.max() < 1.4 + 1e-3

    def test_contrast_multiplies_around_the_mean(self):
        image = np.where(np.arange(8)[:, None, None] < 4, np.float32(0.4), np.float32(0.6))
        found = augment_batch(
            np.broadcast_to(image, (100, 8, 8, 3)), kinds=["contrast:0.5"], seed=0, keys=np.arange(100)
        )
        assert found.mean((1, 2, 3)) == pytest.approx(np.full(100, 0.5), abs=1e-5)
        spread = np.ptp(found, axis=(1, 2, 3)) / 0.2
        assert 0.5 <= spread.min() < 0.52
        assert 1.48 < spread.max() <= 1.5 + 1e-5

    def test_crop_shows_less(self):
        # A ramp of 40 columns: half of it, 20 columns, spans 19 steps of 1/39.
        ramp = np.broadcast_to(np.linspace(0, 1, 40, dtype=np.float32)[None, :, None], (60, 40, 40, 3))
        found = augment_batch(ramp, kinds=["crop:0.5"], seed=0, keys=np.arange(60))
        assert np.ptp(found, axis=(1, 2, 3)) == pytest.approx(np.full(60, 19 / 39), abs=1e-5)
        left = np.rint(found[:, 0, 0, 0] * 39)
        assert (left.min(), left.max()) == (0, 20), "the window reaches both ends in 60 draws"

    def test_jpeg_is_what_opencv_writes_and_reads(self, faces):
        image = cv2.resize(faces[0], (64, 48))
        levels = np.rint(image * 255).astype(np.uint8)
        file = cv2.imencode(".jpg", levels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 35])[1]
        expected = cv2.imdecode(file, cv2.IMREAD_COLOR_RGB) / np.float32(255)
        assert np.array_equal(pixels.jpeg(tf.constant(image), 35), expected.astype(np.float32))

    def test_blur_is_a_gaussian_that_mirrors_at_the_edges(self, faces):
        expected = ndimage.gaussian_filter(faces[0], (2.5, 2.5, 0), mode="mirror", truncate=4)
        assert pixels.blur(tf.constant(faces[0]), 2.5).numpy() == pytest.approx(expected, abs=1e-4)

    def test_are_applied_in_one_order_whatever_the_given(self):
        assert [str(kind) for kind in kinds(["jpeg:30", "zoom", "flip"])] == ["flip", "zoom:0.2", "jpeg:30"]
        assert kinds(kinds(PAPER)) == kinds(PAPER)

    @pytest.mark.parametrize(
        ("texts", "message"),
        [
            (["rotate"], "unknown augmentation 'rotate' (did you mean rotation?); valid: flip, rotation"),
            (["rotation:181"], "rotation takes a number, 0 to 180 degrees"),
            (["zoom:nan"], "zoom takes a number, 0 to 0.9"),
            (["blur:"], "blur takes a number"),
            (["jpeg:40.5"], "jpeg takes a whole number, 1 to 100"),
            (["flip:1"], "flip takes no number"),
            (["zoom", "flip", "zoom:0.1"], "zoom is named twice"),
            ([], "no kind of augmentation is named"),
        ],
    )
    def test_refuses(self, texts, message):
        with pytest.raises(UserError, match=r"^[^\n]+$") as refused:
            kinds(texts)
        assert message in str(refused.value)


class TestCorruptions:
    UNCHANGED = ("rotation:0", "zoom:1", "brightness:0", "contrast:1", "blur:0", "noise:0", "occlusion:0")

    def test_there_is_a_severity_that_changes_nothing(self, faces):
        assert {text.split(":")[0] for text in self.UNCHANGED} == set(CORRUPTIONS) - {"jpeg"}
        for text in self.UNCHANGED:
            assert corrupt(text, faces) == pytest.approx(faces, abs=1e-5), text

    def test_rotation_turns_each_image_to_one_side_or_the_other(self, faces):
        found = corrupt("rotation:90", faces)
        sides = set()
        for before, after in zip(faces, found, strict=True):
            side = next(k for k in (1, -1) if np.allclose(after, np.rot90(before, k), atol=1e-3))
            sides.add(side)
        assert sides == {1, -1}

    def test_zoom_shows_the_middle(self):
        # Twice as large: the ramp's slope is halved around its middle.
        ramp = np.broadcast_to(np.linspace(0, 1, 41, dtype=np.float32)[None, :, None], (1, 41, 41, 3))
        found = corrupt("zoom:2", ramp)[0, 20, :, 0]
        assert found == pytest.approx(0.25 + ramp[0, 20, :, 0] / 2, abs=1e-4)

    def test_brightness_and_contrast_by_hand(self):
        image = np.where(np.arange(8)[:, None, None] < 4, np.float32(0.2), np.float32(0.8)) * np.ones(
            (1, 8, 8, 3), np.float32
        )
        assert np.unique(corrupt("brightness:0.3", image)) == pytest.approx([0.5, 1.0])
        assert np.unique(corrupt("brightness:-0.3", image)) == pytest.approx([0.0, 0.5])
        assert np.unique(corrupt("contrast:0.5", image).round(5)) == pytest.approx([0.35, 0.65])

    def test_occlusion_covers_its_share_somewhere(self):
        covered = corrupt("occlusion:0.25", np.ones((12, 20, 20, 3), np.float32))[..., 0] == 0.5
        assert covered.sum((1, 2)).tolist() == [25] * 12
        assert len({tuple(np.argwhere(image)[0]) for image in covered}) > 6

    def test_noise_has_its_deviation_and_is_of_the_seed(self):
        grey = np.full((2, 100, 100, 3), 0.5, np.float32)
        found = corrupt("noise:0.05", grey)
        # The standard error of a deviation of 30,000 draws is 0.4% of it.
        assert found.std((1, 2, 3)) == pytest.approx([0.05, 0.05], rel=0.02)
        assert not np.array_equal(found[0], found[1])
        assert np.array_equal(found, corrupt("noise:0.05", grey))
        assert not np.array_equal(found, corrupt("noise:0.05", grey, seed=1))

    def test_jpeg_and_blur_are_those_of_augmentation(self, faces):
        assert np.array_equal(corrupt("jpeg:20", faces[:1])[0], pixels.jpeg(tf.constant(faces[0]), 20))
        assert np.array_equal(corrupt("blur:1.5", faces[:1])[0], pixels.blur(tf.constant(faces[0]), 1.5))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("fog:1", "unknown corruption 'fog'; valid: rotation, zoom"),
            ("rotation", "rotation takes a number, 0 to 180 degrees"),
            ("zoom:0", "zoom takes a number, 0.5 to 4 times as large"),
            ("brightness:-1.5", "brightness takes a number, -1 to 1"),
            ("jpeg:0", "jpeg takes a whole number, 1 to 100"),
            ("noise:inf", "noise takes a number, 0 to 1"),
            ("", "unknown corruption ''"),
        ],
    )
    def test_refuses(self, text, message):
        with pytest.raises(UserError) as refused:
            corruption(text)
        assert message in str(refused.value)

    def test_crops_are_corrupted_by_their_keys_from_wherever_they_start(self, tiny_faces):
        dataset, case = data.load_dataset(str(tiny_faces)), corruption("noise:0.1", 7)
        plain = [crop for crop, _ in crop_stream(dataset, recipe("whole"), 32)]
        found = [crop.numpy() for crop, _ in crop_stream(dataset, recipe("whole"), 32, corruption=case)]
        for key, before, after in zip(dataset.keys, plain, found, strict=True):
            assert np.array_equal(case.change()(before, key_number(key)), after)
        part = [crop.numpy() for crop, _ in crop_stream(dataset, recipe("whole"), 32, start=4, stop=7, corruption=case)]
        assert np.array_equal(found[4:7], part)


def test_every_name_has_its_change():
    from tfface.augmentation import fixed_changes, random_changes

    assert all(callable(getattr(random_changes, name)) for name in KINDS)
    assert all(callable(getattr(fixed_changes, name)) for name in CORRUPTIONS)
    assert "rotation (0 to 180 degrees at most, each way, else 20)" in changes.describe(KINDS)

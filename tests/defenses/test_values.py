"""Each defense against numbers worked out by hand, or against another implementation of the same thing."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, stats

from tfface.attacks import _quantization
from tfface.defenses import _dct
from tfface.defenses._defense import MeanDirection, parse, straight_through
from tfface.defenses._randomness import image_seeds, normal, uniform


def gradient_of(defense, images):
    values = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(defense(values))
    return tape.gradient(total, values).numpy()


def test_bit_depth_by_hand():
    """Of 2 bits the levels are 0, 1/3, 2/3 and 1; 0.49 is nearer to 1/3 (0.157) than to 2/3 (0.177)."""
    image = np.zeros((1, 2, 2, 3), np.float32)
    image[0, 0, 0], image[0, 0, 1], image[0, 1, 1] = 0.49, 0.51, 0.9
    defense = parse("bit-depth:bits=2")
    found = np.asarray(defense(image))[0, :, :, 0]
    np.testing.assert_allclose(found, [[1 / 3, 2 / 3], [0, 1]], atol=1e-7)
    np.testing.assert_array_equal(gradient_of(defense, image), 1)


@pytest.mark.parametrize("window", [2, 3, 4, 5])
def test_median_is_scipys(window, images):
    expected = ndimage.median_filter(images, size=(1, window, window, 1), mode="reflect")
    np.testing.assert_array_equal(parse(f"median:window={window}")(images), expected)


def test_median_passes_the_gradient_to_the_value_taken():
    """The windows of a 2x2 image reach up and left over a mirrored edge:

    1 4   1 1 1 1 -> 1, upper median;   1 4 1 4 -> 4
    3 2   1 1 3 3 -> 3;                 1 4 3 2 -> 3 of (1 2 3 4), the upper of 2 and 3
    So of the sum's four gradients 1 goes to the 1, 1 to the 4 and 2 to the 3.
    """
    image = np.float32([[1, 4], [3, 2]]).reshape(1, 2, 2, 1) / 10
    defense = parse("median")
    np.testing.assert_allclose(np.squeeze(defense(image)), np.float32([[1, 4], [3, 3]]) / 10)
    np.testing.assert_allclose(np.squeeze(gradient_of(defense, image)), [[1, 1], [2, 0]], atol=1e-6)


@pytest.mark.parametrize("quality", [20, 75, 95])
def test_real_jpeg_is_opencvs_and_the_other_is_near(quality, images):
    real = np.asarray(parse(f"jpeg:quality={quality}")(images))
    np.testing.assert_array_equal(real, _quantization.jpeg(quality)(images))
    modelled = np.asarray(parse(f"jpeg:quality={quality},real=0")(images))
    assert np.abs(modelled - real).mean() < min(1.5 / 255, 0.25 * np.abs(real - images).mean())


def test_jpeg_pads_what_is_no_whole_block(images):
    """A size of no multiple of 16: both coders keep it, and agree up to the edge."""
    odd = images[:, :21, :27]
    real, modelled = (np.asarray(parse(f"jpeg:real={real}")(odd)) for real in (1, 0))
    assert real.shape == modelled.shape == odd.shape
    assert np.abs(modelled - real)[:, -5:].mean() < 1.5 / 255


def test_jpeg_of_a_constant_grey_and_its_gradient():
    """Of constant grey only each block's first coefficient counts: the level less 128, times 8, in steps of 8.

    Of quality 75, whose first step is 16 * 50 / 100. So levels are kept, and the slope is that of a whole number: 0.02.
    """
    grey = np.full((1, 16, 16, 3), 130 / 255, np.float32)
    for real in (1, 0):
        defense = parse(f"jpeg:real={real}")
        np.testing.assert_allclose(defense(grey), grey, atol=1e-5)
        np.testing.assert_allclose(gradient_of(defense, grey).sum(), 0.02 * grey.size, rtol=1e-3)


def test_smooth_rounding_by_hand():
    """Forward to the nearest; of 0.25 the slope is 3 / 16, of 2.5 (to 2) 3 / 4, of 7 nothing but the least."""
    values = tf.constant([0.25, 2.5, 7.0])
    with tf.GradientTape() as tape:
        tape.watch(values)
        rounded = straight_through(keras.ops.round, _dct._slope)(values)
    np.testing.assert_array_equal(rounded, [0, 2, 7])
    np.testing.assert_allclose(tape.gradient(rounded, values), [3 / 16 + 0.02, 0.77, 0.02], atol=1e-6)


def test_resize_pad_is_tensorflows_resize_and_pad(images):
    defense = parse("resize-pad:smallest=0.5")
    found = np.asarray(defense(images))
    sides, tops, lefts = (np.asarray(part).astype(int) for part in defense.place(images))
    assert (sides >= 16).all() and (sides <= 32).all() and len(set(sides.tolist())) > 1
    for place, (side, top, left) in enumerate(zip(sides, tops, lefts, strict=True)):
        small = tf.image.resize(images[place], (side, side), "bilinear")
        expected = tf.image.pad_to_bounding_box(small, top, left, 32, 32)
        np.testing.assert_allclose(found[place], expected, atol=1e-5)


def test_resize_pad_draws_all_sides_and_places_alike():
    """A side of 8 to 10 of 10: a third each; the places of side 8 are 0, 1 and 2."""
    images = np.random.default_rng(0).random((3000, 10, 10, 3), np.float32)
    sides, tops, lefts = (np.asarray(part) for part in parse("resize-pad:smallest=0.8").place(images))
    np.testing.assert_allclose([(sides == side).mean() for side in (8, 9, 10)], 1 / 3, atol=0.03)
    for start in (tops, lefts):
        np.testing.assert_allclose([(start[sides == 8] == place).mean() for place in range(3)], 1 / 3, atol=0.06)


def test_noise_is_normal_of_its_deviation_and_fresh_in_each_copy(images):
    copies = np.asarray(parse("noise:sigma=0.2,copies=40")(images)).reshape(3, 40, *images.shape[1:])
    noise = copies - images[:, None]
    assert stats.kstest(noise[0].ravel()[:20_000], stats.norm(0, 0.2).cdf).pvalue > 1e-3
    np.testing.assert_allclose(noise.std(axis=(1, 2, 3, 4)), 0.2, rtol=0.01)
    rows = noise.reshape(120, -1)
    assert np.abs(np.corrcoef(rows) - np.eye(120)).max() < 0.1  # 4.5 deviations of 3,072 values are 0.08


def test_seeds_hang_on_what_a_file_would_hold_and_on_nothing_else(images):
    base = np.asarray(image_seeds(images, 0))
    assert len(set(base.tolist())) == 3
    np.testing.assert_array_equal(image_seeds(images[1:], 0), base[1:])
    np.testing.assert_array_equal(image_seeds(_quantization.quantized(images), 0), base)
    changed = images.copy()
    changed[:, 5, 5, 1] = 1 - changed[:, 5, 5, 1]
    for other in (image_seeds(changed, 0), image_seeds(images, 1), image_seeds(images, 0, np.full(3, 1, "int32"))):
        assert (np.asarray(other) != base).all()


def test_numbers_are_uniform_and_normal():
    seeds = np.arange(5, dtype=np.uint32)
    assert stats.kstest(np.asarray(uniform(seeds, 20_001)).ravel(), "uniform").pvalue > 1e-3
    drawn = np.asarray(normal(seeds, 20_001))
    assert drawn.shape == (5, 20_001)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3
    # 5 x 20,000 neighbours: four deviations of the correlation of independent numbers are 0.0126.
    assert abs(np.corrcoef(drawn[:, :-1].ravel(), drawn[:, 1:].ravel())[0, 1]) < 0.0126


def test_mean_direction_by_hand():
    """(1, 0) and (0, 1) to the diagonal; (3, 4)/5 and its opposite to nothing, which stays zero."""
    vectors = np.float32([[1, 0], [0, 1], [0.6, 0.8], [-0.6, -0.8]])
    np.testing.assert_allclose(MeanDirection(2)(vectors), [[np.sqrt(0.5)] * 2, [0, 0]], atol=1e-6)
    config = keras.saving.serialize_keras_object(MeanDirection(2))
    assert keras.saving.deserialize_keras_object(config).copies == 2

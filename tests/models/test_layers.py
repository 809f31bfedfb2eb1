import keras
import numpy as np
import pytest

from tfface.models._layers import (
    BlueGreenRedMinusMean,
    CenteredConv2D,
    LocallyConnected2D,
    PerImageStandardization,
    UnitNorm,
)


def locally_connected(kernel, bias, **arguments) -> LocallyConnected2D:
    layer = LocallyConnected2D(**arguments)
    layer.build((None, 3, 3, 1))
    layer.set_weights([np.float32(kernel), np.float32(bias)])
    return layer


IMAGE = np.float32([[1, 2, 3], [4, 5, 6], [7, 8, 9]]).reshape(1, 3, 3, 1)


def test_locally_connected_has_a_kernel_for_each_place():
    """A 3x3 image, 2x2 kernels, 2x2 places.

    1 2 3   The patches, row by row: (1 2 4 5) (2 3 5 6) / (4 5 7 8) (5 6 8 9).
    4 5 6   Kernels: the top left value; ten times the bottom right; the sum; top right - bottom left.
    7 8 9   So 1, 60 / 24, 6 - 8 = -2, plus biases 0.5, 1 / 2, 3: 1.5, 61 / 26, 1.
    """
    kernel = [[1, 0, 0, 0], [0, 0, 0, 10], [1, 1, 1, 1], [0, 1, -1, 0]]
    bias = [[[0.5], [1]], [[2], [3]]]
    layer = locally_connected(np.reshape(kernel, (4, 4, 1)), bias, filters=1, kernel_size=2)
    np.testing.assert_allclose(np.squeeze(layer(IMAGE)), [[1.5, 61], [26, 1]])


def test_locally_connected_strides_over_places_and_drops_the_rest():
    """5x3 places of a stride of 2 with 1x2 kernels: rows 0, 2, 4, columns 0 (column 2 has no partner)."""
    image = np.arange(15, dtype="float32").reshape(1, 5, 3, 1)  # rows (0 1 2) (3 4 5) (6 7 8) ...
    layer = LocallyConnected2D(1, (1, 2), strides=2)
    layer.build(image.shape)
    layer.set_weights([np.float32([[[1], [0]], [[0], [1]], [[1], [1]]]), np.zeros((3, 1, 1), "float32")])
    assert layer(image).shape == layer.compute_output_shape(image.shape) == (1, 3, 1, 1)
    np.testing.assert_allclose(np.ravel(layer(image)), [0, 7, 12 + 13])


@pytest.mark.parametrize(("size", "strides"), [((3, 2), 1), ((3, 2), 2), ((2, 2), 3), ((1, 1), 2), ((5, 4), 3)])
def test_locally_connected_equals_one_dot_product_a_place(size, strides):
    random = np.random.default_rng(0)
    images = random.normal(size=(2, 9, 8, 3)).astype("float32")
    layer = LocallyConnected2D(4, size, strides=strides, activation="relu")
    layer.build(images.shape)
    layer.bias.assign(random.normal(size=layer.bias.shape))
    kernel, bias = (np.asarray(value) for value in layer.get_weights())
    rows, columns = (9 - size[0]) // strides + 1, (8 - size[1]) // strides + 1
    expected = np.zeros((2, rows, columns, 4))
    for row in range(rows):
        for column in range(columns):
            top, left = row * strides, column * strides
            patch = images[:, top : top + size[0], left : left + size[1]].reshape(2, -1)
            expected[:, row, column] = patch @ kernel[row * columns + column] + bias[row, column]
    np.testing.assert_allclose(layer(images), np.maximum(expected, 0), atol=1e-5)


def test_locally_connected_says_when_the_input_is_too_small():
    with pytest.raises(ValueError, match="smaller than"):
        LocallyConnected2D(1, 5).build((None, 4, 9, 1))


def test_unit_norm_by_hand():
    np.testing.assert_allclose(UnitNorm()(np.float32([[3, 4], [0, -2], [0, 0]])), [[0.6, 0.8], [0, -1], [0, 0]])


def test_per_image_standardization_by_hand():
    """Values 0, 255: mean 127.5, deviation 127.5, so -1 and 1, in each image on its own.

    0.2, 0.2 is constant: 0. Steps of half a level around the mean, ±0.25 of 255, have deviation
    0.25, below the bound of 1/sqrt(12): 0.25 * sqrt(12) = 0.866.
    """
    black_white = np.tile(np.float32([0, 1]), 6).reshape(2, 2, 3)
    constant = np.full((2, 2, 3), 0.2, "float32")
    faint = (np.tile(np.float32([-0.25, 0.25]), 6).reshape(2, 2, 3) + 100) / 255
    got = np.asarray(PerImageStandardization()(np.stack([black_white, constant, faint])))
    np.testing.assert_allclose(got[0], black_white * 2 - 1, atol=1e-6)
    np.testing.assert_allclose(got[1], 0, atol=1e-4)
    np.testing.assert_allclose(np.abs(got[2]), 0.25 * np.sqrt(12), atol=1e-3)


def test_blue_green_red_minus_mean_by_hand():
    """Red 1, green 0.2, blue 0 is BGR (0, 51, 255); minus (10, 20, 30): (-10, 31, 225)."""
    layer = BlueGreenRedMinusMean((10, 20, 30))
    np.testing.assert_allclose(layer(np.float32([[[[1, 0.2, 0]]]])), [[[[-10, 31, 225]]]], rtol=1e-6)


def test_centered_convolution_by_hand():
    """0.5 is the middle, 1 the end: 0, 0, 1, -1 by a kernel of 1, 2, 3, 4 is 3 - 4 = -1."""
    layer = CenteredConv2D(1, 2, use_bias=False)
    layer.build((None, 2, 2, 1))
    layer.set_weights([np.float32([1, 2, 3, 4]).reshape(2, 2, 1, 1)])
    np.testing.assert_allclose(layer(np.float32([[[[0.5], [0.5]], [[1], [0]]]])), [[[[-1]]]])


@pytest.mark.parametrize("layer", [UnitNorm(), PerImageStandardization()], ids=lambda layer: type(layer).__name__)
def test_gradients_stay_finite_where_an_image_is_constant_or_a_vector_zero(layer):
    import tensorflow as tf

    inputs = tf.zeros((1, 2, 2, 3))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = tf.reduce_sum(layer(inputs) * tf.reshape(tf.range(12.0), (1, 2, 2, 3)))
    assert np.isfinite(tape.gradient(outputs, inputs)).all()


@pytest.mark.parametrize(
    "layer",
    [
        UnitNorm(name="a"),
        PerImageStandardization(name="b"),
        BlueGreenRedMinusMean((1.0, 2.0, 3.0), name="c"),
        LocallyConnected2D(5, (3, 2), strides=2, activation="relu", name="d"),
        CenteredConv2D(5, 3, strides=2, use_bias=False, name="e"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert keras.saving.get_registered_name(type(layer)).startswith("tfface>")
    images = np.random.default_rng(0).random((2, 7, 6, 3), dtype="float32")
    expected = np.asarray(layer(images))
    copy.build(images.shape)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(copy(images), expected)
    assert layer.compute_output_shape(images.shape) == expected.shape

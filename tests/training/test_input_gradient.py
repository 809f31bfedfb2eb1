import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfface.models._layers import CenteredConv2D, UnitNorm
from tfface.models.student import inception_resnet_simple
from tfface.training.input_gradient import with_fast_input_gradient


def gradient(network, images, weights):
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        answer = network(images, training=False)
        loss = tf.reduce_sum(answer * weights)
    found = tape.gradient(loss, [images, *network.trainable_variables])
    return answer.numpy(), *(one.numpy() for one in found)


def network(size, kernel, stride, convolution=layers.Conv2D, **options):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((size, size, 3))
    x = convolution(5, kernel, strides=stride, use_bias=False, **options)(inputs)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return keras.Model(inputs, UnitNorm()(layers.Dense(4)(layers.Flatten()(x))))


@pytest.mark.parametrize("convolution", [layers.Conv2D, CenteredConv2D])
@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [(12, 4, 2), (13, 5, 2), (15, 3, 2), (16, 8, 4), (17, 7, 3), (9, 2, 3)]
)
def test_the_same_answers_and_gradients(size, kernel, stride, convolution):
    """Kernels that are no multiple of the stride, and pixels at the edge that no filter sees."""
    random = np.random.default_rng(0)
    images, weights = random.random((2, size, size, 3), np.float32), random.standard_normal((2, 4)).astype("float32")
    plain = network(size, kernel, stride, convolution)
    fast = with_fast_input_gradient(plain)
    assert any("unstrided" in layer.name for layer in fast.layers)
    for one, other in zip(gradient(plain, images, weights), gradient(fast, images, weights), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)


def test_it_follows_the_weights():
    plain = network(12, 4, 2)
    fast = with_fast_input_gradient(plain)
    images = np.random.default_rng(0).random((1, 12, 12, 3), np.float32)
    before = np.asarray(fast(images))
    plain.layers[1].kernel.assign(-plain.layers[1].kernel)
    after = np.asarray(fast(images))
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, np.asarray(plain(images)), atol=1e-6)


@pytest.mark.parametrize("options", [{"padding": "same"}, {"use_bias": True}, {"activation": "relu"}])
def test_other_convolutions_are_left_as_they_are(options):
    inputs = keras.Input((12, 12, 3))
    outputs = layers.Conv2D(5, 4, strides=2, **{"use_bias": False, **options})(inputs)
    fast = with_fast_input_gradient(keras.Model(inputs, outputs))
    assert not any("unstrided" in layer.name for layer in fast.layers)


def test_the_students_first_convolution_fits():
    fast = with_fast_input_gradient(inception_resnet_simple(embedding_size=16))
    assert [layer.name for layer in fast.layers if "unstrided" in layer.name] == ["conv1_unstrided"]

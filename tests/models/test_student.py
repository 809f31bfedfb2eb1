import keras
import numpy as np

from tfface.models.student import inception_resnet_simple


def test_number_of_weights_by_hand():
    """Kernels 8*8*3*32 + 6*6*32*64 + 8*8*64*128 + 512*128 = 669,696.

    Batch normalisation keeps four numbers a channel: 4 * (32 + 64 + 128 + 128) = 1,408.
    """
    assert inception_resnet_simple().count_params() == 669_696 + 1_408 == 671_104


def test_sides_by_hand():
    """160 -> (160 - 8) / 4 + 1 = 39 -> 33 // 4 + 1 = 9 -> 9 - 8 + 1 = 2: 2 * 2 * 128 = 512 values."""
    model = inception_resnet_simple(embedding_size=64)
    assert model.get_layer("flatten").output.shape == (None, 512)
    assert model.output_shape == (None, 64)


def test_it_sees_images_scaled_to_minus_one_to_one():
    keras.utils.set_random_seed(0)
    student = inception_resnet_simple(embedding_size=8)
    plain = keras.layers.Conv2D(32, 8, strides=4, use_bias=False)
    inputs = keras.Input((160, 160, 3))
    x = plain(keras.layers.Rescaling(2.0, -1.0)(inputs))
    plain.set_weights(student.get_layer("conv1").get_weights())
    for layer in student.layers[2:]:
        x = layer(x)
    images = np.random.default_rng(0).random((2, 160, 160, 3), np.float32)
    np.testing.assert_allclose(student(images), keras.Model(inputs, x)(images), atol=1e-6)

"""Against the published network, built here in Keras 2 with its slashed layer names."""

import numpy as np
import pytest

from tfface.models import resnet50


def published_network(size: int):
    """keras-vggface's ResNet50 without its classifier, as its weights file needs it."""
    from tf_keras import Model, layers

    def convolution(x, name, filters, kernel, **arguments):
        x = layers.Conv2D(filters, kernel, use_bias=False, name=name, **arguments)(x)
        return layers.BatchNormalization(name=name + "/bn")(x)

    def block(x, name, filters, strides, first):
        y = layers.ReLU()(convolution(x, name + "_1x1_reduce", filters, 1, strides=strides))
        y = layers.ReLU()(convolution(y, name + "_3x3", filters, 3, padding="same"))
        y = convolution(y, name + "_1x1_increase", 4 * filters, 1)
        if first:
            x = convolution(x, name + "_1x1_proj", 4 * filters, 1, strides=strides)
        return layers.ReLU()(layers.add([y, x]))

    inputs = layers.Input((size, size, 3))
    x = layers.ReLU()(convolution(inputs, "conv1/7x7_s2", 64, 7, strides=2, padding="same"))
    x = layers.MaxPooling2D(3, strides=2)(x)
    for stage, filters, blocks in ((2, 64, 3), (3, 128, 4), (4, 256, 6), (5, 512, 3)):
        for number in range(1, blocks + 1):
            strides = 2 if number == 1 and stage != 2 else 1
            x = block(x, f"conv{stage}_{number}", filters, strides, number == 1)
    return Model(inputs, layers.AveragePooling2D(7, name="avg_pool")(x))


@pytest.fixture(scope="module")
def published(randomise, tmp_path_factory):
    model = published_network(224)
    randomise(model, input_scale=60)  # pixels of up to 164 would drown every later bias
    path = tmp_path_factory.mktemp("resnet50") / "rcmalli_vggface_tf_notop_resnet50.h5"
    model.save_weights(path)
    return model, path


def test_equals_the_published_network(published, make_images, unit, assert_same_embeddings):
    model, path = published
    ours = resnet50.build(resnet50.PRESETS[0])
    resnet50.load_weights(ours, path)
    images = make_images(3, 224)
    theirs = model(images[..., ::-1] * 255 - np.float32([91.4953, 103.8827, 131.0912]))
    assert theirs.shape == (3, 1, 1, 2048)
    assert_same_embeddings(np.asarray(ours(images)), unit(theirs))


def test_projection_is_not_in_the_published_file(published):
    small = resnet50.vggface2_resnet50(input_size=112, projection=128)
    assert small.output_shape == (None, 128)
    with pytest.raises(ValueError, match="layer projection is missing"):
        resnet50.load_weights(small, published[1])


def test_number_of_weights():
    """23,561,152: keras-vggface's `summary()` of the network without its classifier."""
    assert resnet50.vggface2_resnet50(input_size=64).count_params() == published_network(224).count_params()

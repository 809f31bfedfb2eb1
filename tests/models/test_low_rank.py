import h5py
import keras
import numpy as np
import pytest

from tfface.models import _h5, _low_rank, deepface
from tfface.models._layers import LocallyConnected2D
from tfface.models._low_rank import LowRankLocallyConnected2D

SMALL = {"input_size": 72, "projection": 12, "banks": 2, "rank": 8}


@pytest.mark.parametrize("strides", [1, 2])
def test_expands_to_a_locally_connected_layer(make_images, randomise, strides):
    inputs = keras.Input((11, 9, 3))
    few = keras.Model(inputs, LowRankLocallyConnected2D(4, 3, strides=strides, banks=2, name="few")(inputs))
    full = keras.Model(inputs, LocallyConnected2D(4, 3, strides=strides, name="full")(inputs))
    randomise(few)
    full.get_layer("full").set_weights(few.get_layer("few").expanded())
    images = make_images(2, 11)[:, :, :9]
    expected = np.asarray(few(images))
    assert expected.std() > 0.1
    np.testing.assert_allclose(full(images), expected, atol=1e-5)


def test_one_bank_mixed_evenly_is_a_convolution(make_images):
    inputs = keras.Input((8, 8, 3))
    few = keras.Model(inputs, LowRankLocallyConnected2D(4, 3, banks=1, name="few")(inputs))
    layer = few.get_layer("few")
    layer.mixing.assign(np.ones(layer.mixing.shape))
    images = make_images(2, 8)
    expected = keras.ops.conv(images, layer.kernel, 1, "valid", data_format="channels_last")
    np.testing.assert_allclose(few(images), expected, atol=1e-6)


@pytest.fixture(scope="module")
def few(randomise):
    model = _low_rank.deepface(**SMALL)
    randomise(model)
    return model


def test_the_published_network_computes_the_same(few, make_images, assert_same_embeddings):
    full = deepface.deepface(input_size=72, projection=12)
    _low_rank.expand(few, full)
    images = make_images(4, 72)
    assert_same_embeddings(np.asarray(full(images)), np.asarray(few(images, training=False)))


def test_it_has_few_weights():
    """At 152 px: the published layers hold over 100 million, these under 4."""
    assert _low_rank.deepface().count_params() < 4e6


def test_a_file_of_few_weights_loads_into_the_published_network(few, make_images, tmp_path):
    _h5.save(few, tmp_path / "few.weights.h5")
    full = deepface.deepface(input_size=72, projection=12)
    deepface.load_weights(full, tmp_path / "few.weights.h5")
    images = make_images(4, 72)
    cosines = (np.asarray(full(images)) * np.asarray(few(images, training=False))).sum(1)
    assert cosines.min() > 0.9999  # float16


@pytest.mark.parametrize(
    ("change", "message"),
    [({"projection": 16}, "projection 12, not 16"), ({"input_size": 80}, "input_size 72, not 80")],
)
def test_a_file_of_another_network(few, tmp_path, change, message):
    _h5.save(few, tmp_path / "few.weights.h5")
    full = deepface.deepface(**{"input_size": 72, "projection": 12, **change})
    with pytest.raises(ValueError, match=message):
        deepface.load_weights(full, tmp_path / "few.weights.h5")


def test_damaged_settings(few, tmp_path):
    _h5.save(few, tmp_path / "few.weights.h5")
    with h5py.File(tmp_path / "few.weights.h5", "r+") as file:
        file.attrs[_h5.LOW_RANK] = "[1]"
    with pytest.raises(ValueError, match="damaged"):
        _low_rank.settings(tmp_path / "few.weights.h5")


def test_saves_and_loads_in_safe_mode(few, make_images, tmp_path):
    few.save(tmp_path / "few.keras")
    again = keras.models.load_model(tmp_path / "few.keras", safe_mode=True)
    images = make_images(2, 72)
    np.testing.assert_array_equal(again(images, training=False), few(images, training=False))


def test_the_scale_before_the_pool_never_turns_negative():
    """Else the published order, ReLU and then the pool, would compute something else."""
    scale = _low_rank.deepface(**SMALL).get_layer("C1_bn").gamma
    keras.optimizers.SGD(10.0).apply([np.ones(scale.shape, np.float32)], [scale])
    np.testing.assert_array_equal(scale, np.zeros(scale.shape))

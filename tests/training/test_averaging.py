import keras
import numpy as np
import pytest

from tfface.training.averaging import WeightAverage


@pytest.fixture
def one_weight():
    """A network of one number, and what sets it."""
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    return network, lambda value: network.set_weights([np.array([[value]], np.float32)])


def mean_of(average):
    return float(average.means[0].numpy()[0, 0])


def test_the_first_epochs_have_an_even_mean_and_older_ones_fade(one_weight):
    network, give = one_weight
    average = WeightAverage(network, 2)
    found = []
    for epoch, value in enumerate([4.0, 2.0, 5.0]):
        give(value)
        average.add(network, epoch)
        found.append(mean_of(average))
    assert found == [4.0, 3.0, 4.0]


def test_the_network_has_its_own_weights_again(one_weight):
    network, give = one_weight
    average = WeightAverage(network, 10)
    for epoch, value in enumerate([1.0, 3.0]):
        give(value)
        average.add(network, epoch)
    with pytest.raises(RuntimeError), average.in_place(network):
        assert network.get_weights()[0] == 2.0
        raise RuntimeError
    assert network.get_weights()[0] == 3.0 and mean_of(average) == 2.0


def test_statistics_are_averaged_and_generators_are_not():
    network = keras.Sequential(
        [keras.Input((3,)), keras.layers.BatchNormalization(momentum=0.0), keras.layers.Dropout(0.5)]
    )
    average = WeightAverage(network, 2)
    for epoch, value in enumerate([0.0, 4.0]):
        network(np.full((2, 3), value, np.float32), training=True)
        average.add(network, epoch)
    means = dict(zip([variable.path for variable in network.variables], average.means, strict=True))
    (moving,) = [mean for path, mean in means.items() if path.endswith("moving_mean")]
    np.testing.assert_allclose(moving.numpy(), 2.0)
    (state,) = [path for path in means if "seed_generator" in path]
    (own,) = [variable for variable in network.variables if variable.path == state]
    np.testing.assert_array_equal(means[state].numpy(), own.numpy())

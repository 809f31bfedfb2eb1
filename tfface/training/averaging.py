"""The mean of a network's weights over epochs, which does better on other faces than those of one epoch.

Stochastic weight averaging (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407): weights that
training goes back and forth between have a middle that fits no batch by heart. Here it forgets,
so that it may begin with the first epoch.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops


class WeightAverage(keras.layers.Layer):
    """A running mean of a network's weights, taken once an epoch; held as weights, so that checkpoints have it.

    The statistics of batch normalisation are averaged with them.
    """

    def __init__(self, network: keras.Model, epochs: int, **kwargs: Any) -> None:
        """
        Args:
            network: whose weights.
            epochs: how many the mean is of; older ones fade by 1 - 1/epochs an epoch.
            **kwargs: of every Keras layer.
        """
        super().__init__(trainable=False, **kwargs)
        self.epochs = epochs
        self.means = [
            self.add_weight(shape=variable.shape, dtype=variable.dtype, initializer="zeros", name=f"mean_{index}")
            for index, variable in enumerate(network.variables)
        ]
        self.built = True

    def add(self, network: keras.Model, epoch: int) -> None:
        """Takes the weights after an epoch in.

        Args:
            network: whose weights.
            epoch: from 0; the mean of the first ones is an even one.
        """
        share = 1 / min(epoch + 1, self.epochs)
        for mean, variable in zip(self.means, network.variables, strict=True):
            # The state of a random generator has no mean.
            whole = not keras.backend.is_float_dtype(variable.dtype)
            mean.assign(ops.copy(variable.value) if whole else mean + share * (variable - mean))

    @contextlib.contextmanager
    def in_place(self, network: keras.Model) -> Iterator[None]:
        """Gives the network the mean's weights while the body runs."""
        own = [ops.copy(variable.value) for variable in network.variables]
        try:
            for mean, variable in zip(self.means, network.variables, strict=True):
                # A copy: JAX gives a training step the memory of what it holds, and would give away the mean's.
                variable.assign(ops.copy(mean.value))
            yield
        finally:
            for value, variable in zip(own, network.variables, strict=True):
                variable.assign(value)

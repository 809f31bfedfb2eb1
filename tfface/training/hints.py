"""The features before a network's embedding, which a student can be taught beside the embedding.

An embedding says who it is; the features that it is projected from say much else of the view (pose,
light, expression), in many more values: hints (Romero et al. 2015,
https://arxiv.org/abs/1412.6550), of the last layer.
"""

import keras

from tfface.errors import UserError


def answers_with_hints(network: keras.Model) -> keras.Model:
    """A teacher whose answers are its embeddings and, after them, its last features: (N, D + F) float32.

    Raises:
        UserError: its embedding is projected from nothing.
    """
    together = keras.layers.Concatenate(dtype="float32", name="answer")([network.output, _features(network)])
    return keras.Model(network.input, together, name=f"{network.name}_with_hints")


def with_features(network: keras.Model) -> keras.Model:
    """A student that gives its embedding, and what that is projected from.

    Raises:
        UserError: its embedding is projected from nothing.
    """
    return keras.Model(network.input, [network.output, _features(network)], name=f"{network.name}_with_features")


def _features(network: keras.Model) -> keras.KerasTensor:
    """What the last dense layer is given."""
    dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    if not dense:
        raise UserError(f"{network.name} has no dense layer whose input would be a hint: leave out --hint-weight")
    return dense[-1].input

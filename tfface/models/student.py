"""The small network that a teacher is distilled into: three convolutions and a linear layer."""

from pathlib import Path

import keras
from keras import layers

from tfface.models import _h5
from tfface.models._embedder import Preset
from tfface.models._layers import CenteredConv2D, UnitNorm

PRESETS: tuple[Preset, ...] = ()
"""Nobody published one: its presets are those that the project trained."""

DISTILLED = {"input_size": 160, "projects": False}
"""Students of this architecture: the paper's input size, whatever the teacher's, and that the embedding is its own."""

# (filters, kernel size, stride)
_CONVOLUTIONS = ((32, 8, 4), (64, 6, 4), (128, 8, 1))


def build(preset: Preset) -> keras.Model:
    """Build the network of a preset, with fresh weights."""
    return inception_resnet_simple(input_size=preset.input_size, embedding_size=preset.embedding_size, **preset.config)


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Fill the network from a file that this project trained."""
    _h5.fill(model, path)


def inception_resnet_simple(*, input_size: int = 160, embedding_size: int = 128) -> keras.Model:
    """The paper's student, `InceptionResnetSimple`.

    It sees images scaled to [-1, 1]: a fixed scaling folds into the first convolution, where
    standardising each image would take a quarter of the speed.

    Args:
        input_size: side of the square input, in pixels; at least 140. At 160 the convolutions leave 512 values.
        embedding_size: length of the embedding, the teacher's.

    Returns:
        A model from (N, S, S, 3) RGB in [0, 1] to (N, embedding_size) unit vectors.
    """
    inputs = keras.Input((input_size, input_size, 3), name="image")
    x = inputs
    for index, (filters, size, strides) in enumerate(_CONVOLUTIONS, start=1):
        convolution = CenteredConv2D if index == 1 else layers.Conv2D
        x = convolution(
            filters, size, strides=strides, use_bias=False, kernel_initializer="he_normal", name=f"conv{index}"
        )(x)
        x = layers.BatchNormalization(epsilon=1e-3, name=f"conv{index}_bn")(x)
        x = layers.Activation("relu", name=f"conv{index}_relu")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(embedding_size, use_bias=False, name="linear")(x)
    x = layers.BatchNormalization(epsilon=1e-3, name="linear_bn")(x)
    return keras.Model(inputs, UnitNorm(dtype="float32", name="embedding")(x), name="student")

"""DeepFace as it is trained: few weights that expand to the published eight layers.

A locally connected layer has a kernel of its own at every place, over 70 million weights in all.
Low-rank local connectivity (Elsayed et al. 2020, https://arxiv.org/abs/2002.02959) makes each of
them a mixture of a few shared ones, and F7 is factorised. Batch normalisation, which the published
network lacks, helps training along. Both fold into the published layers without a change of the
function: `expand` does that, so what runs is the real architecture.

The file of such a network is that of Keras 3 with the attribute `tfface_low_rank`.
"""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import keras
import numpy as np
from keras import layers, ops

from tfface.models import _h5
from tfface.models._layers import UnitNorm

if TYPE_CHECKING:
    from tfface.models._embedder import Preset

_EPSILON = 1e-3


@keras.saving.register_keras_serializable(package="tfface")
class LowRankLocallyConnected2D(layers.Layer):
    """A locally connected layer whose kernels are mixtures of `banks` shared ones; padding `valid`."""

    def __init__(self, filters: int, kernel_size: int, *, strides: int = 1, banks: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.strides, self.banks = filters, kernel_size, strides, banks

    def build(self, input_shape: tuple) -> None:
        _, rows, columns, _ = self.compute_output_shape(input_shape)
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.banks * self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="he_normal")
        # The sum of so many independent kernels keeps the variance of one.
        even = 1 / math.sqrt(self.banks)
        self.mixing = self.add_weight(
            name="mixing",
            shape=(rows, columns, self.banks),
            initializer=keras.initializers.RandomNormal(mean=even, stddev=0.3 * even),
        )
        self.bias = self.add_weight(name="bias", shape=(rows, columns, self.filters), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        everywhere = ops.conv(inputs, self.kernel, self.strides, "valid", data_format="channels_last")
        rows, columns = everywhere.shape[1:3]
        everywhere = ops.reshape(everywhere, (-1, rows, columns, self.banks, self.filters))
        return ops.sum(everywhere * self.mixing[..., None], axis=-2) + self.bias

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        rows, columns = ((side - self.kernel_size) // self.strides + 1 for side in input_shape[1:3])
        return input_shape[0], rows, columns, self.filters

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "banks": self.banks,
        }

    def expanded(self) -> list[np.ndarray]:
        """Return kernel (places, patch, filters) and bias of the same layer with a kernel at every place."""
        basis = np.asarray(self.kernel).reshape(-1, self.banks, self.filters)
        mixing = np.asarray(self.mixing).reshape(-1, self.banks)
        return [np.einsum("pk,ikf->pif", mixing, basis, optimize=True), np.asarray(self.bias)]


def deepface(
    *, input_size: int = 152, projection: int = 128, banks: int = 2, rank: int = 256, dropout: float = 0.0
) -> keras.Model:
    """Build the network to train; `expand` makes DeepFace of it.

    Args:
        input_size: side of the square input, in pixels.
        projection: length of the embedding.
        banks: shared kernels of each locally connected layer.
        rank: of F7's kernel.
        dropout: after F7, while training (the published network has 0.5).

    Returns:
        A model from (N, S, S, 3) RGB in [0, 1] to (N, projection) unit vectors.
    """
    inputs = keras.Input((input_size, input_size, 3), name="image")
    x = layers.Conv2D(32, 11, kernel_initializer="he_normal", name="C1")(inputs)
    # Published: ReLU, then the pool. The same where no scale is negative, and here a quarter is left to normalise.
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="M2")(x)
    x = _activated(x, "C1", gamma_constraint="non_neg")
    x = _normed(x, layers.Conv2D(16, 9, kernel_initializer="he_normal", name="C3"))
    x = _normed(x, LowRankLocallyConnected2D(16, 9, banks=banks, name="L4"))
    x = _normed(x, LowRankLocallyConnected2D(16, 7, strides=2, banks=banks, name="L5"))
    x = _normed(x, LowRankLocallyConnected2D(16, 5, banks=banks, name="L6"))
    x = layers.Flatten(name="F0")(x)
    x = layers.Dense(rank, use_bias=False, name="F7_down")(x)
    x = _normed(x, layers.Dense(4096, kernel_initializer="he_normal", name="F7"))
    x = layers.Dropout(dropout, name="D0")(x)
    # F7's values are all positive: without a normalisation all embeddings begin as nearly the same.
    x = layers.Dense(projection, name="projection")(x)
    x = layers.BatchNormalization(epsilon=_EPSILON, name="projection_bn")(x)
    model = keras.Model(inputs, UnitNorm(dtype="float32", name="embedding")(x), name="deepface")
    model.low_rank = {"input_size": input_size, "projection": projection, "banks": banks, "rank": rank}
    return model


def trained(preset: "Preset", **options: Any) -> keras.Model:
    """Build the network that a preset of DeepFace is trained as."""
    return deepface(input_size=preset.input_size, **preset.config, **options)


def settings(path: str | Path) -> dict[str, int] | None:
    """Read the arguments of `deepface` with which a weights file was trained; None for any other file.

    Raises:
        ValueError: they are damaged.
    """
    try:
        with h5py.File(path) as file:
            text = file.attrs.get(_h5.LOW_RANK)
    except OSError:
        return None
    found = None if text is None else json.loads(text)
    if found is not None and not (isinstance(found, dict) and all(isinstance(v, int) for v in found.values())):
        raise ValueError(f"its {_h5.LOW_RANK} is damaged")
    return found


def load(model: keras.Model, path: str | Path, found: dict[str, int]) -> None:
    """Fill DeepFace from the file of a network that was trained with few weights."""
    wanted = {"input_size": model.input_shape[1], "projection": model.output_shape[-1]}
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ValueError(f"it was trained with {name} {found.get(name)}, not {value}")
    few = deepface(**found)
    _h5.fill(few, path)
    expand(few, model)


def expand(few: keras.Model, model: keras.Model) -> None:
    """Fill DeepFace with the weights of the network that `deepface` above built and training filled."""
    for name in ("C1", "C3", "L4", "L5", "L6", "F7", "projection"):
        layer = few.get_layer(name)
        kernel, bias = layer.expanded() if hasattr(layer, "expanded") else layer.get_weights()
        if name == "F7":
            kernel = few.get_layer("F7_down").get_weights()[0] @ kernel
        gamma, beta, mean, variance = few.get_layer(f"{name}_bn").get_weights()
        scale = gamma / np.sqrt(variance + _EPSILON)
        # In place: L4's kernel alone takes a quarter of a gigabyte.
        kernel *= scale
        model.get_layer(name).set_weights([kernel, (bias - mean) * scale + beta])


def _normed(x: Any, layer: layers.Layer) -> Any:
    """Append a layer, batch normalisation and ReLU."""
    return _activated(layer(x), layer.name)


def _activated(x: Any, name: str, **options: Any) -> Any:
    x = layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_bn", **options)(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)

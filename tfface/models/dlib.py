"""dlib's face recognition network, read from dlib's own file without dlib.

A ResNet-34 with fewer layers and half of the filters (He et al. 2015, https://arxiv.org/abs/1512.03385), published as
`dlib_face_recognition_resnet_model_v1.dat`. The embedding is the published 128 numbers scaled to length 1. The
published threshold of 0.6 is a Euclidean distance of the numbers before that, so it is not used here.

Layout of the file (dlib's `serialize`): an integer is a byte with its length and sign and then its bytes, lowest first;
a real number is two integers, mantissa and exponent of 2; a text is its length and its bytes; a tensor is a version,
four lengths and float32 values. First come the versions of all layers from the last to the first, then the layers from
the first to the last, each with its kind, its settings and weights, and the state of its training, which is empty.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from tfface.hub.packages import Package
from tfface.hub.weights import PackageSource
from tfface.models import _h5
from tfface.models._embedder import Preset, view1_thresholds
from tfface.models._layers import PaddedAdd, UnitNorm

_FILE = "dlib_face_recognition_resnet_model_v1.dat"
_PACKAGE = Package(
    "face_recognition_models", "0.3.0", "b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf"
)

_RECIPE = "dlib-chip-padding0.25"
_MEASURED = view1_thresholds(
    _RECIPE,
    (0.001, 0.073974609375, 0.0709228515625, 0.0760498046875, 21952),
    (0.01, 0.0927734375, 0.0909423828125, 0.09423828125, 219137),
)

PRESETS: tuple[Preset, ...] = (
    Preset(
        name="dlib/resnet-v1",
        sources=(PackageSource(_PACKAGE, f"models/{_FILE}"),),
        file_name=_FILE,
        sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        input_size=150,
        embedding_size=128,
        recipe=_RECIPE,
        metric="cosine",
        training_data="about 3 million faces of 7,485 people: FaceScrub, VGG and photographs from the web; its author "
        "says that he avoided people who are also in LFW, which nobody here has checked",
        licence="public domain, by its author Davis King; the package is CC0",
        **_MEASURED,
    ),
)

MEAN = (122.782, 117.001, 104.298)
"""Colour that the network takes off each pixel: red, green, blue, in [0, 255]; the rest is divided by 256."""

# (filters, blocks) of each stage; the first block of all but the first stage halves the sides.
_STAGES = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
_EMBEDDING_SIZE = 128


def build(preset: Preset) -> keras.Model:
    """Build the network of a preset, with fresh weights."""
    return resnet(input_size=preset.input_size, embedding_size=preset.embedding_size, **preset.config)


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Fill the network from dlib's file, or one that this project wrote.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is cut short, damaged, or the file of another network.
    """
    data = Path(path).read_bytes()
    if data.startswith(_h5.SIGNATURE):
        _h5.fill(model, path)
        return
    found = [(model.get_layer(name), weights) for name, weights in _read(data).items()]
    for layer, weights in found:
        for variable, values in zip(layer.weights, weights, strict=True):
            if tuple(variable.shape) != values.shape:
                raise ValueError(f"its layer {layer.name} has shape {values.shape}, not {tuple(variable.shape)}")
    for layer, weights in found:
        layer.set_weights(weights)


def resnet(*, input_size: int = 150, embedding_size: int = _EMBEDDING_SIZE) -> keras.Model:
    """Dlib's ResNet, its batch normalisations folded into the convolutions before them.

    No layer that halves the sides is padded. A halved shortcut has fewer channels than the block beside it, and on some
    sides a pixel more: the missing ones are zeros.

    Args:
        input_size: side of the square input, in pixels; the published network sees 150.
        embedding_size: length of the embedding.

    Returns:
        A model from (N, S, S, 3) RGB in [0, 1] to (N, embedding_size) unit vectors. Its layer `raw` gives what dlib
        itself puts out, which is not of unit length.
    """
    inputs = keras.Input((input_size, input_size, 3), name="image")
    x = layers.Rescaling(255 / 256, [-value / 256 for value in MEAN], name="standardization")(inputs)
    x = _conv(x, "conv1", 32, 7, strides=2)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    for block in _blocks():
        shortcut = x if block.strides == 1 else layers.AveragePooling2D(2, name=f"{block.name}_shortcut")(x)
        x = _conv(x, f"{block.name}_conv1", block.filters, 3, strides=block.strides)
        x = _conv(x, f"{block.name}_conv2", block.filters, 3, activation=False)
        x = layers.Activation("relu", name=f"{block.name}_relu")(PaddedAdd(name=f"{block.name}_add")([x, shortcut]))
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dense(embedding_size, use_bias=False, name="raw")(x)
    return keras.Model(inputs, UnitNorm(dtype="float32", name="embedding")(x), name="dlib")


class _Block(NamedTuple):
    """Two 3x3 convolutions beside a shortcut."""

    name: str
    filters: int
    strides: int


def _blocks() -> Iterator[_Block]:
    for stage, (filters, blocks) in enumerate(_STAGES, start=1):
        for index in range(1, blocks + 1):
            yield _Block(f"stage{stage}_block{index}", filters, 2 if stage > 1 and index == 1 else 1)


def _conv(x: Any, name: str, filters: int, size: int, *, strides: int = 1, activation: bool = True) -> Any:
    """Convolve; without a stride the sides stay, with one there is no padding. Untrained, a block is its shortcut."""
    x = layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same" if strides == 1 else "valid",
        kernel_initializer="he_normal" if activation else "zeros",
        name=name,
    )(x)
    return layers.Activation("relu", name=f"{name}_relu")(x) if activation else x


class _Layer(NamedTuple):
    """A layer as the file has it: its kind and its settings; `name` is that of the Keras layer it goes into."""

    kind: str
    settings: tuple[int, ...] = ()
    name: str = ""


# Content of a layer by its kind: i a setting, t a tensor, v a view of a part of that tensor, r a rate of training.
_CONTENT = {
    "con_4": "tiiiiiiivvrrrr",
    "affine_": "tvvi",
    "relu_": "",
    "max_pool_2": "iiiiii",
    "avg_pool_2": "iiiiii",
    "add_prev_": "",
    "fc_2": "iitvvirrrr",
}
_RELU, _AFFINE = _Layer("relu_"), _Layer("affine_", (0,))


def _saved_layers() -> list[_Layer]:
    """Return the published network's layers, from the first to the last."""
    found = [*_saved_conv("conv1", 32, 7, 2), _RELU, _Layer("max_pool_2", (3, 3, 2, 2, 0, 0))]
    for name, filters, strides in _blocks():
        found += [*_saved_conv(f"{name}_conv1", filters, 3, strides), _RELU]
        found += _saved_conv(f"{name}_conv2", filters, 3, 1)
        found += [_Layer("avg_pool_2", (2, 2, 2, 2, 0, 0))] * (strides - 1)
        found += [_Layer("add_prev_"), _RELU]
    return [*found, _Layer("avg_pool_2", (0, 0, 1, 1, 0, 0)), _Layer("fc_2", (_EMBEDDING_SIZE, 256, 1), "raw")]


def _saved_conv(name: str, filters: int, size: int, strides: int) -> list[_Layer]:
    padding = size // 2 if strides == 1 else 0
    return [_Layer("con_4", (filters, size, size, strides, strides, padding, padding), name), _AFFINE]


def _saved_versions() -> list[int]:
    """Return the versions that stand before the layers, from the last layer to the first.

    A layer has 2 (the very first 3); a mark that a shortcut starts from, or is taken up again at, has 1.
    """
    found = [3, 2, 2, 2]
    for block in _blocks():
        found += [1, 2, 2, 2, 2, 2, *([1, 1, 2] if block.strides == 2 else []), 2, 2]
    return [*found, 2, 2][::-1]


def _read(data: bytes) -> dict[str, list[np.ndarray]]:
    """Read the weights for each Keras layer that has any.

    Raises:
        ValueError: the file is cut short, damaged, or that of another network.
    """
    reader = _Reader(data)
    reader.header()
    found: dict[str, list[np.ndarray]] = {}
    name = ""
    for index, layer in enumerate(_saved_layers(), start=1):
        values = reader.layer(layer, index)
        name = layer.name or name
        if layer.kind == "con_4":
            filters, rows, columns = layer.settings[:3]
            kernel, bias = np.split(values, [len(values) - filters])
            found[name] = [kernel.reshape(filters, -1, rows, columns).transpose(2, 3, 1, 0), bias]
        elif layer.kind == "affine_":
            gamma, beta = np.split(values, 2)
            kernel, bias = found[name]
            found[name] = [kernel * gamma, bias * gamma + beta]
        elif layer.kind == "fc_2":
            found[name] = [values.reshape(-1, layer.settings[0])]
    reader.end()
    return found


class _Reader:
    """A file of dlib's, read from its start to its end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        found = self.data[self.position : self.position + count]
        if len(found) < count:
            raise ValueError(f"it is cut short at {len(self.data):,} bytes" if self.data else "it is empty")
        self.position += count
        return found

    def integer(self) -> int:
        control = self.take(1)[0]
        length = control & 0x0F
        if control & 0x70 or not 1 <= length <= 8:
            raise ValueError(f"it is damaged at byte {self.position - 1:,}, or no file of dlib's")
        value = int.from_bytes(self.take(length), "little")
        return -value if control & 0x80 else value

    def real(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        return math.ldexp(mantissa, exponent) if abs(exponent) < 512 else math.nan

    def text(self) -> str:
        length = self.integer()
        if not 0 <= length <= 64:
            raise ValueError(f"it is damaged at byte {self.position:,}, or no file of dlib's")
        return self.take(length).decode("ascii", "replace")

    def integers(self, count: int) -> tuple[int, ...]:
        return tuple(self.integer() for _ in range(count))

    def tensor(self) -> np.ndarray:
        """Return the values of a tensor, in one row."""
        version, *shape = self.integers(5)
        if version != 2 or min(shape) < 0:
            raise ValueError(f"it is damaged at byte {self.position:,}: no tensor of version 2")
        return np.frombuffer(self.take(4 * math.prod(shape)), "<f4")

    def header(self) -> None:
        """Read up to the first layer: loss, versions, input."""
        if self.integers(1) != (1,) or not re.fullmatch(r"loss_metric_\d*", loss := self.text()):
            raise ValueError("it holds no network of dlib's that was trained to tell faces apart")
        _ = [self.real() for _ in range(2 if loss == "loss_metric_2" else 0)]
        wanted = _saved_versions()
        if list(self.integers(len(wanted))) != wanted:
            raise ValueError("it holds another network: its layers are not those of the published one")
        kind, colour, size = self.text(), [self.real() for _ in MEAN], self.integers(2)
        if kind != "input_rgb_image_sized" or size != (150, 150) or not np.allclose(colour, MEAN, atol=1e-3):
            raise ValueError(f"it holds another network: its input is {kind} of {size[0]}x{size[1]}, mean {colour}")

    def layer(self, wanted: _Layer, index: int) -> np.ndarray:
        """Read a layer and check that it is the wanted one; return its weights in one row."""
        kind = self.text()
        if kind != wanted.kind:
            raise ValueError(f"its layer {index} is {kind!r}, not {wanted.kind}: damaged, or another network")
        values, settings = np.zeros(0, np.float32), []
        for field in _CONTENT[kind]:
            if field == "t":
                values = self.tensor()
            elif field == "i":
                settings.append(self.integer())
            else:
                _ = self.integers(5) if field == "v" else self.real()
        if tuple(settings) != wanted.settings:
            raise ValueError(f"its layer {index} is {kind}{tuple(settings)}, not {wanted.settings}: another network")
        if not np.isfinite(values).all():
            raise ValueError(f"its layer {index}, {kind}, has weights that are no numbers: damaged")
        self.training(first=index == 1)
        return values

    def training(self, *, first: bool) -> None:
        """Pass over a layer's state of training: three flags and three tensors; the first layer has a number more."""
        self.take(3)
        for _ in range(3):
            self.tensor()
        if first:
            self.integer()

    def end(self) -> None:
        if self.position != len(self.data):
            raise ValueError(f"it has {len(self.data) - self.position:,} bytes too many: damaged")

"""Layers that the zoo shares, in `keras.ops` alone, so that they run on every Keras backend."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

_register = keras.saving.register_keras_serializable(package="tfface")


@_register
class UnitNorm(keras.layers.Layer):
    """Scales each vector to length 1; a zero vector stays zero, with a gradient of zero.

    Keras's own `UnitNormalization` divides by a square root, whose gradient at zero is not a
    number; one dead image would spoil a whole attack or training batch.
    """

    epsilon = 1e-12

    def call(self, inputs: Any) -> Any:
        squares = ops.sum(ops.square(inputs), axis=-1, keepdims=True)
        return inputs * ops.rsqrt(ops.maximum(squares, self.epsilon))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


@_register
class PerImageStandardization(keras.layers.Layer):
    """Gives each image mean 0 and standard deviation 1, over all of its pixels and channels.

    The deviation is taken to be at least 1/sqrt(size), on the scale of [0, 255], as FaceNet does,
    so that a constant image becomes zero. The input is in [0, 1].
    """

    def call(self, inputs: Any) -> Any:
        pixels = inputs * 255.0
        centred = pixels - ops.mean(pixels, axis=(1, 2, 3), keepdims=True)
        variance = ops.mean(ops.square(centred), axis=(1, 2, 3), keepdims=True)
        # The bound stands inside the root: its gradient stays finite where an image is constant.
        return centred * ops.rsqrt(ops.maximum(variance, 1.0 / math.prod(inputs.shape[1:])))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


@_register
class CenteredConv2D(keras.layers.Conv2D):
    """A convolution without padding over images in [0, 1], answering as if they were first taken to [-1, 1].

    The scaling is done to the kernel: done to the images, it is a seventh of the student's time, and
    each of its gradients at them pays for it again.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        return self.centered(super().convolution_op, inputs, kernel)

    @staticmethod
    def centered(convolve: Callable[[Any, Any], Any], inputs: Any, kernel: Any) -> Any:
        """Return what a convolution of (inputs, kernel) gives for inputs scaled to [-1, 1]."""
        return convolve(inputs, 2.0 * kernel) - ops.sum(kernel, axis=(0, 1, 2))


@_register
class BlueGreenRedMinusMean(keras.layers.Layer):
    """RGB in [0, 1] to BGR in [0, 255] minus a mean for each channel, as networks from Caffe want it."""

    def __init__(self, mean: tuple[float, float, float], **kwargs: Any) -> None:
        """
        Args:
            mean: of blue, green and red, in [0, 255].
            **kwargs: of every Keras layer.
        """
        super().__init__(**kwargs)
        self.mean = tuple(mean)

    def call(self, inputs: Any) -> Any:
        return ops.flip(inputs, axis=-1) * 255.0 - ops.convert_to_tensor(self.mean, dtype=inputs.dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": self.mean}


@_register
class InputScaling(keras.layers.Layer):
    """RGB in [0, 1] to another scale, order and place of the channels."""

    def __init__(
        self,
        factor: tuple[float, ...],
        offset: tuple[float, ...],
        *,
        reverse: bool = False,
        channels_first: bool = False,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            factor: of red, green and blue.
            offset: of red, green and blue, added after that.
            reverse: blue comes first.
            channels_first: channels come before rows and columns.
            **kwargs: of every Keras layer.
        """
        super().__init__(**kwargs)
        self.factor, self.offset = tuple(factor), tuple(offset)
        self.reverse, self.channels_first = reverse, channels_first

    @property
    def does_nothing(self) -> bool:
        """Tell if images stay as they are."""
        plain = set(self.factor) == {1.0} and set(self.offset) == {0.0}
        return plain and not self.reverse and not self.channels_first

    def call(self, inputs: Any) -> Any:
        factor, offset = (ops.convert_to_tensor(part, dtype=inputs.dtype) for part in (self.factor, self.offset))
        images = inputs * factor + offset
        images = ops.flip(images, axis=-1) if self.reverse else images
        return ops.transpose(images, (0, 3, 1, 2)) if self.channels_first else images

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, channels = input_shape
        return (batch, channels, height, width) if self.channels_first else input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"factor": self.factor, "offset": self.offset}
        return {**super().get_config(), **own, "reverse": self.reverse, "channels_first": self.channels_first}


@_register
class PaddedAdd(keras.layers.Layer):
    """Adds two stacks of feature maps; where one has fewer rows, columns or channels, zeros stand for what it lacks.

    The zeros are below, to the right and after the channels there are, as dlib's `add_prev` has it.
    """

    def call(self, inputs: Any) -> Any:
        shape = self.compute_output_shape([part.shape for part in inputs])
        first, second = (self._pad(part, shape) for part in inputs)
        return first + second

    @staticmethod
    def _pad(part: Any, shape: tuple) -> Any:
        missing = [(0, 0), *((0, want - have) for want, have in zip(shape[1:], part.shape[1:], strict=True))]
        return ops.pad(part, missing) if any(after for _, after in missing) else part

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        first, second = input_shape
        return (first[0], *(max(pair) for pair in zip(first[1:], second[1:], strict=True)))


@_register
class LocallyConnected2D(keras.layers.Layer):
    """A convolution whose kernel differs from place to place; padding `valid`, channels last.

    Keras 3 dropped this layer. The weights have the shapes of Keras 2's first implementation,
    so that its files load: kernel (rows * columns, height * width * channels, filters), bias
    (rows, columns, filters).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        *,
        strides: int = 1,
        activation: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        self.strides = strides
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: tuple) -> None:
        _, rows, columns, _ = self.compute_output_shape(input_shape)
        if rows < 1 or columns < 1:
            raise ValueError(f"{self.name}: an input of {input_shape[1:3]} is smaller than {self.kernel_size}")
        patch = math.prod(self.kernel_size) * input_shape[-1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(rows * columns, patch, self.filters),
            # He's rule for one place; Keras's initialisers would count every place as fan-in.
            initializer=keras.initializers.TruncatedNormal(stddev=math.sqrt(2.0 / patch)),
        )
        self.bias = self.add_weight(name="bias", shape=(rows, columns, self.filters), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        _, rows, columns, _ = self.compute_output_shape(inputs.shape)
        patches = _patches(inputs, self.kernel_size, self.strides, (rows, columns))
        patches = ops.reshape(patches, (rows * columns, -1, self.kernel.shape[1]))
        places = ops.transpose(ops.matmul(patches, self.kernel), (1, 0, 2))
        return self.activation(ops.reshape(places, (-1, rows, columns, self.filters)) + self.bias)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        rows, columns = (
            (side - size) // self.strides + 1 for side, size in zip(input_shape[1:3], self.kernel_size, strict=True)
        )
        return input_shape[0], rows, columns, self.filters

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "activation": keras.activations.serialize(self.activation),
        }


def _patches(images: Any, size: tuple[int, ...], stride: int, places: tuple[int, int]) -> Any:
    """Cut every patch of a batch, with the places in front: (rows, columns, N, height * width * channels).

    Keras's `extract_patches` convolves with an identity matrix, at many times the cost of the
    layer itself. Here windows along the columns are joined first and then windows along the
    rows, so that what is copied is long. No tensor has more than five axes: TFLite slices no more.
    """
    by_place = ops.transpose(images, (1, 2, 0, 3))
    planes = [_phases(columns, 0, stride) for columns in _phases(by_place, 1, stride)]
    strips = [_windows([plane[row] for plane in planes], 1, size[1], places[1]) for row in range(stride)]
    return _windows(strips, 0, size[0], places[0])


def _windows(phases: list[Any], axis: int, size: int, places: int) -> Any:
    """Return all windows of `size` along an axis of which the phases are given, joined on the last axis."""
    stride = len(phases)
    parts = [_slice(phases[offset % stride], axis, offset // stride, places) for offset in range(size)]
    return ops.concatenate(parts, axis=-1)


def _phases(tensor: Any, axis: int, stride: int) -> list[Any]:
    """Split one of four axes into phases: what steps of `stride` meet from each start; no later slice needs a step."""
    if stride == 1:
        return [tensor]
    missing = -tensor.shape[axis] % stride
    tensor = ops.pad(tensor, [(0, missing if index == axis else 0) for index in range(4)])
    shape = list(ops.shape(tensor))
    shape[axis] //= stride
    apart = ops.reshape(tensor, [*shape[: axis + 1], stride, *shape[axis + 1 :]])
    return [ops.reshape(_slice(apart, axis + 1, phase, 1), shape) for phase in range(stride)]


def _slice(tensor: Any, axis: int, start: int, length: int) -> Any:
    """Slice a run along one axis. Its gradient is one padding, several times faster than that of `tensor[...]`."""
    starts, shape = [0] * len(tensor.shape), list(ops.shape(tensor))
    starts[axis], shape[axis] = start, length
    return ops.slice(tensor, starts, shape)


class FunctionLayer(keras.layers.Layer):
    """A function of images as a layer, in TensorFlow alone; it cannot be saved."""

    def __init__(self, function: Callable[[Any], Any], size: int, **kwargs: Any) -> None:
        """
        Args:
            function: tensor (N, ...) to tensor (N, size).
            size: length of its answers.
            **kwargs: of every Keras layer.
        """
        super().__init__(**kwargs)
        self.function, self.size = function, size

    def call(self, inputs: Any) -> Any:
        return ops.reshape(self.function(inputs), (-1, self.size))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.size)


def function_layer(function: Callable[[Any], Any], size: int, *, follows: bool) -> Callable[[Any], Any]:
    """Return a layer that calls a function: on tensors, whose gradient it gives, or on arrays."""
    import tensorflow as tf

    def answered(images: np.ndarray) -> np.ndarray:
        return np.asarray(function(images), np.float32).reshape(len(images), size)

    def called(images: Any) -> Any:
        return function(images) if follows else tf.numpy_function(answered, [images], tf.float32)

    layer: Callable[[Any], Any] = FunctionLayer(called, size)
    return layer


def holds_function(model: keras.Model) -> bool:
    """Tell if a model calls a function or a SavedModel somewhere, whose weights are not its own."""
    return any(isinstance(layer, FunctionLayer) for layer in model._flatten_layers())

"""The same network with a faster gradient at its image.

What is attacked while it is trained needs the gradient at its input, which ordinary training never
asks for. The libraries are slow there: a convolution with a stride over three colours is the
largest part of a small network's attack step. Written over blocks of pixels (space to depth) the
same convolution has no stride and many channels, and its gradient at the input is a plain product.
"""

from typing import Any

import keras
import tensorflow as tf

from tfface.models._layers import CenteredConv2D

_MOST_CHANNELS = 4
"""Input channels up to which a strided convolution is worth it."""


def with_fast_input_gradient(network: keras.Model) -> keras.Model:
    """A view of a network: the same layers and answers; gradients reach its image sooner.

    Args:
        network: functional, over square images; convolutions that do not fit are left as they are.

    Returns:
        A model that shares every weight.
    """
    return keras.models.clone_model(
        network,
        input_tensors=keras.Input(network.input_shape[1:]),
        clone_function=lambda layer: _Unstrided(layer) if _fits(layer) else layer,
    )


def _fits(layer: keras.layers.Layer) -> bool:
    return (
        type(layer) in (keras.layers.Conv2D, CenteredConv2D)
        and layer.strides[0] == layer.strides[1] > 1
        and layer.padding == "valid"
        and layer.groups == 1
        and tuple(layer.dilation_rate) == (1, 1)
        and layer.data_format == "channels_last"
        and not layer.use_bias
        and layer.kernel.shape[0] == layer.kernel.shape[1]
        and layer.kernel.shape[2] <= _MOST_CHANNELS
        and layer.activation is keras.activations.linear
    )


class _Unstrided(keras.layers.Layer):
    """A strided convolution whose gradient at its input is taken over blocks of stride x stride pixels."""

    def __init__(self, convolution: keras.layers.Conv2D) -> None:
        super().__init__(name=f"{convolution.name}_unstrided", trainable=False)
        self._convolution = convolution
        self._stride = convolution.strides[0]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return self._convolution.compute_output_shape(input_shape)

    def call(self, images: Any) -> Any:
        stride, size = self._stride, images.shape[1]

        @tf.custom_gradient
        def convolve(images: tf.Tensor, kernel: tf.Tensor) -> Any:
            def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                # Whichever of the two is not asked for is pruned from a compiled step.
                of_kernel = tf.raw_ops.Conv2DBackpropFilter(
                    input=images,
                    filter_sizes=tf.shape(kernel),
                    out_backprop=upstream,
                    strides=[1, stride, stride, 1],
                    padding="VALID",
                )
                return _input_gradient(upstream, kernel, stride, size), of_kernel

            return tf.nn.conv2d(images, kernel, stride, "VALID"), gradient

        kernel = tf.convert_to_tensor(self._convolution.kernel)
        if isinstance(self._convolution, CenteredConv2D):
            return self._convolution.centered(convolve, images, kernel)
        return convolve(images, kernel)


def _input_gradient(upstream: tf.Tensor, kernel: tf.Tensor, stride: int, size: int) -> tf.Tensor:
    """(N, size, size, C) gradient at the input of a convolution without padding, from that at its output.

    Args:
        upstream: (N, M, M, F).
        kernel: (K, K, C, F).
        stride: of the convolution.
        size: side of its input.
    """
    side, _, channels, filters = kernel.shape
    blocks = -(-side // stride)
    filled = tf.pad(kernel, [[0, blocks * stride - side]] * 2 + [[0, 0]] * 2)
    # A block's pixels become channels: row by row, a row's colours together.
    folded = tf.reshape(filled, (blocks, stride, blocks, stride, channels, filters))
    folded = tf.reshape(tf.transpose(folded, (0, 2, 1, 3, 4, 5)), (blocks, blocks, stride * stride * channels, filters))
    across = upstream.shape[1] + blocks - 1
    shape = (tf.shape(upstream)[0], across, across, stride * stride * channels)
    blocked = tf.nn.conv2d_transpose(upstream, folded, shape, 1, "VALID")
    # What depth_to_space does, at a third of the time.
    rows = tf.reshape(blocked, (-1, across, across, stride, stride * channels))
    found = tf.reshape(tf.transpose(rows, (0, 1, 3, 2, 4)), (-1, across * stride, across * stride, channels))
    missing = size - across * stride
    if missing > 0:
        return tf.pad(found, [[0, 0], [0, missing], [0, missing], [0, 0]])
    return found[:, :size, :size]

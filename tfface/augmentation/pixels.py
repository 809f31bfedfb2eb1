"""Changes of one image that Keras has no layer for; images float32 (H, W, 3) in [0, 1]."""

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


def jpeg(image: "tf.Tensor", quality: "tf.Tensor | int") -> "tf.Tensor":
    """Compress an image as a JPEG file of this quality (1 to 100), colours halved in size (4:2:0), and decode it.

    Written and read by the accurate integer DCT, as OpenCV does and as every photograph is read here.
    """
    import tensorflow as tf

    levels = tf.cast(tf.round(tf.clip_by_value(image, 0.0, 1.0) * 255.0), tf.uint8)
    again = tf.image.adjust_jpeg_quality(levels, quality, dct_method="INTEGER_ACCURATE")
    return tf.ensure_shape(tf.cast(again, tf.float32) / 255.0, image.shape)


def blur(image: "tf.Tensor", sigma: "tf.Tensor | float") -> "tf.Tensor":
    """Blur with a Gaussian, `sigma` in pixels; the image is mirrored at its edges.

    Keras's own stops at a sigma of 1 and darkens the edges.
    """
    import tensorflow as tf

    blurred = tf.numpy_function(_blur, [image, tf.cast(sigma, tf.float32)], tf.float32, stateful=False)
    return tf.ensure_shape(blurred, image.shape)


def _blur(image: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), float(sigma)) if sigma > 0 else image

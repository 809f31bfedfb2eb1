"""The two norms in which a change of an image is measured.

Epsilon is in [0, 1] in both, so that 1 reaches every image: for `linf` the largest change of a
value, for `l2` the root mean square of the changes (the L2 length over the square root of the
number of values).
"""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfface.errors import UserError

NORMS = ("linf", "l2")


def checked(norm: str, valid: Sequence[str] = NORMS) -> str:
    """Return the norm, if it is one of the valid.

    Raises:
        UserError: it is not.
    """
    if norm not in valid:
        raise UserError(f"unknown norm {norm!r}; valid: {', '.join(valid)}")
    return norm


def length(epsilon: float | np.ndarray, shape: Sequence[int]) -> float | np.ndarray:
    """Return the plain L2 length of a change whose root mean square is epsilon.

    Args:
        epsilon: root mean square of a change.
        shape: (H, W, C) of the image.
    """
    return epsilon * math.sqrt(math.prod(shape))


def distance(images: np.ndarray, clean: np.ndarray, norm: str) -> np.ndarray:
    """Return the distance of images (N, ...) from the clean ones, (N,) float64 in the unit of epsilon."""
    change = (images.astype(np.float64) - clean).reshape(len(images), -1)
    return np.abs(change).max(axis=1) if checked(norm) == "linf" else np.sqrt(np.square(change).mean(axis=1))


def steepest(gradient: tf.Tensor, norm: str) -> tf.Tensor:
    """Return the direction (N, H, W, C) of length 1 in the norm that ascends most; zero where the gradient is."""
    if checked(norm) == "linf":
        return tf.sign(gradient)
    # Divided by the largest value first: the squares of very small gradients would vanish.
    scaled = tf.math.divide_no_nan(gradient, tf.reduce_max(tf.abs(gradient), axis=(1, 2, 3), keepdims=True))
    return tf.math.divide_no_nan(scaled, _root_mean_square(scaled))


def project(images: tf.Tensor, clean: tf.Tensor, epsilon: tf.Tensor, norm: str) -> tf.Tensor:
    """Return the nearest images to these that are within epsilon of the clean ones.

    Args:
        images: (N, H, W, C).
        clean: (N, H, W, C).
        epsilon: (N,).
        norm: one of `NORMS`.
    """
    limit = tf.reshape(epsilon, (-1, 1, 1, 1))
    if checked(norm) == "linf":
        return tf.clip_by_value(images, clean - limit, clean + limit)
    change = images - clean
    return clean + change * tf.minimum(1.0, tf.math.divide_no_nan(limit, _root_mean_square(change)))


def random_change(shape: Sequence[int], norm: str, *, seed: int, key: int, restart: int) -> np.ndarray:
    """Draw a change (H, W, C) uniformly from the norm's ball of epsilon 1.

    It depends on (seed, key, restart) alone, so whatever else is in a batch leaves no trace.
    """
    random = np.random.default_rng([seed, key, restart])
    if checked(norm) == "linf":
        return random.uniform(-1, 1, shape).astype(np.float32)
    direction = random.standard_normal(shape)
    radius = random.random() ** (1 / math.prod(shape))
    return (direction * radius / math.sqrt(np.mean(direction * direction))).astype(np.float32)


def _root_mean_square(images: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_mean(tf.square(images), axis=(1, 2, 3), keepdims=True))

"""Randomness that is a function of the image: the deployed model stays a function, and exports hold it.

The numbers come from a hash of the image's 8-bit values and a seed, so they depend neither on the batch
nor on the run, and two files of one picture get the same. What that costs: who may ask the deployed model
as often as they please can change an image a little until it draws numbers that suit them, which fresh
randomness would not allow to be kept. Integers are 32-bit and wrap around.
"""

import math
from typing import Any

import numpy as np
from keras import ops

_GOLDEN = 0x9E3779B9
_DRAW = 0x85EBCA6B


def image_seeds(images: Any, seed: int, draws: Any = None) -> Any:
    """Return a number for each image, of its 8-bit values, a seed and which draw it is.

    Args:
        images: (N, H, W, C) in [0, 1].
        seed: of all images.
        draws: int32 (N,); None for draw 0, the deployed model's.

    Returns:
        uint32 (N,).
    """
    size = math.prod(images.shape[1:])
    levels = ops.cast(ops.round(ops.clip(images, 0.0, 1.0) * 255.0), "uint32")
    # An odd weight for each place: no change of a single value, and hardly any of many, leaves the sum as it was.
    weights = _mixed(np.arange(size, dtype=np.uint32) * np.uint32(_GOLDEN) + np.uint32(seed)) | np.uint32(1)
    products = ops.reshape(levels, (-1, size)) * weights
    # Signed, since TFLite adds up no unsigned numbers; they wrap around alike.
    total = ops.cast(ops.sum(ops.cast(products, "int32"), axis=1), "uint32")
    if draws is not None:
        total = ops.bitwise_xor(total, ops.cast(draws, "uint32") * np.uint32(_DRAW))
    return _mixed(total)


def uniform(seeds: Any, count: int) -> Any:
    """Draw numbers evenly from [0, 1): float32 (N, count) from seeds uint32 (N,)."""
    return ops.cast(ops.right_shift(_bits(seeds, count), np.uint32(8)), "float32") * (2.0**-24)


def normal(seeds: Any, count: int) -> Any:
    """Draw standard normal numbers: float32 (N, count) from seeds uint32 (N,), by Box and Muller's transform.

    Of 32 random bits 16 make a radius and 16 an angle: no number exceeds 4.9, which one of a million would.
    """
    bits = _bits(seeds, (count + 1) // 2)
    radius = _fraction(ops.right_shift(bits, np.uint32(16)))
    # The lower half by two shifts: TFLite knows no "and".
    angle = _fraction(ops.right_shift(bits * np.uint32(1 << 16), np.uint32(16))) * (2 * math.pi)
    radius = ops.sqrt(-2.0 * ops.log(radius))
    return ops.concatenate([radius * ops.cos(angle), radius * ops.sin(angle)], axis=1)[:, :count]


def _fraction(bits: Any) -> Any:
    """Map 16 bits to the middle of their step in (0, 1)."""
    return (ops.cast(bits, "float32") + 0.5) * (2.0**-16)


def _bits(seeds: Any, count: int) -> Any:
    """Return uint32 (N, count), each of its seed and its place."""
    places = _mixed(np.arange(1, count + 1, dtype=np.uint32) * np.uint32(_GOLDEN))
    return _mixed(ops.bitwise_xor(ops.expand_dims(seeds, 1), places[None]))


def _mixed(values: Any) -> Any:
    """Mix bits so that each bit of the result depends on all: Wellons's lowbias32 (https://nullprogram.com/blog/2018/07/31/)."""
    shift, xor = (
        (np.right_shift, np.bitwise_xor) if isinstance(values, np.ndarray) else (ops.right_shift, ops.bitwise_xor)
    )
    for distance, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        values = xor(values, shift(values, np.uint32(distance))) * np.uint32(factor)
    return xor(values, shift(values, np.uint32(16)))

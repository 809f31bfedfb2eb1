"""JPEG as mathematics: colour transform, 4:2:0, block transform, rounding by the quality's table.

Differentiable from end to end but for the rounding. Coefficients are rounded forward, and backward have the
slope of Shin and Song's smooth rounding (2017, https://machine-learning-and-security.github.io/papers/mlsec17_paper_54.pdf):
a change that is sure to be rounded away leads nowhere. Straight through instead, an attack needs twice the
epsilon. Float arithmetic: a real coder's integers differ by a level in the mean.
"""

from typing import Any

import numpy as np
from keras import ops

from tfface.defenses._defense import straight_through

_BLOCK = 8
_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMINANCE = np.full((8, 8), 99)
_CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
"""Both of the standard's annex K."""
_CENTRE = np.array([128, 0, 0], np.float32)
_LEAST_SLOPE = 0.02
"""So that an image compressed before, whose coefficients lie on the steps, has a gradient too."""
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def table(quality: int, *, chrominance: bool = False) -> np.ndarray:
    """Return the steps that coefficients are rounded to, float32 (8, 8), as libjpeg scales the standard's.

    Args:
        quality: 1 to 100.
        chrominance: of colour, not of light.
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = ((_CHROMINANCE if chrominance else _LUMINANCE) * scale + 50) // 100
    return steps.clip(1, 255).astype(np.float32)


def compressed(images: Any, quality: int) -> Any:
    """Compress images as JPEG does.

    Args:
        images: (N, H, W, 3) in [0, 1].
        quality: 1 to 100.
    """
    rounding = straight_through(ops.round)
    height, width = images.shape[1:3]
    levels = rounding(ops.clip(images, 0.0, 1.0) * 255.0)
    ycc = rounding(ops.matmul(_padded(levels), _TO_YCC.T.astype(np.float32))) - _CENTRE
    light = _blocks(ycc[..., :1], table(quality))
    colour = rounding(ops.average_pool(ycc[..., 1:], 2, data_format="channels_last"))
    colour = _blocks(colour, table(quality, chrominance=True))
    colour = ops.image.resize(colour, ycc.shape[1:3], interpolation="bilinear", data_format="channels_last")
    back = np.linalg.inv(_TO_YCC).T.astype(np.float32)
    rgb = ops.matmul(ops.concatenate([light, colour], axis=-1) + _CENTRE, back)
    return ops.clip(rgb[:, :height, :width] / 255.0, 0.0, 1.0)


def _padded(images: Any) -> Any:
    """Repeat the last row and column up to whole blocks of both light and halved colour."""
    for axis in (1, 2):
        missing = -images.shape[axis] % (2 * _BLOCK)
        if missing:
            last = images[:, -1:] if axis == 1 else images[:, :, -1:]
            images = ops.concatenate([images, ops.repeat(last, missing, axis=axis)], axis=axis)
    return images


def _slope(values: Any) -> Any:
    """Return the slope of x to round(x) + (x - round(x))^3, and a little more."""
    return 3.0 * ops.square(values - ops.round(values)) + _LEAST_SLOPE


def _blocks(planes: Any, steps: np.ndarray) -> Any:
    """Transform each 8x8 block of (N, H, W, C), round to multiples of the steps and transform back."""
    height, width = planes.shape[1:3]
    down, across = _transform(height), _transform(width)
    steps = np.tile(steps, (height // _BLOCK, width // _BLOCK))
    planes = ops.transpose(planes, (0, 3, 1, 2))
    coefficients = ops.matmul(ops.matmul(down, planes), across.T)
    coefficients = straight_through(ops.round, _slope)(coefficients / steps) * steps
    return ops.transpose(ops.matmul(ops.matmul(down.T, coefficients), across), (0, 2, 3, 1))


def _transform(length: int) -> np.ndarray:
    """Return the orthonormal cosine transform of every 8 values in a row, float32 (length, length)."""
    order, place = np.arange(_BLOCK)[:, None], np.arange(_BLOCK)[None]
    waves = np.cos(np.pi * (2 * place + 1) * order / (2 * _BLOCK)) * np.sqrt(2 / _BLOCK)
    waves[0] /= np.sqrt(2)
    return np.kron(np.eye(length // _BLOCK), waves).astype(np.float32)

"""Crop recipes, and alignment of a face by five points: a similarity transform onto a template, and one warp.

The five points are those of MTCNN: left eye, right eye, nose, left and right mouth corner, left as the viewer sees it.
Pixel centres lie at whole numbers in points, as detectors and the usual template of 112 pixels have them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.errors import ImageError, UserError

if TYPE_CHECKING:
    import tensorflow as tf

RECIPES = (
    "whole",
    "center-140",
    "mtcnn-v1-margin0.20",
    "given-margin0.30",
    "align5-112",
    "dlib-chip-padding0.25",
)
"""Examples of each kind; the number in a name is a parameter of it."""

POINTS = "left eye, right eye, nose, left and right mouth corner, left as the viewer sees it"

ALIGN5 = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
"""Usual template in a crop of 112 pixels: that of ArcFace's published crops (https://arxiv.org/abs/1801.07698)."""

DLIB_CHIP = ((0.2182, 0.1984), (0.7658, 0.1970), (0.4891, 0.5206), (0.2463, 0.7984), (0.7345, 0.7979))
"""MTCNN's points in dlib's chip without padding, its side being 1.

dlib cuts its chip by other points: the corners of the eyes and the base of the nose. These are the means of MTCNN's
points in chips that dlib cut from photographs of View 1's training pairs, enlarged by 2% around the middle, so that
faces come out as large as dlib cuts them: points that scatter are taken onto their mean smaller than they are
(`benchmarks/dlib_chip.py`).
"""

Template = tuple[tuple[float, float], ...]
"""Five points x, y in a crop whose sides are 1; a pixel's centre is half a pixel from its edge."""

COINCIDE = "has five points that coincide"
UNLIKE = f"has five points that are not in the places of a face's: give {POINTS}"
_ALIKE = 0.4
"""Least share of the template's variance that five points explain: a profile's explain 0.6, those of LFW's faces
0.79 and more; with left and right exchanged, 0.05."""


@dataclass(frozen=True)
class Recipe:
    """Crop recipe: how a photograph becomes a model's input. Its name is part of every cache key and result.

    - `whole`: the whole photograph, stretched to the square input.
    - `center-N`: the central square of N/250 of the shorter side (N pixels of LFW's 250).
    - `mtcnn-v1-marginM`: the box of the largest, most central MTCNN face, both sides grown by
      the fraction M in total, clipped to the photograph, stretched. No face found: the image
      counts as failed (a failure to enrol) and takes part in no pair.
    - `given-marginM`: the same from the boxes that the data set gives (VGGFace2's).
    - `align5-N`: the five points of that MTCNN face, moved, turned and scaled onto the usual template of 112 pixels;
      of it the square of N pixels a side around the middle, so that `align5-112` is the usual crop and a larger N
      shows more around the face. Black outside of the photograph.
    - `dlib-chip-paddingP`: the same onto dlib's chip, padded by the fraction P of the face on each side.
    - `given-align5-N`, `given-dlib-chip-paddingP`: the same from points that are given.

    Attributes:
        name: as commands and functions take it.
        source: where the face comes from: `image` (none is needed), `mtcnn` or `given`.
        fraction: `center`: part of the shorter side.
        margin: growth of the box's sides.
        template: place of the five points in the crop; None for recipes that cut out a box.
    """

    name: str
    source: str
    fraction: float = 1.0
    margin: float = 0.0
    template: Template | None = None

    @property
    def aligned(self) -> bool:
        """True where the face is given by five points (x0, y0, ..., x4, y4) instead of a box."""
        return self.template is not None

    def place(self, height: int, width: int, face: np.ndarray | None = None) -> np.ndarray:
        """Return the place to cut out: what `box` returns, or for aligned recipes the transform of `similarity`.

        Raises:
            ImageError: the five points coincide.
        """
        if self.template is None:
            return self.box(height, width, face)
        assert face is not None, "an aligned recipe needs points"
        return similarity(face, self.template)

    def box(self, height: int, width: int, face: np.ndarray | None = None) -> np.ndarray:
        """Return the box to cut out, float32 (x0, y0, x1, y1) in pixels of the photograph.

        For aligned recipes it is the smallest upright box around what is cut out, clipped to the photograph.

        Args:
            height: height of the photograph.
            width: width of the photograph.
            face: (x, y, width, height) of the face, or its five points, for recipes that need one.
        """
        if self.source == "image":
            if self.name == "whole":
                return np.array([0, 0, width, height], np.float32)
            side = self.fraction * min(height, width)
            x0, y0 = (width - side) / 2, (height - side) / 2
            return np.array([x0, y0, x0 + side, y0 + side], np.float32)
        assert face is not None, "a detector recipe needs a face"
        if self.template is not None:
            # From centres at whole numbers to edges at whole numbers, as boxes have them.
            corners = similarity(face, self.template) @ [[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]] + 0.5
            grown = [*corners.min(1), *corners.max(1)]
        else:
            x, y, w, h = (float(value) for value in face)
            grow_x, grow_y = w * self.margin / 2, h * self.margin / 2
            grown = [x - grow_x, y - grow_y, x + w + grow_x, y + h + grow_y]
        return np.clip(grown, 0, [width, height, width, height]).astype(np.float32)


def recipe(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        UserError: the name is none; lists the forms.
    """
    if name == "whole":
        return Recipe(name, "image")
    if match := re.fullmatch(r"center-(\d+)", name):
        size = int(match[1])
        if 16 <= size <= 250:
            return Recipe(name, "image", fraction=size / 250)
    if match := re.fullmatch(r"(mtcnn-v1|given)-margin(\d+\.\d+)", name):
        margin = float(match[2])
        if margin <= 2:
            return Recipe(name, "mtcnn" if match[1] == "mtcnn-v1" else "given", margin=margin)
    if match := re.fullmatch(r"(given-)?(?:align5-(\d+)|dlib-chip-padding(\d+\.\d+))", name):
        side, padding = match[2], match[3]
        source = "given" if match[1] else "mtcnn"
        if side and 80 <= int(side) <= 200:
            return Recipe(name, source, template=align5(int(side)))
        if padding and float(padding) <= 1:
            return Recipe(name, source, template=dlib_chip(float(padding)))
    raise UserError(
        f"unknown recipe {name!r}; valid: whole, center-N (16 to 250), mtcnn-v1-marginM, given-marginM (M 0.0 to 2.0), "
        f"align5-N (80 to 200), dlib-chip-paddingP (P 0.0 to 1.0), as in {', '.join(RECIPES)}"
    )


def align5(side: int) -> Template:
    """Return the usual template in a square of `side` of its pixels around its middle."""
    return tuple(((x + 0.5 - 56) / side + 0.5, (y + 0.5 - 56) / side + 0.5) for x, y in ALIGN5)


def dlib_chip(padding: float) -> Template:
    """Return the template of dlib's chip, padded by a fraction of the face on each side."""
    return tuple(((x + padding) / (1 + 2 * padding), (y + padding) / (1 + 2 * padding)) for x, y in DLIB_CHIP)


def similarity(points: np.ndarray, template: Template) -> np.ndarray:
    """Return the similarity transform that takes five points onto a template by least squares, read backwards.

    Scale, rotation and shift minimise the squared distances in the template (Umeyama 1991,
    https://doi.org/10.1109/34.88573, without reflection; in the plane in closed form).

    Args:
        points: (10,) x0, y0, ..., x4, y4 in pixels of the photograph, whose centres lie at whole numbers.
        template: where they belong.

    Returns:
        float64 (2, 3): takes (x, y, 1) in the crop, its sides being 1, to x, y in pixels of the photograph.

    Raises:
        ImageError: the points coincide, are no finite numbers, or lie in another order than a face's.

    Example:
        >>> points = [10, 10, 20, 10, 15, 15, 10, 20, 20, 20]
        >>> similarity(points, ((0.25, 0.25), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.75, 0.75))).tolist()
        [[20.0, 0.0, 5.0], [-0.0, 20.0, 5.0]]
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        rows, apart, alike = least_squares([np.float64(value) for value in points], template)
    if not apart or not alike:
        raise ImageError(UNLIKE if apart else COINCIDE)
    return np.array(rows)


def least_squares(points: Sequence[Any], template: Template) -> tuple[tuple[tuple[Any, Any, Any], ...], Any, Any]:
    """Compute `similarity` of ten float64 scalars, of NumPy or of TensorFlow alike.

    Returns:
        The two rows of the transform; True where the points are finite and do not coincide; and True where they lie
        as a face's do.
    """
    centre_x, centre_y = sum(points[0::2]) / 5, sum(points[1::2]) / 5
    middle_x, middle_y = (sum(place[axis] for place in template) / 5 for axis in (0, 1))
    spread = wanted = real = imaginary = 0.0
    for x, y, (u, v) in zip(points[0::2], points[1::2], template, strict=True):
        x, y, u, v = x - centre_x, y - centre_y, u - middle_x, v - middle_y
        # As complex numbers: the transform multiplies with (real + i imaginary) / spread.
        spread, real, imaginary = spread + x * x + y * y, real + x * u + y * v, imaginary + x * v - y * u
        wanted += u * u + v * v
    length = real * real + imaginary * imaginary
    along, across = spread * real / length, spread * imaginary / length
    shift_x = centre_x - along * middle_x - across * middle_y
    shift_y = centre_y + across * middle_x - along * middle_y
    # A thousandth of a pixel is no distance.
    apart = (spread > 1e-6) & (spread < 1e18)
    return ((along, across, shift_x), (-across, along, shift_y)), apart, length > _ALIKE * wanted * spread


def upright(pixels: np.ndarray, transform: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn a photograph so that an aligned crop is a box of it; shows 0.3 of the crop's side more on each side.

    Args:
        pixels: uint8 (H, W, 3).
        transform: as `similarity` returns it.
        size: side of the crop that will be made of the result, which has up to twice its resolution.

    Returns:
        uint8 (L, L, 3), black outside of the photograph; and the crop's box, float32 (x0, y0, x1, y1).
    """
    side = int(np.clip(np.hypot(*transform[0, :2]), size, 2 * size))
    more = round(0.3 * side)
    whole = (side + 2 * more) / side
    # From fractions of the larger square to those of the crop.
    larger = transform @ [[whole, 0, (1 - whole) / 2], [0, whole, (1 - whole) / 2], [0, 0, 1]]
    turned = np.rint(warp_array(pixels, larger, side + 2 * more) * 255).astype(np.uint8)
    return turned, np.array([more, more, more + side, more + side], np.float32)


def warp(image: "tf.Tensor | np.ndarray", transform: "tf.Tensor | np.ndarray", size: int) -> "tf.Tensor":
    """Cut a turned square out of an image: bilinear, black outside of it.

    Where two or more pixels of the image fall into one of the result's, its pixels are first averaged in blocks of as
    many a side, counted from its corner.

    Args:
        image: tensor (H, W, 3), uint8 or float32 on a 0..255 scale.
        transform: tensor float64 (2, 3), as `similarity` returns it.
        size: side of the result.

    Returns:
        Tensor float32 (size, size, 3) in [0, 1].
    """
    import tensorflow as tf

    image, transform = tf.convert_to_tensor(image), tf.convert_to_tensor(transform, tf.float64)
    sides = tf.shape(image)[:2]
    scale = tf.sqrt(transform[0, 0] * transform[0, 0] + transform[0, 1] * transform[0, 1]) / size
    block = tf.cast(tf.clip_by_value(tf.floor(scale), 1, tf.cast(tf.reduce_max(sides), tf.float64)), tf.int32)
    shrink = tf.cast(block, tf.float64)
    steps = tf.constant((np.arange(size) + 0.5) / size)
    columns, rows = steps[None, :], steps[:, None]
    x = (transform[0, 0] * columns + transform[0, 1] * rows + transform[0, 2] + 0.5) / shrink - 0.5
    y = (transform[1, 0] * columns + transform[1, 1] * rows + transform[1, 2] + 0.5) / shrink - 0.5
    corner = tf.stack([tf.floor(y), tf.floor(x)])  # of the four neighbours, the first
    limits = tf.cast((sides + block - 1) // block, tf.float64)
    # Neighbours outside are looked up in a black frame of one pixel.
    first = tf.clip_by_value(tf.reduce_min(corner, (1, 2)), 0.0, limits)
    last = tf.clip_by_value(tf.reduce_max(corner, (1, 2)) + 2, first, limits)
    low, high = (tf.cast(edge, tf.int32) * block for edge in (first, last))
    touched = tf.cast(image[low[0] : high[0], low[1] : high[1]], tf.float32)
    framed = tf.pad(tf.cond(block > 1, lambda: _averaged(touched, block), lambda: touched), [(1, 1), (1, 1), (0, 0)])
    ends = (last - first)[:, None, None] + 1
    near = tf.cast(tf.clip_by_value(corner - first[:, None, None] + 1, 0.0, ends), tf.int32)
    far = tf.cast(tf.clip_by_value(corner - first[:, None, None] + 2, 0.0, ends), tf.int32)
    flat, width = tf.reshape(framed, (-1, 3)), tf.shape(framed)[1]
    down, right = (tf.cast(part, tf.float32)[:, :, None] for part in (y - corner[0], x - corner[1]))

    def row(place: tf.Tensor) -> tf.Tensor:
        left, beside = (tf.gather(flat, place * width + column[1]) for column in (near, far))
        return left * (1 - right) + beside * right

    pixels = row(near[0]) * (1 - down) + row(far[0]) * down
    return tf.clip_by_value(tf.ensure_shape(pixels, (size, size, 3)) / 255.0, 0.0, 1.0)


def _averaged(pixels: "tf.Tensor", block: "tf.Tensor") -> "tf.Tensor":
    """Average blocks; beyond the last pixel it is black."""
    import tensorflow as tf

    for _ in range(2):
        pixels = tf.transpose(tf.math.segment_sum(pixels, tf.range(tf.shape(pixels)[0]) // block), (1, 0, 2))
    return pixels / tf.cast(block * block, tf.float32)


def warp_array(image: np.ndarray, transform: np.ndarray, size: int) -> np.ndarray:
    """Warp as `warp` does, without TensorFlow: equal to a few float32 roundings.

    Args:
        image: (H, W, 3), uint8 or float32 on a 0..255 scale.
        transform: float64 (2, 3), as `similarity` returns it.
        size: side of the result.

    Returns:
        float32 (size, size, 3) in [0, 1].
    """
    scale = np.sqrt(transform[0, 0] * transform[0, 0] + transform[0, 1] * transform[0, 1]) / size
    block = int(np.clip(np.floor(scale), 1, max(image.shape[:2])))
    steps = (np.arange(size) + 0.5) / size
    columns, rows = steps[None, :], steps[:, None]
    x = (transform[0, 0] * columns + transform[0, 1] * rows + transform[0, 2] + 0.5) / block - 0.5
    y = (transform[1, 0] * columns + transform[1, 1] * rows + transform[1, 2] + 0.5) / block - 0.5
    corner = np.floor([y, x])
    limits = -(-np.array(image.shape[:2]) // block)
    first = np.clip(corner.min((1, 2)), 0, limits)
    last = np.clip(corner.max((1, 2)) + 2, first, limits)
    (top, left), (bottom, right) = (edge.astype(int) * block for edge in (first, last))
    touched = image[top:bottom, left:right].astype(np.float32)
    if block > 1:
        for axis in (0, 1):
            touched = np.add.reduceat(touched, np.arange(0, touched.shape[axis], block), axis)
        touched /= np.float32(block * block)
    framed = np.pad(touched, [(1, 1), (1, 1), (0, 0)])
    ends = (last - first)[:, None, None] + 1
    near, far = (np.clip(corner - first[:, None, None] + step, 0, ends).astype(int) for step in (1, 2))
    down, beside = (part.astype(np.float32)[:, :, None] for part in (y - corner[0], x - corner[1]))
    upper, lower = (
        framed[place, near[1]] * (1 - beside) + framed[place, far[1]] * beside for place in (near[0], far[0])
    )
    return np.clip((upper * (1 - down) + lower * down) / np.float32(255), 0, 1)

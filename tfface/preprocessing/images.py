"""One image space: crop recipes, resizing, crops of photographs.

Every reader sees RGB float32 in [0, 1]. One decoder (`tfface.preprocessing.decoding`) and one antialiased resize (a
triangle filter that crops and scales in a single step, as `tf.image.resize(antialias=True)`) serve all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfface.errors import ImageError, UserError
from tfface.preprocessing import mtcnn
from tfface.preprocessing.alignment import POINTS as POINTS
from tfface.preprocessing.alignment import RECIPES as RECIPES
from tfface.preprocessing.alignment import Recipe as Recipe
from tfface.preprocessing.alignment import least_squares as least_squares
from tfface.preprocessing.alignment import recipe as recipe
from tfface.preprocessing.alignment import upright as upright
from tfface.preprocessing.alignment import warp as warp
from tfface.preprocessing.alignment import warp_array
from tfface.preprocessing.decoding import decode as decode
from tfface.preprocessing.decoding import decoded
from tfface.preprocessing.decoding import encode_png as encode_png
from tfface.preprocessing.decoding import for_server as for_server
from tfface.utils.files import read_lines, split_lines, user_path

if TYPE_CHECKING:
    import tensorflow as tf

NO_FACE = "no face found in it"
Crop = tuple[np.ndarray, np.ndarray]
"""A crop, float32 (size, size, 3) in [0, 1], and its box (x0, y0, x1, y1) in pixels of the photograph."""
GivenFaces = Mapping[str, np.ndarray]
"""Faces by image, in pixels: boxes (x, y, width, height), or five points (x0, y0, ..., x4, y4)."""

NOT_GIVEN = "has no line in the file of faces"
BOX, FIVE_POINTS = "box", "points"
"""Ways to give a face."""
_COLUMNS = {
    BOX: ["x", "y", "width", "height"],
    FIVE_POINTS: [f"{axis}{number}" for number in range(5) for axis in "xy"],
}


def crop_resize(image: "tf.Tensor | np.ndarray", box: "tf.Tensor | np.ndarray", size: int) -> "tf.Tensor":
    """Cut a box out of an image and scale it to a square, antialiased.

    Pixels outside the box have no influence: for a box of whole pixels the result equals cutting
    first and `tf.image.resize(antialias=True)` after, as a reader on a phone does it.

    Args:
        image: tensor (H, W, 3), uint8 or float32 on a 0..255 scale.
        box: tensor float32 (4,): x0, y0, x1, y1, inside the image; fractions of a pixel count.
        size: side of the result.

    Returns:
        Tensor float32 (size, size, 3) in [0, 1].
    """
    import tensorflow as tf

    box = tf.convert_to_tensor(box, tf.float32)
    corner, extent = box[1::-1], tf.maximum(box[:1:-1] - box[1::-1], 1.0)
    image = tf.convert_to_tensor(image)
    first = tf.minimum(tf.cast(tf.floor(corner), tf.int32), tf.shape(image)[:2] - 1)
    last = tf.cast(tf.math.ceil(corner + extent), tf.int32)
    touched = image[first[0] : last[0], first[1] : last[1]]
    scale = tf.cast(size, tf.float32) / extent
    # Of bytes as they are: in float32 a photograph would take four times as much, for the same result to the bit.
    pixels = tf.raw_ops.ScaleAndTranslate(
        images=touched[None],
        size=[size, size],
        scale=scale,
        translation=(tf.cast(first, tf.float32) - corner) * scale,
        kernel_type="triangle",
        antialias=True,
    )[0]
    return tf.clip_by_value(tf.ensure_shape(pixels, (size, size, 3)) / 255.0, 0.0, 1.0)


def crop_array(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Crop as `crop_resize` does, without TensorFlow: equal to a few float32 roundings.

    Args:
        image: (H, W, 3), uint8 or float32 on a 0..255 scale.
        box: float32 (4,): x0, y0, x1, y1, inside the image; fractions of a pixel count.
        size: side of the result.

    Returns:
        float32 (size, size, 3) in [0, 1].
    """
    x0, y0, x1, y1 = (float(value) for value in np.asarray(box, np.float32))
    top, rows = _triangles(y0, y1, image.shape[0], size)
    left, columns = _triangles(x0, x1, image.shape[1], size)
    touched = image[top : top + rows.shape[1], left : left + columns.shape[1]].astype(np.float32)
    scaled = np.tensordot(columns, np.tensordot(rows, touched, 1), (1, 1)).transpose(1, 0, 2)
    return np.clip(scaled / np.float32(255), 0, 1)


def _triangles(start: float, stop: float, length: int, size: int) -> tuple[int, np.ndarray]:
    """Return the first pixel that a box touches on one axis, and the weight of each touched pixel in each new one.

    Returns:
        The pixel's index, and float32 (size, touched), whose rows sum to 1.
    """
    # In float32, as `crop_resize` has it: the last pixel touched hangs on how the sum is rounded.
    extent = max(float(np.float32(stop) - np.float32(start)), 1.0)
    first = min(int(np.floor(start)), length - 1)
    end = min(int(np.ceil(np.float32(start) + np.float32(extent))), length)
    centres = np.arange(first, end) + 0.5
    wanted = start + (np.arange(size) + 0.5) * extent / size
    # Enlarging interpolates between neighbours; reducing widens the triangle, so that no pixel is passed over.
    weights = np.maximum(0.0, 1 - np.abs(centres - wanted[:, None]) / max(extent / size, 1.0))
    # A box without extent on the image's edge is taken to be a pixel wide, which reaches out of the image: black.
    weights[wanted > end] = 0
    return first, (weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)).astype(np.float32)


def crop_photograph(
    data: bytes,
    recipe: Recipe,
    size: int,
    face: np.ndarray | None = None,
    *,
    tensorflow: bool = True,
) -> Crop:
    """Decode an image file and crop it.

    Args:
        data: an image file's bytes.
        recipe: crop recipe.
        size: side of the crop in pixels.
        face: (x, y, width, height) in pixels, for recipes that cut out a face; five points for aligned ones.
        tensorflow: False where it must not be imported.

    Raises:
        ImageError: the file cannot be read, or the five points coincide.
    """
    with decoded(data) as pixels:
        return _crop(pixels, recipe, size, face, tensorflow=tensorflow)


def crop_boxed(data: bytes, recipe: Recipe, size: int, face: np.ndarray | None = None) -> Crop:
    """Decode an image file and crop it without TensorFlow, at a face that is given where the recipe cuts out one.

    Raises:
        ImageError: the file cannot be read, or its face lies outside of it.
    """
    crop, box = crop_photograph(data, recipe, size, face, tensorflow=False)
    if box[2] <= box[0] or box[3] <= box[1]:
        raise ImageError(f"has a face {'at five points' if recipe.aligned else 'box'} that lies outside of it")
    return crop, box


@dataclass(frozen=True)
class FaceChoice:
    """The one of a photograph's faces that was taken.

    Attributes:
        number: its place from the left, the first being 1.
        count: how many faces the photograph shows.
    """

    number: int
    count: int


def crop_files(files: Sequence[bytes], recipe: Recipe, size: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Crop a few photographs outside any data set.

    Args:
        files: image files' bytes.
        recipe: crop recipe; `given` recipes have no boxes here.
        size: side of a crop in pixels.

    Returns:
        Crops float32 (N, size, size, 3) in [0, 1], and their boxes (x0, y0, x1, y1).

    Raises:
        ImageError: a file cannot be read, or has no face; the message begins with its position.
    """
    crops, boxes, _ = crop_faces(files, recipe, size)
    return crops, boxes


def crop_faces(
    files: Sequence[bytes], recipe: Recipe, size: int, face: Sequence[int] = ()
) -> tuple[np.ndarray, list[np.ndarray], list[FaceChoice]]:
    """Crop a few photographs, as `crop_files` does, at a face of each that may be chosen.

    Args:
        files: image files' bytes.
        recipe: crop recipe.
        size: side of a crop in pixels.
        face: number of the face from the left, of each photograph or one for all that show several; the main one of
            each if empty.

    Returns:
        Crops, boxes, and which faces were taken; none for recipes without a detector.

    Raises:
        ImageError: as `crop_files`; or there is no face of that number.
    """
    if recipe.source == "given":
        what = "points" if recipe.aligned else "boxes from a data set"
        raise UserError(f"recipe {recipe.name} takes {what}; choose another for single photographs")
    photographs = []
    for position, data in enumerate(files):
        try:
            photographs.append(decode(data))
        except ImageError as error:
            raise ImageError(f"{position}: {error}") from error
    places: list[np.ndarray | None] = [None] * len(files)
    choices = []
    if recipe.source == "mtcnn":
        wanted = list(face) if len(face) == len(files) else list(face or [0]) * len(files)
        for position, (pixels, faces) in enumerate(zip(photographs, mtcnn.detect(photographs), strict=True)):
            choice = _choose(faces, pixels, wanted[position], position)
            places[position] = faces.from_left(choice.number, points=recipe.aligned)
            choices.append(choice)
    cut = []
    for position, (pixels, place) in enumerate(zip(photographs, places, strict=True)):
        try:
            cut.append(_crop(pixels, recipe, size, place))
        except ImageError as error:
            raise ImageError(f"{position}: {error}") from error
    return np.stack([crop for crop, _ in cut]), [box for _, box in cut], choices


def given_faces(boxes: str | Path | None, points: str | Path | None) -> tuple[str | None, GivenFaces | None]:
    """Read the faces that are given with photographs.

    Args:
        boxes: CSV file `image,x,y,width,height`.
        points: CSV file `image,x0,y0,...,x4,y4`.

    Returns:
        `box` or `points`, and the faces; None and None where neither is given.

    Raises:
        UserError: both are given, or a file is refused (see `read_faces`).
    """
    if boxes and points:
        raise UserError("`boxes` and `points` are two ways to give a face: leave out one", parameter="points")
    for kind, path in ((BOX, boxes), (FIVE_POINTS, points)):
        if path:
            return kind, read_faces(user_path(path), kind)
    return None, None


def read_faces(path: Path, kind: str = BOX) -> GivenFaces:
    """Read a CSV file of boxes, `image,x,y,width,height`, or of five points, `image,x0,y0,...,x4,y4`, with that header.

    All are in pixels of the upright photograph. The points are left eye, right eye, nose, left and right mouth corner,
    left as the viewer sees it; a pixel's centre is at a whole number.

    Args:
        path: of the file.
        kind: `box` or `points`.

    Raises:
        UserError: the file cannot be read, or a line is none of these.
    """
    columns = _COLUMNS[kind]
    rows = split_lines(read_lines(path))
    if not rows or [cell.lower() for cell in rows[0][1]] != ["image", *columns]:
        raise UserError(f"{path} must begin with the line {','.join(['image', *columns])}")
    faces: dict[str, np.ndarray] = {}
    for number, row in rows[1:]:
        try:
            image, *values = row
            # A spreadsheet that separates cells by semicolons writes 1,5 for one and a half.
            face = np.array([value.replace(",", ".") for value in values], np.float64)
        except ValueError:
            face = np.zeros(0)
        good = face.shape == (len(columns),) and np.isfinite(face).all()
        if not good or (kind == BOX and face[2:].min() <= 0):
            names = ",".join(columns)
            raise UserError(f"{path}:{number} is not an image and {len(columns)} numbers {names}")
        if image in faces:
            raise UserError(f"{path}:{number} gives a second face for {image}: leave one")
        faces[image] = face
    return faces


def face_of(faces: GivenFaces | None, *names: str) -> np.ndarray | None:
    """Return the face under the first of the names that has one; None where no faces are given.

    Raises:
        ImageError: there are faces, but none for this image.
    """
    if faces is None:
        return None
    for name in names:
        if name in faces:
            return faces[name]
    raise ImageError(NOT_GIVEN)


def in_fractions(face: Sequence[float] | np.ndarray, image: bytes) -> list[float]:
    """Return a face in pixels as a SavedModel's signatures take it, the photograph's sides being 1.

    Returns:
        Of a box (x, y, width, height): y0, x0, y1, x1. Of five points: x0, y0, ..., x4, y4.

    Raises:
        ImageError: the photograph cannot be read here, so that its sides are not known.
    """
    height, width = decode(image).shape[:2]
    if len(face) > len(_COLUMNS[BOX]):
        return [float(value) / (width, height)[place % 2] for place, value in enumerate(face)]
    x, y, wide, high = (float(value) for value in face)
    return [y / height, x / width, (y + high) / height, (x + wide) / width]


def _crop(pixels: np.ndarray, recipe: Recipe, size: int, face: np.ndarray | None, *, tensorflow: bool = True) -> Crop:
    place, box = (find(pixels.shape[0], pixels.shape[1], face) for find in (recipe.place, recipe.box))
    if recipe.aligned:
        return warp_array(pixels, place, size), box
    return crop_resize(pixels, place, size).numpy() if tensorflow else crop_array(pixels, place, size), box


def _choose(faces: mtcnn.Faces, pixels: np.ndarray, wanted: int, position: int) -> FaceChoice:
    """Choose the wanted face, counted from the left; the main one for 0, the only one where there is but one."""
    main, count = mtcnn.choose_face(faces.boxes, *pixels.shape[:2]), len(faces)
    if main is None:
        raise ImageError(f"{position}: {NO_FACE}")
    if not wanted or count == 1:
        return FaceChoice(faces.order.index(main) + 1, count)
    if not 1 <= wanted <= count:
        raise ImageError(f"{position}: shows {count} faces, none of number {wanted}: give `face` from 1 to {count}")
    return FaceChoice(wanted, count)

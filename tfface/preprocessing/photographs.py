"""Crops of single photographs: decode, find the face, cut out, resize."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfface.errors import ImageError, UserError
from tfface.preprocessing import mtcnn
from tfface.preprocessing.images import Recipe, crop_array, crop_resize, decode

NO_FACE = "no face found in it"
Crop = tuple[np.ndarray, np.ndarray]
"""A crop, float32 (size, size, 3) in [0, 1], and its box (x0, y0, x1, y1) in pixels of the photograph."""
Boxes = Mapping[str, np.ndarray]
"""Face boxes (x, y, width, height) in pixels by image."""

NO_BOX = "has no box in the file of boxes"


def crop_photograph(
    data: bytes,
    recipe: Recipe,
    size: int,
    face: np.ndarray | None = None,
    *,
    resize: Callable[..., Any] = crop_resize,
) -> Crop:
    """Decode an image file and crop it.

    Args:
        data: an image file's bytes.
        recipe: crop recipe.
        size: side of the crop in pixels.
        face: (x, y, width, height) in pixels, for recipes that cut out a face.
        resize: `crop_resize`, or `crop_array` where TensorFlow must not be imported.

    Raises:
        ImageError: the file cannot be read.
    """
    return _crop(decode(data), recipe, size, face, resize)


def crop_boxed(data: bytes, recipe: Recipe, size: int, face: np.ndarray | None = None) -> Crop:
    """Decode an image file and crop it without TensorFlow, at a face box where the recipe cuts out a face.

    Raises:
        ImageError: the file cannot be read, or its face lies outside of it.
    """
    crop, box = crop_photograph(data, recipe, size, face, resize=crop_array)
    if box[2] <= box[0] or box[3] <= box[1]:
        raise ImageError("has a face box that lies outside of it")
    return crop, box


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
    if recipe.source == "given":
        raise UserError(f"recipe {recipe.name} takes boxes from a data set; choose another for single photographs")
    photographs = []
    for position, data in enumerate(files):
        try:
            photographs.append(decode(data))
        except ImageError as error:
            raise ImageError(f"{position}: {error}") from error
    faces = _main_faces(photographs) if recipe.source == "mtcnn" else [None] * len(photographs)
    cut = [_crop(pixels, recipe, size, face, crop_resize) for pixels, face in zip(photographs, faces, strict=True)]
    return np.stack([crop for crop, _ in cut]), [box for _, box in cut]


def read_boxes(path: Path) -> Boxes:
    """Read a CSV file `image,x,y,width,height`, with that header; pixels of the upright photograph.

    Raises:
        UserError: the file cannot be read, or a line is none of these.
    """
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not rows or [cell.strip() for cell in rows[0]] != ["image", "x", "y", "width", "height"]:
        raise UserError(f"{path} must begin with the line image,x,y,width,height")
    boxes = {}
    for number, row in enumerate(rows[1:], start=2):
        try:
            image, *values = row
            box = np.array(values, np.float64)
        except ValueError:
            box = np.zeros(0)
        if box.shape != (4,) or not np.isfinite(box).all() or box[2:].min() <= 0:
            raise UserError(f"{path}:{number} is not an image and four numbers x,y,width,height")
        boxes[image] = box
    return boxes


def box_of(boxes: Boxes | None, *names: str) -> np.ndarray | None:
    """Return the face box under the first of the names that has one; None where no boxes are given.

    Raises:
        ImageError: there are boxes, but none for this image.
    """
    if boxes is None:
        return None
    for name in names:
        if name in boxes:
            return boxes[name]
    raise ImageError(NO_BOX)


def in_fractions(box: Sequence[float] | np.ndarray, image: bytes) -> list[float]:
    """Return a face (x, y, width, height) in pixels as y0, x0, y1, x1, the photograph's sides being 1.

    Raises:
        ImageError: the photograph cannot be read here, so that its sides are not known.
    """
    height, width = decode(image).shape[:2]
    x, y, wide, high = (float(value) for value in box)
    return [y / height, x / width, (y + high) / height, (x + wide) / width]


def _crop(pixels: np.ndarray, recipe: Recipe, size: int, face: np.ndarray | None, resize: Callable[..., Any]) -> Crop:
    box = recipe.box(pixels.shape[0], pixels.shape[1], face)
    return np.asarray(resize(pixels, box, size)), box


def _main_faces(photographs: Sequence[np.ndarray]) -> list[np.ndarray | None]:
    faces: list[np.ndarray | None] = []
    for position, (pixels, found) in enumerate(zip(photographs, mtcnn.detect(photographs), strict=True)):
        chosen = mtcnn.choose_face(found.boxes, *pixels.shape[:2])
        if chosen is None:
            raise ImageError(f"{position}: {NO_FACE}")
        faces.append(found.boxes[chosen])
    return faces

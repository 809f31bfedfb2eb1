"""Crops of single photographs: decode, find the face, cut out, resize."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfface.errors import ImageError, UserError
from tfface.preprocessing import mtcnn
from tfface.preprocessing.images import Recipe, crop_resize, decode

NO_FACE = "no face found in it"
Crop = tuple[np.ndarray, np.ndarray]
"""A crop, float32 (size, size, 3) in [0, 1], and its box (x0, y0, x1, y1) in pixels of the photograph."""


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

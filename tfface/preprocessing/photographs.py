"""Crops of a few photographs outside any data set."""

from collections.abc import Sequence

import numpy as np

from tfface.errors import ImageError, UserError
from tfface.preprocessing import mtcnn
from tfface.preprocessing.images import Recipe, crop_resize, decode

NO_FACE = "no face found in it"


def crop_files(files: Sequence[bytes], recipe: Recipe, size: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Crops a few photographs outside any data set, for `verify`.

    Args:
        files: image files' bytes.
        recipe: how they are cropped; `given` has no boxes here.
        size: side of a crop.

    Returns:
        Crops float32 (N, size, size, 3) in [0, 1], and the boxes cut out (x0, y0, x1, y1).

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
    boxes = []
    found = mtcnn.detect(photographs) if recipe.source == "mtcnn" else [None] * len(photographs)
    for position, (pixels, faces) in enumerate(zip(photographs, found, strict=True)):
        face = None
        if faces is not None:
            chosen = mtcnn.choose_face(faces.boxes, *pixels.shape[:2])
            if chosen is None:
                raise ImageError(f"{position}: {NO_FACE}")
            face = faces.boxes[chosen]
        boxes.append(recipe.box(pixels.shape[0], pixels.shape[1], face))
    cut = [crop_resize(pixels, box, size).numpy() for pixels, box in zip(photographs, boxes, strict=True)]
    return np.stack(cut), boxes

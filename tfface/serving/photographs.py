"""Photographs as they are sent: files unchanged, face boxes in fractions of their sides."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfface.artifacts.photographs import NO_BOX, Boxes, in_fractions
from tfface.errors import ImageError

BATCH_BYTES = 2**25
"""A batch that is so large takes no further photograph."""


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph, as it is sent.

    Attributes:
        data: the file.
        box: of the face, (4,) y0, x0, y1, x1, the sides of the upright photograph being 1; None without.
    """

    data: bytes
    box: np.ndarray | None = None


def read(paths: Sequence[Path], boxes: Boxes | None = None) -> Iterator[Photograph | ImageError]:
    """Read photographs one by one; in place of one that cannot be sent, yield why.

    Args:
        paths: of the files.
        boxes: faces by path or file name, in pixels of the upright photograph; None: none are sent.
    """
    for path in paths:
        try:
            data = path.read_bytes()
            yield Photograph(data) if boxes is None else boxed(data, _box_of(path, boxes))
        except OSError as error:
            yield ImageError(f"cannot be read: {error.strerror}")
        except ImageError as error:
            yield error


def boxed(data: bytes, face: np.ndarray) -> Photograph:
    """Return a photograph with its face (x, y, width, height) in pixels.

    Raises:
        ImageError: it cannot be read here, so that its sides are not known.
    """
    return Photograph(data, np.array(in_fractions(face, data)))


Found = Photograph | ImageError


def batches(found: Iterable[Found], count: int) -> Iterator[list[tuple[int, Found]]]:
    """Group photographs, each with its place, by `count` and `BATCH_BYTES` at most; one alone may be larger."""
    batch: list[tuple[int, Found]] = []
    size = 0
    for place, photograph in enumerate(found):
        length = len(photograph.data) if isinstance(photograph, Photograph) else 0
        if batch and (len(batch) == count or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((place, photograph))
        size += length
    if batch:
        yield batch


def _box_of(path: Path, boxes: Boxes) -> np.ndarray:
    for name in (str(path), path.name):
        if name in boxes:
            return boxes[name]
    raise ImageError(NO_BOX)

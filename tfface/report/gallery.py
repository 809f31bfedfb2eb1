"""Galleries of pairs that a model gets wrong: both faces as the model sees them."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfface.data.crops import face_boxes
from tfface.data.dataset import FaceDataset
from tfface.errors import ImageError
from tfface.evaluation.mining import WrongPair
from tfface.preprocessing.images import Recipe, crop_resize, decode, encode_png
from tfface.utils.files import atomic_write

SHOWN = 24
"""Pairs in a gallery: more would be too many to look at."""
_COLUMNS = 4
_SIDE, _GAP, _LINE, _MARGIN = 150, 4, 17, 14
_TEXT = 3 * _LINE + 4
_INK, _GREY, _PAPER = (25, 25, 28), (110, 110, 118), (255, 255, 255)


def draw_gallery(
    target: Path, title: str, pairs: Sequence[WrongPair], dataset: FaceDataset, recipe: Recipe, size: int
) -> None:
    """Writes a PNG of pairs, worst first; of none it says so.

    Below each face stand its person and its file, below the pair its rank, its distance, and how
    far that lies on the wrong side of the threshold.

    Args:
        target: the PNG's path.
        title: one line above.
        pairs: of `dataset`, the worst first; the first `SHOWN` are drawn.
        dataset: whose images.
        recipe: how the model's input is cropped.
        size: side of that input, in pixels.
    """
    shown = list(pairs[:SHOWN])
    columns, rows = min(_COLUMNS, max(len(shown), 2)), -(-len(shown) // _COLUMNS)
    wide, high = 2 * _SIDE + _GAP + _MARGIN, _SIDE + _TEXT + _MARGIN
    picture = Image.new("RGB", (columns * wide + _MARGIN, 2 * _MARGIN + 22 + max(rows * high, 40)), _PAPER)
    pen = ImageDraw.Draw(picture)
    _write(pen, (_MARGIN, _MARGIN - 2), title, _INK, picture.width - 2 * _MARGIN, size=16)
    if not shown:
        _write(pen, (_MARGIN, _MARGIN + 30), "none: no pair is wrong in this way", _GREY, picture.width - 2 * _MARGIN)
    faces = crops_by_key(dataset, recipe, size, [key for pair in shown for key in (pair.first, pair.second)])
    for place, pair in enumerate(shown):
        row, column = divmod(place, _COLUMNS)
        _draw_pair(picture, pen, (_MARGIN + column * wide, _MARGIN + 30 + row * high), pair, faces)
    with atomic_write(target) as temporary:
        temporary.write_bytes(encode_png(np.asarray(picture)))


def crops_by_key(dataset: FaceDataset, recipe: Recipe, size: int, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Some photographs as the model sees them: uint8 RGB (size, size, 3) by key.

    Raises:
        ImageError: one cannot be read, or has no face where the recipe needs one.
    """
    boxes = face_boxes(dataset, recipe) if keys else None
    found = {}
    for key in dict.fromkeys(keys):
        pixels, face = decode(dataset.read(key)), boxes[dataset.position(key)] if boxes is not None else None
        if isinstance(face, str):
            raise ImageError(f"{key}: {face}")
        crop = crop_resize(pixels, recipe.box(pixels.shape[0], pixels.shape[1], face), size)
        found[key] = np.rint(crop.numpy() * 255).astype(np.uint8)
    return found


def _draw_pair(
    picture: Image.Image,
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    pair: WrongPair,
    faces: dict[str, np.ndarray],
) -> None:
    left, top = corner
    sides = ((pair.first, pair.first_person), (pair.second, pair.second_person))
    for place, (key, person) in enumerate(sides):
        x = left + place * (_SIDE + _GAP)
        picture.paste(Image.fromarray(faces[key]).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), (x, top))
        _write(pen, (x, top + _SIDE + 3), person, _INK, _SIDE)
        # Files of one person differ in their ends.
        _write(pen, (x, top + _SIDE + 3 + _LINE), key.removeprefix(f"{person}/"), _GREY, _SIDE, cut_start=True)
    line = f"{pair.rank}.  distance {pair.distance:.3f}, {pair.margin:.3f} beyond {pair.threshold:.3f}"
    _write(pen, (left, top + _SIDE + 3 + 2 * _LINE), line, _INK, 2 * _SIDE + _GAP)


def _write(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    colour: tuple[int, int, int],
    width: int,
    *,
    size: int = 12,
    cut_start: bool = False,
) -> None:
    """Draws a line of text, cut with an ellipsis at its end (or its start) where there is no room for it."""
    # The font that Matplotlib brings knows far more scripts than OpenCV's strokes do.
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
    line = " ".join(text.split())
    shown = line
    while line and pen.textlength(shown, font) > width:
        line = line[1:] if cut_start else line[:-1]
        shown = "…" + line if cut_start else line + "…"
    pen.text(corner, shown, colour, font)

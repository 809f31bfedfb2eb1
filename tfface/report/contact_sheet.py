"""A contact sheet: rows of faces with their changed copies, to look at."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfface.preprocessing.images import encode_png
from tfface.utils.files import atomic_write

_SIDE, _GAP, _LINE = 128, 6, 20
_INK, _PAPER = (25, 25, 28), (255, 255, 255)


def draw_contact_sheet(target: Path, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[np.ndarray]]]) -> None:
    """Writes a PNG with a row of images for each name.

    Args:
        target: the PNG's path.
        columns: what each column is, above it.
        rows: a name, above its row, and the images: float32 (H, W, 3) in [0, 1], one a column.
    """
    wide, high = _SIDE + _GAP, _SIDE + _LINE + _GAP
    picture = Image.new("RGB", (len(columns) * wide + _GAP, len(rows) * high + _LINE + _GAP), _PAPER)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), 12)
    for column, text in enumerate(columns):
        pen.text((_GAP + column * wide, 4), text, _INK, font)
    for row, (name, images) in enumerate(rows):
        top = _LINE + row * high
        pen.text((_GAP, top + 3), name, _INK, font)
        for column, image in enumerate(images):
            pixels = Image.fromarray(np.rint(image * 255).astype(np.uint8))
            shown = pixels.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            picture.paste(shown, (_GAP + column * wide, top + _LINE))
    with atomic_write(target) as temporary:
        temporary.write_bytes(encode_png(np.asarray(picture)))

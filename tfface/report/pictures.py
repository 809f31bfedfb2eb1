"""Pictures of faces: a verified pair, galleries of pairs, contact sheets. All are uint8 RGB arrays (H, W, 3)."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfface.preprocessing.decoding import decode, encode_png
from tfface.utils.files import OWN_PICTURE, atomic_write
from tfface.utils.public import drawable, font_file

SHOWN = 24
"""Pairs in a gallery at most."""
_COLUMNS = 4
_SIDE, _GAP, _LINE, _MARGIN = 150, 4, 17, 14
_TEXT = 3 * _LINE + 4
_INK, _GREY, _PAPER, _GREEN = (25, 25, 28), (110, 110, 118), (255, 255, 255), (60, 200, 90)
_HEIGHT = 320
_FONT = "DejaVu Sans"
_PNG_HEAD = 33  # bytes of the signature and of the first chunk
_SHEET_SIDE, _SHEET_GAP, _SHEET_LINE = 128, 6, 20


@dataclass(frozen=True)
class GalleryPair:
    """Two faces of a gallery with the text below them.

    Attributes:
        faces: two images uint8 RGB (H, W, 3).
        people: the person on each.
        files: the file name of each.
        line: text below the pair.
    """

    faces: Sequence[np.ndarray]
    people: Sequence[str]
    files: Sequence[str]
    line: str


def save_picture(picture: np.ndarray, target: Path) -> None:
    """Write uint8 RGB (H, W, 3) as a PNG file that says that it is no photograph."""
    data = encode_png(picture)
    size, mark = struct.pack(">I", len(OWN_PICTURE) - 4), struct.pack(">I", zlib.crc32(OWN_PICTURE))
    with atomic_write(target) as temporary:
        temporary.write_bytes(data[:_PNG_HEAD] + size + OWN_PICTURE + mark + data[_PNG_HEAD:])


def draw_photographs(photographs: Sequence[bytes], boxes: Sequence[np.ndarray], caption: str) -> np.ndarray:
    """Draw photographs side by side, each with its box, and a caption below.

    Args:
        photographs: image files' bytes.
        boxes: (x0, y0, x1, y1) in pixels of each.
        caption: one line.
    """
    panels = [_panel(decode(data), box) for data, box in zip(photographs, boxes, strict=True)]
    row = np.concatenate(panels, axis=1)
    strip = Image.new("RGB", (row.shape[1], 40), _PAPER)
    pen, room = ImageDraw.Draw(strip), row.shape[1] - 20
    size = next((size for size in range(16, 8, -1) if pen.textlength(caption, _font(size, _FONT)) <= room), 8)
    _write(pen, (10, 12), caption, _INK, room, size=size)
    return np.concatenate([row, np.asarray(strip)])


def draw_gallery(title: str, pairs: Sequence[GalleryPair]) -> np.ndarray:
    """Draw pairs of faces in the order given; of none the picture says so.

    Args:
        title: one line above.
        pairs: the first `SHOWN` are drawn.
    """
    shown = pairs[:SHOWN]
    columns, rows = min(_COLUMNS, max(len(shown), 2)), -(-len(shown) // _COLUMNS)
    wide, high = 2 * _SIDE + _GAP + _MARGIN, _SIDE + _TEXT + _MARGIN
    picture = Image.new("RGB", (columns * wide + _MARGIN, 2 * _MARGIN + 22 + max(rows * high, 40)), _PAPER)
    pen = ImageDraw.Draw(picture)
    _write(pen, (_MARGIN, _MARGIN - 2), title, _INK, picture.width - 2 * _MARGIN, size=16)
    if not shown:
        _write(pen, (_MARGIN, _MARGIN + 30), "none: no pair is wrong in this way", _GREY, picture.width - 2 * _MARGIN)
    for place, pair in enumerate(shown):
        row, column = divmod(place, _COLUMNS)
        _draw_pair(picture, pen, (_MARGIN + column * wide, _MARGIN + 30 + row * high), pair)
    return np.asarray(picture)


def draw_contact_sheet(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[np.ndarray]]]) -> np.ndarray:
    """Draw a row of images for each name.

    Args:
        columns: heading of each column.
        rows: a name, above its row, and the images: float32 (H, W, 3) in [0, 1], one a column.
    """
    wide, high = _SHEET_SIDE + _SHEET_GAP, _SHEET_SIDE + _SHEET_LINE + _SHEET_GAP
    size = (len(columns) * wide + _SHEET_GAP, len(rows) * high + _SHEET_LINE + _SHEET_GAP)
    picture = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(picture)
    for column, text in enumerate(columns):
        _write(pen, (_SHEET_GAP + column * wide, 4), text, _INK, wide - _SHEET_GAP)
    for row, (name, images) in enumerate(rows):
        top = _SHEET_LINE + row * high
        _write(pen, (_SHEET_GAP, top + 3), name, _INK, picture.width - 2 * _SHEET_GAP)
        for column, image in enumerate(images):
            pixels = Image.fromarray(np.rint(image * 255).astype(np.uint8))
            face = pixels.resize((_SHEET_SIDE, _SHEET_SIDE), Image.Resampling.LANCZOS)
            picture.paste(face, (_SHEET_GAP + column * wide, top + _SHEET_LINE))
    return np.asarray(picture)


def _panel(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    scale = _HEIGHT / pixels.shape[0]
    shown = cv2.resize(pixels, (max(round(pixels.shape[1] * scale), 1), _HEIGHT), interpolation=cv2.INTER_AREA)
    x0, y0, x1, y1 = (round(float(value) * scale) for value in box)
    cv2.rectangle(shown, (x0, y0), (x1 - 1, y1 - 1), _GREEN, 2)
    return cv2.copyMakeBorder(shown, 6, 6, 6, 6, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def _draw_pair(picture: Image.Image, pen: ImageDraw.ImageDraw, corner: tuple[int, int], pair: GalleryPair) -> None:
    left, top = corner
    for place, (face, person, file) in enumerate(zip(pair.faces, pair.people, pair.files, strict=True)):
        x = left + place * (_SIDE + _GAP)
        picture.paste(Image.fromarray(face).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), (x, top))
        _write(pen, (x, top + _SIDE + 3), person, _INK, _SIDE)
        # Files of one person differ in their ends.
        _write(pen, (x, top + _SIDE + 3 + _LINE), file, _GREY, _SIDE, cut_start=True)
    _write(pen, (left, top + _SIDE + 3 + 2 * _LINE), pair.line, _INK, 2 * _SIDE + _GAP)


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
    """Draw a line of text, cut with an ellipsis at its end (or its start) where there is no room for it."""
    line, fonts = drawable(" ".join(text.split()))
    # One font draws a line: the one of the script that the other lacks has Latin letters too.
    font = _font(size, fonts[-1])
    shown = line
    while line and pen.textlength(shown, font) > width:
        line = line[1:] if cut_start else line[:-1]
        shown = "…" + line if cut_start else line + "…"
    pen.text(corner, shown, colour, font)


def _font(size: int, name: str) -> ImageFont.FreeTypeFont:
    # Matplotlib's fonts know far more scripts than OpenCV's strokes do.
    return ImageFont.truetype(str(font_file(name)), size)

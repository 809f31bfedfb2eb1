"""Pictures of faces: photographs with the boxes that were cut out of them."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tfface.preprocessing.images import decode, encode_png
from tfface.utils.files import atomic_write

_HEIGHT = 320
_GREEN = (60, 200, 90)


def draw_pair(target: Path, photographs: Sequence[Path], boxes: Sequence[np.ndarray], caption: str) -> None:
    """Writes a PNG of photographs side by side, each with its box, and a caption below.

    Args:
        target: the PNG's path.
        photographs: image files.
        boxes: (x0, y0, x1, y1) in pixels of each.
        caption: one line.
    """
    panels = [_panel(decode(path.read_bytes()), box) for path, box in zip(photographs, boxes, strict=True)]
    row = np.concatenate(panels, axis=1)
    font, width = cv2.FONT_HERSHEY_SIMPLEX, row.shape[1]
    size = min(0.6, 0.6 * width / max(cv2.getTextSize(caption, font, 0.6, 1)[0][0] + 20, 1))
    strip = np.full((40, width, 3), 255, np.uint8)
    cv2.putText(strip, caption, (10, 26), font, size, (20, 20, 20), 1, cv2.LINE_AA)
    with atomic_write(target) as temporary:
        temporary.write_bytes(encode_png(np.concatenate([row, strip])))


def _panel(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    scale = _HEIGHT / pixels.shape[0]
    shown = cv2.resize(pixels, (max(round(pixels.shape[1] * scale), 1), _HEIGHT), interpolation=cv2.INTER_AREA)
    x0, y0, x1, y1 = (round(float(value) * scale) for value in box)
    cv2.rectangle(shown, (x0, y0), (x1 - 1, y1 - 1), _GREEN, 2)
    return cv2.copyMakeBorder(shown, 6, 6, 6, 6, cv2.BORDER_CONSTANT, value=(255, 255, 255))

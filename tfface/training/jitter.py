"""Small changes to a view that cost nothing: the student sees them, the teacher's answer stays that to the view.

A bank holds few views of each photograph, since each costs an answer of the teacher, and a student
of many epochs learns them by heart. Here each is changed anew at every epoch. The teacher hardly
sees it: FaceNet standardises each image, so light and contrast are nothing to it but where they
clip, and its embedding of a mirrored or slightly moved face is nearly the same.
"""

import cv2
import numpy as np

_LIGHT = 2.0
"""How many times as much contrast and brightness change as positions do."""


def jittered(views: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    """Changes each view of a batch: mirrored or not, moved, turned, scaled, lit.

    Args:
        views: uint8 (N, S, S, 3).
        amount: how far, each way: moved by this share of the side, turned by as many radians, scaled by 1 plus as
            much; brightness and contrast by twice as much.
        random: where the changes are drawn from.

    Returns:
        uint8 (N, S, S, 3).
    """
    changed = np.empty_like(views)
    mirrored = random.random(len(views)) < 0.5
    draws = amount * random.uniform(-1, 1, (len(views), 6))
    levels = np.arange(256, dtype=np.float32)
    for view, mirror, draw, target in zip(views, mirrored, draws, changed, strict=True):
        gain, added = 1 + _LIGHT * draw[4], 255 * _LIGHT * draw[5]
        light = np.clip(np.rint((levels - 127.5) * gain + 127.5 + added), 0, 255).astype(np.uint8)
        matrix = _matrix(len(view), mirror=bool(mirror), move=draw[:2], turn=draw[2], scale=1 + draw[3])
        moved = cv2.warpAffine(
            view, matrix, view.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        target[:] = cv2.LUT(moved, light)
    return changed


def _matrix(side: int, *, mirror: bool, move: np.ndarray, turn: float, scale: float) -> np.ndarray:
    """(2, 3), around the middle of a square view; `move` in shares of its side."""
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    linear = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([-1.0 if mirror else 1.0, 1.0])
    middle = np.full(2, (side - 1) / 2)
    return np.column_stack([linear, middle - linear @ middle + side * move])

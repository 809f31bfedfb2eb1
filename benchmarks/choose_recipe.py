"""Chooses a model's crop recipe on LFW's View 1 (never on View 2).

    TFFACE_LFW=DIR PYTHONPATH=. python benchmarks/choose_recipe.py [--model NAME] [--recipe NAME ...] [--flip]

For each candidate: balanced accuracy of View 1's 2,200 training pairs in ten folds (by pair), and
of its 1,000 test pairs at the training list's threshold. Candidates are ranked by all 3,200 pairs
in ten folds, since single folds of 100 cannot tell them apart. Faces are those found in all of LFW. The last line is
one JSON object.
"""

import argparse
import json

import numpy as np

from tfface.data.crops import Crops
from tfface.evaluation.embeddings import BATCH, embed_images
from tfface.evaluation.inputs import Embedder, FaceDataset, load_dataset, recipe
from tfface.metrics.distances import cosine_distance
from tfface.metrics.roc import ErrorCurve, kfold
from tfface.models._embedder import load_embedder

CANDIDATES = (
    "whole",
    "center-140",
    "mtcnn-v1-margin0.10",
    "mtcnn-v1-margin0.15",
    "mtcnn-v1-margin0.20",
    "mtcnn-v1-margin0.25",
    "mtcnn-v1-margin0.30",
    "mtcnn-v1-margin0.35",
    "mtcnn-v1-margin0.40",
    "align5-88",
    "align5-96",
    "align5-104",
    "align5-112",
    "align5-120",
    "align5-128",
    "dlib-chip-padding0.25",
)


def embedded(
    dataset: FaceDataset, indices: np.ndarray, embedder: Embedder, name: str, *, flip: bool
) -> tuple[np.ndarray, int]:
    """Embeddings of some photographs, and how many could not be cropped."""
    crops, vectors, failed = Crops(dataset, recipe(name), embedder.preset.input_size), [], 0
    for start in range(0, len(indices), BATCH):
        images, reasons = crops(indices[start : start + BATCH])
        vectors.append(embed_images(embedder, images, flip=flip))
        failed += sum(map(bool, reasons))
    return np.concatenate(vectors), failed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="facenet/msceleb")
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--recipe", action="append")
    options = parser.parse_args()
    embedder = load_embedder(options.model)
    lfw = load_dataset("lfw")
    lists = [lfw.pairs("view1-train"), lfw.pairs("view1-test")]
    first, second = (np.concatenate([getattr(part, side) for part in lists]) for side in ("first", "second"))
    same = np.concatenate([part.same for part in lists])
    used = np.unique(np.concatenate([first, second]))
    first, second = np.searchsorted(used, first), np.searchsorted(used, second)
    # Ten folds that mix genuine and impostor pairs evenly, the same for every candidate.
    fold = np.empty(len(same), int)
    for kind in (same, ~same):
        fold[kind] = np.random.default_rng(0).permutation(np.arange(kind.sum()) % 10)
    results = {}
    for name in options.recipe or CANDIDATES:
        vectors, failed = embedded(lfw, used, embedder, name, flip=options.flip)
        distances = cosine_distance(vectors[first], vectors[second])
        folds = kfold(distances, same, fold)
        curve = ErrorCurve.from_scores(distances, same)
        results[name] = {
            "accuracy": folds.mean,
            "standard_error": folds.standard_error,
            "eer": curve.eer()[0],
            "tar_at_far_0.01": curve.tar_at_far(0.01),
            "tar_at_far_0.002": curve.tar_at_far(0.002),
            "failed": failed,
        }
        print(
            f"{name:24s} {100 * folds.mean:.2f}% +- {100 * folds.standard_error:.2f}  EER {100 * curve.eer()[0]:.2f}%  "
            f"TAR at 1% {100 * curve.tar_at_far(0.01):.2f}%, at 0.2% {100 * curve.tar_at_far(0.002):.2f}%  "
            f"failed {failed}",
            flush=True,
        )
    print(json.dumps(results))


if __name__ == "__main__":
    main()

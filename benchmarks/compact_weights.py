"""Measures a preset's weights stored as int8: size, cosine to the float embeddings, accuracy on LFW View 2.

    TFFACE_LFW=DIR PYTHONPATH=. python benchmarks/compact_weights.py [--model resnet50/lfw-distilled] [--all-folds]

Large kernels are int8 with a scale for each output channel (`tfface.models._h5.save`). Every photograph of the chosen
folds (9 and 10, which presets trained here have not seen) and of five_faces goes through both networks. The last line
is one JSON object.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tfface.data.catalogue import load_dataset
from tfface.data.crops import crop_stream, main_faces
from tfface.data.dataset import FaceDataset
from tfface.evaluation.embeddings import Embeddings
from tfface.evaluation.scoring import evaluate_embeddings
from tfface.models import _h5
from tfface.models._embedder import Embedder, load_embedder, load_file, locate
from tfface.preprocessing.images import recipe
from tfface.training.comparison import heldout_metrics
from tfface.training.split import split_people
from tfface.utils import registry

BATCH = 64


def trained_network(name: str) -> Any:
    """Return the network of a preset as it was trained, which for DeepFace has fewer weights than the embedder's."""
    preset, file = locate(name)
    module = registry.load("models", preset.architecture)
    if not hasattr(module, "trained"):
        return load_embedder(name).model
    network = module.trained(preset)
    _h5.fill(network, file.path)
    return network


def embeddings_of(dataset: FaceDataset, indices: np.ndarray, embedders: list[Embedder]) -> list[Embeddings]:
    """Embed some photographs with several embedders of one input; the others of the data set count as failed."""
    preset = embedders[0].preset
    chosen = recipe(preset.recipe)
    faces = main_faces(dataset, chosen)
    crops = crop_stream(
        dataset.take(indices, "compared"),
        chosen,
        preset.input_size,
        faces=None if faces is None else [faces[index] for index in indices],
    )
    found = [np.zeros((len(dataset), preset.embedding_size), np.float32) for _ in embedders]
    ok = np.zeros(len(dataset), bool)
    place = 0
    for images, reasons in crops.batch(BATCH).as_numpy_iterator():
        rows = indices[place : place + len(images)]
        place += len(images)
        good = np.array([not reason for reason in reasons])
        ok[rows[good]] = True
        for vectors, embedder in zip(found, embedders, strict=True):
            vectors[rows[good]] = embedder.embed(images)[good]
    return [Embeddings(vectors, ok, []) for vectors in found]


def accuracies(dataset: FaceDataset, embedders: list[Embedder], all_folds: bool) -> tuple[list[float], np.ndarray]:
    """Return each embedder's calibrated accuracy, and the cosines between the first two's embeddings."""
    split = split_people(dataset)
    pairs = dataset.pairs("view2") if all_folds else split.heldout_pairs
    assert pairs is not None
    found = embeddings_of(dataset, np.unique([pairs.first, pairs.second]), embedders)
    values = []
    for embedder, embeddings in zip(embedders, found, strict=True):
        preset = embedder.preset
        metrics: dict[str, Any] = (
            evaluate_embeddings(dataset, embeddings, preset, pairs=pairs).metrics
            if all_folds
            else heldout_metrics(dataset, embeddings, preset, split, seed=0)
        )
        values.append(metrics["calibrated"]["accuracy"])
    return values, cosines(found)


def cosines(found: list[Embeddings]) -> np.ndarray:
    """Return the cosines between two embedders' embeddings of the same photographs."""
    return (found[0].vectors * found[1].vectors).sum(axis=1)[found[0].ok]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="resnet50/lfw-distilled")
    parser.add_argument("--all-folds", action="store_true")
    options = parser.parse_args()
    embedder = load_embedder(options.model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "compact.weights.h5")
        _h5.save(trained_network(options.model), path, compact=True)
        size = path.stat().st_size
        compact = load_file(embedder.preset, path)
        compact.open()
    both = [embedder, compact]
    five = load_dataset("five_faces")
    near = cosines(embeddings_of(five, np.arange(len(five)), both))
    result: dict[str, Any] = {"preset": embedder.preset.name, "megabytes": size / 1e6}
    result["five_faces"] = {"photographs": len(near), "least_cosine": float(near.min())}
    print(f"{embedder.preset.name}: {size / 1e6:.2f} MB")
    print(f"five_faces: {len(near)} photographs, least cosine {near.min():.5f}")
    if manual_dir := os.environ.get("TFFACE_LFW"):
        values, near = accuracies(load_dataset("lfw", manual_dir=manual_dir), both, options.all_folds)
        folds = "all folds" if options.all_folds else "folds 9 and 10"
        result["lfw"] = {
            "folds": folds,
            "photographs": len(near),
            "least_cosine": float(near.min()),
            "mean_cosine": float(near.mean()),
            "accuracy": values[0],
            "accuracy_compact": values[1],
        }
        print(f"LFW View 2, {folds}: {len(near)} photographs, least cosine {near.min():.5f}, mean {near.mean():.6f}")
        print(f"accuracy: float {values[0]:.2%}, compact {values[1]:.2%}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

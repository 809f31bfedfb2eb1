"""What an artifact is worth: its answers beside the Keras model's, on the same photographs."""

from pathlib import Path
from typing import Any

import numpy as np

from tfface.artifacts import golden
from tfface.artifacts.artifact import Artifact
from tfface.data.dataset import FaceDataset
from tfface.evaluation.embeddings import Embeddings, embed_dataset
from tfface.evaluation.scoring import evaluate_embeddings
from tfface.models._embedder import Embedder
from tfface.preprocessing.images import Recipe

Metrics = dict[str, Any]


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of each row with the other's, float64 (N,)."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / np.maximum(norms, 1e-12)


def judge(
    embedder: Embedder, dataset: FaceDataset, cut: Recipe, *, protocol: str, seed: int = 0
) -> tuple[Embeddings, Metrics]:
    """Embeds a data set and evaluates it; embeddings come from the cache where they were made before.

    Returns:
        The embeddings, and an `evaluate` object that also names data set and recipe.
    """
    embeddings = embed_dataset(dataset, embedder, cut)
    metrics = evaluate_embeddings(dataset, embeddings, embedder.preset, protocol=protocol, seed=seed).metrics
    return embeddings, {
        "dataset": dataset.name,
        "dataset_version": dataset.version,
        "recipe": cut.name,
        **metrics,
    }


def entry(
    artifact: Artifact,
    out: Path,
    *,
    ms: float,
    peak_megabytes: float,
    found: np.ndarray,
    keras: np.ndarray,
    evaluation: Metrics | None = None,
    keras_evaluation: Metrics | None = None,
) -> Metrics:
    """An artifact's entry in `metrics.json`.

    Args:
        artifact: which.
        out: the folder that paths are given from.
        ms: of one image.
        peak_megabytes: of a process that embeds one image.
        found: its embeddings (N, D).
        keras: the Keras model's of the same photographs (N, D).
        evaluation: through it; None where it was not evaluated.
        keras_evaluation: of the Keras model.
    """
    near = cosines(found, keras)
    return {
        "path": artifact.path.relative_to(out).as_posix(),
        "format": artifact.format,
        "quantization": artifact.quantization,
        "sha256": artifact.sha256,
        "bytes": artifact.bytes,
        "ms": ms,
        "peak_megabytes": peak_megabytes,
        "embedding_cosine_min": float(near.min()),
        "embedding_cosine_mean": float(near.mean()),
        "embeddings_compared": len(near),
        "threshold_shift": _shift(evaluation, keras_evaluation),
        "evaluate": evaluation,
    }


def golden_pair(artifact: Artifact, embedder: Embedder) -> tuple[np.ndarray, np.ndarray]:
    """The golden vectors of drawn crops and the Keras model's of the same: (N, D) each."""
    path = artifact.path.parent / "golden.json"
    return golden.vectors_of(path), embedder.embed(golden.crops_of(path))


def _shift(found: Metrics | None, keras: Metrics | None) -> float | None:
    """How far the calibrated threshold moved."""
    if not found or not keras or not found["calibrated"] or not keras["calibrated"]:
        return None
    return found["calibrated"]["threshold"] - keras["calibrated"]["threshold"]

"""Comparison of a student with its teacher: held-out accuracy, the paper's misses, speed."""

import dataclasses
import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfface.evaluation.embeddings import Embeddings, embed_dataset
from tfface.evaluation.inputs import Embedder, FaceDataset, Pairs, Preset, Recipe
from tfface.evaluation.protocols import PairListScores
from tfface.evaluation.scoring import evaluate_embeddings
from tfface.metrics import intervals
from tfface.metrics.all_pairs import all_pairs
from tfface.metrics.distances import euclidean_distance, from_cosine, to_cosine
from tfface.metrics.pair_tiles import BINS_PER_UNIT
from tfface.metrics.roc import ErrorCurve
from tfface.training.split import Split

logger = logging.getLogger(__name__)

MISS = 1.3
"""Euclidean distance from which the paper counts a genuine pair as missed."""
SPEED_BATCH = 64

Metrics = dict[str, Any]


def compare(
    dataset: FaceDataset, student: Embedder, teacher: Embedder, recipe: Recipe, split: Split, *, seed: int
) -> Metrics:
    """Measure student and teacher: held-out people, the paper's misses, and speed.

    Reads the held-out people: for a release alone.

    Args:
        dataset: the photographs.
        student: trained.
        teacher: of the student.
        recipe: of the crops.
        split: that the student was trained with.
        seed: random seed.
    """
    ours = embed_dataset(dataset, student, recipe)
    theirs = embed_dataset(dataset, teacher, recipe)
    rows = first_two(dataset, ours.ok & theirs.ok)
    unseen = first_two(dataset, ours.ok & theirs.ok, split.people(dataset, "heldout"))
    logger.warning("measuring speed, student and teacher by turns")
    student_speed, teacher_speed = speeds(student, teacher)
    return {
        "speedup": student_speed / teacher_speed,
        "images_per_second": {
            "student": student_speed,
            "teacher": teacher_speed,
            "batch": SPEED_BATCH,
            "runtime": "keras on tensorflow",
        },
        "heldout": heldout_metrics(dataset, ours, student.preset, split, seed=seed),
        "heldout_teacher": heldout_metrics(dataset, theirs, teacher.preset, split, seed=seed),
        "misses": {"all": misses(ours.vectors, rows), "heldout": misses(ours.vectors, unseen)},
        "misses_teacher": {"all": misses(theirs.vectors, rows), "heldout": misses(theirs.vectors, unseen)},
    }


def heldout_metrics(
    dataset: FaceDataset, embeddings: Embeddings, preset: Preset, split: Split, *, seed: int
) -> Metrics:
    """Evaluate the held-out people, as `evaluate` does: on LFW's pairs of two folds, otherwise on all pairs.

    The calibrated threshold of one fold (half of the people) is applied to the other, and the two
    accuracies averaged, with a 95% interval by identity.
    """
    if split.heldout_pairs is None:
        taken = dataset.take(split.heldout, "heldout")
        return evaluate_embeddings(
            taken, take(embeddings, split.heldout, dataset), preset, protocol="all-pairs", seed=seed
        ).metrics
    pairs = split.heldout_pairs
    # As one list, so that intervals are by identity; over two folds a t interval would say nothing.
    one = dataclasses.replace(pairs, fold=np.zeros_like(pairs.fold))
    metrics = evaluate_embeddings(dataset, embeddings, preset, pairs=one, seed=seed).metrics
    return {**metrics, "calibrated": _across_folds(dataset, embeddings, preset.metric, pairs)}


def take(embeddings: Embeddings, indices: np.ndarray, dataset: FaceDataset) -> Embeddings:
    """Take the embeddings of some of a data set's photographs."""
    kept = {dataset.keys[index] for index in indices}
    return Embeddings(
        embeddings.vectors[indices],
        embeddings.ok[indices],
        [(key, reason) for key, reason in embeddings.failed if key in kept],
    )


def _across_folds(dataset: FaceDataset, embeddings: Embeddings, metric: str, pairs: Pairs) -> Metrics:
    people = np.unique(np.array(dataset.identities), return_inverse=True)[1]
    judged = PairListScores.of(dataset, embeddings, people, metric, "pairs", pairs).scored
    folds = [judged.where(judged.fold == fold) for fold in np.unique(judged.fold)]
    best = [ErrorCurve.from_scores(fold.distance, fold.same).best_threshold() for fold in folds]
    # Two folds: each is judged at the other's threshold.
    parts = [intervals.balanced_accuracy(fold.errors(limit)) for fold, limit in zip(folds, reversed(best), strict=True)]
    known = [part for part in parts if part is not None]
    estimate = intervals.mean_of(known)
    return {
        "threshold": float(np.mean([from_cosine(limit, metric) for limit in best])),
        "threshold_source": "each fold from the other",
        "accuracy": estimate.value,
        "std": float(np.std([part.value for part in known], ddof=1)),
        "ci95": estimate.ci95,
        "folds": [part.value for part in known],
    }


def first_two(dataset: FaceDataset, ok: np.ndarray, people: set[str] | None = None) -> np.ndarray:
    """Find the first two photographs of everyone with two or more that could be embedded.

    Args:
        dataset: the people.
        ok: (N,) bool, True for photographs that could be embedded.
        people: only these.

    Returns:
        (P, 2) indices.
    """
    rows: dict[str, list[int]] = {}
    for index, identity in enumerate(dataset.identities):
        if ok[index] and (people is None or identity in people):
            rows.setdefault(identity, []).append(index)
    return np.array([own[:2] for own in rows.values() if len(own) > 1], int).reshape(-1, 2)


def misses(vectors: np.ndarray, rows: np.ndarray) -> Metrics:
    """Measure the paper's figures over pairs of first two photographs; distances are Euclidean.

    Impostor pairs are those of the first photographs of different people.

    Args:
        vectors: (N, D) unit vectors.
        rows: (P, 2), as `first_two` gives them; P at least 2.
    """
    genuine = euclidean_distance(vectors[rows[:, 0]], vectors[rows[:, 1]])
    impostor = all_pairs(vectors[rows[:, 0]], np.arange(len(rows)), seed=0).total.impostor
    missed = int((genuine >= MISS).sum())
    return {
        "people": len(rows),
        "misses": missed,
        "rate": missed / len(rows),
        "rate_ci95": intervals.wilson(missed, len(rows)).ci95,
        "threshold": MISS,
        "genuine": {"count": len(genuine), "mean": float(genuine.mean()), "variance": float(genuine.var())},
        "impostor": {
            "count": impostor.count,
            "mean": impostor.mean("euclidean"),
            "variance": impostor.variance("euclidean"),
            "share_nearer": _share_within(impostor.tally.histogram, MISS),
        },
    }


def _share_within(histogram: np.ndarray, euclidean: float) -> float:
    """Return the share of pairs up to a Euclidean distance, to a bin of 1/8192 of the cosine's."""
    last = int(to_cosine(euclidean, "euclidean") * BINS_PER_UNIT)
    return float(histogram[: last + 1].sum() / histogram.sum())


def speeds(first: Embedder, second: Embedder, *, turns: int = 7) -> tuple[float, float]:
    """Measure images a second of two embedders: same runtime, same batch of 64, same run, by turns; medians."""
    runs = [_prepared(embedder) for embedder in (first, second)]
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for run, found in zip(runs, seconds, strict=True):
            found.append(run())
    return SPEED_BATCH / statistics.median(seconds[0]), SPEED_BATCH / statistics.median(seconds[1])


def _prepared(embedder: Embedder) -> Callable[[], float]:
    import tensorflow as tf

    size = embedder.preset.input_size
    images = tf.constant(np.random.default_rng(0).random((SPEED_BATCH, size, size, 3), np.float32))
    embedder.embed(images)

    def run() -> float:
        start = time.perf_counter()
        repeats = 0
        # A fast network for long enough that the clock and a busy machine do not matter.
        while repeats < 1 or time.perf_counter() - start < 0.5:
            embedder.embed(images)
            repeats += 1
        return (time.perf_counter() - start) / repeats

    return run

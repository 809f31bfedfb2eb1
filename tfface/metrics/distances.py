"""Distances of unit vectors, in the metrics that thresholds are given in."""

from typing import TypeVar

import numpy as np

from tfface.errors import UserError

METRICS = ("cosine", "euclidean")

T = TypeVar("T")


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale each row of (N, D) to length 1, in its own type; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.asarray(1e-12, lengths.dtype))


def cosine_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return 1 minus the inner product of each row of `a` with that of `b`, in [0, 2].

    Args:
        a: (N, D) unit vectors.
        b: (N, D) unit vectors.

    Returns:
        (N,) float64.
    """
    return np.clip(1 - np.vecdot(a.astype(np.float64), b.astype(np.float64)), 0, 2)


def euclidean_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the length of the difference of each row of `a` and that of `b`: sqrt(2 x cosine distance)."""
    return np.linalg.norm(a.astype(np.float64) - b.astype(np.float64), axis=1)


def from_cosine(distance: T, metric: str) -> T:
    """Convert cosine distances or thresholds, an array or a number, to another metric."""
    return distance if checked_metric(metric) == "cosine" else np.sqrt(2 * distance)  # type: ignore[operator]


def to_cosine(threshold: float, metric: str) -> float:
    """Convert a metric's threshold to one on the cosine distance.

    Rounded to 13 digits: that gives back the exact edges of the bins (multiples of 2**-13) after the
    detour over a square root, and is far below what float32 scores tell apart.
    """
    return threshold if checked_metric(metric) == "cosine" else round(threshold * threshold / 2, 13)


def checked_metric(metric: str) -> str:
    """Return the metric's name, if there is such a metric.

    Raises:
        UserError: there is none of that name.
    """
    if metric not in METRICS:
        raise UserError(f"unknown metric {metric!r}; valid: {', '.join(METRICS)}")
    return metric

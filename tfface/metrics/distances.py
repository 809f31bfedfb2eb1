"""Distances of unit vectors, in the metrics that thresholds are given in."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from tfface.errors import UserError

logger = logging.getLogger(__name__)

METRICS = ("cosine", "euclidean")
FARTHEST = 2
"""Distance of opposite unit vectors, in either metric."""

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


@dataclass(frozen=True)
class FarThreshold:
    """A threshold measured at a false accept rate (`tfface.calibrate`).

    Attributes:
        far: the false accept rate.
        threshold: distance in the preset's metric; pairs up to it match.
        low: lower end of its 95% interval.
        high: upper end.
        impostors_beyond: number of impostor pairs at or below it, on which it stands.
        source: where it was measured.
        recipe: crop recipe that it was measured with, with `+flip` where mirrored photographs were added.
    """

    far: float
    threshold: float
    low: float
    high: float
    impostors_beyond: int
    source: str
    recipe: str = ""

    def said(self, recipe: str | None) -> str:
        """Return where it was measured, and with which recipe where another one is in use."""
        if recipe is None or self.recipe in ("", recipe):
            return self.source
        return f"{self.source}; calibrated with recipe {self.recipe}, used with {recipe}"

    def is_at(self, far: float) -> bool:
        """Tell if it was measured at a rate."""
        return math.isclose(self.far, far, rel_tol=1e-6)


def far_thresholds(rows: Any, where: object) -> tuple[FarThreshold, ...]:
    """Read calibrated thresholds of a record.

    Args:
        rows: as `dataclasses.asdict` wrote them.
        where: name of the record, for messages.

    Raises:
        UserError: they are damaged.
    """
    try:
        found = tuple(FarThreshold(**row) for row in rows)
        if all(math.isfinite(row.threshold) and 0 < row.far < 1 for row in found):
            return found
    except TypeError:
        pass
    raise UserError(f"{where} holds damaged thresholds: delete them, and calibrate the model again")


def view1_thresholds(recipe: str, *rows: tuple[float, float, float, float, int]) -> dict[str, Any]:
    """Return the fields of a preset whose thresholds `benchmarks/calibrate_presets.py` measured on LFW's View 1.

    Args:
        recipe: crop recipe that they were measured with.
        *rows: false accept rate, threshold, ends of its 95% interval, impostor pairs beyond it; the first is the
            preset's own.
    """
    where = f"all pairs of the 2,132 people of LFW View 1's training list (View 2 shares 1,689), {recipe}"
    found = tuple(FarThreshold(*row, f"FAR {row[0]:g} on {where}", recipe) for row in rows)
    return {"threshold": found[0].threshold, "threshold_source": found[0].source, "thresholds": found}


def checked_far(far: float) -> float:
    """Return a false accept rate, if it is one.

    Raises:
        UserError: it is not between 0 and 1.
    """
    if not 0 < far < 1:
        raise UserError(f"`far` is {far:g}: give a rate between 0 and 1, as 0.001", parameter="far")
    return far


def checked_threshold(threshold: float) -> float:
    """Return a threshold, if a distance of unit vectors can be on either side of it.

    Raises:
        UserError: it is not from 0 to 2, the farthest apart that two unit vectors are in either metric.
    """
    if not 0 <= threshold <= FARTHEST:
        raise UserError(
            f"`threshold` is {threshold:g}: distances go from 0 to {FARTHEST}, so it would decide nothing",
            parameter="threshold",
        )
    return threshold


def chosen_threshold(
    name: str, rows: Sequence[FarThreshold], threshold: float | None, far: float | None, recipe: str | None
) -> tuple[float, str]:
    """Choose a threshold given by hand, or the one calibrated at a FAR.

    Args:
        name: of the model, for messages.
        rows: its calibrated thresholds; of several at one rate, one of the recipe in use, else the first.
        threshold: given by hand.
        far: false accept rate.
        recipe: crop recipe in use; None where it does not matter.

    Returns:
        The threshold, and where it was measured.

    Raises:
        UserError: both are given, or neither; or none was calibrated at that rate.
    """
    if threshold is not None and far is not None:
        raise UserError("`threshold` and `far` each choose the threshold: give one of them", parameter="far")
    if threshold is not None:
        return checked_threshold(threshold), "given"
    if far is None:
        advice = f"run `tfface calibrate {name}` and give `far`, or give `threshold`"
        raise UserError(f"{name} has no threshold of its own: {advice}", parameter="threshold")
    found = [row for row in rows if row.is_at(checked_far(far))]
    if not found:
        known = ", ".join(f"{rate:g}" for rate in sorted({row.far for row in rows})) or "none"
        raise UserError(
            f"{name} has no threshold calibrated at FAR {far:g} (calibrated are: {known}): "
            f"run `tfface calibrate {name}` with `far` {far:g} first",
            parameter="far",
        )
    row = next((row for row in found if row.recipe == recipe), found[0])
    if row.said(recipe) != row.source:
        logger.warning(f"the threshold of {name} at FAR {far:g} was calibrated with recipe {row.recipe}, not {recipe}")
    return row.threshold, row.said(recipe)

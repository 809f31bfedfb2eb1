"""Thresholded accuracy, ROC, AUC, EER, TAR at FAR, and folds, from the distances of pairs.

A pair is accepted as one person if and only if its distance is at or below the threshold. Accuracy
is balanced: the mean of genuine and impostor accuracy.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tfface.errors import UserError
from tfface.metrics.distances import from_cosine
from tfface.metrics.intervals import student
from tfface.metrics.pair_merging import PairSummary, RegionScores
from tfface.metrics.pair_tiles import BINS, BINS_PER_UNIT

FARS = (0.1, 0.01, 0.001, 1e-4, 1e-5, 1e-6)
_FEWEST_FALSE_ACCEPTS = 3
ACCEPT_NONE = -1.0
"""A threshold below every distance."""


def supported_fars(impostors: int) -> tuple[float, ...]:
    """Return those of `FARS` that so many impostor pairs can measure: at least three false accepts are expected."""
    return tuple(far for far in FARS if _is_supported(far, impostors))


def _is_supported(far: float, impostors: int) -> bool:
    return _floor(impostors * far) >= _FEWEST_FALSE_ACCEPTS


def _floor(value: float) -> int:
    """Round down, forgiving what decimal fractions lose in binary (0.29 x 100 is 28.999999999999996)."""
    return math.floor(value * (1 + 1e-12))


@dataclass(frozen=True)
class ErrorCurve:
    """Accepted pairs at each threshold: the basis of ROC, EER, AUC and TAR at FAR.

    Attributes:
        thresholds: (K,) ascending; the last accepts all.
        genuine_accepted: (K,) genuine pairs at or below each.
        impostor_accepted: (K,) impostor pairs at or below each.
        exact: every distinct distance is a threshold; otherwise thresholds are the edges of bins,
            and one between two edges is taken for the lower.
    """

    thresholds: np.ndarray
    genuine_accepted: np.ndarray
    impostor_accepted: np.ndarray
    exact: bool

    def __post_init__(self) -> None:
        for kind, count in (("genuine", self.genuine), ("impostor", self.impostors)):
            if not count:
                raise UserError(f"there are no {kind} pairs to measure errors on: give images that make some")

    @classmethod
    def from_scores(cls, distances: np.ndarray, same: np.ndarray) -> "ErrorCurve":
        """Make the curve from each pair's distance and truth; exact at every distance.

        Raises:
            UserError: a distance is not a number, or there are no pairs of a kind.
        """
        distances, same = _pairs(distances, same)
        thresholds, place = np.unique(distances, return_inverse=True)
        genuine, impostor = (np.bincount(place[chosen], minlength=len(thresholds)) for chosen in (same, ~same))
        return cls(thresholds, np.cumsum(genuine), np.cumsum(impostor), exact=True)

    @classmethod
    def from_region(cls, scores: RegionScores, metric: str = "cosine") -> "ErrorCurve":
        """Make the curve from the histograms of all pairs (`PairSummary.total`, or one of its regions).

        Raises:
            UserError: there are no pairs of a kind.
        """
        thresholds = from_cosine(np.arange(BINS) / BINS_PER_UNIT, metric)
        genuine, impostor = (np.cumsum(part.tally.histogram) for part in (scores.genuine, scores.impostor))
        return cls(thresholds, genuine, impostor, exact=False)

    @property
    def genuine(self) -> int:
        """Number of genuine pairs."""
        return int(self.genuine_accepted[-1]) if len(self.genuine_accepted) else 0

    @property
    def impostors(self) -> int:
        """Number of impostor pairs."""
        return int(self.impostor_accepted[-1]) if len(self.impostor_accepted) else 0

    @cached_property
    def _tars(self) -> np.ndarray:
        """(K + 1,) TAR when nothing is accepted, then at each threshold."""
        return np.concatenate([[0], self.genuine_accepted]) / self.genuine

    @cached_property
    def _fars(self) -> np.ndarray:
        return np.concatenate([[0], self.impostor_accepted]) / self.impostors

    def _place(self, threshold: float) -> int:
        return int(np.searchsorted(self.thresholds, threshold, side="right"))

    def far(self, threshold: float) -> float:
        """Return the false accept rate (FMR): impostor pairs taken for one person."""
        return float(self._fars[self._place(threshold)])

    def frr(self, threshold: float) -> float:
        """Return the false reject rate (FNMR): genuine pairs taken for two people."""
        return 1 - float(self._tars[self._place(threshold)])

    def accuracy(self, threshold: float) -> float:
        """Return the balanced accuracy."""
        return 1 - (self.far(threshold) + self.frr(threshold)) / 2

    def best_threshold(self) -> float:
        """Return the threshold of the highest balanced accuracy: the middle of the widest range that has it.

        Of ranges equally wide, the lowest.
        """
        # Whole numbers, so that equal accuracies are equal, as long as they fit.
        kind = np.int64 if self.genuine * self.impostors < 2**62 else np.float64
        gain = self.genuine_accepted.astype(kind) * self.impostors - self.impostor_accepted.astype(kind) * self.genuine
        best = np.flatnonzero(gain == gain.max())
        breaks = np.flatnonzero(np.diff(best) > 1)
        firsts, lasts = best[np.concatenate([[0], breaks + 1])], best[np.concatenate([breaks, [len(best) - 1]])]
        # The counts at a distance hold up to the next distance; what happens inside a bin is not known.
        ends = self.thresholds[np.minimum(lasts + self.exact, len(self.thresholds) - 1)]
        widest = int(np.argmax(ends - self.thresholds[firsts]))
        first, last = int(firsts[widest]), int(lasts[widest])
        if not self.exact:
            return float(self.thresholds[(first + last) // 2])
        start, end = float(self.thresholds[first]), float(ends[widest])
        middle = (start + end) / 2
        return middle if middle < end else start

    def auc(self) -> float:
        """Return the area under the ROC: how often a genuine pair is closer than an impostor pair, ties half."""
        return float(np.trapezoid(self._tars, self._fars))

    def eer(self) -> tuple[float, float]:
        """Return the rate at which FAR and FRR are equal, interpolated, and its threshold."""
        gap = 1 - self._tars - self._fars
        after = int(np.argmax(gap <= 0))
        weight = gap[after - 1] / (gap[after - 1] - gap[after])
        rate = self._fars[after - 1] + weight * (self._fars[after] - self._fars[after - 1])
        before = self.thresholds[max(after - 2, 0)]
        return float(rate), float(before + weight * (self.thresholds[after - 1] - before))

    def threshold_at_far(self, far: float) -> float:
        """Return the highest threshold whose FAR is at most `far`; `ACCEPT_NONE` where none is.

        Raises:
            UserError: there are too few impostor pairs to tell such a rate.
        """
        place = self._place_at_far(far)
        return float(self.thresholds[place - 1]) if place else ACCEPT_NONE

    def tar_at_far(self, far: float) -> float:
        """Return the share of genuine pairs accepted at `threshold_at_far(far)`."""
        return float(self._tars[self._place_at_far(far)])

    def slope_at_far(self, far: float) -> float:
        """Return the rise of TAR with FAR around a FAR: between its half and its double."""
        low, high = np.interp([far / 2, min(2 * far, 1.0)], self._fars, self._tars)
        return float((high - low) / (min(2 * far, 1.0) - far / 2))

    def _place_at_far(self, far: float) -> int:
        if not _is_supported(far, self.impostors):
            raise UserError(
                f"{self.impostors} impostor pairs cannot tell a FAR of {far:g}, which "
                f"{_FEWEST_FALSE_ACCEPTS} of them or more should make: ask for a higher one"
            )
        return int(np.searchsorted(self.impostor_accepted, _floor(self.impostors * far), side="right"))


def _pairs(distances: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    distances, same = np.asarray(distances, np.float64), np.asarray(same, bool)
    if distances.shape != same.shape or distances.ndim != 1:
        raise UserError(f"{distances.shape} distances for {same.shape} pairs: give one number a pair")
    if not np.isfinite(distances).all():
        raise UserError(f"the distance of pair {np.flatnonzero(~np.isfinite(distances))[0]} is not a number")
    return distances, same


@dataclass(frozen=True)
class FoldResult:
    """Balanced accuracies on parts, each at a threshold chosen on the others.

    Attributes:
        thresholds: the one used on each part.
        accuracies: of each part.
    """

    thresholds: list[float]
    accuracies: list[float]

    @property
    def threshold(self) -> float:
        """The mean threshold."""
        return float(np.mean(self.thresholds))

    @property
    def mean(self) -> float:
        """The mean accuracy."""
        return float(np.mean(self.accuracies))

    @property
    def std(self) -> float:
        """The sample standard deviation of the accuracies (n - 1)."""
        return float(np.std(self.accuracies, ddof=1))

    @property
    def standard_error(self) -> float:
        """Standard error of the mean: `std` over the root of the number of parts, as LFW reports it."""
        return self.std / math.sqrt(len(self.accuracies))

    @property
    def ci95(self) -> list[float]:
        """Student's t interval of the mean, within [0, 1]; for ten folds, not for two halves."""
        interval = student(self.accuracies)
        return [max(0.0, interval.low), min(1.0, interval.high)]


def kfold(distances: np.ndarray, same: np.ndarray, fold: np.ndarray, *, threshold: float | None = None) -> FoldResult:
    """Verify by folds, as LFW's View 2 does: each fold at the threshold chosen on all others.

    Args:
        distances: (N,) distances of the pairs.
        same: (N,) bool, True for genuine pairs.
        fold: (N,) the fold of each pair.
        threshold: a fixed threshold instead.

    Raises:
        UserError: fewer than two folds, or one without genuine or without impostor pairs.
    """
    distances, same = _pairs(distances, same)
    fold = np.asarray(fold)
    names = np.unique(fold)
    if len(names) < 2:
        raise UserError(f"the pairs are in {len(names)} folds: choosing a threshold on the others takes two")
    for name in names:
        if len(set(same[fold == name])) < 2:
            raise UserError(f"fold {name} has pairs of one kind only: each takes genuine and impostor pairs")
    thresholds, accuracies = [], []
    for name in names:
        held = fold == name
        chosen = threshold
        if chosen is None:
            chosen = ErrorCurve.from_scores(distances[~held], same[~held]).best_threshold()
        thresholds.append(chosen)
        accuracies.append(ErrorCurve.from_scores(distances[held], same[held]).accuracy(chosen))
    return FoldResult(thresholds, accuracies)


def calibrate_halves(summary: PairSummary, metric: str = "cosine") -> FoldResult | None:
    """Score each half of the people, A then B, at the threshold that is best on the other.

    Pairs across the halves are used for neither. None where a half lacks pairs of a kind.
    """
    halves = [summary.regions[region] for region in ("a", "b")]
    if not all(part.count for half in halves for part in (half.genuine, half.impostor)):
        return None
    of_a, of_b = (ErrorCurve.from_region(half, metric) for half in halves)
    thresholds = [of_b.best_threshold(), of_a.best_threshold()]
    return FoldResult(thresholds, [of_a.accuracy(thresholds[0]), of_b.accuracy(thresholds[1])])

"""Scores of all pairs, or of a list of pairs; both give the same entries of `metrics.json`.

A threshold is never tested on the pairs that it was chosen on: of all pairs, each half of the
people is scored at the threshold that is best on the other half; of folds, each fold at the
threshold of the others; of View 1, the test list at the training list's.
"""

import abc
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tfface.data.dataset import FaceDataset, Pairs
from tfface.distributed.executor import LOCAL
from tfface.errors import UserError
from tfface.evaluation.embeddings import Embeddings
from tfface.metrics import intervals, pair_tiles
from tfface.metrics.all_pairs import Arrangement, all_pairs, arrange
from tfface.metrics.distances import METRICS, cosine_distance, from_cosine, to_cosine
from tfface.metrics.identity_errors import error_counts
from tfface.metrics.intervals import IdentityErrors
from tfface.metrics.pair_merging import Distances, PairSummary
from tfface.metrics.pair_tiles import BINS, BINS_PER_UNIT
from tfface.metrics.roc import ErrorCurve, FoldResult, calibrate_halves, kfold, supported_fars

Metrics = dict[str, Any]
Threshold = tuple[str, float, str]
"""A metric, a distance in it, and where that threshold was measured."""
_PLOT_BINS = 128


@dataclass(frozen=True)
class ScoredPairs:
    """List of pairs with their cosine distances.

    Attributes:
        distance: (P,) float64 cosine distances.
        same: (P,) bool, True for genuine pairs.
        fold: (P,) int.
        people: (P, 2) int, the person on each image.
    """

    distance: np.ndarray
    same: np.ndarray
    fold: np.ndarray
    people: np.ndarray

    def where(self, chosen: np.ndarray) -> "ScoredPairs":
        return ScoredPairs(self.distance[chosen], self.same[chosen], self.fold[chosen], self.people[chosen])

    def errors(self, threshold: float) -> IdentityErrors:
        """Return the errors by identity at thresholds on the cosine distance."""
        wrong = (self.distance <= threshold) != self.same
        size = int(self.people.max(initial=-1)) + 1

        def by_person(chosen: np.ndarray, columns: slice) -> np.ndarray:
            return np.bincount(self.people[chosen][:, columns].ravel(), minlength=size)

        one, both = slice(0, 1), slice(0, 2)
        return IdentityErrors(
            threshold,
            by_person(self.same, one),
            by_person(self.same & wrong, one),
            by_person(~self.same, both),
            by_person(~self.same & wrong, both),
        )


class ProtocolScores(abc.ABC):
    """Scores of the pairs of a protocol, and the entries of `metrics.json` made of them."""

    curve: ErrorCurve
    metric: str
    excluded = 0

    @abc.abstractmethod
    def moments(self, metric: str) -> Metrics:
        """Return `genuine` and `impostor`: count, mean and variance of the distance."""

    @abc.abstractmethod
    def errors(self, thresholds: list[float]) -> list[IdentityErrors]:
        """Return the errors by identity at thresholds on the cosine distance."""

    @abc.abstractmethod
    def calibrated(self) -> Metrics | None:
        """Return the accuracy at thresholds chosen on other pairs than those scored; None where that cannot be."""

    @abc.abstractmethod
    def histogram(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return edges, genuine counts and impostor counts of the distances."""

    @abc.abstractmethod
    def worst(self) -> tuple[pair_tiles.PairDistances, pair_tiles.PairDistances]:
        """Return the closest impostor pairs and the farthest genuine pairs, worst first, by image index.

        Of a list these are all pairs; of all pairs, `worst` of each kind.
        """

    @abc.abstractmethod
    def group_errors(self, inside: np.ndarray, threshold: float) -> IdentityErrors | None:
        """Return the errors of the pairs whose two images are both in a group; None where it has no pairs."""

    @property
    @abc.abstractmethod
    def codes(self) -> np.ndarray:
        """Person of each place of `errors`, (P,) int."""

    @property
    @abc.abstractmethod
    def calibration(self) -> str:
        """Pairs that a calibrated threshold is chosen on, in words."""

    @abc.abstractmethod
    def calibrated_parts(self) -> "list[tuple[ProtocolScores, float]]":
        """Return the pairs in parts, each with a threshold (in `metric`) chosen without it; empty for too few."""

    def fixed_accuracy(self, threshold: float, errors: IdentityErrors) -> Metrics:
        """Return `accuracy` and its interval at a threshold on the cosine distance."""
        return estimate_entry("accuracy", intervals.balanced_accuracy(errors))

    def entries(self, fixed: Threshold | None, others: Sequence[Threshold] = ()) -> Metrics:
        """Return all entries at a fixed threshold, if there is one, in the metric of the curve, and at others."""
        thresholds = [*([fixed] if fixed else []), *others]
        fars = supported_fars(self.curve.impostors)
        at_far = [to_cosine(max(self.curve.threshold_at_far(far), 0.0), self.metric) for far in fars]
        errors = self.errors([to_cosine(value, metric) for metric, value, _ in thresholds] + at_far)
        entries = [self._entry(*entry, found) for entry, found in zip(thresholds, errors, strict=False)]
        own = entries.pop(0) if fixed else None
        rate, at_eer = self.curve.eer()
        equal = {"threshold": at_eer, "threshold_source": "equal error rate", "accuracy": 1 - rate, "ci95": None}
        calibrated = self.calibrated()
        entries.append(_in_other_metric(calibrated or own or equal, self.metric))
        return {
            "metric": self.metric,
            **self.moments(self.metric),
            "fixed": {key: own[key] for key in own if key != "metric"} if own else None,
            "calibrated": calibrated,
            "eer": rate,
            "auc": self.curve.auc(),
            "tar_at_far": {
                f"{far:g}": self._tar(far, found) for far, found in zip(fars, errors[len(thresholds) :], strict=True)
            },
            "rows": [{**entry, **self.moments(entry["metric"])} for entry in entries],
        }

    def _entry(self, metric: str, threshold: float, source: str, errors: IdentityErrors) -> Metrics:
        return {
            "metric": metric,
            "threshold": threshold,
            "threshold_source": source,
            **self.fixed_accuracy(to_cosine(threshold, metric), errors),
            **estimate_entry("far", intervals.false_match(errors), "far_ci95"),
            **estimate_entry("frr", intervals.false_non_match(errors), "frr_ci95"),
        }

    def _tar(self, far: float, errors: IdentityErrors) -> Metrics:
        estimate = intervals.true_accept(errors, roc_slope=self.curve.slope_at_far(far))
        return {**estimate_entry("value", estimate), "threshold": self.curve.threshold_at_far(far)}


class AllPairsScores(ProtocolScores):
    """Scores of every pair of a data set."""

    calibration = "each half of the people from the other half"

    def __init__(self, embeddings: Embeddings, people: np.ndarray, metric: str, seed: int, **how: Any) -> None:
        """Score every pair; `how` is passed on to `all_pairs`: `worst`, `executor`."""
        self.embeddings, self.everyone, self.metric, self.how = embeddings, people, metric, {"seed": seed, **how}
        self.images = np.flatnonzero(embeddings.ok)
        self.people = people[self.images]
        self.summary: PairSummary = all_pairs(embeddings.vectors, self.people, images=self.images, **self.how)
        self.arrangement = arrange(self.people, seed=seed)
        self.curve = ErrorCurve.from_region(self.summary.total, metric)

    def moments(self, metric: str) -> Metrics:
        return {
            "genuine": _moments(self.summary.total.genuine, metric),
            "impostor": _moments(self.summary.total.impostor, metric),
        }

    def errors(self, thresholds: list[float]) -> list[IdentityErrors]:
        return self._errors(self.arrangement, self.images, thresholds)

    def _errors(self, arrangement: Arrangement, images: np.ndarray, thresholds: list[float], **region: str) -> Any:
        how = {"images": images, "executor": self.how.get("executor", LOCAL), **region}
        return error_counts(self.embeddings.vectors, arrangement, thresholds, **how)

    def calibrated(self) -> Metrics | None:
        halves = calibrate_halves(self.summary, self.metric)
        if halves is None:
            return None
        found = [
            intervals.balanced_accuracy(self._errors(self.arrangement, self.images, [limit], region=region)[0])
            for region, limit in zip(
                ("a", "b"), [to_cosine(one, self.metric) for one in halves.thresholds], strict=True
            )
        ]
        estimate = intervals.mean_of([part for part in found if part is not None])
        return {
            "threshold": halves.threshold,
            "threshold_source": self.calibration,
            "accuracy": estimate.value,
            "std": halves.std,
            "ci95": estimate.ci95,
        }

    @property
    def codes(self) -> np.ndarray:
        return self.arrangement.names

    def calibrated_parts(self) -> list[tuple[ProtocolScores, float]]:
        halves = calibrate_halves(self.summary, self.metric)
        if halves is None:
            return []
        rows = np.split(self.images[self.arrangement.order], [self.arrangement.boundary])
        return [(self._only(half), threshold) for half, threshold in zip(rows, halves.thresholds, strict=True)]

    def _only(self, images: np.ndarray) -> "AllPairsScores":
        chosen = np.isin(np.arange(len(self.everyone)), images)
        part = dataclasses.replace(self.embeddings, ok=chosen)
        return AllPairsScores(part, self.everyone, self.metric, **self.how)

    def histogram(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        edges = np.linspace(0, from_cosine(2.0, self.metric), _PLOT_BINS + 1)
        distances = from_cosine(np.arange(BINS) / BINS_PER_UNIT, self.metric)
        counts = [
            np.histogram(distances, edges, weights=part.tally.histogram)[0].astype(np.int64)
            for part in (self.summary.total.genuine, self.summary.total.impostor)
        ]
        return edges, counts[0], counts[1]

    def worst(self) -> tuple[pair_tiles.PairDistances, pair_tiles.PairDistances]:
        found = self.summary.of_images(self.images)
        return found.closest_impostors, found.farthest_genuine

    def group_errors(self, inside: np.ndarray, threshold: float) -> IdentityErrors | None:
        chosen = inside[self.images]
        if chosen.sum() < 2:
            return None
        arrangement = arrange(self.people[chosen], seed=self.how["seed"])
        return self._errors(arrangement, self.images[chosen], [threshold])[0]


class PairListScores(ProtocolScores):
    """Scores of a list of pairs: LFW's views, or a file of one's own."""

    def __init__(
        self, scored: ScoredPairs, training: ScoredPairs | None, rows: np.ndarray, metric: str, excluded: int
    ) -> None:
        """Hold a scored list.

        Args:
            scored: the pairs.
            training: other pairs to choose a threshold on; None to choose it on the other folds.
            rows: (P, 2) image indices of the scored pairs.
            metric: metric of the curve.
            excluded: number of pairs of which an image could not be embedded.
        """
        self.scored, self.training, self.rows, self.metric, self.excluded = scored, training, rows, metric, excluded
        self.curve = ErrorCurve.from_scores(from_cosine(scored.distance, metric), scored.same)

    @classmethod
    def of(
        cls,
        dataset: FaceDataset,
        embeddings: Embeddings,
        people: np.ndarray,
        metric: str,
        protocol: str,
        pairs: Pairs | None,
    ) -> "PairListScores":
        training = None
        if pairs is None and protocol == "view1":
            training, _, _ = _score(dataset.pairs("view1-train"), embeddings, people)
            pairs = dataset.pairs("view1-test")
        scored, rows, excluded = _score(pairs or dataset.pairs(protocol), embeddings, people)
        return cls(scored, training, rows, metric, excluded)

    def moments(self, metric: str) -> Metrics:
        distances = from_cosine(self.scored.distance, metric)
        return {
            kind: {
                "count": int(chosen.sum()),
                "mean": float(distances[chosen].mean()),
                "variance": float(distances[chosen].var()),
            }
            for kind, chosen in (("genuine", self.scored.same), ("impostor", ~self.scored.same))
        }

    def errors(self, thresholds: list[float]) -> list[IdentityErrors]:
        return [self.scored.errors(threshold) for threshold in thresholds]

    def fixed_accuracy(self, threshold: float, errors: IdentityErrors) -> Metrics:
        if self.training is None and len(np.unique(self.scored.fold)) > 1:
            folds = kfold(self.scored.distance, self.scored.same, self.scored.fold, threshold=threshold)
            return {"accuracy": folds.mean, "ci95": folds.ci95}
        return super().fixed_accuracy(threshold, errors)

    def calibrated(self) -> Metrics | None:
        if self.training is not None:
            return {
                "threshold": float(from_cosine(self._trained, self.metric)),
                "threshold_source": self.calibration,
                **estimate_entry("accuracy", intervals.balanced_accuracy(self.scored.errors(self._trained))),
                "std": None,
            }
        folds = self._folds
        if folds is None:
            return None
        return {
            "threshold": folds.threshold,
            "threshold_source": self.calibration,
            "accuracy": folds.mean,
            "std": folds.std,
            "standard_error": folds.standard_error,
            "ci95": folds.ci95,
            "folds": folds.accuracies,
        }

    @property
    def codes(self) -> np.ndarray:
        return np.arange(int(self.scored.people.max(initial=-1)) + 1)

    @property
    def calibration(self) -> str:
        return "each fold from the others" if self.training is None else "the training list"

    def calibrated_parts(self) -> list[tuple[ProtocolScores, float]]:
        if self.training is not None:
            return [(self, float(from_cosine(self._trained, self.metric)))]
        thresholds = self._folds.thresholds if self._folds else []
        folds = [self.scored.fold == fold for fold in np.unique(self.scored.fold)]
        return [(self._only(chosen), threshold) for chosen, threshold in zip(folds, thresholds, strict=False)]

    def _only(self, chosen: np.ndarray) -> "PairListScores":
        return PairListScores(self.scored.where(chosen), None, self.rows[chosen], self.metric, 0)

    @cached_property
    def _trained(self) -> float:
        """Best threshold of the training list, on the cosine distance."""
        assert self.training is not None
        return ErrorCurve.from_scores(self.training.distance, self.training.same).best_threshold()

    @cached_property
    def _folds(self) -> FoldResult | None:
        if len(np.unique(self.scored.fold)) < 2:
            return None
        return kfold(from_cosine(self.scored.distance, self.metric), self.scored.same, self.scored.fold)

    def histogram(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        distances = from_cosine(self.scored.distance, self.metric)
        edges = np.linspace(0, from_cosine(2.0, self.metric), _PLOT_BINS // 2 + 1)
        same = self.scored.same
        return edges, np.histogram(distances[same], edges)[0], np.histogram(distances[~same], edges)[0]

    def worst(self) -> tuple[pair_tiles.PairDistances, pair_tiles.PairDistances]:
        every = pair_tiles.PairDistances(self.rows[:, 0], self.rows[:, 1], self.scored.distance)
        genuine, impostor = every.take(self.scored.same), every.take(~self.scored.same)
        return impostor.extreme(len(every)), genuine.extreme(len(every), farthest=True)

    def group_errors(self, inside: np.ndarray, threshold: float) -> IdentityErrors | None:
        both = inside[self.rows].all(axis=1)
        return self.scored.where(both).errors(threshold) if both.any() else None


def _score(pairs: Pairs, embeddings: Embeddings, people: np.ndarray) -> tuple[ScoredPairs, np.ndarray, int]:
    """Return the pairs that can be scored, their image indices, and the number of those that cannot."""
    kept = embeddings.ok[pairs.first] & embeddings.ok[pairs.second]
    if not kept.any():
        raise UserError(f"none of the {len(pairs)} pairs of {pairs.name} has two images that could be embedded")
    rows = np.stack([pairs.first[kept], pairs.second[kept]], axis=1)
    distance = cosine_distance(embeddings.vectors[rows[:, 0]], embeddings.vectors[rows[:, 1]])
    return ScoredPairs(distance, pairs.same[kept], pairs.fold[kept], people[rows]), rows, int((~kept).sum())


def _moments(distances: Distances, metric: str) -> Metrics:
    return {"count": distances.count, "mean": distances.mean(metric), "variance": distances.variance(metric)}


def estimate_entry(name: str, estimate: intervals.Estimate | None, interval: str = "ci95") -> Metrics:
    """Return a value and its 95% interval as entries; both None where there were no pairs to measure it on."""
    return {name: estimate.value if estimate else None, interval: estimate.ci95 if estimate else None}


def _in_other_metric(entry: Metrics, metric: str) -> Metrics:
    """Return a row in the metric that the preset does not use: the same verdicts, other numbers."""
    other = next(name for name in METRICS if name != metric)
    threshold = from_cosine(to_cosine(entry["threshold"], metric), other)
    return {
        "metric": other,
        "threshold": float(threshold),
        "threshold_source": f"the same: {entry['threshold_source']}",
        "accuracy": entry["accuracy"],
        "ci95": entry["ci95"],
    }

"""At which distance two photographs match: where that comes from, and how often it errs.

A success rate means nothing without its threshold: a lax one is beaten by impersonation, a strict
one by dodging.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.data.dataset import FaceDataset
from tfface.data.pairs import Pairs
from tfface.distributed.executor import LOCAL, Executor
from tfface.errors import UserError
from tfface.evaluation.embeddings import Embeddings
from tfface.metrics.all_pairs import all_pairs
from tfface.metrics.distances import cosine_distance, from_cosine, to_cosine
from tfface.metrics.roc import ErrorCurve, kfold

if TYPE_CHECKING:
    from tfface.models._embedder import Preset

MOST_MEASURED = 20_000
"""Photographs of a data set up to which the errors of any threshold are measured on all of its pairs."""


@dataclass(frozen=True)
class Threshold:
    """A threshold and what is known of it.

    Attributes:
        value: a distance in `metric`; of several folds the mean.
        metric: the preset's.
        source: where it comes from.
        by_fold: the threshold of each fold, where they differ.
        errors: `far`, `tar`, `genuine`, `impostor` (counts) and `measured_on`; empty where not measured.
    """

    value: float
    metric: str
    source: str
    by_fold: dict[int, float] = field(default_factory=dict)
    errors: dict[str, Any] = field(default_factory=dict)

    def cosine(self, fold: np.ndarray) -> np.ndarray:
        """(N,) float64: each pair's threshold as a cosine distance, by the fold it is in."""
        values = [self.by_fold[int(number)] if self.by_fold else self.value for number in fold]
        return np.array([to_cosine(value, self.metric) for value in values], np.float64)

    def record(self) -> dict[str, Any]:
        """JSON-able, for `metrics.json`."""
        return {
            "metric": self.metric,
            "threshold": self.value,
            "threshold_source": self.source,
            **({"threshold_by_fold": list(self.by_fold.values())} if self.by_fold else {}),
            "threshold_errors": self.errors or None,
        }


def fixed(
    preset: "Preset", value: float | None, dataset: FaceDataset, embeddings: Callable[[], Embeddings], *, seed: int = 0
) -> Threshold:
    """The preset's threshold, or one given by hand in its metric, with its errors on all pairs of a data set.

    Args:
        preset: whose metric and threshold.
        value: given by hand; None for the preset's.
        dataset: on which its errors are measured, unless it is too large.
        embeddings: of the data set, asked for when needed.
        seed: of the scoring.
    """
    source = f"preset: {preset.threshold_source}" if value is None else "--threshold"
    value = preset.threshold if value is None else value
    errors: dict[str, Any] = {}
    if len(dataset) <= MOST_MEASURED:
        found = embeddings()
        curve = _curve(found, dataset, found.ok, preset.metric, seed)
        if curve is not None:
            errors = _errors(curve, value, "all pairs of the data set")
    return Threshold(value, preset.metric, source, errors=errors)


def at_far(
    preset: "Preset",
    far: float,
    attacked: np.ndarray,
    dataset: FaceDataset,
    embeddings: Callable[[], Embeddings],
    *,
    seed: int = 0,
    executor: Executor = LOCAL,
) -> Threshold:
    """The highest threshold whose false accept rate is at most `far`, on people of whom no photograph is attacked.

    Args:
        preset: whose metric.
        far: false accept rate, in (0, 1).
        attacked: indices of all photographs in attacked pairs.
        dataset: whose pairs of other people it is measured on.
        embeddings: of the data set, asked for when needed.
        seed: of the scoring.
        workers: who scores.

    Raises:
        UserError: those people make too few impostor pairs to tell such a rate.
    """
    people = np.array(dataset.identities)
    free = ~np.isin(people, np.unique(people[attacked]))
    where = f"all pairs of {len(set(people[free].tolist()))} people who are in no attacked pair"
    advice = "ask for a higher one, attack fewer pairs (--count), or take a larger data set"
    found = embeddings()
    curve = _curve(found, dataset, found.ok & free, preset.metric, seed, executor)
    if curve is None:
        raise UserError(f"--far {far:g}: {where} are too few to tell: {advice}")
    try:
        value = max(curve.threshold_at_far(far), 0.0)
    except UserError as error:
        raise UserError(f"--far {far:g}: {str(error).split(':')[0]} ({where}): {advice}") from error
    return Threshold(value, preset.metric, f"FAR {far:g} on {where}", errors=_errors(curve, value, where))


def by_fold(preset: "Preset", pairs: Pairs, embeddings: Callable[[], Embeddings]) -> Threshold:
    """For each fold of a list the threshold that is best on the others, as View 2 is judged.

    Args:
        preset: whose metric.
        pairs: the whole list, genuine and impostor pairs.
        embeddings: of the data set, asked for when needed.

    Raises:
        UserError: the list has fewer than two folds, or one without pairs of a kind.
    """
    found = embeddings()
    kept = found.ok[pairs.first] & found.ok[pairs.second]
    first, second, same, fold = (part[kept] for part in (pairs.first, pairs.second, pairs.same, pairs.fold))
    distance = from_cosine(cosine_distance(found.vectors[first], found.vectors[second]), preset.metric)
    folds = kfold(distance, same, fold)
    numbers = np.unique(fold).tolist()
    curve = ErrorCurve.from_scores(distance, same)
    where = f"all folds of {pairs.name}, at the mean threshold"
    return Threshold(
        folds.threshold,
        preset.metric,
        f"each fold of {pairs.name} from the others (mean)",
        dict(zip(map(int, numbers), folds.thresholds, strict=True)),
        _errors(curve, folds.threshold, where),
    )


def _curve(
    embeddings: Embeddings, dataset: FaceDataset, chosen: np.ndarray, metric: str, seed: int, executor: Executor = LOCAL
) -> ErrorCurve | None:
    """Errors over all pairs of the chosen photographs; None where they make no pairs of a kind."""
    people = np.unique(np.array(dataset.identities)[chosen], return_inverse=True)[1]
    sizes = np.bincount(people)
    if len(sizes) < 2 or sizes.max() < 2:
        return None
    images = np.flatnonzero(chosen)
    scores = all_pairs(embeddings.vectors, people, images=images, seed=seed, executor=executor)
    return ErrorCurve.from_region(scores.total, metric)


def _errors(curve: ErrorCurve, value: float, where: str) -> dict[str, Any]:
    return {
        "far": curve.far(value),
        "tar": 1 - curve.frr(value),
        "genuine": curve.genuine,
        "impostor": curve.impostors,
        "measured_on": where,
    }

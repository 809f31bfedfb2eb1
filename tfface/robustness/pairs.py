"""Pairs to attack, and the distance up to which each of them matches.

A success rate means nothing without its threshold: a lax one is beaten by impersonation, a strict
one by dodging. So every threshold says where it comes from, and how often it errs.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfface.data.dataset import ALL_PAIRS, FaceDataset, Pairs, sample_all_pairs
from tfface.data.pairs import read_pairs_file
from tfface.distributed.executor import LOCAL, Executor
from tfface.errors import UserError
from tfface.metrics.all_pairs import all_pairs
from tfface.metrics.distances import cosine_distance, from_cosine, to_cosine
from tfface.metrics.roc import ErrorCurve, kfold
from tfface.robustness.trial import Context

MOST_MEASURED = 20_000
"""Photographs of a data set up to which the errors of any threshold are measured on all of its pairs."""

GENUINE_GOAL = {"dodging": True, "impersonation": False}
"""By goal the kind of pairs that it attacks: those of one person, or those of two."""
_KIND = {True: "genuine", False: "impostor"}
_AIM = {True: "take apart", False: "match"}


def choose_pairs(
    dataset: FaceDataset,
    goal: str,
    *,
    protocol: str = ALL_PAIRS,
    listed: Pairs | None = None,
    count: int = 100,
    seed: int = 0,
) -> Pairs:
    """Draw the pairs that a goal attacks; the first photograph of each is the one changed.

    Args:
        dataset: whose photographs.
        goal: `dodging` takes genuine pairs, `impersonation` impostor pairs.
        protocol: `all-pairs`, or a pair list that the data set publishes.
        listed: a list of the user's own instead.
        count: number of pairs; all of them if there are fewer.
        seed: random seed.

    Raises:
        UserError: there is no such list, or it has no pair of the kind.
    """
    same = GENUINE_GOAL[goal]
    if listed is None and protocol == ALL_PAIRS:
        found = sample_all_pairs(dataset, count, genuine=same, seed=seed)
    else:
        try:
            found = (listed or dataset.pairs(protocol)).sample(count, genuine=same, seed=seed)
        except UserError as error:
            raise UserError(f"{error}; or `protocol` {ALL_PAIRS}", parameter="protocol") from error
    if not len(found):
        raise UserError(
            f"{found.name} of {dataset.name} has no {_KIND[same]} pair to {_AIM[same]}: `goal` {goal} needs one",
            parameter="goal",
        )
    return found


def listed_pairs(dataset: FaceDataset, protocol: str, file: str | Path | None) -> Pairs | None:
    """Return the list that pairs are drawn from; None for all pairs.

    Args:
        dataset: data set of the pairs.
        protocol: `all-pairs`, or a pair list that the data set publishes.
        file: a pairs file instead.

    Raises:
        UserError: there is no such list.
    """
    if file is not None:
        return read_pairs_file(file, dataset)
    return None if protocol == ALL_PAIRS else dataset.pairs(protocol)


def half_genuine(
    dataset: FaceDataset, count: int, *, protocol: str = ALL_PAIRS, listed: Pairs | None = None, seed: int = 0
) -> Pairs:
    """Draw pairs, half of them genuine; the first photograph of each is the one that may change.

    Args:
        dataset: whose photographs.
        count: number of pairs, at most.
        protocol: as `choose_pairs` takes it.
        listed: a list of the user's own instead.
        seed: random seed.

    Raises:
        UserError: as `choose_pairs`.
    """
    counts = dict(zip(GENUINE_GOAL, (count - count // 2, count // 2), strict=True))
    drawn = [
        choose_pairs(dataset, goal, protocol=protocol, listed=listed, count=number, seed=seed)
        for goal, number in counts.items()
    ]
    fields = ("first", "second", "same", "fold")
    return Pairs(drawn[0].name, *(np.concatenate([getattr(one, name) for one in drawn]) for name in fields))


@dataclass(frozen=True)
class Threshold:
    """A distance threshold, its source and its error rates.

    Attributes:
        value: a distance in `metric`; of several folds the mean.
        metric: the preset's.
        source: in words.
        by_fold: the threshold of each fold, where they differ.
        errors: `far`, `tar`, `genuine`, `impostor` (counts) and `measured_on`; empty where not measured.
    """

    value: float
    metric: str
    source: str
    by_fold: dict[int, float] = field(default_factory=dict)
    errors: dict[str, Any] = field(default_factory=dict)

    def cosine(self, fold: np.ndarray) -> np.ndarray:
        """Return (N,) float64: each pair's threshold as a cosine distance, by the fold it is in."""
        values = [self.by_fold[int(number)] if self.by_fold else self.value for number in fold]
        return np.array([to_cosine(value, self.metric) for value in values], np.float64)

    def record(self) -> dict[str, Any]:
        """Return what `metrics.json` holds of it."""
        return {
            "metric": self.metric,
            "threshold": self.value,
            "threshold_source": self.source,
            **({"threshold_by_fold": list(self.by_fold.values())} if self.by_fold else {}),
            "threshold_errors": self.errors or None,
        }


def own(context: Context, value: float | None = None, far: float | None = None) -> Threshold:
    """Return the preset's threshold, its one at a FAR, or one given by hand in its metric, without its errors."""
    metric, limit, source = context.embedder.preset.decide(value, far, context.recipe.name)
    return Threshold(limit, metric, source if value is not None else f"preset: {source}")


def fixed(
    context: Context, value: float | None = None, far: float | None = None, *, executor: Executor = LOCAL
) -> Threshold:
    """Return the preset's threshold, or one given by hand, with its errors on all pairs of a data set.

    Args:
        context: the model, and the data set on which errors are measured, unless it is too large.
        value: given by hand, in the preset's metric; None for the preset's.
        far: false accept rate; the preset's threshold that was calibrated at it.
        executor: of the embedding.
    """
    threshold = own(context, value, far)
    if len(context.dataset) > MOST_MEASURED:
        return threshold
    curve = _curve(context, np.ones(len(context.dataset), bool), executor)
    errors = {} if curve is None else _errors(curve, threshold.value, "all pairs of the data set")
    return dataclasses.replace(threshold, errors=errors)


def at_far(context: Context, far: float, attacked: np.ndarray, *, executor: Executor = LOCAL) -> Threshold:
    """Find the highest threshold whose false accept rate is at most `far`, on people of whom no photograph is attacked.

    Args:
        context: the model, and the data set whose pairs of other people it is measured on.
        far: false accept rate, in (0, 1).
        attacked: indices of all photographs in attacked pairs.
        executor: of embedding and scoring.

    Raises:
        UserError: those people make too few impostor pairs to tell such a rate.
    """
    people = np.array(context.dataset.identities)
    free = ~np.isin(people, np.unique(people[attacked]))
    where = f"all pairs of {len(set(people[free].tolist()))} people who are in no attacked pair"
    advice = (
        "give a higher one, attack fewer pairs (`count`), take a larger data set, or calibrate the model "
        f"beforehand: `tfface calibrate {context.embedder.preset.name}` with `far` {far:g}"
    )
    curve = _curve(context, free, executor)
    if curve is None:
        raise UserError(f"`far` {far:g}: {where} are too few to tell: {advice}", parameter="far")
    try:
        value = max(curve.threshold_at_far(far), 0.0)
    except UserError as error:
        reason = str(error).split(":")[0]
        raise UserError(f"`far` {far:g}: {reason} ({where}): {advice}", parameter="far") from error
    metric = context.embedder.preset.metric
    return Threshold(value, metric, f"FAR {far:g} on {where}", errors=_errors(curve, value, where))


def by_fold(context: Context, pairs: Pairs, *, executor: Executor = LOCAL) -> Threshold:
    """Choose for each fold of a list the threshold that is best on the others, as View 2 is judged.

    Args:
        context: the model and the data set.
        pairs: the whole list, genuine and impostor pairs.
        executor: of the embedding.

    Raises:
        UserError: the list has fewer than two folds, or one without pairs of a kind.
    """
    found = context.embeddings(executor)
    cosine = cosine_distance(found.vectors[pairs.first], found.vectors[pairs.second])
    cosine = np.where(found.ok[pairs.first] & found.ok[pairs.second], cosine, np.nan)
    metric = context.embedder.preset.metric
    threshold = best_by_fold(pairs, cosine, metric, f"each fold of {pairs.name} from the others (mean)")
    usable = np.isfinite(cosine)
    curve = ErrorCurve.from_scores(from_cosine(cosine[usable], metric), pairs.same[usable])
    where = f"all folds of {pairs.name}, at the mean threshold"
    return dataclasses.replace(threshold, errors=_errors(curve, threshold.value, where))


def by_noisy_fold(context: Context, pairs: Pairs, cosine: np.ndarray) -> Threshold:
    """Choose for each fold the threshold that is best on the others, for photographs under one draw of noise.

    Not on photographs as they are: noise drives pairs apart, and the verdict on noisy copies is smoothed.

    Args:
        context: the model and the data set.
        pairs: the whole list, genuine and impostor pairs.
        cosine: (P,) distances of noisy copies; NaN where a photograph could not be cropped.

    Raises:
        UserError: the list has fewer than two folds.
    """
    source = f"each fold of {pairs.name} from the others, one noisy copy of each photograph (mean)"
    return best_by_fold(pairs, cosine, context.embedder.preset.metric, source)


def best_by_fold(pairs: Pairs, cosine: np.ndarray, metric: str, source: str) -> Threshold:
    """Choose for each fold the threshold that is best on the other folds.

    Args:
        pairs: the whole list.
        cosine: (P,) cosine distances; NaN where a photograph could not be cropped.
        metric: of the threshold.
        source: of the threshold, in words.

    Raises:
        UserError: the list has fewer than two folds.
    """
    if len(np.unique(pairs.fold)) < 2:
        raise UserError(
            f"{pairs.name} has one fold only, and `fold_thresholds` takes each fold's from the others",
            parameter="fold_thresholds",
        )
    usable = np.isfinite(cosine)
    fold = pairs.fold[usable]
    folds = kfold(from_cosine(cosine[usable], metric), pairs.same[usable], fold)
    numbers = map(int, np.unique(fold).tolist())
    return Threshold(folds.threshold, metric, source, dict(zip(numbers, folds.thresholds, strict=True)))


def _curve(context: Context, chosen: np.ndarray, executor: Executor) -> ErrorCurve | None:
    """Count errors over all pairs of the chosen photographs; None where they make no pairs of a kind."""
    found = context.embeddings(executor)
    chosen = chosen & found.ok
    people = np.unique(np.array(context.dataset.identities)[chosen], return_inverse=True)[1]
    sizes = np.bincount(people)
    if len(sizes) < 2 or sizes.max() < 2:
        return None
    images = np.flatnonzero(chosen)
    scores = all_pairs(found.vectors, people, images=images, seed=context.seed, executor=executor)
    return ErrorCurve.from_region(scores.total, context.embedder.preset.metric)


def _errors(curve: ErrorCurve, value: float, where: str) -> dict[str, Any]:
    return {
        "far": curve.far(value),
        "tar": 1 - curve.frr(value),
        "genuine": curve.genuine,
        "impostor": curve.impostors,
        "measured_on": where,
    }

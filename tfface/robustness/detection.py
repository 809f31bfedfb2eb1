"""Detection of attacked photographs by squeezed views, also where the attack knows of it."""

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.errors import UserError
from tfface.metrics.intervals import wilson
from tfface.metrics.roc import ErrorCurve
from tfface.robustness.run import Inputs
from tfface.robustness.trial import BATCH, Trial
from tfface.utils.cache import cached
from tfface.utils.progress import progress

if TYPE_CHECKING:
    from tfface.attacks._victim import Victim
    from tfface.defenses._detection import Detector

logger = logging.getLogger(__name__)

Metrics = dict[str, Any]
_FORMAT = 2


@dataclass(frozen=True)
class DetectionConfig:
    """Configuration of a detector and of the attacks on it.

    Attributes:
        views: defenses whose disagreement is the score; none for the detector's own.
        false_positives: share of clean photographs that may be called attacked.
        photographs: number of clean ones, of people in no attacked pair, on which the limit is chosen.
        weight: of the detector in the loss of the attack that knows it.
    """

    views: tuple[str, ...] = ()
    false_positives: float = 0.05
    photographs: int = 400
    weight: float = 1.0


def detect(trial: Trial, config: DetectionConfig) -> Metrics:
    """Attack a trial's pairs at its one epsilon, unaware of the detector and then against it; cached.

    Args:
        trial: on pairs, with one epsilon, seeing the model itself.
        config: of the detector.

    Raises:
        UserError: too few people are in no attacked pair to set the detector on.
    """
    assert len(trial.epsilons) == 1 and trial.subjects.limits is not None, "pairs at one epsilon"
    fingerprint = {"format": _FORMAT, "trial": trial.fingerprint(), "watch": dataclasses.asdict(config)}
    return cached("detection", fingerprint, lambda: _detect(trial, config))


def _detect(trial: Trial, config: DetectionConfig) -> Metrics:
    from tfface.attacks._victim import Victim
    from tfface.defenses._detection import VIEWS, Detector, Evading

    context, goal = trial.context, trial.subjects.goal
    detector = Detector(context.embedder, config.views or VIEWS)
    others = _others(trial, config.photographs)
    logger.warning(f"{trial.label}: detector set on {len(others)} clean photographs")
    clean = np.concatenate([detector.scores(images) for images in _crops(trial, others)])
    limit = float(np.quantile(clean, 1 - config.false_positives, method="higher"))
    knowing = Victim(detector.model, Evading(context.victim(goal).goal, limit, weight=config.weight))
    made = {"unaware": context.victim(goal), "adaptive": knowing}
    found = {name: _attacked(trial, detector, victim, name) for name, victim in made.items()}
    return {
        "views": list(detector.views),
        "goal": goal,
        "attack": trial.name,
        "epsilon": trial.epsilons[0],
        "limit": limit,
        "false_positives": config.false_positives,
        "set_on": f"{len(clean)} clean photographs of people in no attacked pair",
        "weight": config.weight,
        **{name: _entry(*scores, limit) for name, scores in found.items()},
    }


def _others(trial: Trial, count: int) -> np.ndarray:
    """Draw photographs of people in no attacked pair."""
    subjects, dataset = trial.subjects, trial.context.dataset
    people = np.array(dataset.identities)
    assert subjects.second is not None, "pairs"
    shown = np.unique(people[np.concatenate([subjects.first, subjects.second])])
    free = np.flatnonzero(~np.isin(people, shown))
    if not len(free):
        raise UserError(
            f"every person of {dataset.name} is in an attacked pair, so that no photograph is left to set the detector "
            "on: attack fewer pairs (`count`), or take a larger data set",
            parameter="count",
        )
    return np.sort(np.random.default_rng(trial.context.seed).choice(free, min(count, len(free)), replace=False))


def _crops(trial: Trial, indices: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(indices), BATCH):
        images, failed = trial.context.crops(indices[start : start + BATCH])
        yield images[[not reason for reason in failed]]


_Scores = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of each attacked photograph: the score before and after the attack, and if it now fools the model."""


def _attacked(trial: Trial, detector: "Detector", victim: "Victim", label: str) -> _Scores:
    """Attack all pairs that the model gets right."""
    from tfface.attacks._attack import run

    context, plain = trial.context, trial.context.victim(trial.subjects.goal)
    before, after, fooled = [], [], []
    starts = range(0, len(trial.subjects), BATCH)
    for start in progress(
        starts, total=len(starts), label=f"{trial.label} against a detector, {label}", unit="batches"
    ):
        inputs = Inputs.of(trial, np.arange(start, min(start + BATCH, len(trial.subjects))))
        inputs = inputs.at(inputs.cropped)
        if not len(inputs.images):
            continue
        targets = plain.targets(inputs.given, inputs.limits)
        left = np.flatnonzero(~plain.assess(inputs.images, targets)[0])
        if not len(left):
            continue
        images, targets, keys = inputs.images[left], targets[left], inputs.keys[left]
        outcome = run(trial.attack, victim, images, targets, trial.epsilons[0], seed=context.seed, keys=keys)
        before.append(detector.scores(images))
        after.append(detector.scores(outcome.images))
        fooled.append(plain.assess(outcome.images, targets)[0])
    parts = (before, after, fooled)
    return tuple(np.concatenate(part) if part else np.zeros(0) for part in parts)  # type: ignore[return-value]


def _entry(before: np.ndarray, after: np.ndarray, fooled: np.ndarray, limit: float) -> Metrics:
    """Return AUC and rates; an attack that does not fool the model is none to detect."""
    attacked, fooled = len(fooled), fooled.astype(bool)
    scores = after[fooled]
    unseen = wilson(int((fooled & (after <= limit)).sum()), attacked) if attacked else None
    caught = wilson(int((scores > limit).sum()), len(scores)) if len(scores) else None
    alarms = wilson(int((before > limit).sum()), attacked) if attacked else None
    curve = None
    if len(scores):
        same = np.arange(attacked + len(scores)) < attacked
        curve = ErrorCurve.from_scores(np.concatenate([before, scores]), same)
    return {
        "attacked": attacked,
        "fooled": int(fooled.sum()),
        "auc": curve.auc() if curve else None,
        "caught": {"value": caught.value, "ci95": caught.ci95} if caught else None,
        "fooled_unseen": {"value": unseen.value, "ci95": unseen.ci95} if unseen else None,
        "false_alarms": {"value": alarms.value, "ci95": alarms.ci95} if alarms else None,
        # (false alarms, caught) at every limit, from the highest down.
        "roc": [] if curve is None else _roc(curve),
    }


def _roc(curve: ErrorCurve) -> list[list[float]]:
    accepted = np.stack([curve.genuine_accepted / curve.genuine, curve.impostor_accepted / curve.impostors], axis=1)
    return np.round([*(1 - accepted)[::-1], [1.0, 1.0]], 6).tolist()

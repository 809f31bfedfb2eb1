"""How a hardened student does under what it is hardened against, on the people who validate.

An epoch of a hardened student is judged by the mean of two balanced accuracies: of the validating
people's photographs as they are, and of a draw of their pairs under attack (or of all pairs under
noise). So neither is bought with all of the other, and no held-out person has a say.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import keras
import numpy as np

from tfface.errors import UserError
from tfface.metrics.roc import ErrorCurve
from tfface.training.hardening import Hardening
from tfface.training.validation import Validation

if TYPE_CHECKING:
    from tfface.attacks._victim import Victim

PAIRS = 200
"""Of each kind that are attacked at every epoch, drawn once."""
STEPS = 10
"""Of PGD, at the training's own epsilon."""
_BATCH = 64

Judge = Callable[[float], float]
"""The threshold (a cosine distance) that was chosen on photographs as they are, to the balanced accuracy."""


def hard_validation(validation: Validation, student: keras.Model, hardening: Hardening, *, seed: int) -> Judge:
    """What judges a student under attack, or under noise, whenever it is called.

    Args:
        validation: the validating people's crops.
        student: (N, S, S, 3) in [0, 1] to (N, D) unit vectors; its weights at the time of the call count.
        hardening: what it is hardened against.
        seed: of the pairs, the attacks' random starts and the noise.
    """
    if hardening.adversarial:
        return _UnderAttack(validation, student, hardening.epsilon, seed)
    return lambda threshold: under_noise(validation, student, hardening.sigma, seed)


def under_noise(validation: Validation, student: keras.Model, sigma: float, seed: int) -> float:
    """Balanced accuracy of noisy photographs against clean references, at the threshold that is best for them."""
    images = validation.images.astype(np.float32) / 255
    noise = np.random.default_rng(seed).standard_normal(images.shape, np.float32)
    first, second = np.triu_indices(len(images), 1)
    probes, references = _embed(student, images + np.float32(sigma) * noise), _embed(student, images)
    distances = 1 - (probes.astype(np.float64) @ references.T)[first, second]
    if not np.isfinite(distances).all():
        raise UserError("the training diverged, its embeddings are no numbers: give a lower --learning-rate")
    curve = ErrorCurve.from_scores(np.clip(distances, 0, 2), validation.same)
    return curve.accuracy(curve.best_threshold())


@dataclass(frozen=True, eq=False)
class _UnderAttack:
    """Balanced accuracy of drawn pairs, the first photograph of each under PGD towards the wrong answer."""

    validation: Validation
    student: keras.Model
    epsilon: float
    seed: int

    def __call__(self, threshold: float) -> float:
        return float(np.mean([self._survive(goal, threshold) for goal in ("dodging", "impersonation")]))

    def _survive(self, goal: str, threshold: float) -> float:
        from tfface.attacks._attack import run
        from tfface.attacks.pgd import PGD

        victim, images = self._victims[goal], self.validation.images
        first, second = self._pairs[goal]
        fell = 0
        for rows in _batches(len(first)):
            targets = victim.targets(_scaled(images[second[rows]]), threshold)
            outcome = run(
                PGD(steps=STEPS),
                victim,
                _scaled(images[first[rows]]),
                targets,
                self.epsilon,
                seed=self.seed,
                keys=np.arange(rows.start, rows.stop),
            )
            fell += int(outcome.success.sum())
        return 1 - fell / len(first)

    @cached_property
    def _victims(self) -> "dict[str, Victim]":
        from tfface.attacks._criteria import GOALS
        from tfface.attacks._victim import Victim
        from tfface.training.input_gradient import with_fast_input_gradient

        network = with_fast_input_gradient(self.student)
        return {goal: Victim(network, GOALS[goal]()) for goal in ("dodging", "impersonation")}

    @cached_property
    def _pairs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By goal the places (P,) of the photographs that are changed, and of their references."""
        first, second = np.triu_indices(len(self.validation.images), 1)
        random = np.random.default_rng(self.seed)
        found = {}
        for goal, same in (("dodging", True), ("impersonation", False)):
            places = np.flatnonzero(self.validation.same == same)
            drawn = np.sort(random.choice(places, min(PAIRS, len(places)), replace=False))
            found[goal] = (first[drawn], second[drawn])
        return found


def _scaled(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / np.float32(255)


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _BATCH, count)) for start in range(0, count, _BATCH))


def _embed(student: keras.Model, images: np.ndarray) -> np.ndarray:
    # One batch at a time: `predict` builds a new pipeline at each call, whose memory adds up.
    return np.concatenate([np.asarray(student.predict_on_batch(images[rows])) for rows in _batches(len(images))])

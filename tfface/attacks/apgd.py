"""Auto-PGD: PGD with momentum whose step shrinks by itself where the climb stalls."""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfface.attacks import _norms
from tfface.attacks._attack import Attack, random_start
from tfface.attacks._victim import Batch, Victim
from tfface.errors import UserError

_MOMENTUM = 0.75
_FIRST_PERIOD, _SHRINKING, _SHORTEST = 0.22, 0.03, 0.06
"""Of the steps: until the first checkpoint, by how much each period is shorter than the last, and its floor."""
_RISING = 0.75
"""The step is halved where fewer than this share of a period's steps rose."""


@dataclass(frozen=True, kw_only=True)
class APGD(Attack):
    """PGD that halves its step at checkpoints where it no longer gains, and goes on from its best point.

    The objective is the criterion's margin. For pairs it is the cosine itself, up to a constant: the ratio of logits
    that AutoAttack adds for classifiers (DLR) has no meaning there, as any monotone loss has the same gradient sign.

    Paper: https://arxiv.org/abs/2003.01690, Algorithm 1, with its first step of 2 epsilon and its checkpoints.

    Attributes:
        steps: gradients of one attempt.
        restarts: random starts that are tried on an image until one succeeds.
    """

    title = "APGD"
    paper = "Croce and Hein 2020, https://arxiv.org/abs/2003.01690"
    deterministic = False

    steps: int = 100
    restarts: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 2 or self.restarts < 1:
            raise UserError(f"APGD needs at least two steps and one start, not {self.steps} and {self.restarts}")

    @property
    def attempts(self) -> int:
        return self.restarts

    def perturb(self, victim: Victim, batch: Batch) -> np.ndarray:
        """Return the point of the highest margin."""
        climb = _Climb(self, victim, batch)
        marks = set(checkpoints(self.steps))
        for number in range(1, self.steps):
            climb.step(momentum=_MOMENTUM if number > 1 else 1.0)
            if number in marks:
                climb.adapt()
        return climb.best


def checkpoints(steps: int) -> list[int]:
    """Return the steps after which the step size is looked at (equation 2 of the paper and below)."""
    places, period = [0.0, _FIRST_PERIOD], _FIRST_PERIOD
    while places[-1] < 1:
        period = max(period - _SHRINKING, _SHORTEST)
        places.append(places[-1] + period)
    return [math.ceil(round(place * steps, 6)) for place in places[1:] if place < 1]


class _Climb:
    """One attempt at a batch: where each image stands, and the best point that it has seen."""

    def __init__(self, attack: APGD, victim: Victim, batch: Batch) -> None:
        self._victim, self._batch, self._norm = victim, batch, attack.norm
        self._move = victim.compiled(("move", attack), self._moved)
        self._current = self._before = random_start(batch, attack.norm)
        self._gradient, self._margin = self._look(self._current)
        self.best, self._best_gradient, self._best_margin = self._current.copy(), self._gradient, self._margin.copy()
        self._size = 2 * batch.epsilon.astype(np.float32)
        self._rises, self._length = np.zeros(len(batch), int), 0
        self._at_last = (self._size.copy(), self._best_margin.copy())

    def step(self, *, momentum: float) -> None:
        """Take one step, and its gradient."""
        shares = np.full(len(self._current), momentum, np.float32)
        arguments = (self._current, self._before, self._gradient, self._batch.images)
        moved = self._move(*arguments, self._size, self._batch.epsilon, shares).numpy()
        self._before, self._current = self._current, moved
        last = self._margin
        self._gradient, self._margin = self._look(moved)
        self._rises += self._margin > last
        self._length += 1
        higher = self._margin > self._best_margin
        self.best[higher], self._best_margin[higher] = moved[higher], self._margin[higher]
        self._best_gradient = np.where(higher[:, None, None, None], self._gradient, self._best_gradient)

    def adapt(self) -> None:
        """Halve the step of the images whose climb has stalled, and put them back on their best point."""
        size, best = self._at_last
        few = self._rises < _RISING * self._length
        halved = few | ((size == self._size) & (best == self._best_margin))
        self._at_last = (self._size.copy(), self._best_margin.copy())
        self._size = np.where(halved, self._size / 2, self._size).astype(np.float32)
        rows = halved[:, None, None, None]
        self._current = np.where(rows, self.best, self._current)
        self._gradient = np.where(rows, self._best_gradient, self._gradient)
        self._margin = np.where(halved, self._best_margin, self._margin)
        self._rises, self._length = np.zeros_like(self._rises), 0

    def _look(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gradient, _, margin = self._victim.gradient(images, self._batch.targets)
        return gradient.numpy(), margin.numpy()

    def _moved(
        self,
        current: tf.Tensor,
        before: tf.Tensor,
        gradient: tf.Tensor,
        clean: tf.Tensor,
        size: tf.Tensor,
        epsilon: tf.Tensor,
        momentum: tf.Tensor,
    ) -> tf.Tensor:
        def inside(images: tf.Tensor) -> tf.Tensor:
            return tf.clip_by_value(_norms.project(images, clean, epsilon, self._norm), 0.0, 1.0)

        ahead = inside(current + tf.reshape(size, (-1, 1, 1, 1)) * _norms.steepest(gradient, self._norm))
        share = tf.reshape(momentum, (-1, 1, 1, 1))
        return inside(current + share * (ahead - current) + (1 - share) * (current - before))


ATTACK = APGD

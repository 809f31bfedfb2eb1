"""The one loop of all gradient attacks: gradient, step, projection, and again.

An attack of this kind sets where the loop starts, in which direction it steps and how far. FGSM is
this loop with one step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfface.attacks import _norms
from tfface.attacks._attack import Attack, Victim
from tfface.attacks._batch import Batch
from tfface.errors import UserError


@dataclass(frozen=True, kw_only=True)
class GradientAttack(Attack):
    """An attack that climbs the loss.

    Attributes:
        steps: gradients taken.
    """

    steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise UserError(f"{self.title} needs at least one step, not {self.steps}")

    def start(self, batch: Batch) -> np.ndarray:
        """Where the loop starts, (N, H, W, C); at the clean images unless an attack says otherwise."""
        return batch.images

    def direction(self, gradient: tf.Tensor, velocity: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(direction of length 1, what is carried on to the next step)."""
        return _norms.steepest(gradient, self.norm), velocity

    def step_size(self, epsilon: tf.Tensor) -> tf.Tensor:
        """(N,) how far a step goes, in the unit of epsilon."""
        return epsilon

    def move(
        self, images: tf.Tensor, velocity: tf.Tensor, gradient: tf.Tensor, clean: tf.Tensor, epsilon: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One step from `images`, back onto the ball and into [0, 1]; (images, velocity)."""
        direction, velocity = self.direction(gradient, velocity)
        moved = images + tf.reshape(self.step_size(epsilon), (-1, 1, 1, 1)) * direction
        return tf.clip_by_value(_norms.project(moved, clean, epsilon, self.norm), 0.0, 1.0), velocity

    def perturb(self, victim: Victim, batch: Batch) -> np.ndarray:
        """The last iterate."""
        return self._climb(victim, batch)[0]

    def proposals(self, victim: Victim, batch: Batch) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The last iterate; then, since it may have stepped out again, the last of those that succeeded."""
        last, succeeded, ever = self._climb(victim, batch)
        yield np.arange(len(batch)), last
        yield np.flatnonzero(ever), succeeded[ever]

    def _climb(self, victim: Victim, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(last iterate, last iterate that succeeded before it, whether one did)."""
        move, start = victim.compiled(("move", self), self.move), self.start(batch)
        current = tf.constant(start)
        clean = current if start is batch.images else tf.constant(batch.images)
        epsilon, velocity = tf.constant(batch.epsilon, tf.float32), tf.zeros_like(clean)
        succeeded, ever = current, tf.zeros(len(batch), tf.bool)
        for _ in range(self.steps):
            gradient, success, _ = victim.gradient(current, batch.targets)
            if tf.reduce_any(success):
                succeeded = tf.where(success[:, None, None, None], current, succeeded)
                ever |= success
            current, velocity = move(current, velocity, gradient, clean, epsilon)
        return current.numpy(), succeeded.numpy(), ever.numpy()

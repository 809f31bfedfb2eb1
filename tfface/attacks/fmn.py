"""Fast minimum-norm attack: the smallest change that succeeds, in few gradients."""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfface.attacks import _norms
from tfface.attacks._attack import Attack
from tfface.attacks._victim import Batch, Victim
from tfface.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FMN(Attack):
    """Follows the margin's gradient on a ball that shrinks while the image succeeds and grows while it does not.

    Both the step and the ball's rate of change fall along a cosine. It fills no budget: epsilon plays no part until
    `run` projects the result.

    Paper: https://arxiv.org/abs/2102.12827. Its first ball, before anything has succeeded, reaches the nearest point
    of a linear model.

    Attributes:
        steps: gradients taken.
        step: first L2 length of a step in units of an image's values, as the paper has it; the last is a hundredth.
        gamma: first relative change of the ball; the last is `last_gamma`.
        last_gamma: of the last step.
    """

    title = "FMN"
    paper = "Pintor et al. 2021, https://arxiv.org/abs/2102.12827"
    minimal_norm = True

    steps: int = 100
    step: float = 1.0
    gamma: float = 0.05
    last_gamma: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or not self.step > 0 or not 0 < self.last_gamma <= self.gamma < 1:
            raise UserError("FMN needs at least one step, a positive `step`, and 0 < last_gamma <= gamma < 1")

    def perturb(self, victim: Victim, batch: Batch) -> np.ndarray:
        """Return the nearest images that succeed; clean where none does."""
        clean, targets = batch.images, batch.targets
        best, nearest = clean.copy(), np.full(len(batch), np.inf)
        current, radius = clean, np.full(len(batch), np.inf)
        move = victim.compiled(("move", self), self._moved)
        for number in range(self.steps):
            gradient, success, margin = (part.numpy() for part in victim.gradient(current, targets))
            reach = _norms.distance(current, clean, self.norm)
            nearer = success & (reach < nearest)
            best[nearer], nearest[nearer] = current[nearer], reach[nearer]
            gamma = _annealed(self.gamma, self.last_gamma, number, self.steps)
            grown = np.where(np.isinf(nearest), reach + _linear(gradient, margin, self.norm), radius * (1 + gamma))
            radius = np.where(success, np.minimum(radius * (1 - gamma), nearest), grown)
            length = _annealed(self.step, self.step / 100, number, self.steps)
            lengths = np.full(len(batch), length, np.float32)
            limit = np.minimum(radius, 1e6).astype(np.float32)
            current = move(current, gradient, clean, lengths, limit).numpy()
        success, _ = victim.assess(current, targets)
        nearer = success & (_norms.distance(current, clean, self.norm) < nearest)
        best[nearer] = current[nearer]
        return best

    def _moved(
        self, current: tf.Tensor, gradient: tf.Tensor, clean: tf.Tensor, lengths: tf.Tensor, limit: tf.Tensor
    ) -> tf.Tensor:
        size = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3), keepdims=True))
        moved = current + tf.reshape(lengths, (-1, 1, 1, 1)) * tf.math.divide_no_nan(gradient, size)
        return tf.clip_by_value(_norms.project(moved, clean, limit, self.norm), 0.0, 1.0)


def _annealed(first: float, last: float, number: int, steps: int) -> float:
    """Return the value at a step on half a cosine from `first` down to `last`."""
    return last + (first - last) * (1 + math.cos(math.pi * number / steps)) / 2


def _linear(gradient: np.ndarray, margin: np.ndarray, norm: str) -> np.ndarray:
    """Return (N,) how far, in the unit of epsilon, a linear model with this gradient is from success."""
    values = gradient.reshape(len(gradient), -1).astype(np.float64)
    slope = np.abs(values).sum(1) if norm == "linf" else np.sqrt(np.square(values).sum(1) * values.shape[1])
    return np.divide(np.abs(margin), slope, out=np.full(len(slope), 1.0), where=slope > 0)


ATTACK = FMN

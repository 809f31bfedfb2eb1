"""Carlini and Wagner's L2 attack: the smallest change that succeeds, by optimisation."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfface.attacks._attack import Attack
from tfface.attacks._victim import Batch, Victim
from tfface.errors import UserError

_INSIDE = 0.999999
"""Keeps arctanh finite where a value is 0 or 1."""
_BETA_1, _BETA_2, _TINY = 0.9, 0.999, 1e-8
_ROUNDS = 10
"""How often in a search for one constant the loss is looked at, to stop where it falls no more."""


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(Attack):
    """Minimises the squared L2 length of the change plus c times what the goal's margin lacks.

    The image is tanh of what Adam moves, so it stays in [0, 1]; c is found for each image by growing it
    tenfold and bisection. It fills no budget: epsilon plays no part until `run` projects the result.

    Paper: https://arxiv.org/abs/1608.04644.

    Attributes:
        steps: of Adam for one c. The paper allows 10,000; a search that falls no more stops by itself.
        searches: values of c tried on an image.
        initial_constant: the first c.
        learning_rate: of Adam.
        confidence: margin of a success.
    """

    title = "C&W"
    paper = "Carlini and Wagner 2017, https://arxiv.org/abs/1608.04644"
    norms = ("l2",)
    minimal_norm = True

    norm: str = "l2"
    steps: int = 1000
    searches: int = 9
    initial_constant: float = 1e-3
    learning_rate: float = 1e-2
    confidence: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.searches < 1:
            raise UserError(f"C&W needs at least one step and one search, not {self.steps} and {self.searches}")

    def perturb(self, victim: Victim, batch: Batch) -> np.ndarray:
        """Return the nearest images that succeed; clean where none does."""
        best, count = batch.images.copy(), len(batch)
        nearest = np.full(count, np.inf)
        constant = np.full(count, self.initial_constant)
        low, high = np.zeros(count), np.full(count, np.inf)
        for _ in range(self.searches):
            succeeded = self._search(victim, batch, constant, best, nearest)
            high = np.where(succeeded, constant, high)
            low = np.where(succeeded, low, constant)
            constant = np.where(np.isinf(high), constant * 10, (low + high) / 2)
        return best

    def _search(
        self, victim: Victim, batch: Batch, constant: np.ndarray, best: np.ndarray, nearest: np.ndarray
    ) -> np.ndarray:
        """Run Adam for one c an image; write nearer images into `best`, return (N,) bool: c is large enough."""
        images, targets = batch.images, batch.targets
        step = victim.compiled(("step", self), _Step(victim, self))
        round_length = max(1, self.steps // _ROUNDS)
        succeeded = np.zeros(len(images), bool)
        rows = np.arange(len(images))
        point = np.arctanh((2 * images - 1) * np.float32(_INSIDE))
        state = [point, np.zeros_like(images), np.zeros_like(images)]
        before = np.full(len(images), np.inf)
        for number in range(self.steps):
            if number % round_length == 0:
                # Only the last round counts for c: the first steps of Adam overshoot.
                succeeded[rows] = False
            inputs = (images[rows], targets[rows], constant[rows].astype(np.float32))
            *state, changed, success, squares, loss = (
                part.numpy() for part in step(*state, *inputs, np.full(len(rows), number + 1, np.float32))
            )
            nearer = success & (squares < nearest[rows])
            best[rows[nearer]], nearest[rows[nearer]] = changed[nearer], squares[nearer]
            succeeded[rows] |= success
            if (number + 1) % round_length == 0:
                falling = loss < 0.9999 * before[rows]
                before[rows] = loss
                rows, state = rows[falling], [part[falling] for part in state]
                if not len(rows):
                    break
        return succeeded


class _Step:
    """One step of Adam on a batch, each image with its own c."""

    def __init__(self, victim: Victim, attack: CarliniWagner) -> None:
        self.victim = victim
        self.attack = attack

    def __call__(
        self,
        point: tf.Tensor,
        mean: tf.Tensor,
        square: tf.Tensor,
        clean: tf.Tensor,
        targets: tf.Tensor,
        constant: tf.Tensor,
        number: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        goal, confidence = self.victim.goal, self.attack.confidence
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(point)
            images = (tf.tanh(point) + 1) / 2
            # A fresh draw at each step: Adam averages over them.
            outputs = self.victim.forward(images, number)
            squares = tf.reduce_sum(tf.square(images - clean), axis=(1, 2, 3))
            margin = goal.margin(outputs, targets)
            loss = squares + constant * tf.nn.relu(confidence - margin)
        gradient = tape.gradient(loss, point)
        mean = _BETA_1 * mean + (1 - _BETA_1) * gradient
        square = _BETA_2 * square + (1 - _BETA_2) * tf.square(gradient)
        rate = self.attack.learning_rate * tf.sqrt(1 - _BETA_2**number) / (1 - _BETA_1**number)
        moved = point - tf.reshape(rate, (-1, 1, 1, 1)) * mean / (tf.sqrt(square) + _TINY)
        if self.victim.drawn is not None:
            # What one draw says is neither a success nor a reason to stop.
            outputs = self.victim.forward(images)
            margin = goal.margin(outputs, targets)
            loss = squares + constant * tf.nn.relu(confidence - margin)
        success = goal.success(outputs, targets) & (margin >= confidence)
        return moved, mean, square, images, success, squares, loss


ATTACK = CarliniWagner

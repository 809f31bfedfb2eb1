"""Nesterov's momentum over scaled copies: gradients that look ahead and depend less on one model."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfface.attacks import _norms
from tfface.attacks._victim import Batch, Victim
from tfface.attacks.mim import MIM
from tfface.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SINI(MIM):
    """MIM with each gradient the mean over darker copies of the point ahead.

    Paper: https://arxiv.org/abs/1908.06281 (SI-NI-FGSM): the i-th copy is divided by 2^i, i from 0.

    Attributes:
        steps: number of steps, each of epsilon / steps.
        decay: of the momentum.
        copies: number of copies.
    """

    title = "SI-NI"
    paper = "Lin et al. 2020, https://arxiv.org/abs/1908.06281"

    copies: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.copies < 1:
            raise UserError(f"SI-NI needs at least one copy, not {self.copies}")

    def ascent(
        self, victim: Victim, batch: Batch, images: tf.Tensor, velocity: tf.Tensor, carried: dict[str, Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        ahead = images
        if carried["step"]:
            size = tf.constant(batch.epsilon, tf.float32) / self.steps
            ahead = images + self.decay * tf.reshape(size, (-1, 1, 1, 1)) * _norms.steepest(velocity, self.norm)
        gradients = [victim.gradient(ahead / 2**copy, batch.targets)[0] / 2**copy for copy in range(self.copies)]
        return tf.add_n(gradients) / self.copies, tf.zeros(len(batch), tf.bool)


ATTACK = SINI

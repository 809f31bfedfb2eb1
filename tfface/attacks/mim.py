"""The momentum iterative method: steps along an accumulated gradient."""

from dataclasses import dataclass

import tensorflow as tf

from tfface.attacks import _norms
from tfface.attacks._attack import GradientAttack


@dataclass(frozen=True, kw_only=True)
class MIM(GradientAttack):
    """Each step follows the sum of past gradients, L1-normalised and decayed, so that it escapes poor maxima.

    Paper: https://arxiv.org/abs/1710.06081.

    Attributes:
        steps: how many, each of epsilon / steps.
        decay: what is left of the accumulated gradient at each step.
    """

    title = "MIM"
    paper = "Dong et al. 2018, https://arxiv.org/abs/1710.06081"

    steps: int = 10
    decay: float = 1.0

    def direction(self, gradient: tf.Tensor, velocity: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        size = tf.reduce_sum(tf.abs(gradient), axis=(1, 2, 3), keepdims=True)
        velocity = self.decay * velocity + tf.math.divide_no_nan(gradient, size)
        return _norms.steepest(velocity, self.norm), velocity

    def step_size(self, epsilon: tf.Tensor) -> tf.Tensor:
        return epsilon / self.steps


ATTACK = MIM

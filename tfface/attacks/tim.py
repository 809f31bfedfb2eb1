"""Translation-invariant gradients: MIM along a smoothed gradient."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfface.attacks.mim import MIM
from tfface.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TIM(MIM):
    """MIM with each gradient convolved with a Gaussian, in place of many moved copies of the image.

    Paper: https://arxiv.org/abs/1904.02884; its kernel of 15 pixels for images of 299, Gaussian to three deviations.

    Attributes:
        steps: number of steps, each of epsilon / steps.
        decay: of the momentum.
        kernel: side of the Gaussian, odd, in pixels.
    """

    title = "TIM"
    paper = "Dong et al. 2019, https://arxiv.org/abs/1904.02884"

    kernel: int = 15

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel < 1 or not self.kernel % 2:
            raise UserError(f"TIM's kernel has an odd side, not {self.kernel}")

    def direction(self, gradient: tf.Tensor, velocity: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        weights = tf.constant(gaussian(self.kernel))[:, :, None, None]
        kernel = tf.tile(weights, (1, 1, gradient.shape[-1], 1))
        return super().direction(tf.nn.depthwise_conv2d(gradient, kernel, (1, 1, 1, 1), "SAME"), velocity)


def gaussian(side: int) -> np.ndarray:
    """Return a Gaussian (side, side) that ends at three deviations, with sum 1."""
    values = np.exp(-np.square(np.linspace(-3, 3, side)) / 2) if side > 1 else np.ones(1)
    kernel = np.outer(values, values)
    return (kernel / kernel.sum()).astype(np.float32)


ATTACK = TIM

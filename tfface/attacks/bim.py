"""The basic iterative method: FGSM in small steps."""

from dataclasses import dataclass

import tensorflow as tf

from tfface.attacks._gradient import GradientAttack
from tfface.errors import UserError


@dataclass(frozen=True, kw_only=True)
class BIM(GradientAttack):
    """Small steps from the clean image, each projected onto the ball.

    Paper: https://arxiv.org/abs/1607.02533.

    Attributes:
        steps: how many.
        alpha: length of a step, in the unit of epsilon. None: 2.5 epsilon / steps, so that the steps reach the
            ball's edge and can turn there. The paper steps by one grey level (1/255), which is the same for every
            epsilon, but cannot reach a large one.
    """

    title = "BIM"
    paper = "Kurakin et al. 2017, https://arxiv.org/abs/1607.02533"

    steps: int = 20
    alpha: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None and not 0 < self.alpha <= 1:
            raise UserError(f"a step of {self.alpha} is outside (0, 1], the unit of epsilon")

    def step_size(self, epsilon: tf.Tensor) -> tf.Tensor:
        return 2.5 / self.steps * epsilon if self.alpha is None else tf.fill(tf.shape(epsilon), self.alpha)


ATTACK = BIM

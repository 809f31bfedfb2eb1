"""Projected gradient descent: BIM from a random point of the ball, with restarts."""

from dataclasses import dataclass

import numpy as np

from tfface.attacks._attack import IterativeAttack, random_start
from tfface.attacks._victim import Batch
from tfface.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PGD(IterativeAttack):
    """Small steps from a random point of the ball.

    Paper: https://arxiv.org/abs/1706.06083, whose 40 steps are those of its MNIST experiments and whose step of
    2.5 epsilon / steps is that of its appendix.

    Attributes:
        steps: number of steps.
        alpha: length of a step, in the unit of epsilon. None: 2.5 epsilon / steps.
        restarts: random starts that are tried on an image until one succeeds.
    """

    title = "PGD"
    paper = "Madry et al. 2018, https://arxiv.org/abs/1706.06083"
    deterministic = False

    steps: int = 40
    restarts: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restarts < 1:
            raise UserError(f"PGD needs at least one random start, not {self.restarts}")

    @property
    def attempts(self) -> int:
        return self.restarts

    def start(self, batch: Batch) -> np.ndarray:
        return random_start(batch, self.norm)


ATTACK = PGD

"""Projected gradient descent: BIM from a random point of the ball, with restarts."""

from dataclasses import dataclass

import numpy as np

from tfface.attacks import norms
from tfface.attacks.bim import BIM
from tfface.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PGD(BIM):
    """Small steps from a random point of the ball.

    Paper: https://arxiv.org/abs/1706.06083, whose 40 steps are those of its MNIST experiments and whose step of
    2.5 epsilon / steps is that of its appendix.

    Attributes:
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

    def start(
        self, images: np.ndarray, epsilon: np.ndarray, *, seed: int, keys: np.ndarray, restart: int
    ) -> np.ndarray:
        changes = [
            norms.random_change(images.shape[1:], self.norm, seed=seed, key=key, restart=restart)
            for key in keys.tolist()
        ]
        return (images + epsilon[:, None, None, None] * np.stack(changes)).clip(0, 1)


ATTACK = PGD

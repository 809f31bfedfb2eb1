"""Variance-tuned momentum: gradients corrected by how they differ around the last iterate."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfface.attacks._victim import Batch, Victim
from tfface.attacks.mim import MIM
from tfface.errors import UserError


@dataclass(frozen=True, kw_only=True)
class VMI(MIM):
    """MIM with each gradient moved by the last iterate's variance: its neighbours' mean gradient less its own.

    Paper: https://arxiv.org/abs/2103.15571 (VMI-FGSM).

    Attributes:
        steps: number of steps, each of epsilon / steps.
        decay: of the momentum.
        neighbours: points drawn around an iterate.
        radius: of the cube that they are drawn from, in epsilons.
    """

    title = "VMI"
    paper = "Wang and He 2021, https://arxiv.org/abs/2103.15571"
    deterministic = False

    neighbours: int = 20
    radius: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.neighbours < 1 or not self.radius > 0:
            raise UserError(f"VMI needs at least one neighbour and a positive radius, not {self.neighbours}")

    def ascent(
        self, victim: Victim, batch: Batch, images: tf.Tensor, velocity: tf.Tensor, carried: dict[str, Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        own, success, _ = victim.gradient(images, batch.targets)
        tuned = own + carried.get("variance", 0.0)
        if carried["step"] < self.steps - 1:
            near = [victim.gradient(images + change, batch.targets)[0] for change in self._changes(batch, carried)]
            carried["variance"] = tf.add_n(near) / self.neighbours - own
        return tuned, success

    def _changes(self, batch: Batch, carried: dict[str, Any]) -> np.ndarray:
        """Draw moves to neighbours, float32 (neighbours, N, H, W, C)."""
        shape = (self.neighbours, *batch.images.shape[1:])
        draws = [
            np.random.default_rng([batch.seed, key, batch.restart, carried["step"]]).uniform(-1, 1, shape)
            for key in batch.keys.tolist()
        ]
        return (np.stack(draws, 1) * self.radius * batch.epsilon[:, None, None, None]).astype(np.float32)


ATTACK = VMI

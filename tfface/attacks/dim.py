"""Diverse inputs: MIM whose every gradient sees the image at another size and place."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfface.attacks._victim import Batch, Victim
from tfface.attacks.mim import MIM
from tfface.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DIM(MIM):
    """MIM with each gradient taken at a copy that is shrunk and moved at random.

    Paper: https://arxiv.org/abs/1803.06978, which enlarges an image of 299 pixels to at most 330 and pads it to that.
    Face embedders take one input size, so here the copy is shrunk to at least `smallest` and padded back to its own.

    Attributes:
        steps: number of steps, each of epsilon / steps.
        decay: of the momentum.
        probability: of changing an image at a step.
        smallest: side of the smallest copy, as a share of the image's.
    """

    title = "DIM"
    paper = "Xie et al. 2019, https://arxiv.org/abs/1803.06978"
    deterministic = False

    probability: float = 0.5
    smallest: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.probability <= 1 or not 0 < self.smallest <= 1:
            raise UserError("DIM needs a probability in [0, 1] and a smallest copy in (0, 1]")

    def ascent(
        self, victim: Victim, batch: Batch, images: tf.Tensor, velocity: tf.Tensor, carried: dict[str, Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        moves = np.stack([self._draw(batch, key, carried["step"]) for key in batch.keys.tolist()])
        moved = victim.compiled(("moved", self), _moved)(images, moves)
        gradient, _, _ = victim.gradient(moved, batch.targets)
        back = victim.compiled(("back", self), _moved_back)(gradient, images, moves)
        return back, tf.zeros(len(batch), tf.bool)  # its copies say nothing of the image itself

    def _draw(self, batch: Batch, key: int, step: int) -> np.ndarray:
        """Draw a projective transform from the copy's pixels to the image's, float32 (8,)."""
        random = np.random.default_rng([batch.seed, key, batch.restart, step])
        changed, share, left, top = random.random(4)
        scale = self.smallest + (1 - self.smallest) * share if changed < self.probability else 1.0
        height, width = batch.images.shape[1:3]
        x, y = left * (1 - scale) * width, top * (1 - scale) * height
        return np.array([1 / scale, 0, -x / scale, 0, 1 / scale, -y / scale, 0, 0], np.float32)


def _moved(images: tf.Tensor, moves: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=moves,
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def _moved_back(gradient: tf.Tensor, images: tf.Tensor, moves: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape() as tape:
        tape.watch(images)
        copies = _moved(images, moves)
    return tape.gradient(copies, images, output_gradients=gradient)


ATTACK = DIM

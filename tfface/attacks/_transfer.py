"""Black box by transfer: the attack is made on a surrogate and judged on the victim."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfface.attacks._attack import Attack
from tfface.attacks._criteria import Criterion
from tfface.attacks._victim import Batch, Victim, as_victim, metric_of
from tfface.errors import UserError


def resized(model: keras.Model, size: Sequence[int]) -> keras.Model:
    """Put a differentiable antialiased resize in front of a model, for images (H, W) of another size than its own.

    Args:
        model: (N, h, w, 3) in.
        size: H and W.
    """
    height, width, channels = model.input_shape[1:]
    if (height, width) == tuple(size):
        return model
    inputs = keras.Input((*size, channels))
    outputs = model(keras.layers.Resizing(height, width, antialias=True)(inputs))
    return keras.Model(inputs, outputs, name=model.name)


@dataclass(frozen=True, kw_only=True, eq=False)
class Transfer(Attack):
    """An attack that sees a surrogate instead of the victim.

        attacks.Transfer(inner=attacks.PGD(), surrogate=other)(embedder, images, criterion, epsilon=4 / 255)

    Paper: https://arxiv.org/abs/1602.02697.

    Attributes:
        norm: that of `inner`.
        inner: the attack on the surrogate.
        surrogate: an embedder or a Keras model; for `run` a victim of the attacked model's input size (see
            `resized`), with its criterion.
        surrogate_targets: for `run`, the criterion's targets for the surrogate, one row for each of `keys`.
        keys: whose targets they are, as `run` gets them; absent, the keys are 0, 1, 2 ...
    """

    paper = "Papernot et al. 2017, https://arxiv.org/abs/1602.02697"
    black_box = True

    norm: str = ""
    inner: Attack
    surrogate: Any
    surrogate_targets: np.ndarray | None = None
    keys: np.ndarray | None = None

    def __post_init__(self) -> None:
        # All of it follows from the inner attack; frozen as it is, it is told so this once.
        for name, value in {
            "norm": self.inner.norm,
            "title": f"{self.inner.title} transferred",
            "deterministic": self.inner.deterministic,
            "minimal_norm": self.inner.minimal_norm,
        }.items():
            object.__setattr__(self, name, value)

    def aimed_at(self, embedder: Any, images: np.ndarray, criterion: Criterion) -> tuple[Attack, Victim, np.ndarray]:
        _, victim, targets = super().aimed_at(embedder, images, criterion)
        model = getattr(self.surrogate, "model", self.surrogate)
        if not isinstance(model, keras.Model):
            raise UserError("`surrogate` gives no gradients: give an embedder or a Keras model", parameter="surrogate")
        seen = as_victim(resized(model, victim.input_shape[:2]), criterion, images)
        own = criterion.own_targets(seen.outputs, metric_of(embedder))
        return dataclasses.replace(self, surrogate=seen, surrogate_targets=own), victim, targets

    @property
    def attempts(self) -> int:
        return self.inner.attempts

    def record(self) -> dict[str, Any]:
        return {**self.inner.record(), "inner": self.inner.title, "surrogate": self.surrogate.name}

    def perturb(self, victim: Victim, batch: Batch) -> np.ndarray:
        size = batch.images.shape[1:]
        if size != self.surrogate.input_shape:
            raise UserError(f"the surrogate takes {self.surrogate.input_shape}, not {size}: resize it")
        assert self.surrogate_targets is not None, "made for the surrogate"
        own = self.surrogate_targets[self._rows(batch.keys)]
        return self.inner.perturb(self.surrogate, dataclasses.replace(batch, targets=own))

    def _rows(self, keys: np.ndarray) -> np.ndarray:
        if self.keys is None:
            return keys
        order = np.argsort(self.keys)
        return order[np.searchsorted(self.keys, keys, sorter=order)]

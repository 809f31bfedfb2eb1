"""Black box by transfer: the attack is made on a surrogate and judged on the victim."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfface.attacks._attack import Attack, Victim
from tfface.attacks._batch import Batch
from tfface.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence


def resized(model: keras.Model, size: "Sequence[int]") -> keras.Model:
    """The model behind a differentiable antialiased resize, for images (H, W) of another size than its own.

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

        surrogate = Victim(resized(other.model, victim.input_shape[:2]), victim.goal)
        attack = Transfer(inner=PGD(), surrogate=surrogate, surrogate_targets=surrogate.targets(references, limits))

    Attributes:
        norm: that of `inner`.
        inner: the attack on the surrogate.
        surrogate: of the victim's input size (see `resized`), with its goal.
        surrogate_targets: the goal's targets for the surrogate, one row for each of `keys`.
        keys: whose targets they are, as `run` gets them; absent, the keys are 0, 1, 2 ...
    """

    paper = "Papernot et al. 2017, https://arxiv.org/abs/1602.02697"
    black_box = True

    norm: str = ""
    inner: Attack
    surrogate: Victim
    surrogate_targets: np.ndarray
    keys: np.ndarray | None = None

    def __post_init__(self) -> None:
        # What it is follows from the inner attack; frozen as it is, it is told so this once.
        for name, value in {
            "norm": self.inner.norm,
            "title": f"{self.inner.title} transferred",
            "deterministic": self.inner.deterministic,
            "minimal_norm": self.inner.minimal_norm,
        }.items():
            object.__setattr__(self, name, value)

    @property
    def attempts(self) -> int:
        return self.inner.attempts

    def record(self) -> dict[str, Any]:
        return {**self.inner.record(), "inner": self.inner.title, "surrogate": self.surrogate.model.name}

    def perturb(self, victim: Victim, batch: Batch) -> np.ndarray:
        size = batch.images.shape[1:]
        if size != self.surrogate.input_shape:
            raise UserError(f"the surrogate takes {self.surrogate.input_shape}, not {size}: resize it")
        own = self.surrogate_targets[self._rows(batch.keys)]
        return self.inner.perturb(self.surrogate, dataclasses.replace(batch, targets=own))

    def _rows(self, keys: np.ndarray) -> np.ndarray:
        if self.keys is None:
            return keys
        order = np.argsort(self.keys)
        return order[np.searchsorted(self.keys, keys, sorter=order)]

"""Corruptions: every image changed by one stated amount, to measure a model under it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfface.augmentation.levels import Level, key_number, parse

if TYPE_CHECKING:
    import tensorflow as tf

CORRUPTIONS = {
    "rotation": Level("degrees, to a side drawn for each image", 0, 180),
    "zoom": Level("times as large", 0.5, 4),
    "brightness": Level("of the full range added", -1, 1),
    "contrast": Level("times the contrast", 0, 4),
    "blur": Level("pixels of Gaussian sigma", 0, 20),
    "jpeg": Level("of quality", 1, 100, whole=True),
    "noise": Level("of the full range, standard deviation of Gaussian noise", 0, 1),
    "occlusion": Level("of the sides of a grey square, at a place drawn for each image", 0, 1),
}
"""What a crop can be measured under; pixels are those of the model's input."""

_FORMAT = 1


@dataclass(frozen=True)
class Corruption:
    """One change of every crop, before the model sees it; faces are found in the photograph as it is.

    Attributes:
        name: one of `CORRUPTIONS`.
        severity: in its unit.
        seed: of what it draws (a side, a place, noise), for each image by its key alone.
    """

    name: str
    severity: float
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.severity:g}"

    def record(self) -> dict[str, Any]:
        """Return what cache keys hold of the corruption, JSON-able."""
        return {"format": _FORMAT, **dataclasses.asdict(self)}

    def change(self) -> "Callable[[tf.Tensor, tf.Tensor], tf.Tensor]":
        """Return a function (image float32 (H, W, 3) in [0, 1], key) -> corrupted image, for a `tf.data` pipeline."""
        import tensorflow as tf

        from tfface.augmentation import fixed_changes
        from tfface.augmentation.random_changes import ImageSeeds

        step, number = getattr(fixed_changes, self.name)(self.severity), key_number(self.name)

        def change(image: "tf.Tensor", key: "tf.Tensor") -> "tf.Tensor":
            return tf.clip_by_value(step(image, ImageSeeds(self.seed, key, number)), 0.0, 1.0)

        return change


def corruption(text: str, seed: int = 0) -> Corruption:
    """Parse the corruption `NAME:severity`.

    Raises:
        UserError: no such corruption, no severity, or one out of range.
    """
    return Corruption(*parse("corruption", text, CORRUPTIONS), seed)

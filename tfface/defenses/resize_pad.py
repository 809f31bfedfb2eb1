"""Random resize and pad: the face a little smaller, somewhere on a black ground."""

from typing import Any, ClassVar

import numpy as np
from keras import ops

from tfface.augmentation.changes import Level
from tfface.defenses._defense import Defense, register
from tfface.defenses._randomness import image_seeds, uniform


@register
class ResizePad(Defense):
    """Scales each image to a random smaller square and puts it in a random place of a black one of the old size.

    The paper draws a side from 299 to 331 pixels and pads to 331; here the network's input stays as it is, so an
    image is scaled down in the same proportion, to 0.9 of its side at least. Bilinear, as the paper's; side and
    place are a function of the image's 8-bit values and the seed (see `tfface.defenses._randomness`, also for what
    that leaves to an attacker). The gradient is the operation's own, at the draw made.

    Paper: https://arxiv.org/abs/1711.01991.
    """

    title = "random resize and pad"
    paper = "Xie et al. 2018, https://arxiv.org/abs/1711.01991"
    deterministic = False
    differentiable = True
    options: ClassVar[dict[str, Level]] = {
        "smallest": Level("of the side, at least", 0.1, 1, default=0.9),
        "seed": Level("seed", 0, 2**31 - 1, default=0, whole=True),
    }

    smallest: float
    seed: int

    def call(self, images: Any, draws: Any = None) -> Any:
        size = images.shape[1]
        side, top, left = self.place(images, draws)
        rows, columns = _scaling(size, side, top), _scaling(size, side, left)
        return ops.einsum("npw,nowc->nopc", columns, ops.einsum("noh,nhwc->nowc", rows, images))

    def place(self, images: Any, draws: Any = None) -> tuple[Any, Any, Any]:
        """Draw for images (N, S, S, C) the side and the upper left corner, float32 (N,) whole numbers."""
        size = images.shape[1]
        least = max(1, round(self.smallest * size))
        numbers = uniform(image_seeds(images, self.seed, draws), 3)
        side = least + ops.floor(numbers[:, 0] * (size - least + 1))
        top, left = (ops.floor(numbers[:, axis] * (size - side + 1)) for axis in (1, 2))
        return side, top, left


def _scaling(size: int, side: Any, start: Any) -> Any:
    """Return the matrix (N, size, size) that scales an axis linearly to `side` places from `start` on."""
    side, start = (ops.reshape(value, (-1, 1)) for value in (side, start))
    within = np.arange(size, dtype=np.float32)[None] - start
    source = ops.clip((within + 0.5) * (size / side) - 0.5, 0.0, size - 1.0)
    inside = ops.cast(ops.logical_and(within >= 0, within < side), "float32")
    near = ops.relu(1.0 - ops.abs(ops.expand_dims(source, 2) - np.arange(size, dtype=np.float32)))
    return near * ops.expand_dims(inside, 2)


DEFENSE = ResizePad

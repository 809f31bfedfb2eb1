"""Gaussian noise averaging: the direction of the mean embedding of noisy copies."""

import math
from typing import Any, ClassVar

from keras import ops

from tfface.augmentation.changes import Level
from tfface.defenses._defense import Defense, register
from tfface.defenses._randomness import image_seeds, normal


@register
class Noise(Defense):
    """Copies of each image, each under Gaussian noise of its own; what follows embeds and averages them.

    Noisy values are not clipped, as in the papers. The noise is a function of the image's 8-bit values and the
    seed (see `tfface.defenses._randomness`, also for what that leaves to an attacker).

    Papers: Cohen et al. 2019, https://arxiv.org/abs/1902.02918, who average a classifier's answers over noise of
    standard deviation 0.12 and more; Cao and Gong 2017, https://arxiv.org/abs/1709.05583, over a region around the
    image. An embedder that never saw noise in training bears less of it.
    """

    title = "Gaussian noise averaging"
    paper = "Cohen et al. 2019, https://arxiv.org/abs/1902.02918"
    deterministic = False
    differentiable = True
    options: ClassVar[dict[str, Level]] = {
        "sigma": Level("of the full range, standard deviation", 0, 1, default=0.12),
        "copies": Level("noisy copies", 1, 1000, default=10, whole=True),
        "seed": Level("seed", 0, 2**31 - 1, default=0, whole=True),
    }

    sigma: float
    copies: int
    seed: int

    def call(self, images: Any, draws: Any = None) -> Any:
        shape = images.shape[1:]
        copies = self.copies if draws is None else 1
        count = math.prod(shape)
        # All copies of an image draw from its one seed: its noise is one long row.
        noise = normal(image_seeds(images, self.seed, draws), copies * count)
        return ops.repeat(images, copies, axis=0) + self.sigma * ops.reshape(noise, (-1, *shape))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (None, *input_shape[1:])


DEFENSE = Noise

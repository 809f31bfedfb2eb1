"""Bit-depth reduction: fewer levels a channel, so that small changes round away."""

from typing import Any, ClassVar

from keras import ops

from tfface.augmentation.changes import Level
from tfface.defenses._defense import Defense, register, straight_through


@register
class BitDepth(Defense):
    """Rounds every value to one of 2^bits levels; the gradient passes through as if it did not.

    Paper: feature squeezing, https://arxiv.org/abs/1704.01155, whose best settings for colour photographs have 5 bits.
    """

    title = "bit-depth reduction"
    paper = "Xu et al. 2018, https://arxiv.org/abs/1704.01155"
    options: ClassVar[dict[str, Level]] = {"bits": Level("bits a channel", 1, 8, default=5, whole=True)}

    bits: int

    def call(self, images: Any, draws: Any = None) -> Any:
        levels = 2.0**self.bits - 1

        def rounded(values: Any) -> Any:
            return ops.round(ops.clip(values, 0.0, 1.0) * levels) / levels

        return straight_through(rounded)(images)


DEFENSE = BitDepth

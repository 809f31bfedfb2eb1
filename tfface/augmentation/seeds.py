"""Where one image's random draws come from.

Imports Keras: import it where an image is changed, not before.
"""

from typing import Any

import keras
import tensorflow as tf


class ImageSeeds(keras.random.SeedGenerator):
    """The seeds that one image draws from: a new one at each `next()`, all of the given numbers alone.

    Keras's own generator goes on from one image to the next, so that what an image gets would hang
    on how many came before it; a run that goes on in the middle would make other images.

    Args:
        numbers: ints or integer tensors: the seed, the image's key, its copy ...
    """

    def __init__(self, *numbers: Any) -> None:
        # The parent's own would make the variable that this class is there to do without.
        self._seed = tf.zeros(2, tf.int32)
        for number in numbers:
            number = number % 2**62 if isinstance(number, int) else number
            self._seed = tf.random.fold_in(self._seed, tf.cast(number, tf.int64))
        self._drawn = 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        """A seed that was not given before, int32 (2,)."""
        self._drawn += 1
        return tf.random.fold_in(self._seed, self._drawn)

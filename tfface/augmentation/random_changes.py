"""Changes of the augmentations: a strength gives a change drawn anew for each image.

The functions bear the names of `tfface.augmentation.changes.KINDS`. Imports Keras: import it where
an image is changed, not before.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from tfface.augmentation import pixels


class ImageSeeds(keras.random.SeedGenerator):
    """Seeds of one image: a new one at each `next()`, derived from the given numbers alone.

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
        """Return a seed that was not given before, int32 (2,)."""
        self._drawn += 1
        return tf.random.fold_in(self._seed, self._drawn)


Change = Callable[[tf.Tensor, ImageSeeds], tf.Tensor]
"""(H, W, 3) float32 in [0, 1] and the image's seeds -> the image changed."""


def rotation(degrees: float) -> Change:
    """Turn by up to so many degrees, each way; what comes in at the corners is mirrored."""
    return of_layer(layers.RandomRotation(degrees / 360, dtype="float32"))


def zoom(share: float) -> Change:
    """Show up to this share less or more of the sides; what comes in at the edges is mirrored."""
    return of_layer(layers.RandomZoom((-share, share), dtype="float32"))


def flip(_: float) -> Change:
    """Mirror left to right, half of the time."""
    return of_layer(layers.RandomFlip("horizontal", dtype="float32"))


def crop(share: float) -> Change:
    """Cut this share off the sides, leaving any part, and scale that up again."""

    def change(image: tf.Tensor, seeds: ImageSeeds) -> tf.Tensor:
        # Keras's RandomCrop must know the size when it is made, and leaves images smaller.
        sides = image.shape[:2]
        kept = [max(round(side * (1 - share)), 1) for side in sides]
        free = tf.constant([side - part + 1 for side, part in zip(sides, kept, strict=True)], tf.float32)
        corner = tf.cast(tf.random.stateless_uniform((2,), seeds.next()) * free, tf.int32)
        part = tf.slice(image, tf.concat([corner, [0]], 0), [*kept, 3])
        return tf.image.resize(part, sides, antialias=True)

    return change


def brightness(most: float) -> Change:
    """Add or take away up to this part of the full range."""
    return of_layer(layers.RandomBrightness(most, value_range=(0, 1), dtype="float32"))


def contrast(most: float) -> Change:
    """Multiply differences from each channel's mean by 1 plus or minus up to this."""
    # Of a single number Keras makes 0 to `most`, so that contrast would only rise.
    return of_layer(layers.RandomContrast((most, most), value_range=(0, 1), dtype="float32"))


def blur(sigma: float) -> Change:
    """Blur with a Gaussian of up to so many pixels."""
    return lambda image, seeds: pixels.blur(image, tf.random.stateless_uniform((), seeds.next()) * sigma)


def jpeg(quality: float) -> Change:
    """Compress as a JPEG file of this quality to 95 (or to this, if it is higher)."""
    lowest, highest = int(quality), max(int(quality), 95)

    def change(image: tf.Tensor, seeds: ImageSeeds) -> tf.Tensor:
        return pixels.jpeg(image, tf.random.stateless_uniform((), seeds.next(), lowest, highest + 1, tf.int32))

    return change


def of_layer(layer: layers.Layer) -> Change:
    """Wrap a Keras layer so that it draws from the image's seeds instead of its own."""
    # In a tf.data pipeline all is TensorFlow, whatever backend the models run on.
    layer.backend.set_backend("tensorflow")

    def change(image: tf.Tensor, seeds: ImageSeeds) -> tf.Tensor:
        batch = image[None]
        drawn = layer.get_random_transformation(batch, seed=seeds)
        return tf.ensure_shape(layer.transform_images(batch, drawn)[0], image.shape)

    return change

"""Changes of the corruptions: a severity gives a change of just that amount.

The functions bear the names of `tfface.augmentation.changes.CORRUPTIONS`. Imports Keras:
import it where an image is changed, not before.
"""

import tensorflow as tf
from keras import layers

from tfface.augmentation import pixels
from tfface.augmentation.random_changes import Change, ImageSeeds, of_layer

GREY = 0.5


def rotation(degrees: float) -> Change:
    """Turn by so many degrees, to a side that is drawn; what comes in at the corners is mirrored."""
    part = degrees / 360
    turns = [of_layer(layers.RandomRotation((way, way), dtype="float32")) for way in (part, -part)]

    def change(image: tf.Tensor, seeds: ImageSeeds) -> tf.Tensor:
        left = tf.random.stateless_uniform((), seeds.next()) < 0.5
        return tf.cond(left, lambda: turns[0](image, seeds), lambda: turns[1](image, seeds))

    return change


def zoom(factor: float) -> Change:
    """Make the face so many times as large; what comes in at the edges is mirrored."""
    seen = 1 / factor - 1
    return of_layer(layers.RandomZoom((seen, seen), dtype="float32"))


def brightness(added: float) -> Change:
    """Add this to every value."""
    return of_layer(layers.RandomBrightness((added, added), value_range=(0, 1), dtype="float32"))


def contrast(factor: float) -> Change:
    """Multiply differences from each channel's mean."""

    def change(image: tf.Tensor, seeds: ImageSeeds) -> tf.Tensor:
        mean = tf.reduce_mean(image, (0, 1), keepdims=True)
        return mean + (image - mean) * factor

    return change


def blur(sigma: float) -> Change:
    """Blur with a Gaussian of so many pixels."""
    return lambda image, seeds: pixels.blur(image, sigma)


def jpeg(quality: float) -> Change:
    """Compress as a JPEG file of this quality."""
    return lambda image, seeds: pixels.jpeg(image, int(quality))


def noise(deviation: float) -> Change:
    """Add Gaussian noise of this standard deviation to every value."""
    return lambda image, seeds: image + deviation * tf.random.stateless_normal(image.shape, seeds.next())


def occlusion(share: float) -> Change:
    """Cover a square of this share of the sides with grey, at a place that is drawn."""

    def change(image: tf.Tensor, seeds: ImageSeeds) -> tf.Tensor:
        inside = []
        for side, position in zip(
            image.shape[:2], tf.unstack(tf.random.stateless_uniform((2,), seeds.next())), strict=True
        ):
            length = round(side * share)
            start = tf.cast(position * (side - length + 1), tf.int32)
            inside.append((tf.range(side) >= start) & (tf.range(side) < start + length))
        covered = inside[0][:, None, None] & inside[1][None, :, None]
        return tf.where(covered, GREY, image)

    return change

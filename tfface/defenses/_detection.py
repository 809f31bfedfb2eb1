"""Detection of attacked images: a model agrees with itself when a clean image is squeezed.

Feature squeezing (Xu et al. 2018, https://arxiv.org/abs/1704.01155), for embeddings: the score of an
image is the largest cosine distance between its embedding and those of its squeezed views. An attack
tuned to the model's exact input seldom holds for all of them, unless it was made to (`Evading`).
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfface.attacks._criteria import Criterion, Model
from tfface.defenses._defense import parse, register
from tfface.errors import UserError
from tfface.models._embedder import Embedder

VIEWS = ("bit-depth:bits=5", "median:window=2", "jpeg:quality=75")
"""The paper's squeezers for colour photographs but for its slow one, in whose place JPEG stands."""


@register
class Squeezed(keras.layers.Layer):
    """Each image followed by its squeezed views: (N, H, W, C) to (N * (1 + V), H, W, C)."""

    def __init__(self, views: Sequence[str], **arguments: Any) -> None:
        """
        Args:
            views: defenses as `parse` takes them, one copy of an image each.
            **arguments: of every Keras layer.

        Raises:
            UserError: there are none, or one makes several copies.
        """
        super().__init__(**{"dtype": "float32", "trainable": False, **arguments})
        self.views = [str(view) for view in views]
        self._squeezers = [parse(view) for view in views]
        if not views or any(squeezer.copies > 1 for squeezer in self._squeezers):
            raise UserError(f"views {', '.join(views) or '(none)'}: give one or more, each of one copy of an image")

    def build(self, input_shape: tuple) -> None:
        for squeezer in self._squeezers:
            squeezer.build(input_shape)

    def call(self, images: Any) -> Any:
        views = ops.stack([images, *(squeezer(images) for squeezer in self._squeezers)], axis=1)
        return ops.reshape(views, (-1, *images.shape[1:]))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (None, *input_shape[1:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "views": self.views}


@register
class Joined(keras.layers.Layer):
    """Rows that follow on each other and are of one image, side by side: (N * parts, D) to (N, parts * D)."""

    def __init__(self, parts: int, **arguments: Any) -> None:
        """
        Args:
            parts: rows of one image.
            **arguments: of every Keras layer.
        """
        super().__init__(**arguments)
        self.parts = parts

    def call(self, vectors: Any) -> Any:
        return ops.reshape(vectors, (-1, self.parts * vectors.shape[-1]))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return None, self.parts * input_shape[-1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "parts": self.parts}


@dataclass(frozen=True, eq=False)
class Detector:
    """Scores images by how far an embedder's answers to their squeezed views lie from its answer to them.

    Attributes:
        embedder: whose answers.
        views: defenses as `parse` takes them.
    """

    embedder: Embedder
    views: tuple[str, ...] = VIEWS

    @functools.cached_property
    def model(self) -> keras.Model:
        """Return a model from (N, H, W, 3) to (N, (1 + V) * D): an image's embedding, then those of its views."""
        network = self.embedder.model
        inputs = keras.Input(network.input_shape[1:], name="image")
        vectors = network(Squeezed(self.views)(inputs))
        return keras.Model(inputs, Joined(1 + len(self.views))(vectors), name="squeezed")

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Return (N,) float32 scores from 0 to 2: the larger, the less like a clean image."""
        return self._compiled(tf.convert_to_tensor(images)).numpy()

    @functools.cached_property
    def _compiled(self) -> Callable[[tf.Tensor], tf.Tensor]:
        model, size = self.model, self.embedder.model.output_shape[-1]
        return tf.function(
            lambda images: tf.reduce_max(disagreements(model(images, training=False), size), axis=1),
            reduce_retracing=True,
        )


def disagreements(outputs: tf.Tensor, size: int) -> tf.Tensor:
    """Return (N, V) cosine distances of each view's embedding to the image's.

    Args:
        outputs: (N, (1 + V) * D), as `Detector.model` gives them.
        size: D.
    """
    vectors = tf.reshape(outputs, (-1, outputs.shape[-1] // size, size))
    return 1.0 - tf.reduce_sum(vectors[:, 1:] * vectors[:, :1], axis=2)


class Evading(Criterion):
    """Another goal, reached without being detected, for an attacker who knows the detector.

    Outputs are a `Detector.model`'s. The loss is the goal's margin, up to a little above zero, less the views' mean
    distance to the image's embedding: once the goal is reached, all effort goes into pulling the views to it.

    Attributes:
        goal: what is wanted of the image's own embedding; on pairs.
        limit: the largest score that passes for clean.
        weight: of the distance in the loss.
        enough: the goal's margin above which more of it gains nothing.
    """

    name = "evading"
    dtype = "float32"

    def __init__(self, goal: Criterion, limit: float, *, weight: float = 1.0, enough: float = 0.05) -> None:
        self.goal = goal
        self.limit = limit
        self.weight = weight
        self.enough = enough

    def targets(self, model: Model, given: np.ndarray, thresholds: float | np.ndarray | None = None) -> np.ndarray:
        """Return the wrapped criterion's targets, of `model` without views."""
        return self.goal.targets(model, given, thresholds)

    def own_targets(self, model: Model, metric: str = "cosine") -> np.ndarray:
        return self.goal.own_targets(model, metric)

    def loss(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        own, apart = self._parts(outputs, targets)
        reached = tf.minimum(self.goal.margin(own, targets), self.enough)
        return reached - self.weight * tf.reduce_mean(apart, axis=1)

    def margin(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Return the lesser of the goal's and of what the score lies below its limit."""
        own, apart = self._parts(outputs, targets)
        return tf.minimum(self.goal.margin(own, targets), self.limit - tf.reduce_max(apart, axis=1))

    def success(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        own, apart = self._parts(outputs, targets)
        return self.goal.success(own, targets) & (tf.reduce_max(apart, axis=1) <= self.limit)

    @staticmethod
    def _parts(outputs: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the image's own embedding (N, D), and each view's distance to it (N, V)."""
        size = targets.shape[-1] - 1
        return outputs[:, :size], disagreements(outputs, size)

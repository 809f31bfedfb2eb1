"""Criteria of success: a class that is not the label, a genuine pair apart, an impostor pair together.

A criterion turns a model's outputs into a loss that attacks ascend, and says when they have won. Made with its
data, labels or references, it is what an attack is called with; without, its targets are made by `targets`.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfface.errors import UserError
from tfface.metrics.distances import to_cosine

_BATCH = 64

Model = Callable[[np.ndarray], Any]
"""Images (N, H, W, 3) to outputs (N, D)."""


class Criterion(abc.ABC):
    """Success of an attack, told from a model's outputs.

    Attributes:
        name: of the goal in options and results.
        dtype: of its targets.
    """

    name: ClassVar[str]
    dtype: ClassVar[str]

    @abc.abstractmethod
    def targets(self, model: Model, given: np.ndarray, thresholds: float | np.ndarray | None = None) -> np.ndarray:
        """Return all that loss and success need to know of each image, one row an image.

        Args:
            model: the attacked model, or anything else that maps images to its outputs.
            given: labels (N,), reference images (N, H, W, 3), or their embeddings (N, D).
            thresholds: cosine distances up to which a pair matches; one, or (N,). For pairs alone.
        """

    @abc.abstractmethod
    def own_targets(self, model: Model, metric: str = "cosine") -> np.ndarray:
        """Return the targets of the data that the criterion was made with.

        Args:
            model: as for `targets`.
            metric: of its threshold: `cosine` or `euclidean`.

        Raises:
            UserError: it was made without data.
        """

    @abc.abstractmethod
    def loss(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Return (N,) the loss that attacks ascend."""

    @abc.abstractmethod
    def margin(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Return (N,) by how much the attack has won; negative while it has not."""

    @abc.abstractmethod
    def success(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Return (N,) bool: the attack has won."""


class Misclassification(Criterion):
    """A classifier answers anything but the label; outputs are logits, targets the labels int64 (N,).

    Example:
        >>> import tensorflow as tf
        >>> criterion = Misclassification([0, 1])
        >>> criterion.success(tf.constant([[2.0, 1.0], [3.0, 1.0]]), criterion.own_targets(None)).numpy().tolist()
        [False, True]
    """

    name = "classify"
    dtype = "int64"

    def __init__(self, labels: Any = None) -> None:
        """
        Args:
            labels: (N,) int, the class of each image; None where targets are made by `targets`.
        """
        self.labels = labels

    def targets(
        self, model: Model | None, given: np.ndarray, thresholds: float | np.ndarray | None = None
    ) -> np.ndarray:
        labels = np.asarray(given)
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise UserError(f"labels are integers, one an image, not {labels.dtype} of shape {labels.shape}")
        return labels.astype(np.int64)

    def own_targets(self, model: Model | None, metric: str = "cosine") -> np.ndarray:
        if self.labels is None:
            raise UserError("the criterion has no `labels`: give the class of each image", parameter="labels")
        return self.targets(model, self.labels)

    def loss(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=outputs)

    def margin(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Return the best other logit minus the label's."""
        own = tf.one_hot(targets, outputs.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
        others = tf.where(own, tf.constant(-np.inf, outputs.dtype), outputs)
        return tf.reduce_max(others, axis=1) - tf.gather(outputs, targets, axis=1, batch_dims=1)

    def success(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return tf.argmax(outputs, axis=1) != targets


class _Pair(Criterion):
    """Base of criteria on the cosine distance to a reference.

    Targets are float32 (N, D + 1): the reference's unit embedding, and the pair's threshold.
    """

    dtype = "float32"

    def __init__(self, references: Any = None, *, threshold: Any = None) -> None:
        """
        Args:
            references: the other photograph of each pair: images (N, H, W, 3) float32 RGB in [0, 1], or their
                embeddings (N, D); None where targets are made by `targets`.
            threshold: distance up to which a pair matches, in the metric of the attacked embedder's preset (the
                cosine distance for models without one); one, or (N,).
        """
        self.references = references
        self.threshold = threshold

    def targets(self, model: Model, given: np.ndarray, thresholds: float | np.ndarray | None = None) -> np.ndarray:
        if thresholds is None:
            raise UserError(f"the goal {self.name} needs the `threshold` below which a pair matches: give one")
        given = np.asarray(given)
        if given.ndim == 2:
            vectors = given.astype(np.float32) / np.linalg.norm(given, axis=1, keepdims=True).astype(np.float32)
        else:
            batches = range(0, len(given), _BATCH)
            vectors = np.concatenate([np.asarray(model(given[start : start + _BATCH])) for start in batches])
        limits = np.broadcast_to(np.asarray(thresholds, np.float32), len(given))
        return np.concatenate([vectors, limits[:, None]], axis=1)

    def own_targets(self, model: Model, metric: str = "cosine") -> np.ndarray:
        if self.references is None:
            raise UserError(
                "the criterion has no `references`: give a photograph for each image", parameter="references"
            )
        if self.threshold is None:
            return self.targets(model, self.references)  # says what is missing
        limits = np.array([to_cosine(float(value), metric) for value in np.atleast_1d(self.threshold)])
        return self.targets(model, self.references, limits)

    @staticmethod
    def cosine(outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Return (N,) inner products with the references."""
        return tf.reduce_sum(outputs * targets[:, :-1], axis=1)


class Dodging(_Pair):
    """A genuine pair falls apart: its cosine distance exceeds the threshold.

    Example:
        >>> import tensorflow as tf
        >>> criterion = Dodging([[1.0, 0.0]], threshold=0.5)
        >>> criterion.success(tf.constant([[0.0, 1.0]]), criterion.own_targets(None)).numpy().tolist()
        [True]
    """

    name = "dodging"

    def loss(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return -self.cosine(outputs, targets)

    def margin(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Return the distance minus the threshold."""
        return 1.0 - self.cosine(outputs, targets) - targets[:, -1]

    def success(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return 1.0 - self.cosine(outputs, targets) > targets[:, -1]


class Impersonation(_Pair):
    """An impostor pair matches: its cosine distance is at most the threshold."""

    name = "impersonation"

    def loss(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return self.cosine(outputs, targets)

    def margin(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Return the threshold minus the distance; exactly at the threshold it is 0 and the pair matches."""
        return targets[:, -1] - (1.0 - self.cosine(outputs, targets))

    def success(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return 1.0 - self.cosine(outputs, targets) <= targets[:, -1]


GOALS: dict[str, Callable[[], Criterion]] = {
    "classify": Misclassification,
    "dodging": Dodging,
    "impersonation": Impersonation,
}
"""Criteria by the name of their goal."""

"""What an attack wants: a class that is not the label, a genuine pair apart, an impostor pair together.

A goal turns a model's outputs into a loss that the attack ascends, and says when it has won.
"""

import abc
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import tensorflow as tf

from tfface.errors import UserError

_BATCH = 64


class Criterion(abc.ABC):
    """What an attack wants of a model's outputs.

    Attributes:
        name: as options and results name it.
        dtype: of its targets.
    """

    name: ClassVar[str]
    dtype: ClassVar[str]

    @abc.abstractmethod
    def targets(
        self,
        model: Callable[[np.ndarray], tf.Tensor],
        given: np.ndarray,
        thresholds: float | np.ndarray | None = None,
    ) -> np.ndarray:
        """What loss and success need to know of each image, one row an image.

        Args:
            model: what is attacked, or anything else that maps images to its outputs.
            given: the labels (N,), or the reference images (N, H, W, 3).
            thresholds: cosine distances up to which a pair matches; one, or (N,). For pairs alone.
        """

    @abc.abstractmethod
    def loss(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """(N,) what the attack ascends."""

    @abc.abstractmethod
    def margin(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """(N,) by how much the attack has won; negative while it has not."""

    @abc.abstractmethod
    def success(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """(N,) bool: the attack has won."""


class Classify(Criterion):
    """A classifier answers anything but the label; outputs are logits, targets the labels int64 (N,)."""

    name = "classify"
    dtype = "int64"

    def targets(
        self,
        model: Callable[[np.ndarray], tf.Tensor],
        given: np.ndarray,
        thresholds: float | np.ndarray | None = None,
    ) -> np.ndarray:
        labels = np.asarray(given)
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise UserError(f"labels are whole numbers, one an image, not {labels.dtype} of shape {labels.shape}")
        return labels.astype(np.int64)

    def loss(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=outputs)

    def margin(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """The best other logit minus the label's."""
        own = tf.one_hot(targets, outputs.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
        others = tf.where(own, tf.constant(-np.inf, outputs.dtype), outputs)
        return tf.reduce_max(others, axis=1) - tf.gather(outputs, targets, axis=1, batch_dims=1)

    def success(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return tf.argmax(outputs, axis=1) != targets


class _Pair(Criterion):
    """Goals on the cosine distance to a reference image.

    Targets are float32 (N, D + 1): the reference's unit embedding, and the pair's threshold.
    """

    dtype = "float32"

    def targets(
        self,
        model: Callable[[np.ndarray], tf.Tensor],
        given: np.ndarray,
        thresholds: float | np.ndarray | None = None,
    ) -> np.ndarray:
        if thresholds is None:
            raise UserError(f"the goal {self.name} needs the threshold below which a pair matches: give one")
        batches = range(0, len(given), _BATCH)
        references = np.concatenate([np.asarray(model(given[start : start + _BATCH])) for start in batches])
        limits = np.broadcast_to(np.asarray(thresholds, np.float32), len(given))
        return np.concatenate([references, limits[:, None]], axis=1)

    @staticmethod
    def cosine(outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """(N,) the inner product with the reference."""
        return tf.reduce_sum(outputs * targets[:, :-1], axis=1)


class Dodging(_Pair):
    """A genuine pair falls apart: its cosine distance exceeds the threshold."""

    name = "dodging"

    def loss(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return -self.cosine(outputs, targets)

    def margin(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """The distance minus the threshold."""
        return 1.0 - self.cosine(outputs, targets) - targets[:, -1]

    def success(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return 1.0 - self.cosine(outputs, targets) > targets[:, -1]


class Impersonation(_Pair):
    """An impostor pair matches: its cosine distance is at most the threshold."""

    name = "impersonation"

    def loss(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return self.cosine(outputs, targets)

    def margin(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """The threshold minus the distance; exactly at the threshold it is 0 and the pair matches."""
        return targets[:, -1] - (1.0 - self.cosine(outputs, targets))

    def success(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return 1.0 - self.cosine(outputs, targets) <= targets[:, -1]


GOALS: dict[str, type[Criterion]] = {goal.name: goal for goal in (Classify, Dodging, Impersonation)}

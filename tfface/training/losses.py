"""Losses of distillation: the teacher's embeddings, the relations inside a batch, the teacher's last features.

In `keras.ops` alone. Embeddings are unit vectors, so cosines are inner products. An embedding says who it is; the
features that it is projected from say much else of the view (pose, light, expression), in many more values: they are
hints of the last layer (Romero et al. 2015, https://arxiv.org/abs/1412.6550).
"""

from typing import Any

import keras
from keras import ops

from tfface.errors import UserError


def pull(student: Any, teacher: Any) -> Any:
    """Return the mean cosine distance between each embedding and the teacher's of the same view.

    Args:
        student: (N, D) unit vectors.
        teacher: (N, D) unit vectors.
    """
    return 1.0 - ops.mean(ops.sum(student * teacher, axis=-1))


def relation(student: Any, teacher: Any) -> Any:
    """Return the mean squared difference of the cosines between all views of a batch.

    Relational distillation (Park et al. 2019, https://arxiv.org/abs/1904.05068) with cosines. The
    diagonal is 1 for both and counts for nothing.

    Args:
        student: (N, D) unit vectors, N at least 2.
        teacher: (N, D) unit vectors.
    """
    difference = ops.matmul(student, ops.transpose(student)) - ops.matmul(teacher, ops.transpose(teacher))
    count = ops.cast(ops.shape(student)[0], difference.dtype)
    return ops.sum(ops.square(difference)) / (count * (count - 1.0))


def contrast(student: Any, teacher: Any, *, temperature: float = 0.1) -> Any:
    """Return the cross-entropy of finding, among the teacher's embeddings of a batch, that of the same view.

    Contrastive distillation (Tian et al. 2020, https://arxiv.org/abs/1910.10699) within a batch.
    What the teacher itself takes for one person is no mistake: the target is the teacher's own
    distribution over the batch.

    Args:
        student: (N, D) unit vectors.
        teacher: (N, D) unit vectors.
        temperature: divides the cosines.
    """
    target = ops.softmax(ops.matmul(teacher, ops.transpose(teacher)) / temperature, axis=-1)
    scores = ops.log_softmax(ops.matmul(student, ops.transpose(teacher)) / temperature, axis=-1)
    return -ops.mean(ops.sum(target * scores, axis=-1))


def hint(foretold: Any, features: Any) -> Any:
    """Return the mean cosine distance between predicted features and the teacher's, standardised within a batch.

    Args:
        foretold: (N, F), the prediction.
        features: (N, F), the teacher's.
    """
    deviation = ops.std(features, axis=0, keepdims=True)
    features = (features - ops.mean(features, axis=0, keepdims=True)) / ops.maximum(deviation, 1e-6)
    return pull(unit(foretold), unit(features))


def unit(vectors: Any) -> Any:
    """Scale rows to length 1."""
    return vectors / ops.maximum(ops.norm(vectors, axis=-1, keepdims=True), 1e-6)


def answers_with_hints(network: keras.Model) -> keras.Model:
    """Make a teacher that returns its embeddings and, after them, its last features: (N, D + F) float32.

    Raises:
        UserError: its embedding is projected from nothing.
    """
    together = keras.layers.Concatenate(dtype="float32", name="answer")([network.output, _features(network)])
    return keras.Model(network.input, together, name=f"{network.name}_with_hints")


def with_features(network: keras.Model) -> keras.Model:
    """Make a student that returns its embedding, and the features that it is projected from.

    Raises:
        UserError: its embedding is projected from nothing.
    """
    return keras.Model(network.input, [network.output, _features(network)], name=f"{network.name}_with_features")


def _features(network: keras.Model) -> keras.KerasTensor:
    """Return the input of the last dense layer."""
    dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    if not dense:
        raise UserError(
            f"{network.name} has no dense layer whose input would be a hint: leave out `hint_weight`",
            parameter="hint_weight",
        )
    return dense[-1].input

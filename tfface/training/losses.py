"""What a student is pulled by: its teacher's embeddings, and the relations inside a batch.

In `keras.ops` alone. Embeddings are unit vectors, so cosines are inner products.
"""

from typing import Any

from keras import ops


def pull(student: Any, teacher: Any) -> Any:
    """Mean cosine distance between each embedding and the teacher's of the same view.

    Args:
        student: (N, D) unit vectors.
        teacher: (N, D) unit vectors.
    """
    return 1.0 - ops.mean(ops.sum(student * teacher, axis=-1))


def relation(student: Any, teacher: Any) -> Any:
    """Mean squared difference of the cosines between the views of a batch, each with each other.

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
    """Cross-entropy of telling, among the teacher's embeddings of a batch, that of the same view.

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
    """Mean cosine distance between what is foretold of each view's features and those, standardised within a batch.

    Args:
        foretold: (N, F).
        features: (N, F), the teacher's.
    """
    deviation = ops.std(features, axis=0, keepdims=True)
    features = (features - ops.mean(features, axis=0, keepdims=True)) / ops.maximum(deviation, 1e-6)
    return pull(unit(foretold), unit(features))


def unit(vectors: Any) -> Any:
    """Rows scaled to length 1."""
    return vectors / ops.maximum(ops.norm(vectors, axis=-1, keepdims=True), 1e-6)

"""The teacher's answers drawn to each person's center: what a student should give for all photographs of one person.

A teacher's answers to photographs of one person lie around a center, and what sets them apart from
it (pose, light, the view's own distortions) is what verification should not depend on: the idea of
center loss (Wen et al. 2016, https://doi.org/10.1007/978-3-319-46478-7_31), with centers of the
teacher instead of learned ones.
"""

import numpy as np

from tfface.metrics.distances import unit


def drawn_to_centers(answers: np.ndarray, people: np.ndarray, weight: float) -> np.ndarray:
    """Answers moved towards the mean of their person's, and scaled to length 1 again.

    Args:
        answers: (N, D) unit vectors.
        people: (N,) int, whose photograph each answers; from 0, without gaps.
        weight: 0 leaves them as they are, at 1 all of one person are the same.

    Returns:
        float32 (N, D). Who has one photograph keeps its answer.
    """
    answers = answers.astype(np.float32)
    sums = np.zeros((people.max() + 1, answers.shape[1]), np.float32)
    np.add.at(sums, people, answers)
    return unit((1 - weight) * answers + weight * unit(sums)[people])

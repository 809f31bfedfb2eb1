"""Rows as directions."""

import numpy as np


def unit(vectors: np.ndarray) -> np.ndarray:
    """Each row of (N, D) scaled to length 1, in the type it has; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.asarray(1e-12, lengths.dtype))

"""Distances of embeddings, error rates over pairs, and their intervals."""

from tfface.utils import registry

_NAMES = {
    "cosine_distance": "tfface.metrics.distances",
    "euclidean_distance": "tfface.metrics.distances",
    "from_cosine": "tfface.metrics.distances",
    "to_cosine": "tfface.metrics.distances",
    "bootstrap_median": "tfface.metrics.intervals",
    "student": "tfface.metrics.intervals",
    "wilson": "tfface.metrics.intervals",
    "ErrorCurve": "tfface.metrics.roc",
    "kfold": "tfface.metrics.roc",
}
_MODULES = ("all_pairs", "distances", "identity_errors", "intervals", "roc")

__all__ = [*_NAMES, *_MODULES]
__getattr__ = registry.attach(__name__, _NAMES, _MODULES)


def __dir__() -> list[str]:
    return sorted(__all__)

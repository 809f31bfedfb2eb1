"""The threshold of a smoothed verdict, never chosen on the pairs that it judges."""

from typing import TYPE_CHECKING

import numpy as np

from tfface.data.pairs import Pairs
from tfface.errors import UserError
from tfface.metrics.distances import from_cosine
from tfface.metrics.roc import kfold
from tfface.robustness.thresholds import Threshold

if TYPE_CHECKING:
    from tfface.robustness.certified_pairs import Smoothed


def by_fold(smoothed: "Smoothed", pairs: Pairs) -> Threshold:
    """For each fold the threshold that is best on the others, for photographs under one draw of the noise.

    Not on photographs as they are: noise drives pairs apart, and what is smoothed is the verdict on
    noisy copies.

    Args:
        smoothed: the model, the data and the noise.
        pairs: the whole list, genuine and impostor pairs.

    Raises:
        UserError: the list has fewer than two folds.
    """
    from tfface.robustness.certified_pairs import noisy_distances

    if len(np.unique(pairs.fold)) < 2:
        raise UserError(f"{pairs.name} has one fold only, and --fold-thresholds takes each fold's from the others")
    metric = smoothed.embedder.preset.metric
    cosine = noisy_distances(smoothed, pairs)
    kept = np.isfinite(cosine)
    folds = kfold(from_cosine(cosine[kept], metric), pairs.same[kept], pairs.fold[kept])
    numbers = np.unique(pairs.fold[kept]).tolist()
    return Threshold(
        folds.threshold,
        metric,
        f"each fold of {pairs.name} from the others, one noisy copy of each photograph (mean)",
        dict(zip(map(int, numbers), folds.thresholds, strict=True)),
    )

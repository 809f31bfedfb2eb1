"""Search for the smallest epsilon at which an attack succeeds, for each image.

Every image has an epsilon of its own, so images at different points of their searches share a
batch, and one that is done makes room for the next. The state of a search exists while its image
is in the batch; nothing but the results grows with the number of images. What an image gets does
not depend on its neighbours.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfface.attacks._attack import Attack, GradientAttack, Judge, judged, run_batch
from tfface.attacks._bracket import Bracket
from tfface.attacks._criteria import Criterion
from tfface.attacks._stepwise import Stepwise
from tfface.attacks._victim import Batch, Victim
from tfface.errors import UserError

TOLERANCE = 1e-4
"""A fortieth of a grey level: how much larger than the smallest epsilon the reported one may be."""


@dataclass(frozen=True)
class Minimal:
    """Result of a search; as an array (`numpy.asarray(found)`) it is `epsilon`.

    Attributes:
        epsilon: (N,) float64; infinite where the attack failed even at 1, zero where the clean image already wins.
        images: (N, H, W, 3) found at that epsilon, as they were judged; clean where it failed.
        success: (N,) bool.
    """

    epsilon: np.ndarray
    images: np.ndarray
    success: np.ndarray

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.epsilon, dtype) if copy else np.asarray(self.epsilon, dtype)

    def __len__(self) -> int:
        return len(self.epsilon)


def minimal_epsilon(
    attack: Attack,
    embedder: Any,
    images: np.ndarray,
    criterion: Criterion,
    *,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    batch_size: int = 32,
) -> Minimal:
    """Estimate the smallest successful perturbation of each image.

    The first success of a doubling grid is closed in to a tolerance: not every attack is monotone. The reported
    epsilon is one at which the attack succeeds; at most `tolerance` below it there is one at which it failed, or was
    given up since its margin rose too slowly. An attack that finds its own distance (C&W) runs once, and its epsilon
    is that distance.

    Args:
        attack: attack whose budget is searched.
        embedder: an `Embedder`, defended or not, or a `keras.Model`; for black-box attacks any function.
        images: (N, H, W, 3) float32 RGB in [0, 1].
        criterion: success of the attack, with its labels or references (see `tfface.criteria`).
        seed: random seed.
        tolerance: width of the final bracket, in epsilon.
        batch_size: images at a time.

    Returns:
        A `Minimal`: (N,) float64 `epsilon`, infinite where no budget up to 1 succeeds, and the images found.

    Raises:
        UserError: images, criterion and model do not fit, the model gives no gradients, or `tolerance` or
            `batch_size` is not positive.

    Example:
        >>> import tfface
        >>> from tfface import attacks
        >>> smallest = attacks.minimal_epsilon(attacks.BIM(), embedder, images, goal)  # doctest: +SKIP
        >>> numpy.median(smallest.epsilon)  # doctest: +SKIP
        0.0031
    """
    aimed, victim, targets = attack.aimed_at(embedder, images, criterion)
    return search_minimal(aimed, victim, images, targets, seed=seed, tolerance=tolerance, batch_size=batch_size)


def search_minimal(
    attack: Attack,
    victim: Victim,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int = 0,
    keys: np.ndarray | None = None,
    judge: Judge | None = None,
    tolerance: float = TOLERANCE,
    batch_size: int = 32,
) -> Minimal:
    """Search for the smallest epsilon of each image, as `minimal_epsilon` does, on a victim.

    Args:
        attack: the attack.
        victim: the model and the criterion.
        images: clean, (N, H, W, 3) float32 in [0, 1].
        targets: the criterion's, from `victim.targets`.
        seed: random seed.
        keys: (N,) integers that name the images; their places if absent.
        judge: applied to images before they are judged (see `tfface.attacks._quantization`).
        tolerance: in the unit of epsilon.
        batch_size: images at a time.

    Raises:
        UserError: as `run`, or a tolerance or batch size that is not positive.
    """
    if not tolerance > 0 or batch_size < 1:
        raise UserError(
            f"`tolerance` {tolerance} and `batch_size` {batch_size} must be positive", parameter="tolerance"
        )
    batch = Batch.checked(victim, images, targets, 1.0, keys=keys, seed=seed)
    found = Minimal(np.full(len(batch), np.inf), batch.images.copy(), np.zeros(len(batch), bool))
    if attack.minimal_norm:
        successes = _own_distances(attack, victim, batch, judge, batch_size)
    elif isinstance(attack, GradientAttack) and attack.plain and (judge is None or attack.steps == 1):
        successes = Stepwise(attack, victim, batch, judge, tolerance, batch_size).successes()
    else:
        # A judge sees what the loop does not, so an iterate that succeeds there may still fail: no stopping early.
        successes = _by_runs(attack, victim, batch, judge, tolerance, batch_size)
    for row, epsilon, image in successes:
        found.epsilon[row], found.images[row], found.success[row] = epsilon, image, True
    return found


Success = tuple[int, float, np.ndarray]
"""(row, an epsilon smaller than those before, the image found at it)."""


def _own_distances(
    attack: Attack, victim: Victim, batch: Batch, judge: Judge | None, batch_size: int
) -> Iterator[Success]:
    for start in range(0, len(batch), batch_size):
        outcome = run_batch(attack, victim, batch.of(slice(start, start + batch_size)), judge)
        for place in np.flatnonzero(outcome.success).tolist():
            yield start + place, float(outcome.distance[place]), outcome.images[place]


def _by_runs(
    attack: Attack, victim: Victim, batch: Batch, judge: Judge | None, tolerance: float, batch_size: int
) -> Iterator[Success]:
    """Search by whole runs of the attack, each image of a batch at its own epsilon."""
    waiting = iter(range(len(batch)))
    searches: dict[int, Bracket] = {}
    while True:
        while len(searches) < batch_size and (new := list(itertools.islice(waiting, batch_size - len(searches)))):
            clean = judged(victim, batch.images[new], batch.images[new], batch.targets[new], attack.norm, judge)
            for place, row in enumerate(new):
                if clean.success[place]:
                    yield row, 0.0, clean.images[place]
                else:
                    searches[row] = Bracket(tolerance, float(clean.margin[place]))
        if not searches:
            return
        rows = list(searches)
        epsilon = np.array([bracket.probe() for bracket in searches.values()])
        outcome = run_batch(attack, victim, batch.of(rows).at(epsilon), judge)
        for place, row in enumerate(rows):
            value, success = float(epsilon[place]), bool(outcome.success[place])
            if success:
                yield row, value, outcome.images[place]
            margin, reach = float(outcome.margin[place]), float(outcome.distance[place])
            searches[row].tell(value, success=success, margin=margin, reach=reach)
            if searches[row].done:
                del searches[row]

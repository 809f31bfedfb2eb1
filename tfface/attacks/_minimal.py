"""The smallest epsilon at which an attack succeeds, for each image.

Every image has an epsilon of its own, so images at different points of their searches share a
batch, and one that is done makes room for the next. The state of a search exists while its image
is in the batch; nothing but the results grows with the number of images. What an image gets does
not depend on its neighbours.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tfface.attacks._attack import Attack, Judge, Victim, judged, run_batch
from tfface.attacks._batch import Batch
from tfface.attacks._bracket import Bracket
from tfface.attacks._gradient import GradientAttack
from tfface.attacks._stepwise import Stepwise
from tfface.errors import UserError

TOLERANCE = 1e-4
"""A fortieth of a grey level: how much larger than the smallest epsilon the reported one may be."""


@dataclass(frozen=True)
class Minimal:
    """The result of a search.

    Attributes:
        epsilon: (N,) float64; infinite where the attack failed even at 1, zero where the clean image already wins.
        images: (N, H, W, 3) found at that epsilon, as the judge saw them; clean where it failed.
        success: (N,) bool.
    """

    epsilon: np.ndarray
    images: np.ndarray
    success: np.ndarray


def minimal_epsilon(
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
    """Finds the smallest epsilon of each image: the first success of a doubling grid, closed in to a tolerance.

    The reported epsilon is one at which `run` succeeds; at most `tolerance` below it there is one at
    which the attack failed, or was given up since its margin rose too slowly (`tfface.attacks._stepwise`).
    An attack that finds its own distance (C&W) runs once, and its epsilon is that distance.

    Args:
        attack: the attack.
        victim: the model and the goal.
        images: clean, (N, H, W, 3) float32 in [0, 1].
        targets: the goal's, from `victim.targets`.
        seed: of everything drawn at random.
        keys: (N,) whole numbers that name the images; their places if absent.
        judge: applied to images before they are judged (see `tfface.attacks._quantization`).
        tolerance: in the unit of epsilon.
        batch_size: images at a time.

    Raises:
        UserError: as `run`, or a tolerance or batch size that is not positive.
    """
    if not tolerance > 0 or batch_size < 1:
        raise UserError(f"tolerance {tolerance} and batch size {batch_size} must be positive")
    batch = Batch.checked(victim, images, targets, 1.0, keys=keys, seed=seed)
    found = Minimal(np.full(len(batch), np.inf), batch.images.copy(), np.zeros(len(batch), bool))
    if attack.minimal_norm:
        successes = _own_distances(attack, victim, batch, judge, batch_size)
    elif isinstance(attack, GradientAttack) and (judge is None or attack.steps == 1):
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
    """The search by whole runs of the attack, each image of a batch at its own epsilon."""
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

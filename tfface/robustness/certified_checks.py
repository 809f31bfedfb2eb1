"""Attacks on certified pairs inside their radius, judged by the smoothed verdict.

The attack is PGD in L2 through the expectation of noisy copies, as Salman et al. 2019
(https://arxiv.org/abs/1906.04584) attack smoothed classifiers: each of its gradients is the mean
over fresh noise, so it knows the smoothing. The attacked photograph is judged by copies that
neither the certificate nor the attack has seen.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from scipy import stats

from tfface.attacks._attack import into_budget
from tfface.attacks._victim import Batch, Victim
from tfface.attacks.pgd import PGD
from tfface.errors import UserError
from tfface.robustness.certified_pairs import Certified, Smoothed
from tfface.robustness.smoothing import fresh_votes, prediction
from tfface.utils.cache import Store, digest_of

if TYPE_CHECKING:
    import keras

DRAWS = 32
STEPS = 20
BEYOND = 10.0
"""Factor of the radius that is tried too: nothing is promised there, and broken pairs show that the attack works."""
_INSIDE = 1 - 1e-5
"""So that rounding does not carry an image over its radius."""
_SHARD_ROWS = 4
"""Pairs attacked together: 128 noisy copies."""
_FORMAT = 1


class SmoothedVictim(Victim):
    """A model seen through the mean embedding of noisy copies; every answer draws fresh noise.

    The copies of all images of a batch share their noise, which depends on the seed and on how often
    it was asked since `restart`.
    """

    def __init__(self, model: "keras.Model", goal: str, *, sigma: float, draws: int = DRAWS, seed: int = 0) -> None:
        """
        Args:
            model: (N, H, W, C) to (N, D).
            goal: `dodging` or `impersonation`.
            sigma: standard deviation of the noise.
            draws: noisy copies of each image.
            seed: random seed of the noise.
        """
        super().__init__(model, goal)
        self.sigma, self.draws = sigma, draws
        self._asked = tf.Variable(tf.zeros((), tf.int64), trainable=False)
        self._seed = seed

    def restart(self) -> None:
        """Make the next answer draw as the first did."""
        self._asked.assign(0)

    def forward(self, images: tf.Tensor, draw: tf.Tensor | None = None) -> tf.Tensor:
        """Return the mean embeddings (N, D) of copies under fresh noise; `draw` is of other victims."""
        seed = tf.stack([tf.constant(self._seed, tf.int64), self._asked.assign_add(1)])
        noise = self.sigma * tf.random.stateless_normal((self.draws, *self.input_shape), seed)
        copies = tf.reshape(images[:, None] + noise[None], (-1, *self.input_shape))
        found = self.model(copies, training=False)
        return tf.reduce_mean(tf.reshape(found, (-1, self.draws, found.shape[-1])), axis=1)


@dataclass(frozen=True, eq=False)
class CertificateCheck:
    """Results of attacks on certificates.

    Attributes:
        factor: how many times the certified radius the attack might go.
        attacked: certified pairs.
        held: fresh copies give the certified answer.
        undecided: fresh copies do not tell (the verdict is close to its edge).
        broken: fresh copies give the other answer.
        alpha: probability with which each certificate, and each judgement, may be wrong.
    """

    factor: float
    attacked: int
    held: int
    undecided: int
    broken: int
    alpha: float

    @property
    def most(self) -> int:
        """Return the most that break by chance, 99 times of a hundred: a certificate or a judgement may be wrong."""
        return int(stats.binom.ppf(0.99, self.attacked, 2 * self.alpha))

    def record(self) -> dict[str, Any]:
        """Return what `metrics.json` holds of it."""
        return {
            "factor": self.factor,
            "attacked": self.attacked,
            "held": self.held,
            "undecided": self.undecided,
            "broken": self.broken,
            "most_by_chance": self.most,
        }


def check_certificates(
    smoothed: Smoothed,
    certified: Certified,
    count: int,
    *,
    factors: Sequence[float] = (1.0, BEYOND),
    steps: int = STEPS,
    draws: int = DRAWS,
) -> list[CertificateCheck]:
    """Attack certified pairs up to their radius, and beyond.

    Args:
        smoothed: the model, the data and the noise.
        certified: its pairs.
        count: number with a certificate, drawn by seed; all if there are fewer.
        factors: of the radius; 1 is what certificates promise.
        steps: of PGD.
        draws: noisy copies that each of its gradients is the mean of.

    Raises:
        UserError: no pair has a certificate.
    """
    rows = np.flatnonzero(certified.answers >= 0)
    if not len(rows):
        raise UserError(
            "`check` attacks certified pairs, and none got a certificate: give more `samples`, less `sigma`",
            parameter="check",
        )
    if count < len(rows):
        rows = np.sort(np.random.default_rng(smoothed.smoothing.seed).choice(rows, count, replace=False))
    return [_check(smoothed, certified, rows, factor, steps, draws) for factor in factors]


def _check(
    smoothed: Smoothed, certified: Certified, rows: np.ndarray, factor: float, steps: int, draws: int
) -> CertificateCheck:
    smoothing, attack = smoothed.smoothing, PGD(norm="l2", steps=steps)
    fingerprint = {
        "format": _FORMAT,
        **smoothed.record(),
        **smoothing.record(),
        "pairs": digest_of([part[rows].tolist() for part in (certified.pairs.first, certified.pairs.second)]),
        "certificates": digest_of([certified.limits[rows].tolist(), certified.radii[rows].tolist()]),
        "attack": attack.record(),
        "draws": draws,
        "factor": factor,
    }
    store = Store("certificate-checks", fingerprint, len(rows), shard_rows=_SHARD_ROWS)

    victims = functools.cache(
        lambda goal: SmoothedVictim(
            smoothed.context.embedder.model, goal, sigma=smoothing.sigma, draws=draws, seed=smoothing.seed
        )
    )

    def compute(start: int, stop: int) -> pa.Table:
        own = rows[start:stop]
        attacked = _attacked(smoothed, certified, own, factor, attack, victims)
        return pa.table({"votes": _votes(smoothed, certified, own, attacked)})

    store.compute_missing(compute, label=f"attacking certificates at {factor:g} times their radius")
    votes = store.read()["votes"].to_pylist()
    found = [prediction(one, smoothing.samples, smoothing.alpha) for one in votes]
    answers = certified.answers[rows] == 1
    held = sum(int(one == answer) for one, answer in zip(found, answers.tolist(), strict=True))
    undecided = found.count(None)
    return CertificateCheck(factor, len(rows), held, undecided, len(rows) - held - undecided, smoothing.alpha)


def _attacked(
    smoothed: Smoothed,
    certified: Certified,
    rows: np.ndarray,
    factor: float,
    attack: PGD,
    victims: Callable[[str], SmoothedVictim],
) -> np.ndarray:
    """Return (B, H, W, C) photographs after the attack on their certified answers, inside factor times the radius."""
    pairs = certified.pairs
    images, _ = smoothed.context.crops(pairs.first[rows])
    references = smoothed.embeddings.vectors[pairs.second[rows]]
    targets = np.concatenate([references, certified.limits[rows, None]], axis=1).astype(np.float32)
    size = np.sqrt(images[0].size)
    epsilon = np.minimum(factor * certified.radii[rows] / size * _INSIDE, 1.0).astype(np.float32)
    keys = np.array(smoothed.keys(pairs))[rows]
    changed = images.copy()
    for goal in ("dodging", "impersonation"):
        # What was certified the same is driven apart, what was certified different together.
        own = np.flatnonzero((certified.answers[rows] == 1) == (goal == "dodging"))
        if len(own):
            victim = victims(goal)
            victim.restart()
            batch = Batch(images[own], targets[own], epsilon[own], keys[own], smoothed.smoothing.seed)
            changed[own] = into_budget(attack.perturb(victim, batch), images[own], epsilon[own], attack.norm)
    return changed


def _votes(smoothed: Smoothed, certified: Certified, rows: np.ndarray, images: np.ndarray) -> list[int]:
    keys = np.array(smoothed.keys(certified.pairs))[rows].tolist()
    references = smoothed.embeddings.vectors[certified.pairs.second[rows]]
    given = zip(images, references, certified.limits[rows], keys, strict=True)
    return [
        fresh_votes(smoothed.verdict(reference, limit), image, smoothed.smoothing, key=key)
        for image, reference, limit, key in given
    ]

"""Randomized smoothing of a yes-or-no verdict (Cohen, Rosenfeld and Kolter 2019, https://arxiv.org/abs/1902.02918).

The smoothed verdict on an image is the answer that the base verdict gives most often when Gaussian
noise of standard deviation sigma is added to the image. If it gives it with probability p above one
half, then so does it for every image within sigma * Phi^-1(p) of this one in L2, whatever the base
verdict is. p is bounded from below by how many of n noisy copies got that answer, so a certificate
is wrong with probability at most alpha.

There are two answers only. Then the other's probability is 1 - p exactly, and the paper's radius,
which replaces the runner-up's probability by 1 - p, is the largest that any method could prove from
p; for a linear verdict it is the distance to the boundary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from tfface.errors import UserError

SAMPLES = 1000
GUESS = 100
ALPHA = 0.001
BATCH = 128
"""Noisy copies at a time; what is drawn does not depend on it."""

Verdict = Callable[[np.ndarray], np.ndarray]
"""Images (N, H, W, C), of any values, to bool (N,)."""


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """Configuration of a smoothed verdict and its certificate.

    Attributes:
        sigma: standard deviation of the noise, on the scale of [0, 1]; noisy values are not clipped.
        samples: noisy copies that a certificate counts, n.
        guess: further copies, drawn before, that choose the answer to certify, n0.
        alpha: probability with which a certificate may be wrong.
        seed: of all noise.

    Raises:
        UserError: a value out of range.
    """

    sigma: float
    samples: int = SAMPLES
    guess: int = GUESS
    alpha: float = ALPHA
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= 1:
            raise UserError(
                f"`sigma` {self.sigma:g}: noise of no or of endless width certifies nothing; give 0 to 1",
                parameter="sigma",
            )
        if self.samples < 1 or self.guess < 1:
            raise UserError(f"`samples` {self.samples} and `guess` {self.guess}: give at least one of each")
        if not 0 < self.alpha < 1:
            raise UserError(
                f"`alpha` {self.alpha:g} is no probability of failure: give one between 0 and 1", parameter="alpha"
            )

    @property
    def largest(self) -> float:
        """Return the radius where all samples agree: no certificate goes beyond it."""
        return radius(lower_bound(self.samples, self.samples, self.alpha), self.sigma)

    def record(self) -> dict[str, Any]:
        """Return it, JSON-able."""
        return {
            "sigma": self.sigma,
            "samples": self.samples,
            "guess": self.guess,
            "alpha": self.alpha,
            "seed": self.seed,
        }


class Votes(NamedTuple):
    """Numbers of noisy copies with the answer True, when guessing and when certifying."""

    guess: int
    samples: int


class Certificate(NamedTuple):
    """Certified answer about an image.

    Attributes:
        answer: of the smoothed verdict; None where too few copies agree to tell (the verdict abstains).
        probability: lower bound of how often the base verdict gives the answer guessed.
        radius: in L2 on the scale of [0, 1], within which the answer stays; 0 where there is none.
    """

    answer: bool | None
    probability: float
    radius: float


def lower_bound(successes: int, trials: int, alpha: float) -> float:
    """Return the one-sided lower Clopper-Pearson bound of a probability: too high with probability at most alpha.

    Args:
        successes: of the trials.
        trials: independent.
        alpha: in (0, 1).
    """
    return float(stats.beta.ppf(alpha, successes, trials - successes + 1)) if successes else 0.0


def radius(probability: float, sigma: float) -> float:
    """Return the certified radius sigma * Phi^-1(probability); 0 from one half down."""
    return max(sigma * float(stats.norm.ppf(probability)), 0.0) if probability > 0.5 else 0.0


def certificate(votes: Votes, smoothing: Smoothing) -> Certificate:
    """Return the certificate that votes prove: the paper's CERTIFY.

    Args:
        votes: for True, of `smoothing.guess` and of `smoothing.samples` copies.
        smoothing: as they were drawn.
    """
    answer = 2 * votes.guess >= smoothing.guess
    agreed = votes.samples if answer else smoothing.samples - votes.samples
    found = lower_bound(agreed, smoothing.samples, smoothing.alpha)
    if found <= 0.5:
        return Certificate(None, found, 0.0)
    return Certificate(answer, found, radius(found, smoothing.sigma))


def prediction(votes: int, samples: int, alpha: float) -> bool | None:
    """Return the smoothed verdict from fresh copies: the paper's PREDICT; None where they do not tell.

    Args:
        votes: for True.
        samples: copies.
        alpha: probability with which the answer may be wrong.
    """
    answer = 2 * votes > samples
    agreed = votes if answer else samples - votes
    return answer if stats.binomtest(agreed, samples, 0.5).pvalue <= alpha else None


def count_votes(verdict: Verdict, image: np.ndarray, smoothing: Smoothing, *, key: int) -> Votes:
    """Ask the base verdict about noisy copies of an image.

    Args:
        verdict: the base verdict.
        image: (H, W, C).
        smoothing: the noise and the number of copies.
        key: names the image; its noise depends on (seed, key) alone.
    """
    return Votes(
        _votes(verdict, image, smoothing.sigma, smoothing.guess, [smoothing.seed, key, 0]),
        _votes(verdict, image, smoothing.sigma, smoothing.samples, [smoothing.seed, key, 1]),
    )


def fresh_votes(verdict: Verdict, image: np.ndarray, smoothing: Smoothing, *, key: int) -> int:
    """Count votes for True of `smoothing.samples` copies that no certificate has seen."""
    return _votes(verdict, image, smoothing.sigma, smoothing.samples, [smoothing.seed, key, 2])


def noisy(image: np.ndarray, sigma: float, count: int, random: np.random.Generator) -> np.ndarray:
    """Return (count, H, W, C) float32 copies of an image, each under noise of its own; not clipped."""
    copies = random.standard_normal((count, *image.shape), np.float32)
    copies *= np.float32(sigma)
    copies += image
    return copies


def _votes(verdict: Verdict, image: np.ndarray, sigma: float, count: int, seeds: list[int]) -> int:
    random = np.random.default_rng(seeds)
    parts = (min(BATCH, count - start) for start in range(0, count, BATCH))
    return sum(int(np.count_nonzero(verdict(noisy(image, sigma, part, random)))) for part in parts)

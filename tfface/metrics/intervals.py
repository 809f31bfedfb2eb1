"""95% confidence intervals of measured rates.

Pairs of one set of images share people, so they are not independent draws, and intervals that
treat them as such are far too narrow. The intervals by identity here let every two pairs that share
a person be correlated: linearised ratios, clustered on identity for genuine pairs, and for impostor
pairs the dyadic cluster-robust variance in its conservative form (Fafchamps and Gubert, 2007,
https://doi.org/10.1016/j.jdeveco.2006.05.005; Aronow, Samii and Assenova, 2015,
https://doi.org/10.1093/pan/mpv018). SciPy has no such intervals; those for independent draws are SciPy's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfface.errors import UserError

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """Value with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def ci95(self) -> list[float]:
        """Interval as a list."""
        return [self.low, self.high]


def wilson(successes: int, trials: int) -> Estimate:
    """Estimate a proportion of independent trials, with Wilson's score interval.

    Raises:
        UserError: no trials.

    Example:
        >>> found = wilson(8, 10)
        >>> found.value, round(found.low, 3), round(found.high, 3)
        (0.8, 0.49, 0.943)
    """
    if trials <= 0:
        raise UserError("a rate of no trials has no value: give at least one")
    from scipy import stats

    low, high = stats.binomtest(successes, trials).proportion_ci(LEVEL, method="wilson")
    rate = successes / trials
    # At no or only successes the bound is the rate itself; rounding must not step past it.
    return Estimate(rate, min(rate, float(low)), max(rate, float(high)))


def student(values: Sequence[float] | np.ndarray) -> Estimate:
    """Estimate the mean of independent values, with Student's t interval (n - 1 degrees of freedom).

    Raises:
        UserError: fewer than two values.
    """
    if len(values) < 2:
        raise UserError(f"an interval of a mean needs at least two values, there are {len(values)}")
    from scipy import stats

    mean, error = float(np.mean(values)), float(stats.sem(values))
    # Of equal values SciPy's interval is not a number.
    low, high = stats.t.interval(LEVEL, len(values) - 1, mean, error) if error else (mean, mean)
    return Estimate(mean, float(low), float(high))


def bootstrap_median(values: Sequence[float] | np.ndarray, *, seed: int = 0, draws: int = 10_000) -> Estimate:
    """Estimate the median of independent values, with the percentile bootstrap's interval.

    Infinite values (attacks that failed) count as the largest; where more than half are infinite, so is the median.
    SciPy's bootstrap interpolates between resamples, which no infinite value allows.

    Args:
        values: (N,) numbers, infinity among them.
        seed: random seed.
        draws: number of resamples.

    Raises:
        UserError: no values.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    if not len(ordered):
        raise UserError("a median of no values has no value: give at least one")
    random = np.random.default_rng(seed)
    # In parts, since all resamples together would be large.
    medians = np.concatenate(
        [
            np.median(ordered[random.integers(0, len(ordered), (size, len(ordered)))], axis=1)
            for size in np.diff([*range(0, draws, 500), draws]).tolist()
        ]
    )
    # The bounds are resampled medians themselves: between a finite and an infinite one lies no number.
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    return Estimate(float(np.median(ordered)), float(low), float(high))


def mean_of(parts: Sequence[Estimate]) -> Estimate:
    """Average estimates from sets that share no person, such as the two halves of the people.

    The distances of the bounds from the values add as standard errors do.
    """
    count = len(parts)
    value = math.fsum(part.value for part in parts) / count
    below = math.hypot(*(part.value - part.low for part in parts)) / count
    above = math.hypot(*(part.high - part.value for part in parts)) / count
    return Estimate(value, value - below, value + above)


@dataclass(frozen=True)
class IdentityErrors:
    """Errors per identity at one threshold; each impostor pair counts for both of its people.

    Attributes:
        threshold: on the cosine distance; pairs at or below it are accepted.
        genuine_pairs: (P,) number of pairs of images of each person.
        genuine_errors: (P,) number of them above the threshold.
        impostor_pairs: (P,) number of pairs with another person.
        impostor_errors: (P,) number of them at or below the threshold.
    """

    threshold: float
    genuine_pairs: np.ndarray
    genuine_errors: np.ndarray
    impostor_pairs: np.ndarray
    impostor_errors: np.ndarray


@dataclass(frozen=True)
class _Rate:
    """Error rate over pairs.

    Attributes:
        independent: the rate, with its interval if pairs were independent.
        shares: (P,) share of each person in the rate's deviation.
        people: number of people with pairs of the kind.
    """

    independent: Estimate
    shares: np.ndarray
    people: int

    @property
    def value(self) -> float:
        return self.independent.value


def _rate(errors: np.ndarray, pairs: np.ndarray, *, people_in_pair: int) -> _Rate | None:
    total = int(pairs.sum()) // people_in_pair
    if not total:
        return None
    independent = wilson(int(errors.sum()) // people_in_pair, total)
    return _Rate(independent, (errors - independent.value * pairs) / total, int(np.count_nonzero(pairs)))


def _rates(errors: IdentityErrors) -> tuple[_Rate | None, _Rate | None]:
    return (
        _rate(errors.genuine_errors, errors.genuine_pairs, people_in_pair=1),
        _rate(errors.impostor_errors, errors.impostor_pairs, people_in_pair=2),
    )


def false_non_match(errors: IdentityErrors) -> Estimate | None:
    """Estimate FNMR (FRR) at a threshold, clustered on identity; None without genuine pairs."""
    genuine, _ = _rates(errors)
    return _interval(genuine.value, (1.0, genuine)) if genuine else None


def false_match(errors: IdentityErrors) -> Estimate | None:
    """Estimate FMR (FAR) at a threshold, dyadic cluster-robust; None without impostor pairs."""
    _, impostor = _rates(errors)
    return _interval(impostor.value, (1.0, impostor)) if impostor else None


def balanced_accuracy(errors: IdentityErrors) -> Estimate | None:
    """Estimate the mean of genuine and impostor accuracy; None where there are no pairs of a kind."""
    genuine, impostor = _rates(errors)
    if genuine is None or impostor is None:
        return None
    return _interval(1 - (genuine.value + impostor.value) / 2, (-0.5, genuine), (-0.5, impostor))


def true_accept(errors: IdentityErrors, *, roc_slope: float) -> Estimate | None:
    """Estimate TAR at the threshold of a FAR, allowing for that threshold's own error.

    Args:
        errors: errors at that threshold.
        roc_slope: rise of TAR with FAR there. Where too many impostor pairs happened to pass,
            the threshold came out too strict, and TAR too low by the slope times the excess.
    """
    genuine, impostor = _rates(errors)
    if genuine is None or impostor is None:
        return None
    return _interval(1 - genuine.value, (-1.0, genuine), (-roc_slope, impostor))


@dataclass(frozen=True)
class IdentityAuc:
    """Area under the ROC of some pairs, and how much each person moves it.

    Attributes:
        value: how often a genuine pair is closer than an impostor pair, ties half.
        shares: (P,) share of each person in the area's deviation; each impostor pair counts for both of its people.
        people: number of people with pairs of the kind that fewer people have.
    """

    value: float
    shares: np.ndarray
    people: int

    @classmethod
    def of(cls, distances: np.ndarray, same: np.ndarray, first: np.ndarray, second: np.ndarray) -> "IdentityAuc":
        """Measure the area over pairs whose people are known.

        A pair's weight in the deviation is its placement: the share of pairs of the other kind on its right side
        (DeLong et al., 1988, https://doi.org/10.2307/2531595), here summed by person.

        Args:
            distances: (N,) distances of the pairs.
            same: (N,) bool, True for genuine pairs.
            first: (N,) int, the person on the first image of each pair, from 0.
            second: (N,) int, the person on the second.

        Raises:
            UserError: there are no pairs of a kind.
        """
        genuine, impostor = distances[same], distances[~same]
        if not (len(genuine) and len(impostor)):
            raise UserError("an area under the ROC needs genuine and impostor pairs: there are none of a kind")
        farther, nearer = 1 - _placed(genuine, np.sort(impostor)), _placed(impostor, np.sort(genuine))
        value = float(farther.mean())
        count = int(max(first.max(), second.max())) + 1
        shares = np.bincount(first[same], (farther - value) / len(genuine), count)
        for person in (first[~same], second[~same]):
            shares += np.bincount(person, (nearer - value) / len(impostor), count)
        people = min(len(np.unique(first[same])), len(np.union1d(first[~same], second[~same])))
        return cls(value, shares, people)

    @property
    def estimate(self) -> Estimate:
        """Area with its interval by identity."""
        half = _half_width(self.shares, self.people)
        return Estimate(self.value, max(0.0, self.value - half), min(1.0, self.value + half))

    def minus(self, other: "IdentityAuc") -> Estimate:
        """Estimate how much larger this area is than another over the same pairs: the people are the same draw."""
        half = _half_width(self.shares - other.shares, self.people)
        return Estimate(self.value - other.value, self.value - other.value - half, self.value - other.value + half)


def _placed(distances: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Return the share of ordered distances below each one, ties half."""
    below, up_to = (np.searchsorted(ordered, distances, side=side) for side in ("left", "right"))
    return (below + up_to) / (2 * len(ordered))


def _interval(value: float, *parts: tuple[float, _Rate]) -> Estimate:
    """Estimate a value that moves with rates, each by its weight.

    The interval is never narrower than with independent pairs: the variance by identity is 0 where
    there was no error at all.
    """
    half = _half_width(
        sum((weight * rate.shares for weight, rate in parts), start=np.zeros(1)), min(rate.people for _, rate in parts)
    )
    sides = [_moves(weight, rate.independent) for weight, rate in parts]
    below, above = (max(half, math.hypot(*side)) for side in zip(*sides, strict=True))
    return Estimate(value, max(0.0, value - below), min(1.0, value + above))


def _moves(weight: float, rate: Estimate) -> tuple[float, float]:
    """Return how far down and up a value goes when a rate goes to the ends of its interval."""
    down, up = weight * (rate.low - rate.value), weight * (rate.high - rate.value)
    return (down, up) if weight > 0 else (up, down)


def _half_width(shares: np.ndarray, people: int) -> float:
    """Return half of the interval of a value, from the share of each person in its deviation."""
    if people < 2:
        return math.inf
    return _quantile(people - 1) * math.sqrt(people / (people - 1) * float((shares * shares).sum()))


def _quantile(degrees: int) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + LEVEL) / 2, degrees))

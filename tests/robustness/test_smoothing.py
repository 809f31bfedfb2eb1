import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tfface.errors import UserError
from tfface.robustness import smoothing
from tfface.robustness.smoothing import Certificate, Smoothing, Votes, certificate, count_votes, prediction


class Linear:
    """The verdict w.x > b, whose smoothed verdict is w.x > b too: its true radius is |w.x - b| / |w|."""

    def __init__(self, weights, bias):
        self.weights, self.bias = weights, bias

    def __call__(self, images):
        return np.tensordot(images, self.weights, axes=3) > self.bias

    def radius(self, image):
        return abs(float((image * self.weights).sum()) - self.bias) / float(np.linalg.norm(self.weights))


def linear(distance, *, sign=1):
    """An image, and a linear verdict whose boundary is so far from it."""
    random = np.random.default_rng(5)
    image, weights = random.random((4, 4, 3)), random.standard_normal((4, 4, 3))
    return image, Linear(sign * weights, sign * float((image * weights).sum()) - distance * np.linalg.norm(weights))


@pytest.mark.parametrize("sign", [1, -1])
def test_never_above_the_true_radius_and_close_to_it(sign):
    """Boundary 0.05 away, sigma 0.1: p = Phi(0.5) = 0.6915; with 20,000 copies the bound is 0.010 below at most."""
    image, verdict = linear(0.05, sign=sign)
    assert verdict.radius(image) == pytest.approx(0.05)
    found = certificate(*_votes(verdict, image, samples=20_000))
    assert found.answer is True
    assert 0.045 < found.radius <= 0.05
    assert found.probability == pytest.approx(stats.norm.cdf(0.5), abs=0.02)


def test_the_other_answer_is_certified_alike():
    image, verdict = linear(-0.05)
    found = certificate(*_votes(verdict, image, samples=20_000))
    assert found.answer is False
    assert 0.045 < found.radius <= 0.05


def _votes(verdict, image, **settings):
    smooth = Smoothing(sigma=0.1, **settings)
    return count_votes(verdict, image, smooth, key=7), smooth


def test_it_is_wrong_no_oftener_than_alpha():
    """At alpha 0.2 about 200 of 1,000 certificates may be too large; binomially at most 230 in 99 of a hundred runs."""
    image, verdict = linear(0.05)
    smooth = Smoothing(sigma=0.1, samples=50, guess=20, alpha=0.2)
    radii = [certificate(count_votes(verdict, image, smooth, key=key), smooth).radius for key in range(1000)]
    too_large = sum(radius > 0.05 for radius in radii)
    assert 50 < too_large <= stats.binom.ppf(0.99, 1000, 0.2)


def test_at_the_boundary_it_abstains():
    image, verdict = linear(0.0)
    assert certificate(*_votes(verdict, image))[0] is None


def test_a_wrong_guess_abstains():
    """Guessed True by 51 of 100; only 400 of 1,000 say so: nothing is certified, not the other answer either."""
    found = certificate(Votes(51, 400), Smoothing(sigma=0.1))
    assert found == Certificate(None, found.probability, 0.0)
    assert found.probability < 0.5


def test_all_agree():
    """The bound p solves p^n = alpha: 0.001^(1/1000) = 0.99312, Phi^-1 = 2.4628."""
    found = certificate(Votes(100, 1000), Smoothing(sigma=0.1))
    assert found.probability == pytest.approx(0.001 ** (1 / 1000))
    assert found.radius == pytest.approx(0.24628, abs=1e-4)
    assert Smoothing(sigma=0.1).largest == found.radius
    assert certificate(Votes(0, 0), Smoothing(sigma=0.1)) == Certificate(False, found.probability, found.radius)


@given(trials=st.integers(1, 300), share=st.floats(0, 1), alpha=st.sampled_from([0.001, 0.05]))
def test_the_bound_is_clopper_and_pearsons(trials, share, alpha):
    """By its definition: under the bound, so many successes or more have probability alpha."""
    successes = round(share * trials)
    bound = smoothing.lower_bound(successes, trials, alpha)
    assert 0 <= bound <= successes / trials
    if successes:
        assert stats.binom.sf(successes - 1, trials, bound) == pytest.approx(alpha, rel=1e-6)


def test_radius():
    assert smoothing.radius(stats.norm.cdf(1.5), 0.2) == pytest.approx(0.3)
    assert smoothing.radius(0.5, 0.2) == smoothing.radius(0.3, 0.2) == 0.0


def test_noise_is_of_the_pair_alone():
    """Not of the batch, nor of what was asked before; guess, count and later judgement draw apart."""
    image = np.full((4, 4, 3), 0.5)
    seen = []

    def verdict(copies):
        seen.append(copies)
        return copies.mean(axis=(1, 2, 3)) > 0.5

    smooth = Smoothing(sigma=0.1, samples=300, guess=10)
    first = count_votes(verdict, image, smooth, key=1)
    drawn = np.concatenate(seen)
    assert len(drawn) == 310
    assert [len(part) for part in seen] == [10, 128, 128, 44]
    count_votes(verdict, image, smooth, key=2)
    seen.clear()
    assert count_votes(verdict, image, smooth, key=1) == first
    np.testing.assert_array_equal(np.concatenate(seen), drawn)
    seen.clear()
    smoothing.fresh_votes(verdict, image, smooth, key=1)
    assert not np.isin(np.concatenate(seen)[:, 0, 0, 0], drawn[:, 0, 0, 0]).any()
    assert drawn.std() == pytest.approx(0.1, rel=0.03)
    assert drawn.min() < 0.2 and drawn.max() > 0.8


def test_prediction_tells_or_does_not():
    """Of 1,000 copies 552 are 3.29 deviations from a half: just enough for alpha 0.001, two-sided."""
    assert prediction(560, 1000, 0.001) is True
    assert prediction(440, 1000, 0.001) is False
    assert prediction(530, 1000, 0.001) is None
    edge = 500 + math.ceil(stats.norm.ppf(0.9995) * math.sqrt(250))
    assert prediction(edge + 2, 1000, 0.001) is True and prediction(edge - 2, 1000, 0.001) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0.0}, "`sigma` 0: noise of no or of endless width"),
        ({"sigma": float("nan")}, "`sigma` nan"),
        ({"sigma": 0.1, "samples": 0}, "`samples` 0 and `guess` 100"),
        ({"sigma": 0.1, "alpha": 1.0}, "`alpha` 1 is no probability of failure"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(UserError, match=message):
        Smoothing(**settings)

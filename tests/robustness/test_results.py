"""Failures count: rates and medians over all that was attacked, by hand."""

import numpy as np
import pytest

from tfface.attacks.fgsm import FGSM
from tfface.metrics.intervals import wilson
from tfface.robustness.results import minimal_entry, pair_distances, rate_entries, trial_entry
from tfface.robustness.trial import TrialResults


def rows(clean, success, epsilon=None, failed=None) -> TrialResults:
    success = np.array(success, bool)
    return TrialResults(
        failed or [""] * len(clean),
        np.array(clean),
        np.array(epsilon) if epsilon is not None else np.full(success.shape, 0.1),
        success,
        np.where(success, 0.1, -0.1),
        np.full(success.shape, 0.1),
        None,
    )


NAN = float("nan")


def test_rates_are_of_what_was_attacked(trial):
    """Of five one could not be cropped and one was wrong before: 1 and then 3 of 3 fall."""
    found = rows(
        [-0.1, NAN, 0.2, -0.1, -0.1],
        [[True, True], [False, False], [False, False], [False, True], [False, True]],
        failed=["", "is empty", "", "", ""],
    )
    made = trial(count=5)
    first, second = rate_entries(made, found)
    assert [entry["epsilon"] for entry in (first, second)] == [0.02, 0.2]
    assert (first["attacked"], first["already_wrong"], first["error_rate"]) == (3, 1, pytest.approx(1 / 3))
    assert first["ci95"] == wilson(1, 3).ci95
    assert second["error_rate"] == 1
    entry = trial_entry(made, found)
    assert (entry["count"], entry["failed_crops"], entry["goal"], entry["norm"]) == (5, 1, "dodging", "linf")


def test_nothing_attacked_has_no_rate(trial):
    entry = rate_entries(trial(count=1), rows([0.5], [[False, False]]))[0]
    assert (entry["attacked"], entry["error_rate"], entry["ci95"]) == (0, None, None)
    entry = minimal_entry(trial(count=1, epsilons=()), rows([0.5], [[False]]))
    assert (entry["attacked"], entry["failed"], entry["median_epsilon"], entry["ci95"]) == (0, 0, None, None)


def test_a_failure_is_an_infinite_epsilon(trial):
    """0.01, 0.02, 0.03, infinite, and one that was wrong before: the middle of 0.02 and 0.03."""
    inf = np.inf
    found = rows([-1, -1, -1, -1, 1], [[True]] * 3 + [[False]] * 2, [[0.03], [0.01], [0.02], [inf], [inf]])
    entry = minimal_entry(trial(count=5, epsilons=()), found)
    assert (entry["attacked"], entry["already_wrong"], entry["failed"]) == (4, 1, 1)
    assert entry["median_epsilon"] == pytest.approx(0.025)
    assert entry["ci95"][0] == pytest.approx(0.01) and entry["ci95"][1] is None
    lost = minimal_entry(trial(count=2, epsilons=()), rows([-1, -1], [[False]] * 2, [[inf], [inf]]))
    assert (lost["median_epsilon"], lost["failed"]) == (None, 2)


def test_l2_in_the_units_of_the_literature(trial):
    """3 x 32 x 32 values: their root is 55.4256."""
    found = rate_entries(trial(attack=FGSM(norm="l2"), count=1), rows([-1], [[True, True]]))
    assert found[0]["l2"] == pytest.approx(0.02 * 55.4256, abs=1e-4)
    assert found[0]["rms255"] == pytest.approx(5.1)
    entry = minimal_entry(trial(attack=FGSM(norm="l2"), epsilons=(), count=1), rows([-1], [[True]], [[0.1]]))
    assert (entry["median_l2"], entry["median_rms255"]) == pytest.approx((5.54256, 25.5), abs=1e-4)


def test_distances_from_margins(trial):
    """At the limit of 0.1 a dodging margin of 0.3 is a distance of 0.4; an impersonation margin of -0.3 too."""
    assert pair_distances(trial(count=2), np.array([0.3, -0.05])) == pytest.approx([0.4, 0.05])
    assert pair_distances(trial("impersonation", count=1), np.array([[-0.3, 0.1]])) == pytest.approx(
        np.array([[0.4, 0]])
    )

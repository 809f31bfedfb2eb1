"""Intervals: by hand, never outside [0, 1], and covering what they say they cover."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tfface.errors import UserError
from tfface.metrics import intervals
from tfface.metrics.intervals import Estimate, IdentityAuc, IdentityErrors, bootstrap_median, mean_of, student, wilson


def errors_of(genuine_errors, genuine_pairs, impostor_errors, impostor_pairs) -> IdentityErrors:
    return IdentityErrors(
        0.5, *(np.array(part) for part in (genuine_pairs, genuine_errors, impostor_pairs, impostor_errors))
    )


# Genuine: 60 errors of 400. Impostor: each pair counts for both people: 60 errors of 400 pairs.
FOUR = errors_of([10, 20, 10, 20], [100] * 4, [20, 40, 20, 40], [200] * 4)


def test_wilson_by_hand():
    """None of 10: up to z^2 / (10 + z^2) = 3.841459 / 13.841459. Five of 10: 1/2 -+ 0.263406."""
    assert wilson(0, 10).ci95 == pytest.approx([0, 0.277533], abs=1e-6)
    assert wilson(10, 10).ci95 == pytest.approx([1 - 0.277533, 1], abs=1e-6)
    assert wilson(5, 10).ci95 == pytest.approx([0.236594, 0.763406], abs=1e-5)
    with pytest.raises(UserError, match="no trials"):
        wilson(0, 0)


@given(st.integers(1, 10**9), st.data())
def test_wilson_holds_its_rate(trials, data):
    estimate = wilson(data.draw(st.integers(0, trials)), trials)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_student_by_hand():
    """1, 2, 3: standard error 1 / sqrt(3), t(2) = 4.302653."""
    assert student([1, 2, 3]).ci95 == pytest.approx([2 - 2.484138, 2 + 2.484138], abs=1e-5)
    with pytest.raises(UserError, match="at least two"):
        student([1])


def test_false_non_match_by_hand():
    """Shares -+5/400; their squares sum to 1/1600, times 4/3; t(3) = 3.182446: half 0.0918693."""
    estimate = intervals.false_non_match(FOUR)
    assert estimate.value == 0.15
    assert estimate.ci95 == pytest.approx([0.15 - 0.0918693, 0.15 + 0.0918693], abs=1e-6)


def test_false_match_by_hand():
    """Shares (20 - 30) / 400 = -0.025 and +0.025; squares sum to 0.0025, times 4/3: half 0.1837386, cut at 0."""
    estimate = intervals.false_match(FOUR)
    assert estimate.value == 0.15
    assert estimate.ci95 == pytest.approx([0, 0.15 + 0.1837386], abs=1e-6)


def test_balanced_accuracy_by_hand():
    """People with many errors of one kind have many of the other: shares (0.0125 + 0.025) / 2 each way."""
    estimate = intervals.balanced_accuracy(FOUR)
    assert estimate.value == pytest.approx(0.85)
    assert estimate.ci95 == pytest.approx([0.85 - 0.1378039, 0.85 + 0.1378039], abs=1e-6)


def test_true_accept_by_hand():
    """With a flat ROC the interval of FNMR, turned round; with slope 2 shares of 0.0125 + 2 x 0.025 = 0.0625."""
    flat = intervals.true_accept(FOUR, roc_slope=0)
    assert flat.value == 0.85
    assert flat.ci95 == pytest.approx([0.85 - 0.0918693, 0.85 + 0.0918693], abs=1e-6)
    steep = intervals.true_accept(FOUR, roc_slope=2)
    half = 3.182446 * (4 / 3 * 4 * 0.0625**2) ** 0.5
    assert steep.ci95 == pytest.approx([0.85 - half, 1], abs=1e-6)


def test_no_error_at_all_still_has_an_interval():
    """Shares are all 0; 400 independent pairs would allow up to 3.841459 / 403.841459."""
    clean = errors_of([0] * 4, [100] * 4, [0] * 4, [200] * 4)
    assert intervals.false_non_match(clean).ci95 == pytest.approx([0, 0.0095123], abs=1e-6)
    assert intervals.false_match(clean).ci95 == pytest.approx([0, 0.0095123], abs=1e-6)
    balanced = intervals.balanced_accuracy(clean)
    assert balanced.ci95 == pytest.approx([1 - 0.0095123 / 2**0.5, 1], abs=1e-6)


def test_one_person_tells_nothing_of_others():
    alone = errors_of([1], [10], [0], [0])
    assert intervals.false_non_match(alone) == Estimate(0.1, 0, 1)
    assert intervals.false_match(alone) is None
    assert intervals.balanced_accuracy(alone) is None
    assert intervals.true_accept(alone, roc_slope=1) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8), st.floats(0, 100))
def test_intervals_hold_their_value_and_are_json(people, slope):
    errors, rest = (np.array(column) for column in zip(*people, strict=True))
    made = errors_of(errors, errors + rest, 2 * errors, 2 * (errors + rest))
    found = [intervals.false_non_match(made), intervals.false_match(made), intervals.balanced_accuracy(made)]
    for estimate in [*found, intervals.true_accept(made, roc_slope=slope)]:
        if estimate is not None:
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
            json.dumps(estimate.ci95, allow_nan=False)


def test_mean_of_halves_by_hand():
    """Bounds 0.03 and 0.04 below: 0.05 / 2; 0.06 and 0.08 above: 0.1 / 2."""
    mean = mean_of([Estimate(0.8, 0.77, 0.86), Estimate(0.9, 0.86, 0.98)])
    assert [mean.value, *mean.ci95] == pytest.approx([0.85, 0.825, 0.9])


def test_false_match_covers_where_pairs_share_people():
    """People differ in how easily they are taken for others. Over 300 draws of 60 people the interval by identity
    holds the true rate about 95 times in 100; one that takes the pairs for independent, far less often.
    """
    generator = np.random.default_rng(0)
    trials, people, images = 300, 60, 20
    truth = 0.05
    held = independent = 0
    for _ in range(trials):
        effect = generator.gamma(4, 0.25, people)
        rate = np.clip(truth * np.outer(effect, effect), 0, 1)
        wrong = np.triu(generator.binomial(images, rate), 1)
        by_person = wrong.sum(axis=0) + wrong.sum(axis=1)
        estimate = intervals.false_match(
            errors_of([0] * people, [0] * people, by_person, [images * (people - 1)] * people)
        )
        held += estimate.low <= truth <= estimate.high
        naive = wilson(int(wrong.sum()), images * people * (people - 1) // 2)
        independent += naive.low <= truth <= naive.high
    assert held / trials >= 0.92
    assert independent / trials < 0.6


def test_the_median_of_one_and_of_equal_values():
    assert bootstrap_median([0.25], draws=10).ci95 == [0.25, 0.25]
    assert bootstrap_median([3, 3, 3]) == Estimate(3, 3, 3)
    with pytest.raises(UserError, match="no values"):
        bootstrap_median([])


def test_failures_are_infinite_in_the_median():
    """Of two in three infinite the median is; of one in three it is the larger of the finite, in no order."""
    assert bootstrap_median([np.inf, 1.0, np.inf]) == Estimate(np.inf, 1.0, np.inf)
    assert bootstrap_median([np.inf, 2.0, 1.0]) == Estimate(2.0, 1.0, np.inf)
    assert bootstrap_median([np.inf, 1.0]).value == np.inf, "the middle between 1 and infinity"
    assert bootstrap_median([np.inf] * 4) == Estimate(np.inf, np.inf, np.inf)


def test_the_medians_interval_is_the_percentile_bootstraps():
    values = np.random.default_rng(0).lognormal(size=80)
    ours = bootstrap_median(values)
    peer = stats.bootstrap((values,), np.median, method="percentile", random_state=1).confidence_interval
    assert ours.value == np.median(values)
    assert ours.ci95 == pytest.approx([peer.low, peer.high], rel=0.05)
    assert bootstrap_median(values) == ours != bootstrap_median(values, seed=1)


def three_people() -> tuple[np.ndarray, ...]:
    """Genuine pairs of A, B, C at 0.1, 0.5, 0.3; impostor pairs AB, AC, BC at 0.4, 0.6, 0.2."""
    distances = np.array([0.1, 0.5, 0.3, 0.4, 0.6, 0.2])
    first, second = np.array([0, 1, 2, 0, 0, 1]), np.array([0, 1, 2, 1, 2, 2])
    return distances, first == second, first, second


def test_area_by_hand():
    """Impostor pairs farther than AA, BB, CC: 3, 1, 2 of 3. Genuine pairs nearer than AB, AC, BC: 2, 3, 1 of 3.

    Shares: A 1/9 of its genuine pair and 0 + 1/9 of its impostor pairs, B -1/9 and 0 - 1/9, C 0 and 1/9 - 1/9.
    """
    area = IdentityAuc.of(*three_people())
    assert area.value == pytest.approx(2 / 3)
    assert area.shares == pytest.approx([2 / 9, -2 / 9, 0])
    assert area.people == 3
    assert area.estimate.ci95 == [0, 1]  # half a width of 4.302653 x sqrt(3 / 2 x 8 / 81) = 1.656


def test_difference_of_areas_by_hand():
    """With BB at 0.35 the placements are AA 1, BB 2/3, CC 2/3 and AB 1, AC 1, BC 1/3; the area is 7/9.

    Shares: A (2/9 + 2/9 + 2/9) / 3 = 2/9, B (-1/9 + 2/9 - 4/9) / 3 = -1/9, C (-1/9 + 2/9 - 4/9) / 3 = -1/9.
    Less those above: 0, 1/9, -1/9.
    """
    distances, *rest = three_people()
    area = IdentityAuc.of(distances, *rest)
    better = IdentityAuc.of(np.where(distances == 0.5, 0.35, distances), *rest)
    assert better.shares == pytest.approx([2 / 9, -1 / 9, -1 / 9])
    half = 4.302653 * (3 / 2 * 2 / 81) ** 0.5
    assert better.minus(area).value == pytest.approx(1 / 9)
    assert better.minus(area).ci95 == pytest.approx([1 / 9 - half, 1 / 9 + half], abs=1e-6)
    assert better.minus(better).ci95 == [0, 0]


def test_area_counts_equal_distances_half():
    distances, same, first, second = three_people()
    area = IdentityAuc.of(np.zeros(6), same, first, second)
    assert area.value == 0.5
    assert area.estimate.ci95 == [0.5, 0.5]
    with pytest.raises(UserError, match="none of a kind"):
        IdentityAuc.of(distances, np.ones(6, bool), first, second)


def test_area_agrees_with_a_bootstrap_by_people():
    """Resample people; a genuine pair weighs as often as its person was drawn, an impostor pair the product of both."""
    random, people = np.random.default_rng(5), 40
    blur = random.gamma(2, 0.5, (people, 1, 1))
    vectors = random.normal(size=(people, 1, 8)) + blur * random.normal(size=(people, 4, 8))
    vectors = vectors.reshape(-1, 8) / np.linalg.norm(vectors.reshape(-1, 8), axis=1, keepdims=True)
    one, other = np.triu_indices(len(vectors), 1)
    first, second, distances = one // 4, other // 4, 1 - (vectors @ vectors.T)[one, other]
    same = first == second
    area = IdentityAuc.of(distances, same, first, second)
    farther = (distances[same][:, None] < distances[~same][None]).astype(np.float32)
    assert area.value == pytest.approx(farther.mean(), abs=1e-6)
    drawn = []
    for _ in range(200):
        often = np.bincount(random.integers(0, people, people), minlength=people).astype(np.float32)
        genuine, impostor = often[first[same]], often[first[~same]] * often[second[~same]]
        drawn.append(genuine @ farther @ impostor / genuine.sum() / impostor.sum())
    half = area.estimate.high - area.value
    assert half == pytest.approx(stats.t.ppf(0.975, people - 1) * np.std(drawn), rel=0.15)

"""Error curves: by hand, against scikit-learn, and what holds of every curve."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from tfface.errors import UserError
from tfface.metrics.all_pairs import all_pairs
from tfface.metrics.distances import cosine_distance, to_cosine
from tfface.metrics.roc import ACCEPT_NONE, ErrorCurve, FoldResult, calibrate_halves, kfold, supported_fars

# Genuine at 0.1, 0.2, 0.4; impostors at 0.3, 0.5, 0.6, 0.7.
DISTANCES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
SAME = np.array([1, 1, 0, 1, 0, 0, 0], bool)


@pytest.fixture
def curve():
    return ErrorCurve.from_scores(DISTANCES, SAME)


@st.composite
def scores(draw):
    """Up to 60 pairs whose distances are eighths, so that ties are common."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 16), st.booleans()), min_size=2, max_size=60))
    distances, same = (np.array(column) for column in zip(*pairs, strict=True))
    assume(0 < same.sum() < len(same))
    return distances / 8, same


def made(images=240, people=30, seed=0):
    generator = np.random.default_rng(seed)
    identities = generator.integers(0, people, images)
    vectors = generator.standard_normal((people, 16))[identities] + 0.8 * generator.standard_normal((images, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), identities


def test_rates_by_hand(curve):
    """At 0.3, itself accepted: 2 of 3 genuine, 1 of 4 impostors; accuracy (2/3 + 3/4) / 2 = 17/24."""
    assert curve.frr(0.3) == pytest.approx(1 / 3)
    assert curve.far(0.3) == 0.25
    assert curve.accuracy(0.3) == pytest.approx(17 / 24)
    assert curve.far(0.29999) == 0
    assert (curve.far(-1), curve.frr(-1), curve.accuracy(-1)) == (0, 1, 0.5)
    assert (curve.far(9), curve.frr(9)) == (1, 0)


def test_best_threshold_is_the_middle_of_the_plateau(curve):
    """From 0.4 up to 0.5: (1 + 3/4) / 2 = 7/8; from 0.2 to 0.3 only (2/3 + 1) / 2 = 5/6."""
    assert curve.best_threshold() == pytest.approx(0.45)
    assert curve.accuracy(curve.best_threshold()) == 0.875


def test_best_threshold_of_ties_is_in_the_widest_range():
    """Genuine 1, 4; impostors 2, 8, in that order: 3/4 is had in [1, 2) and [4, 8); the second is wider."""
    tied = ErrorCurve.from_scores(np.array([1.0, 4, 2, 8]), np.array([1, 1, 0, 0], bool))
    assert tied.best_threshold() == 6
    even = ErrorCurve.from_scores(np.array([1.0, 3, 2, 4]), np.array([1, 1, 0, 0], bool))
    assert even.best_threshold() == 1.5


def test_best_threshold_between_neighbouring_floats():
    """There is no number between the two: the middle must not round up and accept the impostor."""
    start = 0.5
    curve = ErrorCurve.from_scores(np.array([start, np.nextafter(start, 1)]), np.array([True, False]))
    assert curve.accuracy(curve.best_threshold()) == 1


def test_auc_and_eer_by_hand(curve):
    """11 of the 12 pairs of pairs are in order. FAR and FRR cross between 0.3 (1/4, 1/3) and 0.4 (1/4, 0): where
    FRR falls to 1/4, a quarter of the way: 0.325.
    """
    assert curve.auc() == pytest.approx(11 / 12)
    rate, threshold = curve.eer()
    assert rate == pytest.approx(0.25)
    assert threshold == pytest.approx(0.325)


def test_perfect_and_hopeless():
    perfect = ErrorCurve.from_scores(np.array([0.1, 0.9]), np.array([True, False]))
    assert (perfect.auc(), perfect.eer()[0], perfect.accuracy(perfect.best_threshold())) == (1, 0, 1)
    assert perfect.best_threshold() == 0.5
    hopeless = ErrorCurve.from_scores(np.array([0.9, 0.1]), np.array([True, False]))
    assert (hopeless.auc(), hopeless.eer()[0], hopeless.accuracy(hopeless.best_threshold())) == (0, 1, 0.5)


def test_tar_at_far_by_hand():
    """30 impostors at 1, 2, ..., 30 and genuine pairs at 0.5, 3, 3.5, 40: FAR 0.1 lets three impostors through, up
    to 3.5; three genuine pairs of four pass.
    """
    distances = np.concatenate([np.arange(1.0, 31), [0.5, 3, 3.5, 40]])
    curve = ErrorCurve.from_scores(distances, np.arange(34) >= 30)
    assert curve.threshold_at_far(0.1) == 3.5
    assert curve.far(3.5) == 0.1
    assert curve.tar_at_far(0.1) == 0.75
    with pytest.raises(UserError, match=r"30 impostor pairs cannot tell a FAR of 0\.01"):
        curve.tar_at_far(0.01)


def test_far_that_no_threshold_has():
    """All 30 impostors at 0: every threshold that accepts one accepts them all."""
    curve = ErrorCurve.from_scores(np.zeros(31), np.arange(31) == 30)
    assert curve.threshold_at_far(0.1) == ACCEPT_NONE
    assert curve.tar_at_far(0.1) == 0
    assert curve.far(ACCEPT_NONE) == 0


def test_slope_by_hand():
    """100 impostors and 100 genuine pairs by turns: TAR rises as FAR does."""
    curve = ErrorCurve.from_scores(np.arange(200.0), np.arange(200) % 2 == 0)
    assert curve.slope_at_far(0.1) == pytest.approx(1)


def test_fars_that_the_impostors_support():
    """Three false accepts or more: 0.1 of 30, not of 29; at 87 million all of them."""
    assert supported_fars(29) == ()
    assert supported_fars(30) == (0.1,)
    assert supported_fars(3000) == (0.1, 0.01, 0.001)
    assert supported_fars(87_307_271)[-1] == 1e-6


@given(scores())
def test_curve_agrees_with_scikit_learn(made_scores):
    distances, same = made_scores
    curve = ErrorCurve.from_scores(distances, same)
    assert curve.auc() == pytest.approx(roc_auc_score(same, -distances))
    fars, tars, thresholds = roc_curve(same, -distances, drop_intermediate=False)
    np.testing.assert_allclose(curve.thresholds, -thresholds[1:])
    np.testing.assert_allclose([curve.far(threshold) for threshold in -thresholds], fars)
    np.testing.assert_allclose([1 - curve.frr(threshold) for threshold in -thresholds], tars)


@given(scores())
def test_what_holds_of_every_curve(made_scores):
    distances, same = made_scores
    curve = ErrorCurve.from_scores(distances, same)
    for counts in (curve.thresholds, curve.genuine_accepted, curve.impostor_accepted):
        assert (np.diff(counts) >= 0).all()
    accuracies = [curve.accuracy(threshold) for threshold in [-1, *curve.thresholds]]
    assert curve.accuracy(curve.best_threshold()) == pytest.approx(max(accuracies))
    rate, threshold = curve.eer()
    assert 0 <= rate <= 1
    assert curve.thresholds[0] <= threshold <= curve.thresholds[-1]
    # Equal error on the line between two thresholds: no threshold can have both errors below, or both above.
    assert all(max(curve.far(t), curve.frr(t)) >= rate - 1e-9 for t in curve.thresholds)


@pytest.mark.parametrize(
    ("distances", "same", "message"),
    [
        ([0.1, 0.2], [False, False], "no genuine pairs"),
        ([0.1, 0.2], [True, True], "no impostor pairs"),
        ([], [], "no genuine pairs"),
        ([0.1, float("nan")], [True, False], "pair 1 is not a number"),
        ([0.1, 0.2], [True], "one number a pair"),
    ],
)
def test_what_makes_no_curve(distances, same, message):
    with pytest.raises(UserError, match=message):
        ErrorCurve.from_scores(np.array(distances), np.array(same))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_histogram_curve_is_the_exact_one_at_its_edges(metric):
    embeddings, identities = made()
    binned = ErrorCurve.from_region(all_pairs(embeddings, identities, seed=0).total, metric)
    first, second = np.triu_indices(len(embeddings), 1)
    distance = cosine_distance(embeddings[first], embeddings[second])
    exact = ErrorCurve.from_scores(distance, identities[first] == identities[second])
    edges = binned.thresholds[:: 512 + 1]
    for far, frr in ((binned.far, exact.far), (binned.frr, exact.frr)):
        np.testing.assert_allclose(
            [far(edge) for edge in edges], [frr(to_cosine(edge, metric)) for edge in edges], atol=1e-4
        )
    assert binned.auc() == pytest.approx(exact.auc(), abs=1e-4)
    assert binned.eer()[0] == pytest.approx(exact.eer()[0], abs=1e-3)
    assert to_cosine(binned.eer()[1], metric) == pytest.approx(exact.eer()[1], abs=2 / 8192)
    assert binned.accuracy(binned.best_threshold()) == pytest.approx(
        exact.accuracy(to_cosine(binned.best_threshold(), metric)), abs=1e-4
    )
    for far in supported_fars(binned.impostors):
        assert binned.tar_at_far(far) == pytest.approx(exact.tar_at_far(far), abs=0.01)


def test_histogram_threshold_is_an_edge_amid_the_plateau():
    """Genuine at 0, impostors at 1: all edges from 0 to just below 1 do; the middle one is 8191 // 2 = 4095."""
    embeddings = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    curve = ErrorCurve.from_region(all_pairs(embeddings, ["a", "a", "b"], seed=0).total)
    assert curve.best_threshold() == 4095 / 8192


def test_kfold_chooses_without_the_fold_it_judges():
    """Fold 0: genuine 1, impostor 2, best at 1.5. Fold 1: genuine 5, impostor 6, best at 5.5. So fold 0 at 5.5
    accepts its impostor, 1/2, and fold 1 at 1.5 rejects its genuine pair, 1/2.
    """
    result = kfold(np.array([1.0, 2, 5, 6]), np.array([1, 0, 1, 0], bool), np.array([0, 0, 1, 1]))
    assert result.thresholds == [5.5, 1.5]
    assert result.accuracies == [0.5, 0.5]
    assert result.threshold == 3.5


def test_kfold_at_a_fixed_threshold():
    """At 1.5 fold 0 is all right, fold 1 half: mean 3/4, std sqrt(1/8), standard error 1/4; t(1) = 12.7 clips."""
    result = kfold(np.array([1.0, 2, 5, 6]), np.array([1, 0, 1, 0], bool), np.array([0, 0, 1, 1]), threshold=1.5)
    assert result.accuracies == [1, 0.5]
    assert result.mean == 0.75
    assert result.std == pytest.approx(0.125**0.5)
    assert result.standard_error == pytest.approx(0.25)
    assert result.ci95 == [0, 1]


def test_fold_interval_by_hand():
    """0.7, 0.8, 0.9: mean 0.8, standard error 0.1 / sqrt(3), t(2) = 4.302653: 0.8 -+ 0.248414, cut at 1."""
    assert FoldResult([0] * 3, [0.7, 0.8, 0.9]).ci95 == pytest.approx([0.551586, 1])


@pytest.mark.parametrize(
    ("fold", "message"), [([0, 0, 0, 0], "1 folds"), ([0, 1, 0, 1], "fold 0 has pairs"), ([0, 0, 0, 1], "fold 1 has")]
)
def test_folds_that_cannot_be_judged(fold, message):
    with pytest.raises(UserError, match=message):
        kfold(np.array([1.0, 2, 5, 6]), np.array([1, 0, 1, 0], bool), np.array(fold))


def test_halves_swap_thresholds():
    embeddings, identities = made()
    summary = all_pairs(embeddings, identities, seed=4)
    result = calibrate_halves(summary)
    of_a, of_b = (ErrorCurve.from_region(summary.regions[half]) for half in "ab")
    assert result.thresholds == [of_b.best_threshold(), of_a.best_threshold()]
    assert result.accuracies == [of_a.accuracy(of_b.best_threshold()), of_b.accuracy(of_a.best_threshold())]
    assert 0.5 < result.mean < 1
    in_other_metric = calibrate_halves(summary, "euclidean")
    assert in_other_metric.accuracies == result.accuracies
    assert [to_cosine(threshold, "euclidean") for threshold in in_other_metric.thresholds] == result.thresholds


def test_halves_without_pairs_of_a_kind_are_not_calibrated():
    """Two people: each half has one, so no impostor pairs; single images: no genuine pairs."""
    embeddings, _ = made(8, 2)
    assert calibrate_halves(all_pairs(embeddings, [0, 0, 0, 0, 1, 1, 1, 1], seed=0)) is None
    assert calibrate_halves(all_pairs(embeddings, range(8), seed=0)) is None

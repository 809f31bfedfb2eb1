"""Thresholds: where each comes from, and its errors counted pair by pair."""

import dataclasses
import itertools

import numpy as np
import pytest

from tfface.attacks.fgsm import FGSM
from tfface.data import Pairs
from tfface.errors import UserError
from tfface.evaluation.embeddings import embed_dataset
from tfface.metrics.distances import FarThreshold, cosine_distance
from tfface.metrics.roc import kfold
from tfface.preprocessing.images import recipe
from tfface.robustness import pairs as thresholds
from tfface.robustness.experiment import ExperimentConfig, prepare
from tfface.robustness.pairs import Threshold


@pytest.fixture
def embeddings(faces, tiny_embedder):
    return embed_dataset(faces, tiny_embedder, recipe("whole"))


def distances(faces, embeddings, people) -> tuple[np.ndarray, np.ndarray]:
    """Cosine distance and truth of every pair of these people's photographs, one by one."""
    own = [index for index, name in enumerate(faces.identities) if name in people]
    rows = np.array(list(itertools.combinations(own, 2)))
    distance = cosine_distance(embeddings.vectors[rows[:, 0]], embeddings.vectors[rows[:, 1]])
    same = np.array([faces.identities[one] == faces.identities[two] for one, two in rows])
    return distance, same


def test_the_presets_threshold_with_its_errors(faces, embeddings, context):
    found = thresholds.fixed(context)
    distance, same = distances(faces, embeddings, set(faces.identities))
    assert (found.value, found.source) == (0.2, "preset: chosen for the tests")
    assert found.errors["far"] == pytest.approx((distance[~same] <= 0.2).mean(), abs=2e-3)
    assert found.errors["tar"] == pytest.approx((distance[same] <= 0.2).mean(), abs=1e-2)
    assert (found.errors["genuine"], found.errors["impostor"]) == (same.sum(), (~same).sum())
    given = thresholds.fixed(context, 0.05)
    assert (given.value, given.source) == (0.05, "given")
    assert given.errors["tar"] < found.errors["tar"] or given.errors["far"] < found.errors["far"]


def test_of_a_large_data_set_nothing_is_measured(context, monkeypatch):
    monkeypatch.setattr(thresholds, "MOST_MEASURED", 3)
    monkeypatch.setattr(type(context), "embeddings", lambda *_: pytest.fail("embedded"))
    found = thresholds.fixed(context)
    assert found.record()["threshold_errors"] is None


def test_a_far_is_measured_on_people_who_are_not_attacked(faces, embeddings, context):
    attacked = np.array([0, 1, 8])  # of person 0 and person 1
    found = thresholds.at_far(context, 0.01, attacked)
    free = {f"person {number}" for number in range(2, 8)}
    distance, same = distances(faces, embeddings, free)
    allowed = int(0.01 * (~same).sum())
    ordered = np.sort(distance[~same])
    # The bins are 2**-13 wide: between the last impostor that may pass and the first that may not.
    assert ordered[allowed - 1] - 2**-13 <= found.value <= ordered[allowed] + 2**-13
    assert found.errors["far"] <= 0.01
    assert found.errors["impostor"] == (~same).sum()
    assert found.source == "FAR 0.01 on all pairs of 6 people who are in no attacked pair"


def test_a_far_that_too_few_pairs_can_tell(faces, embeddings, context):
    with pytest.raises(UserError, match=r"`far` 1e-05: .* impostor pairs cannot tell a FAR of 1e-05.*`count`"):
        thresholds.at_far(context, 1e-5, np.array([0]))
    everyone = np.arange(len(faces))
    with pytest.raises(UserError, match=r"`far` 0.1: all pairs of 0 people .* are too few"):
        thresholds.at_far(context, 0.1, everyone)


def test_each_folds_threshold_is_of_the_others(faces, embeddings, context):
    random = np.random.default_rng(0)
    first, second = random.integers(0, 56, (2, 120))
    same = np.array([faces.identities[one] == faces.identities[two] for one, two in zip(first, second, strict=True)])
    second[:30], same[:30] = first[:30] // 8 * 8, True
    pairs = Pairs("view2", first, second, same, np.arange(120) % 3)
    found = thresholds.by_fold(context, pairs)
    distance = cosine_distance(embeddings.vectors[first], embeddings.vectors[second])
    expected = kfold(distance, same, pairs.fold).thresholds
    assert list(found.by_fold.values()) == expected
    assert found.value == pytest.approx(np.mean(expected))
    assert found.cosine(np.array([2, 0, 0])).tolist() == [expected[2], expected[0], expected[0]]
    assert found.errors["tar"] == pytest.approx((distance[same] <= found.value).mean())


def test_a_euclidean_threshold_as_a_cosine_distance():
    """A unit vector's Euclidean distance of 1 is a cosine distance of 1/2."""
    found = Threshold(1.0, "euclidean", "here")
    assert found.cosine(np.array([0, 4])).tolist() == [0.5, 0.5]
    assert dataclasses.replace(found, by_fold={0: 1.0, 4: 0.2}).cosine(np.array([4, 0])) == pytest.approx([0.02, 0.5])


def test_a_calibrated_far_is_taken_where_the_model_has_one(faces, context):
    """Behind a defense distances are others, and a benchmark compares rows: there it is measured."""
    row = FarThreshold(0.1, 0.15, 0.1, 0.2, 40, "FAR 0.1 on a test", "whole")
    embedder = context.embedder
    own = dataclasses.replace(embedder, preset=dataclasses.replace(embedder.preset, thresholds=(row,)))
    calibrated = dataclasses.replace(context, embedder=own)
    plan = ExperimentConfig(attacks=[("fgsm", FGSM())], goals=["dodging"], epsilons=(0.01,), count=2, far=0.1)
    found = prepare(plan, calibrated).threshold
    assert (found.value, found.source) == (0.15, "preset: FAR 0.1 on a test")
    assert found.errors["measured_on"] == "all pairs of the data set"
    elsewhere = prepare(dataclasses.replace(plan, measured=True), calibrated).threshold
    assert elsewhere.source.startswith("FAR 0.1 on all pairs of") and elsewhere.value != 0.15
    assert prepare(plan, context).threshold.record() == elsewhere.record()
    behind = prepare(plan, calibrated.behind(["jpeg:quality=30"])).threshold
    assert "people who are in no attacked pair" in behind.source

import dataclasses
import json

import numpy as np
import pytest

from tfface.data import FaceDataset, Pairs
from tfface.errors import UserError
from tfface.evaluation.embeddings import Embeddings
from tfface.evaluation.scoring import evaluate_embeddings
from tfface.models._embedder import Preset

PRESET = Preset(
    name="test/one",
    sources=(),
    file_name="",
    sha256=None,
    input_size=8,
    embedding_size=2,
    recipe="whole",
    metric="cosine",
    threshold=0.4,
    threshold_source="made up",
    training_data="nothing",
    licence="none",
    other_thresholds=(("euclidean", 1.0, "the paper"),),
)


class Listed(FaceDataset):
    """People and keys alone, with pair lists given by hand."""

    lists: dict

    def encoded(self, start=0, stop=None):
        raise AssertionError("evaluation reads no image")

    def read(self, key):
        raise AssertionError("evaluation reads no image")

    def take(self, indices, label):
        raise AssertionError("not here")

    def pairs(self, name):
        if name not in self.lists:
            return super().pairs(name)
        return self.lists[name]


def faces(people: str, lists: dict | None = None) -> Listed:
    """A data set of one image a letter; the letter is the person."""
    keys = [f"{person}/{index}.png" for index, person in enumerate(people)]
    dataset = Listed("listed", "1", keys, list(people), None)
    object.__setattr__(dataset, "lists", lists or {})
    return dataset


def at_angles(*degrees: float, failed: tuple[int, ...] = ()) -> Embeddings:
    """Unit vectors in the plane: the cosine distance of two is 1 minus the cosine of their angle."""
    radians = np.deg2rad(degrees)
    vectors = np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)
    ok = np.array([index not in failed for index in range(len(degrees))])
    vectors[~ok] = 0
    return Embeddings(vectors, ok, [(f"image {index}", "is broken") for index in failed])


def pair_list(rows: list[tuple[int, int, bool, int]], name: str = "view2") -> Pairs:
    first, second, same, fold = (np.array(column) for column in zip(*rows, strict=True))
    return Pairs(name, first, second, same, fold)


def test_all_pairs_by_hand():
    """Angles 0, 60 of a and 180, 240 of b.

    Genuine distances 0.5 and 0.5; impostor: 0-180 is 2, 0-240 and 60-180 are 1.5, 60-240 is 2:
    mean 1.75, variance 0.0625. Euclidean: genuine 1; impostor 2, sqrt 3, sqrt 3, 2. At 0.4 no pair
    is accepted (accuracy 50%); at Euclidean 1.0 (cosine 0.5) float32 noise decides, so 1.01 is used.
    """
    preset = dataclasses.replace(PRESET, other_thresholds=(("euclidean", 1.01, "the paper"),))
    metrics = evaluate_embeddings(faces("aabb"), at_angles(0, 60, 180, 240), preset).metrics
    assert metrics["genuine"]["count"] == 2
    assert metrics["genuine"]["mean"] == pytest.approx(0.5, abs=1e-6)
    assert metrics["genuine"]["variance"] == pytest.approx(0, abs=1e-6)
    assert metrics["impostor"]["mean"] == pytest.approx(1.75, abs=1e-6)
    assert metrics["impostor"]["variance"] == pytest.approx(0.0625, abs=1e-6)
    assert (metrics["fixed"]["accuracy"], metrics["fixed"]["far"], metrics["fixed"]["frr"]) == (0.5, 0.0, 1.0)
    row, same = metrics["rows"]
    assert (same["metric"], same["threshold"]) == ("euclidean", pytest.approx(0.8**0.5))
    assert (row["metric"], row["accuracy"]) == ("euclidean", 1.0)
    assert row["impostor"]["mean"] == pytest.approx((2 + 3**0.5) / 2, abs=1e-6)
    assert metrics["calibrated"] is None, "two people leave one in each half: no impostor pair to calibrate on"
    assert (metrics["auc"], metrics["eer"]) == (1.0, 0.0)
    assert metrics["tar_at_far"] == {}, "four impostor pairs support no rate"


def test_calibrated_row_has_the_same_accuracy_in_both_metrics():
    rng = np.random.default_rng(0)
    people = "".join(letter * 6 for letter in "abcdefgh")
    centres = np.repeat(rng.normal(size=(8, 2)), 6, axis=0)
    vectors = centres + 0.3 * rng.normal(size=centres.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    metrics = evaluate_embeddings(faces(people), Embeddings(vectors, np.ones(48, bool), []), PRESET).metrics
    calibrated, other = metrics["calibrated"], metrics["rows"][-1]
    assert other["metric"] == "euclidean"
    assert other["threshold"] == pytest.approx((2 * calibrated["threshold"]) ** 0.5)
    assert other["accuracy"] == calibrated["accuracy"]
    low, high = calibrated["ci95"]
    assert 0 <= low <= calibrated["accuracy"] <= high <= 1
    json.dumps(metrics, allow_nan=False)


def test_folds_are_judged_at_the_threshold_of_the_others():
    """Two folds whose best thresholds differ.

    Fold 0: genuine 0.5 (0-60), impostor 1.5 (0-120). Fold 1: genuine 1.0 (0-90), impostor 2.0 (0-180).
    The best threshold of fold 0 lies midway between 0.5 and 1.5: 1.0, which accepts fold 1's genuine
    pair (at most 1.0, up to float noise, so 85 degrees is used) and rejects its impostor pair: 100%.
    Fold 1's lies midway between 0.913 and 2: 1.456 rejects 1.5: 100%. The mean threshold is 1.228.
    """
    rows = [(0, 1, True, 0), (0, 2, False, 0), (0, 3, True, 1), (0, 4, False, 1)]
    dataset = faces("aabac", {"view2": pair_list(rows)})
    metrics = evaluate_embeddings(dataset, at_angles(0, 60, 120, 85, 180), PRESET, protocol="view2").metrics
    assert metrics["calibrated"]["folds"] == [1.0, 1.0]
    expected = ((0.5 + 1.5) / 2 + (1 - np.cos(np.deg2rad(85)) + 2) / 2) / 2
    assert metrics["calibrated"]["threshold"] == pytest.approx(expected, abs=1e-6)
    assert metrics["fixed"]["accuracy"] == 0.5


def test_view1_takes_its_threshold_from_the_training_list_alone():
    """Training: genuine 0.5, impostor 1.5, so 1.0. Test: a genuine pair at 1.5 is wrong, though 1.8 would suit it."""
    lists = {
        "view1-train": pair_list([(0, 1, True, 0), (0, 2, False, 0)]),
        "view1-test": pair_list([(0, 3, True, 0), (0, 4, False, 0)]),
    }
    metrics = evaluate_embeddings(
        faces("aabac", lists), at_angles(0, 60, 120, 120, 180), PRESET, protocol="view1"
    ).metrics
    assert metrics["calibrated"]["threshold"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["calibrated"]["accuracy"] == 0.5
    assert metrics["genuine"]["count"] == metrics["impostor"]["count"] == 1


def test_one_fold_has_no_calibrated_threshold():
    dataset = faces("aab", {"view2": pair_list([(0, 1, True, 0), (0, 2, False, 0)])})
    assert evaluate_embeddings(dataset, at_angles(0, 10, 120), PRESET, protocol="view2").metrics["calibrated"] is None


def test_pairs_with_a_failed_image_are_left_out_and_said():
    rows = [(0, 1, True, 0), (0, 3, True, 0), (0, 2, False, 0)]
    dataset = faces("aaba", {"view2": pair_list(rows)})
    metrics = evaluate_embeddings(dataset, at_angles(0, 10, 120, 0, failed=(3,)), PRESET, protocol="view2").metrics
    assert metrics["genuine"]["count"] == 1
    assert metrics["failed_images"] == 1
    assert any("1 pairs are left out" in remark for remark in metrics["remarks"])


def test_all_pairs_leaves_failed_images_out():
    metrics = evaluate_embeddings(faces("aabb"), at_angles(0, 60, 180, 240, failed=(3,)), PRESET).metrics
    assert (metrics["genuine"]["count"], metrics["impostor"]["count"]) == (1, 2)
    assert metrics["images"] == 4


def test_groups_by_hand():
    """Group x: a at 0, 10 and b at 20: genuine 0-10 near, impostors 0-20, 10-20 near, hence accepted: FMR 1.

    Group y: c at 90 and 200 far apart: FNMR 1, no impostor pair.
    """
    dataset = faces("aabcc")
    groups = dict(zip(dataset.keys, "xxxyy", strict=True))
    metrics = evaluate_embeddings(dataset, at_angles(0, 10, 20, 90, 200), PRESET, groups=groups).metrics["groups"]
    assert metrics["threshold"] == 0.4
    assert metrics["rates"]["x"]["fmr"]["value"] == 1.0
    assert metrics["rates"]["x"]["impostor"]["count"] == 2
    assert metrics["rates"]["x"]["fnmr"]["value"] == 0.0
    assert metrics["rates"]["y"]["fnmr"]["value"] == 1.0
    assert metrics["rates"]["y"]["fmr"] == {"value": None, "ci95": None}


def test_a_given_threshold_replaces_the_presets():
    metrics = evaluate_embeddings(faces("aabb"), at_angles(0, 60, 180, 240), PRESET, threshold=0.6).metrics
    assert metrics["fixed"]["accuracy"] == 1.0
    assert metrics["fixed"]["threshold_source"] == "given"


def test_people_seen_in_training_are_said():
    preset = dataclasses.replace(PRESET, identities_seen=frozenset({"a", "z"}))
    remarks = evaluate_embeddings(faces("aabb"), at_angles(0, 60, 180, 240), preset).metrics["remarks"]
    assert any("trained on 1 of these 2 people" in remark for remark in remarks)


@pytest.mark.parametrize(
    ("people", "protocol", "message"),
    [
        ("abc", "all-pairs", "no genuine pairs"),
        ("aaa", "all-pairs", "no impostor pairs"),
        ("aab", "view2", "no pair list 'view2'"),
        ("aab", "half", "valid: all-pairs, view1, view2"),
    ],
)
def test_what_cannot_be_judged_says_why(people, protocol, message):
    with pytest.raises(UserError, match=message):
        evaluate_embeddings(faces(people), at_angles(0, 60, 180), PRESET, protocol=protocol)


def test_the_worst_pairs_come_first_by_key():
    """Genuine 0-60 (0.5) and 180-260 (1 - cos 80); impostors: closest is 0-260 (100 degrees)."""
    for protocol in ("all-pairs", "view2"):
        rows = [
            (0, 1, True, 0),
            (2, 3, True, 0),
            (0, 3, False, 0),
            (0, 2, False, 0),
            (1, 2, False, 0),
            (1, 3, False, 0),
        ]
        dataset = faces("aabb", {"view2": pair_list(rows)})
        worst = evaluate_embeddings(dataset, at_angles(0, 60, 180, 260), PRESET, protocol=protocol).worst
        assert [(pair.kind, pair.rank) for pair in worst] == [("impostor", n) for n in (1, 2, 3, 4)] + [
            ("genuine", 1),
            ("genuine", 2),
        ]
        assert worst[0][2:4] == ("a/0.png", "b/3.png")
        assert worst[0].distance == pytest.approx(1 - np.cos(np.deg2rad(100)), abs=1e-6)
        assert worst[4][2:4] == ("b/2.png", "b/3.png")


def test_worst_pairs_name_the_right_images_after_a_failed_one():
    worst = evaluate_embeddings(faces("aabb"), at_angles(7, 0, 180, 240, failed=(0,)), PRESET).worst
    assert {pair[2:4] for pair in worst if pair.kind == "genuine"} == {("b/2.png", "b/3.png")}

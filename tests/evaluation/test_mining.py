import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tfface.data import FolderFaces, Pairs
from tfface.errors import UserError
from tfface.evaluation.embeddings import Embeddings
from tfface.evaluation.mining import hardest_people, mine_embeddings
from tfface.evaluation.scoring import evaluate_embeddings
from tfface.metrics.all_pairs import arrange
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
)


class Listed(FolderFaces):
    """One image a letter, which is the person; pair lists by name."""

    def pairs(self, name):
        lists = self.boxes or {}
        return lists[name] if name in lists else super().pairs(name)


def faces(people: str, **lists: Pairs) -> Listed:
    keys = [f"{person}/{index}.png" for index, person in enumerate(people)]
    return Listed("listed", "1", keys, list(people), lists, Path("nowhere"))


def at_angles(*degrees: float, failed: tuple[int, ...] = ()) -> Embeddings:
    radians = np.deg2rad(degrees)
    vectors = np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)
    ok = np.array([index not in failed for index in range(len(degrees))])
    vectors[~ok] = 0
    return Embeddings(vectors, ok, [(f"image {index}", "is broken") for index in failed])


def distance(degrees: float) -> float:
    return 1 - np.cos(np.deg2rad(degrees))


def in_clusters(people: int, images: int, spread: float) -> Embeddings:
    rng = np.random.default_rng(5)
    centres = np.repeat(rng.normal(size=(people, 3)), images, axis=0)
    vectors = centres + spread * rng.normal(size=centres.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(vectors.astype(np.float32), np.ones(len(vectors), bool), [])


def test_all_pairs_by_hand():
    """Persons a at 0 and 104 degrees, b at 20 and 50, c at 180; 0.4 accepts up to 53.1 degrees.

    Genuine: a 104 degrees (wrong), b 30 (right). Impostor: 0-20 and 0-50 wrong, 104-20, 104-50 (54)
    and all of c's right. So a has two false positives and a false negative, b the two alone.
    """
    mined = mine_embeddings(faces("aabbc"), at_angles(0, 104, 20, 50, 180), PRESET)
    metrics = mined.metrics
    assert (metrics["threshold"], metrics["threshold_source"]) == (0.4, "made up")
    assert {key: metrics["false_positives"][key] for key in ("count", "pairs", "rate")} == {
        "count": 2,
        "pairs": 8,
        "rate": 0.25,
    }
    assert (metrics["false_negatives"]["count"], metrics["false_negatives"]["rate"]) == (1, 0.5)
    assert metrics["people"] == [
        {"person": "a", "images": 2, "false_positives": 2, "false_negatives": 1},
        {"person": "b", "images": 2, "false_positives": 2, "false_negatives": 0},
    ]
    assert [pair[:4] for pair in mined.wrong] == [
        ("false_positive", 1, "a/0.png", "b/2.png"),
        ("false_positive", 2, "a/0.png", "b/3.png"),
        ("false_negative", 1, "a/0.png", "a/1.png"),
    ]
    assert [pair.margin for pair in mined.wrong] == pytest.approx(
        [0.4 - distance(20), 0.4 - distance(50), distance(104) - 0.4], abs=1e-6
    )
    assert mined.wrong[0][4:6] == ("a", "b")
    assert hardest_people(mined, 1) == ["a"]
    assert hardest_people(mined, 9) == ["a", "b"], "c has no error"
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_counts_are_of_all_pairs_and_the_list_of_the_worst(metric):
    """Against a double loop over the pairs, at a threshold lax enough for most to be wrong."""
    embeddings, people = in_clusters(8, 6, 0.6), "".join(letter * 6 for letter in "hgfedcba")
    limit = 1.3 if metric == "euclidean" else 1.3**2 / 2
    dataset, preset = faces(people), dataclasses.replace(PRESET, metric=metric)
    mined = mine_embeddings(dataset, embeddings, preset, threshold=limit, top=7)
    vectors = embeddings.vectors.astype(np.float64)
    wrong, by_person = [], dict.fromkeys(people, 0)
    for i in range(48):
        for j in range(i + 1, 48):
            far = 1 - vectors[i] @ vectors[j] if metric == "cosine" else np.linalg.norm(vectors[i] - vectors[j])
            if (far <= limit) != (people[i] == people[j]):
                kind = "false_negative" if people[i] == people[j] else "false_positive"
                wrong.append((kind, -abs(far - limit), {dataset.keys[i], dataset.keys[j]}))
                for person in {people[i], people[j]}:
                    by_person[person] += 1
    for kind in ("false_positive", "false_negative"):
        expected = sorted((pair for pair in wrong if pair[0] == kind), key=lambda pair: pair[1])
        found = mined.of_kind(kind)
        assert mined.metrics[f"{kind}s"]["count"] == len(expected) > 7
        assert [{pair.first, pair.second} for pair in found] == [pair[2] for pair in expected[:7]]
        assert [pair.margin for pair in found] == pytest.approx([-pair[1] for pair in expected[:7]], abs=1e-5)
    assert {person.person: person.errors for person in mined.people} == {
        person: count for person, count in by_person.items() if count
    }
    assert len(mined.metrics["people"]) == 7
    counts = [person.errors for person in mined.people]
    assert counts == sorted(counts, reverse=True)


def test_calibrated_judges_each_half_at_the_others_threshold():
    """The thresholds are those of `evaluate`; no pair crosses the halves; counts by a double loop."""
    embeddings, people = in_clusters(8, 6, 0.5), "".join(letter * 6 for letter in "abcdefgh")
    dataset = faces(people)
    mined = mine_embeddings(dataset, embeddings, PRESET, calibrated=True)
    calibrated = evaluate_embeddings(dataset, embeddings, PRESET).metrics["calibrated"]
    assert mined.metrics["threshold"] == calibrated["threshold"]
    assert mined.metrics["threshold_source"] == calibrated["threshold_source"]
    halves = arrange(list(people), seed=0)
    in_a = {people[row] for row in halves.order[: halves.boundary]}
    thresholds = {pair.first_person in in_a: pair.threshold for pair in mined.wrong}
    assert sum(thresholds.values()) / 2 == pytest.approx(calibrated["threshold"])
    vectors = embeddings.vectors.astype(np.float64)
    false_positives = impostors = 0
    for i in range(48):
        for j in range(i + 1, 48):
            if people[i] != people[j] and (people[i] in in_a) == (people[j] in in_a):
                impostors += 1
                false_positives += 1 - vectors[i] @ vectors[j] <= thresholds[people[i] in in_a]
    assert mined.metrics["false_positives"]["pairs"] == impostors == 2 * 6 * 36
    assert mined.metrics["false_positives"]["count"] == false_positives > 0
    assert all((pair.first_person in in_a) == (pair.second_person in in_a) for pair in mined.wrong)
    margins = [pair.margin for pair in mined.of_kind("false_positive")]
    assert margins == sorted(margins, reverse=True)
    across = 48 * 47 // 2 - 8 * 15 - impostors
    assert mined.metrics["remarks"][-1].startswith(f"{across} impostor pairs across")


def folds() -> Listed:
    """Fold 0: genuine 60 and 100 degrees, impostor 120. Fold 1: genuine 90, impostors 80 and 180."""
    rows = [(0, 1, True, 0), (0, 5, True, 0), (0, 2, False, 0), (0, 3, True, 1), (0, 6, False, 1), (0, 4, False, 1)]
    first, second, same, fold = (np.array(column) for column in zip(*rows, strict=True))
    return faces("aabacab", view2=Pairs("view2", first, second, same, fold))


FOLD_ANGLES = (0, 60, 120, 90, 180, 100, 80)


def test_view2_judges_each_fold_at_the_others_threshold():
    """Fold 0 is separated between 100 and 120 degrees: 1.337, at which fold 1 takes its impostor at 80.

    Fold 1 is at 3/4 either above 90 degrees (up to 180) or below 80; the wider range is that from 90 to
    180: (1 + 2) / 2 = 1.5 takes fold 0's impostor at 120 degrees, 1.5, on the edge: 119 keeps off float noise.
    """
    angles = list(FOLD_ANGLES)
    angles[2] = 119
    mined = mine_embeddings(folds(), at_angles(*angles), PRESET, protocol="view2", calibrated=True)
    of_fold_0 = (distance(100) + distance(119)) / 2
    assert [pair[:4] for pair in mined.wrong] == [
        ("false_positive", 1, "a/0.png", "b/6.png"),
        ("false_positive", 2, "a/0.png", "b/2.png"),
    ]
    assert [pair.threshold for pair in mined.wrong] == pytest.approx([of_fold_0, 1.5], abs=1e-6)
    assert mined.metrics["threshold"] == pytest.approx((of_fold_0 + 1.5) / 2, abs=1e-6)
    assert mined.metrics["threshold_source"] == "each fold from the others"
    assert (mined.metrics["false_positives"]["pairs"], mined.metrics["false_negatives"]["pairs"]) == (3, 3)
    assert mined.metrics["people"] == [
        {"person": "a", "images": 4, "false_positives": 2, "false_negatives": 0},
        {"person": "b", "images": 2, "false_positives": 2, "false_negatives": 0},
    ]


def test_view2_at_a_fixed_threshold():
    mined = mine_embeddings(folds(), at_angles(*FOLD_ANGLES), PRESET, protocol="view2", threshold=0.9)
    assert [pair[:4] for pair in mined.wrong] == [
        ("false_positive", 1, "a/0.png", "b/6.png"),
        ("false_negative", 1, "a/0.png", "a/5.png"),
        ("false_negative", 2, "a/0.png", "a/3.png"),
    ]
    assert mined.metrics["threshold_source"] == "given"


def test_no_pair_is_wrong():
    mined = mine_embeddings(faces("aabb"), at_angles(0, 10, 180, 190), PRESET)
    assert (mined.wrong, mined.people, mined.metrics["people"]) == ([], [], [])
    assert mined.metrics["false_positives"]["count"] == mined.metrics["false_negatives"]["count"] == 0
    assert hardest_people(mined, 5) == []


def test_a_failed_image_is_in_no_pair():
    mined = mine_embeddings(faces("aabb"), at_angles(0, 104, 20, 50, failed=(0,)), PRESET)
    assert (mined.metrics["failed_images"], mined.metrics["false_negatives"]["pairs"]) == (1, 1)
    assert mined.wrong == []


def test_people_with_as_many_errors_go_by_name():
    mined = mine_embeddings(faces("zzmmaa"), at_angles(0, 100, 120, 220, 240, 340), PRESET, threshold=0.001)
    assert [person.errors for person in mined.people] == [1, 1, 1]
    assert hardest_people(mined, 2) == ["a", "m"]


@pytest.mark.parametrize(
    ("people", "options", "message"),
    [
        ("aabb", {"calibrated": True, "threshold": 0.5}, "exclude each other: give one of them"),
        ("aabb", {"calibrated": True}, "too few pairs to calibrate on: give a threshold"),
        ("aabb", {"protocol": "view2"}, "no pair list 'view2'"),
        ("abcd", {}, "no genuine pairs"),
    ],
)
def test_what_cannot_be_mined_says_why(people, options, message):
    with pytest.raises(UserError, match=message):
        mine_embeddings(faces(people), at_angles(0, 60, 180, 240), PRESET, **options)

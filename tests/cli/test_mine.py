import csv
import json
import shutil

import cv2
import pytest

SCHEMA = [
    "command",
    "model",
    "preset",
    "weights_sha256",
    "recipe",
    "dataset",
    "dataset_version",
    "seed",
    "versions",
    "started",
    "seconds",
    "flip",
    "protocol",
    "images",
    "identities",
    "failed_images",
    "metric",
    "threshold",
    "threshold_source",
    "false_positives",
    "false_negatives",
    "people",
    "remarks",
]


@pytest.fixture
def mine(run_cli, tiny_model, tiny_faces, tmp_path):
    """Runs `mine` on the tiny faces; returns its result and the metrics it wrote, if any."""

    def run(*options: str):
        result = run_cli("mine", "--dataset", str(tiny_faces), "--out", str(tmp_path / "out"), *options)
        path = tmp_path / "out" / "metrics.json"
        return result, json.loads(path.read_text()) if path.exists() else None

    return run


def test_every_genuine_pair_is_wrong_at_threshold_zero(mine, tmp_path):
    """3 people of 3 photographs: 9 genuine pairs, each person's 3; of the 36 impostor pairs none is at 0."""
    result, metrics = mine("--threshold", "0")
    assert result.code == 0, result.err
    assert list(metrics) == SCHEMA
    assert (metrics["command"], metrics["threshold_source"]) == ("mine", "given")
    assert (metrics["false_positives"]["count"], metrics["false_positives"]["pairs"]) == (0, 36)
    assert (metrics["false_negatives"]["count"], metrics["false_negatives"]["rate"]) == (9, 1.0)
    assert [(person["person"], person["false_negatives"]) for person in metrics["people"]] == [
        ("Ann Ames", 3),
        ("Bob_Burn", 3),
        ("Zoë Žák", 3),
    ]
    assert "Zoë Žák" in result.out
    with (tmp_path / "out" / "wrong_pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 10)]
    assert all(row["first_person"] == row["second_person"] == row["first"].split("/")[0] for row in rows)
    distances = [float(row["distance"]) for row in rows]
    assert distances == sorted(distances, reverse=True)
    people = (tmp_path / "out" / "people.csv").read_text().splitlines()
    # 3 photographs with each of the other 7 make 21 impostor pairs.
    assert people[:2] == [
        "person,images,false_positives,false_negatives,impostor_pairs,genuine_pairs",
        "Ann Ames,3,0,3,21,3",
    ]
    assert cv2.imread(str(tmp_path / "out" / "false_negatives.png")).shape[0] > 300


def test_every_impostor_pair_is_wrong_at_threshold_two(mine, tmp_path):
    _, metrics = mine("--threshold", "2", "--top", "5")
    assert (metrics["false_positives"]["count"], metrics["false_negatives"]["count"]) == (36, 0)
    assert len(metrics["people"]) == 4
    # Of 10 photographs, each of a person's 3 meets the 7 of others, and cid's one the 9.
    assert {person["person"]: person["false_positives"] for person in metrics["people"]}["cid"] == 9
    assert len((tmp_path / "out" / "wrong_pairs.csv").read_text().splitlines()) == 1 + 5


def test_nothing_wrong_is_no_error(run_cli, tiny_model, tiny_faces, tmp_path):
    """Copies of one photograph a person are at distance 0 (but for rounding), and others are not."""
    folder = tmp_path / "copies"
    for person in ("Ann Ames", "Bob_Burn"):
        (folder / person).mkdir(parents=True)
        for number in range(2):
            shutil.copy(tiny_faces / person / f"{person} 0.jpg", folder / person / f"{number}.jpg")
    result = run_cli("mine", "--dataset", folder, "--threshold", "0.00001", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert "no pair is wrong" in result.out
    assert (tmp_path / "out" / "wrong_pairs.csv").read_text().splitlines() == [
        "kind,rank,first,second,first_person,second_person,distance,margin,threshold"
    ]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["people"] == []


def test_a_second_run_is_equal(mine):
    _, first = mine("--calibrated", "--seed", "1")
    _, second = mine("--calibrated", "--seed", "1")
    timing = ("started", "seconds")
    assert {**first, **dict.fromkeys(timing)} == {**second, **dict.fromkeys(timing)}
    assert first["threshold_source"] == "each half of the people from the other half"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--calibrated", "--threshold", "0.4"), "--threshold and --calibrated"),
        (("--protocol", "view2"), "no pair list 'view2'"),
        (("--top", "0"), "--top"),
        (("--threshold", "nan"), "--threshold"),
    ],
)
def test_bad_input_is_one_line(refused, tiny_model, tiny_faces, options, said):
    assert said in refused("mine", "--dataset", tiny_faces, *options)


@pytest.mark.slow
@pytest.mark.registry
def test_facenet_on_five_faces(run_cli, registry_cache, tmp_path):
    """117 faces of five people make 6,786 pairs; at its own threshold all errors are false negatives, 375 of 1,333."""
    result = run_cli("mine", "--model", "facenet/msceleb", "--out", str(tmp_path))
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["false_positives"]["pairs"] + metrics["false_negatives"]["pairs"] == 6786
    assert metrics["false_positives"]["count"] == 0
    assert metrics["threshold_source"].startswith("FAR 0.001 on all pairs of the 2,132 people of LFW View 1's")
    assert metrics["false_negatives"]["rate"] == pytest.approx(0.281, abs=0.01)
    assert sum(person["false_negatives"] for person in metrics["people"]) == metrics["false_negatives"]["count"]

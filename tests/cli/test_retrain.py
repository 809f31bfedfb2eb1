import json

import cv2
import numpy as np
import pytest

SCHEMA = [
    *("command", "model", "preset", "weights_sha256", "recipe", "dataset", "dataset_version", "seed"),
    *("versions", "started", "seconds"),
    *("judged_on", "before", "after", "attack", "epsilons", "per_epsilon", "claims", "people", "mining_threshold"),
    *("train_images", "test_images", "failed_images", "adversarial_share", "rounds", "copies", "hidden"),
    *("heads", "remarks", "verification"),
]
SETS = ["clean", "augmented", "adversarial_old_head", "adversarial_new_head"]


@pytest.fixture
def people(tmp_path, make_photo):
    """Four people of eight photographs."""
    root = tmp_path / "people"
    for person in range(4):
        for number in range(8):
            path = root / f"p{person}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", make_photo(person, number)[:, :, ::-1])[1].tobytes())
    return root


@pytest.fixture
def retrain(run_cli, tiny_model, people, tmp_path):
    """Runs `retrain` on two of the people; returns its result and the metrics that it wrote."""

    def run(*options: object, out: str = "out"):
        result = run_cli(
            *("retrain", "--dataset", people, "--people", 2, "--epsilon", 0.05, "--epsilon", 0.1),
            *("--out", tmp_path / out, *options),
        )
        assert result.code == 0, result.err
        return result, json.loads((tmp_path / out / "metrics.json").read_text())

    return run


def test_a_retraining(retrain, run_cli, people, tmp_path):
    result, metrics = retrain()
    assert list(metrics) == SCHEMA
    assert (metrics["command"], metrics["epsilons"], metrics["test_images"]) == ("retrain", [0.05, 0.1], 4)
    for when in ("before", "after"):
        assert list(metrics[when]) == SETS
        assert [metrics[when][name]["images"] for name in SETS] == [4, 4, 8, 8]
        assert all(list(metrics[when][name]) == ["images", "errors", "error_rate", "ci95"] for name in SETS)
    # Two people are left, who make no halves: nothing is calibrated.
    assert (metrics["verification"]["genuine"], metrics["verification"]["impostor"]) == (56, 64)
    assert [row["holds"] is None for row in metrics["claims"]] == [False, False, False, True]
    for text in ("FGSM on the old head", "epsilon 0.1", "new attacks still succeed", "Strangers", "metrics.json"):
        assert text in result.out
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"metrics.json", "retraining.png", "head.npz", "old_head.npz"}

    # The new head stands up to `attack` as it did here: the same photographs, the same errors.
    attacked = run_cli(
        *("attack", "--goal", "classify", "--dataset", people, "--head", tmp_path / "out" / "head.npz"),
        *("--epsilon", 0.1, "--out", tmp_path / "attacked"),
    )
    assert attacked.code == 0, attacked.err
    found = json.loads((tmp_path / "attacked" / "metrics.json").read_text())
    assert found["head"]["sha256"] == metrics["heads"]["new"]["sha256"]
    (rate,) = found["results"]
    errors = rate["already_wrong"] + round(rate["attacked"] * (rate["error_rate"] or 0))
    assert metrics["after"]["clean"]["errors"] == rate["already_wrong"]
    assert metrics["per_epsilon"][1]["after"]["adversarial_new_head"]["errors"] == errors


def test_adversarial_training_of_a_head(retrain, run_cli, people, tmp_path):
    """Each round attacks the newest head with PGD; the test's attack is the one of the command `attack`."""
    result, metrics = retrain("--attack", "pgd", "--rounds", 2)
    assert metrics["attack"] == "pgd" and "PGD on the new head" in result.out
    head = tmp_path / "out" / "head.npz"
    options = ("--goal", "classify", "--dataset", people, "--head", head, "--attack", "pgd", "--steps", 20)
    assert run_cli("attack", *options, "--epsilon", 0.1, "--out", tmp_path / "attacked").code == 0
    (rate,) = json.loads((tmp_path / "attacked" / "metrics.json").read_text())["results"]
    errors = rate["already_wrong"] + round(rate["attacked"] * (rate["error_rate"] or 0))
    assert metrics["per_epsilon"][1]["after"]["adversarial_new_head"]["errors"] == errors


def without_times(metrics: dict) -> dict:
    return {key: value for key, value in metrics.items() if key not in ("started", "seconds")}


def test_the_same_command_again_is_equal_and_goes_on_from_a_head(retrain, tmp_path):
    _, first = retrain("--hidden", 4, "--copies", 0, "--rounds", 2)
    _, second = retrain("--hidden", 4, "--copies", 0, "--rounds", 2)
    assert without_times(first) == without_times(second)
    assert (first["hidden"], first["rounds"], first["train_images"]["after"]["augmented"]) == (4, 2, 0)
    with np.load(tmp_path / "out" / "head.npz") as file:
        assert file["weight_0"].shape == (16, 4)
    _, third = retrain("--people", 6, "--head", tmp_path / "out" / "old_head.npz", "--adversarial-share", 0, out="b")
    assert third["heads"]["old"] == first["heads"]["old"]
    assert third["train_images"]["after"]["adversarial"] == third["rounds"] == 0


def test_settings_are_chosen_on_training_photographs(retrain):
    """Of 6 to train 2 are judged (a half is rounded to even) in place of the 2 to test."""
    _, metrics = retrain("--validate")
    assert metrics["judged_on"] == "validation photographs"
    assert [(row["train"], row["test"]) for row in metrics["people"]] == [(4, 2), (4, 2)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--epsilon", "1.5"), "--epsilon"),
        (("--epsilon", "nan"), "--epsilon"),
        (("--adversarial-share", "1"), "--adversarial-share 1 is outside"),
        (("--photographs", "3"), "--photographs"),
        (("--rounds", "0"), "--rounds"),
        (("--seed", "-1"), "--seed"),
    ],
)
def test_bad_input_is_one_line(refused, tiny_model, people, options, said):
    assert said in refused("retrain", "--dataset", people, *options)


def test_too_few_people(refused, tiny_model, tiny_faces):
    said = refused("retrain", "--dataset", tiny_faces)
    assert "has 0 people of 4 photographs or more" in said and "take a larger data set" in said


def test_a_head_for_other_people(retrain, refused, people, make_photo, tmp_path):
    retrain("--adversarial-share", 0)
    head = tmp_path / "out" / "head.npz"
    assert "leave out --photographs, or --head" in refused(
        "retrain", "--dataset", people, "--head", head, "--photographs", 5
    )
    (people / "p0").rename(people / "another")
    assert "tells apart p0, p1" in refused("retrain", "--dataset", people, "--head", head)
    (tmp_path / "no.npz").write_bytes(b"nothing")
    assert "no.npz is no saved head" in refused("retrain", "--dataset", people, "--head", tmp_path / "no.npz")

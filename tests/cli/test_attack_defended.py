import json

import pytest

ATTACK = ("attack", "--count", 4, "--epsilon", 0.2, "--attack", "pgd", "--steps", 3)


@pytest.fixture
def attacked(run_cli, tiny_model, tiny_faces, tmp_path):
    def run(*arguments):
        result = run_cli(*ATTACK, "--dataset", tiny_faces, "--threshold", 0.05, "--out", tmp_path / "out", *arguments)
        assert result.code == 0, result.err
        content = json.loads((tmp_path / "out" / "metrics.json").read_text())
        return content.get("models", [content]), " ".join(result.out.split())

    return run


def test_the_naive_number_stands_beside_the_adaptive_one(attacked):
    objects, shown = attacked("--defense", "bit-depth:bits=3")
    assert [entry["knowledge"] for entry in objects] == ["adaptive", "naive"]
    assert [entry["surrogate"] for entry in objects] == [None, "tiny/random"]
    assert all(entry["defense"] == ["bit-depth:bits=3"] for entry in objects)
    assert all("draws" not in entry for entry in objects)
    assert "pgd, adaptive" in shown and "pgd, naive" in shown and "behind bit-depth:bits=3" in shown
    assert objects[0]["results"][0]["error_rate"] >= objects[1]["results"][0]["error_rate"]


def test_draws_are_those_of_random_defenses(attacked):
    objects, _ = attacked("--defense", "resize-pad", "--draws", 2)
    assert [entry.get("draws") for entry in objects] == [2, None]


@pytest.mark.parametrize("knowledge", ["adaptive", "naive"])
def test_one_of_them_alone(attacked, knowledge):
    objects, _ = attacked("--defense", "median", "--knowledge", knowledge)
    assert [entry["knowledge"] for entry in objects] == [knowledge]


def test_an_undefended_model_has_no_such_thing(attacked):
    objects, shown = attacked()
    assert len(objects) == 1
    assert {"knowledge", "defense", "draws"} & set(objects[0]) == set()
    assert "naive" not in shown


def test_checks_try_the_naive_attack_too(attacked):
    objects, _ = attacked("--defense", "bit-depth:bits=5", "--check")
    names = [row["check"] for row in objects[0]["check"]["rows"]]
    assert "PGD is no weaker than PGD transferred" in names
    assert objects[1]["check"] == objects[0]["check"]


def test_saves_both_under_names_of_their_own(attacked, tmp_path):
    attacked("--defense", "bit-depth:bits=3", "--save", tmp_path / "saved")
    records = json.loads((tmp_path / "saved" / "manifest.json").read_text())["records"]
    assert {record["defense"][0] for record in records} == {"bit-depth:bits=3"}
    assert len({record["file"] for record in records}) == len(records)
    assert {"adaptive", "naive"} == {part for record in records for part in record["file"].split("-")} & {
        "adaptive",
        "naive",
    }


def test_a_head_behind_a_defense(attacked, many_photos):
    objects, _ = attacked("--dataset", many_photos, "--goal", "classify", "--defense", "bit-depth:bits=4")
    assert [entry["knowledge"] for entry in objects] == ["adaptive", "naive"]
    assert objects[0]["head"]["sha256"] == objects[1]["head"]["sha256"]


@pytest.fixture
def many_photos(tmp_path, make_photo):
    import cv2

    root = tmp_path / "many"
    for person in range(6):
        (root / f"person {person}").mkdir(parents=True)
        for number in range(8):
            path = root / f"person {person}" / f"{number}.png"
            path.write_bytes(cv2.imencode(".png", make_photo(person, number)[:, :, ::-1])[1].tobytes())
    return root


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--draws", 3], "--draws is of defenses that draw at random"),
        (["--defense", "median", "--knowledge", "naive", "--surrogate", "x"], "leave out --knowledge"),
        (["--defense", "mediam"], "did you mean median?"),
    ],
)
def test_refuses_what_does_not_go_together(refused, tiny_model, tiny_faces, arguments, said):
    assert said in refused("attack", "--dataset", tiny_faces, *arguments)

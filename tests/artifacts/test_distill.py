"""`tfface.distill` as a notebook calls it."""

import json

import cv2
import h5py
import pytest

import tfface
from tfface.artifacts.distill import Distillation, PartialDistillation
from tfface.errors import UserError

FAST = {
    "recipe": "whole",
    "input_size": 140,
    "epochs": 2,
    "batch_size": 8,
    "views": 1,
    "growth": "ahead",
    "warmup": 0,
}


@pytest.fixture(scope="module")
def people(tmp_path_factory, make_photo):
    """Ten people of four photographs: two are held out, two validate, six are trained on."""
    root = tmp_path_factory.mktemp("people")
    for person in range(10):
        for number in range(4):
            path = root / f"p{person}" / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(cv2.imencode(".jpg", make_photo(person, number))[1].tobytes())
    return root


def test_objects_in_result_out(people, tiny_embedder, tmp_path):
    faces = tfface.load_dataset(people)
    result = tfface.distill(tiny_embedder, "student", faces, **FAST, seed=3, compact=True)
    assert isinstance(result, Distillation)
    assert result.accuracy == result.metrics["validation"]["accuracy"]
    assert len(result.history) == 2 and result.embedder.preset.name == "student/people0-distilled"
    (made_by,) = result.metrics["made_by"]
    assert made_by.startswith("tfface.distill('tiny/random', 'student', 'people0', recipe='whole', input_size=140")
    assert "seed=3" in made_by and "compact=True" in made_by and made_by.endswith("release=True)")
    assert result.save(tmp_path) == ["curves.png", "metrics.json"]
    assert json.loads((tmp_path / "metrics.json").read_text()) == result.to_dict()
    assert result.tables()[0].notes == [
        "the same command with `release` measures the held-out people and writes the preset"
    ]
    assert "<table>" in result._repr_html_()
    with h5py.File(result.folder / "student.weights.h5") as file:
        assert file["layers/conv3/vars/0"].dtype.name == "int8"


def test_views_alone(people, tiny_embedder):
    result = tfface.distill(tiny_embedder, "student", people, **FAST, grow_only=True)
    assert isinstance(result, PartialDistillation)
    assert (result.views, result.photographs, result.epochs) == (1, 24, 0)


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"mix": 1.5}, "mix"),
        ({"jitter": 0.4}, "jitter"),
        ({"held_out": 0.6}, "held_out"),
        ({"growth": "never"}, "growth"),
        ({"noise": 0.0}, "noise"),
        ({"seed": -1}, "seed"),
        ({"epsilon": 0.1}, "epsilon"),
        ({"adversarial": "fgsm"}, "adversarial"),
        ({"small_epochs": 1}, "small_epochs"),
        ({"epoch": 3}, "epoch"),
    ],
)
def test_errors_name_the_parameter(people, tiny_embedder, options, parameter):
    with pytest.raises(UserError) as caught:
        tfface.distill(tiny_embedder, "student", people, **FAST | options)
    assert caught.value.parameter == parameter and parameter in str(caught.value)

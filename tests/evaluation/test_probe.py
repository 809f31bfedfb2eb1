"""Probing models whose right feed is known, and what a probe refuses or does not claim."""

import json
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

import tfface
from tfface.data.dataset import Pairs
from tfface.data.pairs import draw_pairs
from tfface.errors import UserError

SIDE = 16


def paint(folder: Path, people: int, photographs: int, *, seed: int = 0) -> Path:
    """Photographs whose red shows the person, one of two brightnesses a field, and whose green and blue show nobody."""
    random = np.random.default_rng(seed)
    for person in range(people):
        own = random.choice([64, 191], (4, 4))
        (folder / f"person {person}").mkdir(parents=True)
        for number in range(photographs):
            fields = np.stack([own + random.integers(-25, 26, (4, 4)), *random.choice([64, 191], (2, 4, 4))], axis=2)
            pixels = cv2.resize(fields.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(folder / f"person {person}" / f"{number}.png"), pixels[:, :, ::-1])
    return folder


def red_reader(path: Path, answer=lambda x: keras.ops.sin(np.pi * x)) -> Path:
    """A model of the first channel; of -1..1 the sine tells 64 from 191, of 0..1 it does not."""
    inputs = keras.Input((SIDE, SIDE, 3))
    first = keras.layers.Conv2D(1, 1, use_bias=False, name="first_channel")
    x = keras.layers.AveragePooling2D(4)(answer(first(inputs)))
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    first.set_weights([np.array([1, 0, 0], np.float32).reshape(1, 1, 3, 1)])
    model.save(path)
    return path


@pytest.fixture(scope="module")
def coloured(tmp_path_factory) -> Path:
    return paint(tmp_path_factory.mktemp("coloured"), people=12, photographs=4)


@pytest.fixture
def model(tmp_path) -> Path:
    return red_reader(tmp_path / "red.keras")


def test_the_right_feed_is_found_and_written(model, coloured):
    found = tfface.probe(model, coloured, recipes="whole")
    assert found.chosen == ("whole", "rgb", "-1..1")
    verdicts = {result.feed[1:]: result.verdict for result in found.feeds}
    assert len(verdicts) == 18
    # 127.5 / 127.5 and 127.5 / 128 are the same but for rounding; both are right.
    assert {verdicts["rgb", "-1..1"], verdicts["rgb", "127.5/128"]} == {"best", "tie"}
    assert verdicts["bgr", "-1..1"] == "worse"
    assert verdicts["rgb", "0..1"] == "worse"
    assert found.best.auc.value > 0.99
    record = json.loads(Path(f"{model}.tfface.json").read_text())
    assert (record["scale"], record["colour"], record["recipe"]) == ("-1..1", "rgb", "whole")
    assert record["probe"]["people"] == 12
    assert [entry["verdict"] for entry in record["probe"]["ties"]] == ["tie"] * len(found.ties)
    assert tfface.load_embedder(str(model)).input_format.scale == "-1..1"


def test_the_present_feed_is_judged(model, coloured):
    found = tfface.probe(f"{model}:scale=0..1,recipe=whole", coloured, recipes="whole", write=False)
    assert found.written is None
    assert not Path(f"{model}.tfface.json").exists()
    assert "fed as at present (scale=0..1,colour=rgb,recipe=whole): worse than the best" in " ".join(found.remarks)


def test_a_threshold_of_another_feed_is_removed(model, coloured):
    Path(f"{model}.tfface.json").write_text(json.dumps({"scale": "0..1", "threshold": 0.3, "licence": "MIT"}))
    found = tfface.probe(model, coloured, recipes="whole", scales=["-1..1", "0..1"])
    assert "run `tfface calibrate" in found.remarks[-2]
    preset = tfface.load_embedder(str(model)).preset
    assert (preset.threshold, preset.licence) == (None, "MIT")


def test_a_first_round_drops_what_is_hopeless(model, tmp_path):
    faces = paint(tmp_path / "many", people=30, photographs=4)
    found = tfface.probe(model, faces, recipes="whole", scales=["-1..1", "0..1"], write=False)
    assert found.facts["first_round"] < 60
    assert [result.verdict for result in found.feeds] == ["best", "dropped", "dropped", "dropped"]
    assert found.chosen == ("whole", "rgb", "-1..1")
    assert "3 combinations were more than 0.1 behind" in " ".join(found.remarks)
    assert "people decide little" not in " ".join(found.remarks)


def test_five_people_decide_little(model, coloured, tmp_path):
    faces = paint(tmp_path / "five", people=5, photographs=3)
    assert "5 people decide little" in " ".join(tfface.probe(model, faces, recipes="whole").remarks)


def test_a_model_that_sees_nobody(tmp_path, coloured):
    model = red_reader(tmp_path / "blind.keras", answer=lambda x: 0 * x + 1)
    found = tfface.probe(model, coloured, recipes="whole", scales=["-1..1", "0..1"])
    assert [result.auc.value for result in found.feeds] == [0.5] * 4
    assert found.chosen is None
    assert found.written is None
    assert not Path(f"{model}.tfface.json").exists()
    assert "no combination tells people apart" in found.remarks[0]


def test_feeds_without_embeddings_come_last(tmp_path, coloured):
    model = red_reader(tmp_path / "root.keras", answer=keras.ops.sqrt)
    found = tfface.probe(model, coloured, recipes="whole", scales=["-1..1", "0..1"])
    assert [result.verdict for result in found.feeds[2:]] == ["failed", "failed"]
    assert found.chosen == ("whole", "rgb", "0..1")
    with pytest.raises(UserError, match="no combination gives embeddings"):
        tfface.probe(model, coloured, recipes="whole", scales="-1..1")


def test_a_record_that_cannot_be_written_is_told(model, coloured, monkeypatch):
    def refuse(path, changes):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tfface.evaluation.probe.write_record", refuse)
    found = tfface.probe(model, coloured, recipes="whole", scales="-1..1")
    assert found.written is None
    assert f"give {model}:scale=-1..1,colour=rgb,recipe=whole as the model" in found.remarks[-1]


def test_a_preset_is_seen_from_outside(tiny_embedder, faces):
    found = tfface.probe(tiny_embedder, faces, recipes="whole", scales=["0..1", "0..255"])
    assert found.facts["current"] == {"recipe": "whole", "colour": "rgb", "scale": "0..1"}
    assert found.written is None


def test_a_wrapped_function_is_fed_below_its_format(coloured):
    embedder = tfface.wrap(lambda x: np.sin(np.pi * x[:, 2::4, 2::4, 0].reshape(len(x), -1)), SIDE, scale="0..1")
    found = tfface.probe(embedder, coloured, recipes="whole", scales=["-1..1", "0..1"])
    assert found.chosen == ("whole", "rgb", "-1..1")
    assert found.written is None


def test_command_line(run_cli, refused, model, coloured, tmp_path):
    command = ("probe", model, "--dataset", coloured, "--recipe", "whole", "--scale", "-1..1", "--scale", "0..1")
    result = run_cli(*command, "--out", tmp_path / "out")
    assert result.code == 0
    assert "whole rgb -1..1" in result.out
    assert f"wrote {model}.tfface.json: scale=-1..1,colour=rgb,recipe=whole" in result.out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["chosen"] == {"recipe": "whole", "colour": "rgb", "scale": "-1..1"}
    assert (tmp_path / "out" / "grid.png").stat().st_size > 1000
    assert "--scale" in refused(*command, "--scale", "0..2")
    assert "--protocol" in refused(*command, "--protocol", "view3")


@pytest.mark.parametrize(("people", "photographs", "why"), [(1, 4, "one person"), (4, 1, "two photographs")])
def test_data_sets_without_pairs_are_refused(model, tmp_path, people, photographs, why):
    with pytest.raises(UserError, match=why):
        tfface.probe(model, paint(tmp_path / "few", people, photographs), recipes="whole")


def test_photographs_are_drawn_by_people(tmp_path):
    """Of 8 people of 6 photographs, 20 are drawn: four each of five people, for all of 5 x 6 genuine pairs."""
    faces = tfface.load_dataset(paint(tmp_path / "faces", people=8, photographs=6))
    drawn, pairs, source, rows = draw_pairs(faces, (), 20, seed=1)
    assert [source.keys[row] for row in rows] == drawn.keys
    assert np.unique(drawn.identities, return_counts=True)[1].tolist() == [4] * 5
    assert (len(pairs), pairs.same.sum()) == (190, 30)
    assert draw_pairs(faces, (), 20, seed=1).faces.keys == drawn.keys
    assert len(draw_pairs(faces, (), 100, seed=1).faces) == 48
    with pytest.raises(UserError, match="10 or more"):
        draw_pairs(faces, (), 9, seed=1)


def test_listed_pairs_keep_their_people(tmp_path, monkeypatch):
    faces = tfface.load_dataset(paint(tmp_path / "faces", people=8, photographs=6))
    first, second = np.arange(0, 40), np.arange(0, 40) + np.tile([1, 6], 20)
    people = np.array(faces.identities)
    same = people[first] == people[second]
    lists = Pairs("list", first, second, same, np.zeros(40, int))
    monkeypatch.setattr(type(faces), "pairs", lambda self, name: lists)
    drawn, pairs, _, _ = draw_pairs(faces, ("list",), 24, seed=0)
    assert (len(pairs), pairs.same.sum()) == (12, 6)
    listed = {(faces.keys[one], faces.keys[other]) for one, other in zip(first, second, strict=True)}
    assert {
        (drawn.keys[one], drawn.keys[other]) for one, other in zip(pairs.first, pairs.second, strict=True)
    } <= listed
    own = np.array(drawn.identities)
    assert ((own[pairs.first] == own[pairs.second]) == pairs.same).all()


def test_faces_found_before_give_the_same_crops(model, tmp_path, monkeypatch):
    faces = paint(tmp_path / "faces", people=8, photographs=6)
    probe = {"recipes": "whole", "scales": "-1..1", "photographs": 20, "write": False}
    found = tfface.probe(model, faces, **probe)
    monkeypatch.setattr("tfface.evaluation.probe.faces_known", lambda dataset: True)
    assert tfface.probe(model, faces, **probe).feeds == found.feeds


@pytest.mark.slow
@pytest.mark.registry
def test_the_paper_s_student_is_fed_rightly_told_nothing(registry_cache, tmp_path):
    """Even five people tell its colour order."""
    path = tmp_path / "student.keras"
    tfface.load_embedder("student/lfw-distilled").model.save(path)
    found = tfface.probe(path)
    assert found.chosen == ("mtcnn-v1-margin0.20", "rgb", "0..1")
    assert found.best.auc.value == pytest.approx(0.916, abs=2e-3)
    blue_first = next(result for result in found.feeds if result.feed.colour == "bgr")
    assert blue_first.behind.low > 0

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from tfface.data import load_dataset
from tfface.errors import ImageError, UserError
from tfface.evaluation.verify import Verdict, Verification, verify
from tfface.preprocessing import mtcnn
from tfface.preprocessing.images import NO_FACE, crop_files, recipe


@pytest.fixture
def pair(tiny_faces):
    return tiny_faces / "Ann Ames" / "Ann Ames 0.jpg", tiny_faces / "Zoë Žák" / "Zoë Žák 1.jpg"


def cosine_by_hand(embedder, paths, name="whole", flip=False) -> float:
    images, _ = crop_files([path.read_bytes() for path in paths], recipe(name), 32)
    vectors = embedder.model(images).numpy()
    if flip:
        vectors = vectors + embedder.model(images[:, :, ::-1]).numpy()
    first, second = (vector / np.linalg.norm(vector) for vector in vectors)
    return 1 - float(first @ second)


def test_the_distance_is_the_cosine_distance(tiny_embedder, pair):
    verdict = verify(tiny_embedder, *pair)
    assert verdict.distance == pytest.approx(cosine_by_hand(tiny_embedder, pair), abs=1e-6)
    named = [verdict.to_dict()[name] for name in ("preset", "weights_sha256", "recipe")]
    assert named == ["tiny/random", "0" * 64, "whole"]
    assert [box.tolist() for box in verdict.boxes] == [[0, 0, 64, 80], [0, 0, 64, 88]]


def test_a_photograph_and_itself(tiny_embedder, pair):
    verdict = verify(tiny_embedder, pair[0], pair[0])
    assert verdict.distance == pytest.approx(0, abs=1e-6)
    assert verdict.same


def test_options_reach_the_model(tiny_embedder, pair):
    verdict = verify(tiny_embedder, *pair, recipe="center-140", threshold=0.7, flip=True)
    assert verdict.distance == pytest.approx(cosine_by_hand(tiny_embedder, pair, "center-140", flip=True), abs=1e-6)
    assert (verdict.record["recipe"], verdict.threshold) == ("center-140", 0.7)


def test_a_threshold_of_zero_is_one(tiny_embedder, pair):
    assert verify(tiny_embedder, *pair, threshold=0.0).threshold == 0


@pytest.mark.parametrize(("distance", "same"), [(0.39, True), (0.4, True), (0.41, False)])
def test_up_to_the_threshold_is_the_same_person(distance, same):
    box = np.array([0.123, 1, 2, 3], np.float32)
    verdict = Verification((Path("a"), Path("b")), Verdict("cosine", distance, 0.4), [box])
    assert verdict.same is same
    assert json.loads(json.dumps(verdict.to_dict())) == {
        "metric": "cosine",
        "distance": distance,
        "threshold": 0.4,
        "same": same,
        "boxes": [[0.12, 1, 2, 3]],
    }


@pytest.mark.parametrize("position", [0, 1])
def test_a_bad_photograph_is_named(tiny_embedder, pair, position):
    pair[position].write_bytes(b"text")
    with pytest.raises(ImageError, match=rf"^{pair[position]}: is no image that can be read$"):
        verify(tiny_embedder, *pair)


def test_one_without_a_face_is_named(tiny_embedder, pair, monkeypatch):
    monkeypatch.setattr(mtcnn, "_run", lambda photograph: np.zeros((0, 16)))
    with pytest.raises(ImageError, match=rf"^{pair[0]}: {NO_FACE}$"):
        verify(tiny_embedder, *pair, recipe="mtcnn-v1-margin0.25")


def test_an_unknown_recipe(tiny_embedder, pair):
    with pytest.raises(UserError, match=r"unknown recipe 'mtcnn'; valid: whole"):
        verify(tiny_embedder, *pair, recipe="mtcnn")


class TestSeveralFaces:
    """Three faces in a row in each photograph, the middle one the largest; the detector names them out of order."""

    @pytest.fixture(autouse=True)
    def detector(self, monkeypatch):
        boxes = [(44, 30, 60, 46), (2, 30, 18, 46), (20, 28, 44, 52)]
        faces = mtcnn.Faces(
            np.array([(x, y, x1 - x, y1 - y) for x, y, x1, y1 in boxes], np.float32),
            np.ones(3, np.float32),
            np.zeros((3, 5, 2), np.float32),
        )
        monkeypatch.setattr(mtcnn, "detect", lambda photographs: [faces for _ in photographs])

    def left_edges(self, found):
        return [float(box[0]) for box in found.boxes]

    def test_the_main_one_is_taken_and_the_others_are_mentioned(self, tiny_embedder, pair, caplog):
        found = verify(tiny_embedder, *pair, recipe="mtcnn-v1-margin0.0")
        assert self.left_edges(found) == [20, 20]
        assert (found.to_dict()["face"], found.to_dict()["faces"]) == ([2, 2], [3, 3])
        for path, line in zip(pair, caplog.messages, strict=True):
            reason = "the largest and most central; `face` takes another"
            assert line == f"{path} shows 3 faces: number 2 from the left was taken, {reason}"

    @pytest.mark.parametrize(("face", "edges"), [(1, [2, 2]), (3, [44, 44]), ((3,), [44, 44]), ((1, 3), [2, 44])])
    def test_others_can_be_taken(self, tiny_embedder, pair, face, edges, caplog):
        found = verify(tiny_embedder, *pair, recipe="mtcnn-v1-margin0.0", face=face)
        assert self.left_edges(found) == edges
        assert caplog.messages == []

    def test_there_is_no_fourth(self, tiny_embedder, pair):
        with pytest.raises(ImageError, match=rf"^{pair[1]}: shows 3 faces, none of number 4: give `face` from 1 to 3$"):
            verify(tiny_embedder, *pair, recipe="mtcnn-v1-margin0.0", face=(1, 4))

    @pytest.mark.parametrize("face", [0, -1, (1, 2, 3)])
    def test_what_is_no_number_of_a_face(self, tiny_embedder, pair, face):
        with pytest.raises(UserError, match="`face` is one number from 1 for both photographs, or one for each"):
            verify(tiny_embedder, *pair, recipe="mtcnn-v1-margin0.0", face=face)

    def test_a_recipe_that_finds_none(self, tiny_embedder, pair):
        with pytest.raises(UserError, match="`face` goes with a recipe that finds faces; whole does not"):
            verify(tiny_embedder, *pair, recipe="whole", face=1)


def test_the_only_face_is_taken_whatever_the_number(tiny_embedder, pair, monkeypatch):
    monkeypatch.setattr(
        mtcnn,
        "detect",
        lambda photographs: [
            mtcnn.Faces(np.array([[4, 4, 40, 40]] * count, np.float32), np.ones(count), np.zeros((count, 5, 2)))
            for count in range(1, 1 + len(photographs))
        ],
    )
    found = verify(tiny_embedder, *pair, recipe="mtcnn-v1-margin0.0", face=2)
    assert [(choice.number, choice.count) for choice in found.faces] == [(1, 1), (2, 2)]


@pytest.mark.registry
def test_real_faces_are_judged_alike_from_both_sides(registry_cache, tmp_path):
    faces = load_dataset("five_faces", images_per_person=2, seed=3)
    paths = [tmp_path / f"{place}.jpg" for place in range(4)]
    for path, key in zip(paths, faces.keys, strict=False):
        path.write_bytes(faces.read(key))
    for first, second in itertools.pairwise(paths):
        one, other = verify("student", first, second), verify("student", second, first)
        assert one.distance == pytest.approx(other.distance, abs=1e-6)
        assert [box.tolist() for box in one.boxes] == [box.tolist() for box in other.boxes[::-1]]
    for path in paths:
        itself = verify("student", path, path)
        assert itself.distance == pytest.approx(0, abs=1e-6)
        assert itself.boxes[0].tolist() == itself.boxes[1].tolist()

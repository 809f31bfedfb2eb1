import json
from pathlib import Path

import numpy as np
import pytest

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
    monkeypatch.setattr(mtcnn, "_run", lambda canvases: np.zeros((0, 16)))
    with pytest.raises(ImageError, match=rf"^{pair[0]}: {NO_FACE}$"):
        verify(tiny_embedder, *pair, recipe="mtcnn-v1-margin0.25")


def test_an_unknown_recipe(tiny_embedder, pair):
    with pytest.raises(UserError, match=r"unknown recipe 'mtcnn'; valid: whole"):
        verify(tiny_embedder, *pair, recipe="mtcnn")

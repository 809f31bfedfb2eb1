"""The public functions called as a notebook calls them: with objects or names, and plain keyword arguments."""

import json

import numpy as np
import pytest

import tfface
from tfface.errors import UserError


@pytest.fixture
def faces(tiny_faces):
    return tfface.load_dataset(tiny_faces)


def test_embed_takes_a_folder_and_a_model(tiny_embedder, tiny_faces, tmp_path):
    found = tfface.embed(str(tiny_faces), embedder=tiny_embedder, recipe="whole")
    assert len(found.keys) == 10
    assert found.embeddings.vectors.shape == (10, 16)
    np.testing.assert_allclose(np.linalg.norm(found.embeddings.vectors, axis=1), 1, atol=1e-6)
    assert found.save(tmp_path) == ["embeddings.npz", "metrics.json"]
    assert json.loads((tmp_path / "metrics.json").read_text())["embedded"] == 10
    with np.load(tmp_path / "embeddings.npz", allow_pickle=False) as arrays:
        assert str(arrays["preset"]) == "tiny/random"
    (table,) = found.tables()
    assert table.rows == [["tiny/random", "whole", "10", "10", "0", "16"]]


def test_mine_takes_a_data_set_that_is_loaded(tiny_embedder, faces, tmp_path):
    mined = tfface.mine(tiny_embedder, faces, threshold=0.0, top=2)
    assert len(mined.of_kind("false_negative")) == 2
    assert mined.to_dict()["command"] == "mine"
    assert "<table>" in mined._repr_html_()
    names = ["false_positives.png", "false_negatives.png", "wrong_pairs.csv", "people.csv", "metrics.json"]
    assert mined.save(tmp_path / "out") == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)


def test_augment_gives_a_data_set(faces, tmp_path):
    made = tfface.augment(faces, out=tmp_path / "made", kinds=["flip", "rotation:10"], recipe="whole", size=24)
    assert (len(made.dataset), made.resumed) == (10, False)
    assert made.to_dict()["kinds"] == ["flip", "rotation:10"]
    again = tfface.augment(faces, out=tmp_path / "made", kinds="flip,rotation:10", recipe="whole", size=24)
    assert again.resumed
    assert again.to_dict() == made.to_dict()


def test_verify_takes_paths_as_text(tiny_embedder, tiny_faces):
    photograph = str(tiny_faces / "cid" / "cid 0.jpg")
    found = tfface.verify(tiny_embedder, photograph, photograph)
    assert found.same and found.distance < 1e-6
    assert found.tables()[0].rows[0][-1] == "same person"


def test_a_wrong_keyword_is_named(faces):
    with pytest.raises(UserError, match=r"mine\(\) takes no parameter 'protocl' \(did you mean protocol\?\)"):
        tfface.mine("facenet", faces, protocl="view2")


def test_data_sets_are_described():
    names = [entry.facts["name"] for entry in tfface.list_datasets().datasets]
    assert {"five_faces", "lfw/deepfunneled", "vggface2/train"} <= set(names)
    assert tfface.describe_dataset("lfw").facts["images"] == 13_233

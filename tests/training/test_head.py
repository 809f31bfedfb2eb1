"""A head: trained on embeddings that the base gave once, the same in numpy as on the model, saved as plain arrays."""

import numpy as np
import pytest

from tfface import data
from tfface.data.crops import Crops, crop_stream
from tfface.errors import UserError
from tfface.preprocessing.images import recipe
from tfface.training.head import Head, HeadSettings, train_head, with_head
from tfface.training.head_data import HeadData, embed_head_data, head_data

WHOLE = recipe("whole")


def clusters(people: int = 3, each: int = 20, length: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around a direction for each person."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(people), each)
    vectors = np.eye(length)[labels] + 0.1 * random.standard_normal((len(labels), length))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


NAMES = ("Ann", "Bob", "Zoë Žák")


@pytest.fixture(scope="module")
def head() -> Head:
    vectors, labels = clusters()
    return train_head(vectors, labels, NAMES, facts={"recipe": "whole"}, settings=HeadSettings(steps=60))


def test_learns_who_is_who(head):
    vectors, labels = clusters()
    assert (head.logits(vectors).argmax(axis=1) == labels).all()
    assert head.facts == {"recipe": "whole", "settings": HeadSettings(steps=60).record()}


def test_the_seed_decides_the_weights(head):
    vectors, labels = clusters()
    again = train_head(vectors, labels, NAMES, settings=HeadSettings(steps=60))
    other = train_head(vectors, labels, NAMES, settings=HeadSettings(steps=60, seed=1))
    assert again.sha256 == head.sha256 != other.sha256


@pytest.mark.parametrize("hidden", [0, 8])
def test_numpy_the_network_and_the_file_agree(hidden, tiny_embedder, tmp_path):
    vectors, labels = clusters()
    made = train_head(vectors, labels, NAMES, settings=HeadSettings(hidden=hidden, steps=5))
    assert [bias.shape for _, bias in made.weights] == [(8,), (3,)] if hidden else [(3,)]
    made.save(tmp_path / "head.npz")
    loaded = Head.load(tmp_path / "head.npz")
    assert (loaded.people, loaded.sha256, loaded.facts) == (made.people, made.sha256, made.facts)
    images = np.random.default_rng(1).random((4, 32, 32, 3), np.float32)
    logits = with_head(tiny_embedder.model, loaded)(images).numpy()
    np.testing.assert_allclose(logits, made.logits(tiny_embedder.embed(images)), atol=1e-5)


def test_a_person_without_a_photograph():
    vectors, labels = clusters(people=2)
    with pytest.raises(UserError, match="no photograph of Zoë Žák"):
        train_head(vectors, labels, NAMES)


def test_a_head_for_embeddings_of_another_length(tiny_embedder):
    vectors, labels = clusters(length=9)
    made = train_head(vectors, labels, NAMES, settings=HeadSettings(steps=1))
    with pytest.raises(UserError, match="embeddings of 9 values, the model gives 16"):
        with_head(tiny_embedder.model, made)


def test_what_is_no_head_is_refused(head, tmp_path):
    path = tmp_path / "other.npz"
    for content in (b"", b"no archive", b"PK\x03\x04 cut"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"other\.npz is no saved head"):
            Head.load(path)
    np.savez(path, embeddings=np.zeros(3))
    with pytest.raises(UserError, match="is no saved head"):
        Head.load(path)
    Head(("Ann",), head.weights, {}).save(path)
    with pytest.raises(UserError, match="do not fit its people"):
        Head.load(path)


class TestHeadData:
    def test_takes_those_with_most_photographs_and_fills_them_up(self, listed):
        """Of 8 a person a quarter tests: 2, of 5 and 4 one. 6 train: of c and d 3 and 2 copies are missing."""
        dataset = listed({"one": 1, "d": 5, "a": 9, "c": 4, "b": 8})
        made = head_data(dataset, people=4, photographs=8, seed=3)
        assert made.people == ("a", "b", "d", "c")
        assert np.bincount(made.labels(dataset, made.test)).tolist() == [2, 2, 1, 1]
        assert np.bincount(made.labels(dataset, made.train)).tolist() == [6, 6, 4, 3]
        assert np.bincount(made.labels(dataset, made.copies), minlength=4).tolist() == [0, 0, 2, 3]

    def test_test_photographs_train_nothing(self, listed):
        dataset = listed({name: 4 + number for number, name in enumerate("abcdef")})
        made = head_data(dataset, photographs=12)
        assert not set(made.test) & (set(made.train) | set(made.copies))
        for label in range(6):
            own = made.train[made.labels(dataset, made.train) == label]
            counts = [(made.copies == index).sum() for index in own]
            assert max(counts) - min(counts) <= 1, "copies are spread evenly"
            assert len(own) + sum(counts) == 9
        assert (np.diff(made.train) > 0).all() and (np.diff(made.test) > 0).all()

    def test_the_seed_decides_the_draw(self, listed):
        dataset = listed(dict.fromkeys("abcdef", 30))
        records = [head_data(dataset, seed=seed).record(dataset) for seed in (0, 0, 1)]
        assert records[0] == records[1]
        assert records[0]["test"] != records[2]["test"]

    def test_its_record_gives_it_back(self, listed):
        dataset = listed(dict.fromkeys("abcdef", 6))
        made = head_data(dataset, photographs=10)
        again = HeadData.of(made.record(dataset), dataset)
        assert again.record(dataset) == made.record(dataset)
        with pytest.raises(UserError, match="train one anew"):
            HeadData.of({"people": ["a"]}, dataset)

    def test_too_few_people(self, listed):
        with pytest.raises(UserError, match="no 6 people of 4 photographs or more"):
            head_data(listed({**dict.fromkeys("abcde", 9), "f": 3}))


@pytest.fixture
def faces(tiny_faces):
    (tiny_faces / "Bob_Burn" / "broken.jpg").write_bytes(b"no image")
    return data.load_dataset(str(tiny_faces))


def test_crops_are_those_of_the_pipeline_in_any_order(faces):
    expected = list(crop_stream(faces, WHOLE, 32).as_numpy_iterator())
    order = np.array([5, 0, 10, 0, *range(len(faces))])
    images, reasons = Crops(faces, WHOLE, 32)(order)
    for image, reason, index in zip(images, reasons, order, strict=True):
        assert reason == expected[index][1].decode()
        if not reason:
            np.testing.assert_array_equal(image, expected[index][0])
    assert [faces.keys[index] for index, reason in zip(order, reasons, strict=True) if reason] == [
        "Bob_Burn/broken.jpg"
    ]
    empty, none = Crops(faces, WHOLE, 32)(np.zeros(0, int))
    assert empty.shape == (0, 32, 32, 3) and none == []


def test_photographs_and_copies_are_embedded_once(faces, tiny_embedder, monkeypatch):
    made = HeadData(
        ("Ann Ames", "Bob_Burn"),
        train=np.array([0, 1, 3, faces.position("Bob_Burn/broken.jpg")]),
        test=np.array([2, 4]),
        copies=np.array([0, 0, 3]),
        seed=0,
    )
    found = embed_head_data(faces, tiny_embedder, WHOLE, made)
    images, _ = Crops(faces, WHOLE, 32)(made.train[:3])
    np.testing.assert_allclose(found.train[:3], tiny_embedder.embed(images), atol=1e-6)
    assert found.train_ok.tolist() == [True, True, True, False]
    assert found.copies_ok.all() and found.test_ok.all()
    cosines = found.copies @ found.train[0]
    assert 0.3 < cosines[0] < 0.9999 and abs(cosines[0] - cosines[1]) > 1e-4, "copies differ, and from each other"
    monkeypatch.setattr(type(tiny_embedder), "embed", lambda *_: pytest.fail("embedded again"))
    np.testing.assert_array_equal(embed_head_data(faces, tiny_embedder, WHOLE, made).copies, found.copies)


def test_a_file_holds_plain_arrays(head, tmp_path):
    """Plain arrays: anything that reads `.npz` reads it."""
    head.save(tmp_path / "head.npz")
    with np.load(tmp_path / "head.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["facts", "people", "weight_0", "weight_1"]
        assert file["people"].tolist() == list(NAMES)

"""Pairs drawn from a data set, and their crops."""

from types import SimpleNamespace

import numpy as np
import pytest

from tfface import data
from tfface.data.crops import Crops
from tfface.errors import UserError
from tfface.preprocessing.images import recipe

EMBEDDER = SimpleNamespace(preset=SimpleNamespace(input_size=24, recipe="whole"))


@pytest.fixture
def faces(tiny_faces):
    return data.load_dataset(tiny_faces)


@pytest.mark.parametrize("genuine", [True, False])
def test_pairs_are_of_the_kind_and_drawn_by_the_seed(faces, genuine):
    draws = [faces.sample_pairs(5, genuine=genuine, seed=seed) for seed in (0, 0, 1)]
    assert [len(pairs) for pairs in draws] == [5, 5, 5]
    for pairs in draws:
        people = np.array(faces.identities)
        assert ((people[pairs.first] == people[pairs.second]) == genuine).all()
    assert draws[0].first.tolist() == draws[1].first.tolist() != draws[2].first.tolist()


def test_no_more_than_there_are(faces):
    # Three people with three photographs each: 3 x 3 pairs; the fourth has one photograph.
    assert len(faces.sample_pairs(100)) == 9


def test_crops_are_those_of_the_data_set(faces):
    pairs = faces.sample_pairs(4, genuine=False, seed=2)
    images, references = pairs.crops(EMBEDDER)
    assert images.shape == references.shape == (4, 24, 24, 3)
    assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1
    expected = Crops(faces, recipe("whole"), 24)
    assert np.array_equal(images, expected(pairs.first)[0])
    assert np.array_equal(references, expected(pairs.second)[0])
    other, _ = pairs.crops(EMBEDDER, "center-140")
    assert not np.array_equal(images, other)


def test_a_pair_with_a_bad_photograph_is_left_out_and_named(tiny_faces, capsys):
    (tiny_faces / "Ann Ames" / "Ann Ames 0.jpg").write_bytes(b"no image")
    pairs = data.load_dataset(tiny_faces).sample_pairs(100)
    images, references = pairs.crops(EMBEDDER)
    assert len(images) == len(references) == 7, "two of the nine pairs hold that photograph"
    assert "Ann Ames/Ann Ames 0.jpg is no image that can be read: its pairs are left out" in capsys.readouterr().err


def test_no_usable_pair_is_an_error(tiny_faces):
    for key in data.load_dataset(tiny_faces).keys:
        (tiny_faces / key).write_bytes(b"no image")
    pairs = data.load_dataset(tiny_faces).sample_pairs(2, genuine=False)
    with pytest.raises(UserError, match="none of the 2 pairs can be used; the first photograph that fails: "):
        pairs.crops(EMBEDDER)


def test_what_cannot_be_drawn(faces):
    with pytest.raises(UserError, match="`count` is 0: give 1 or more"):
        faces.sample_pairs(0)
    alone = faces.of_people(["cid"])
    with pytest.raises(UserError, match="has no genuine pair: no person has two photographs"):
        alone.sample_pairs(1)
    with pytest.raises(UserError, match="has no impostor pair: it shows one person"):
        alone.sample_pairs(1, genuine=False)

"""Some of a data set's people: by name, or drawn."""

import pytest

from tfface import data
from tfface.errors import UserError


@pytest.fixture
def faces(tiny_faces):
    return data.load_dataset(str(tiny_faces))


def test_by_name_with_all_their_images_in_order(faces):
    found = faces.of_people(["cid", "Ann Ames"])
    assert found.keys == [key for key in faces.keys if key.startswith(("Ann Ames/", "cid/"))]
    assert found.version != faces.version
    assert found.version != faces.of_people(["cid"]).version


def test_a_name_that_nobody_bears(faces):
    with pytest.raises(UserError, match=r"has no person 'Ann Ams' \(did you mean Ann Ames\?\)"):
        faces.of_people(["Ann Ams"])


def test_a_draw_is_of_the_seed_and_the_names(faces):
    assert faces.sample_people(2, 3).keys == faces.sample_people(2, 3).keys
    assert len(set(faces.sample_people(2, 3).identities)) == 2
    assert len({tuple(set(faces.sample_people(2, seed).identities)) for seed in range(20)}) > 3
    # One person more joins those drawn before.
    for people in (1, 2, 3):
        assert set(faces.sample_people(people, 3).keys) < set(faces.sample_people(people + 1, 3).keys)
    assert faces.sample_people(9, 3).keys == faces.keys


def test_no_people(faces):
    with pytest.raises(UserError, match="ask for 1 or more"):
        faces.sample_people(0, 0)

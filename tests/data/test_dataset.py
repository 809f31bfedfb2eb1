"""Data sets that are sent to other processes, and images that are left unread."""

import os
import pickle
import shutil

import numpy as np
import pytest

from tfface import data
from tfface.errors import UserError


@pytest.fixture
def faces(tiny_faces):
    return data.load_dataset(str(tiny_faces))


def test_a_folder_travels_by_its_absolute_path(tiny_faces, monkeypatch):
    monkeypatch.chdir(tiny_faces.parent)
    faces = data.load_dataset(tiny_faces.name)
    _ = faces.positions  # worked out here, not sent
    sent = pickle.dumps(faces)
    monkeypatch.chdir(os.sep)
    found = pickle.loads(sent)
    assert "positions" not in vars(found)
    assert (found.keys, found.version, found.folder) == (faces.keys, faces.version, tiny_faces)
    assert found.read(found.keys[3]) == (tiny_faces / faces.keys[3]).read_bytes()
    found.check_at_hand()


def test_a_folder_that_is_not_there_is_named(faces, tiny_faces):
    shutil.rmtree(tiny_faces)
    with pytest.raises(UserError, match=rf"{tiny_faces} does not hold folder:tiny faces here: all must see it"):
        faces.check_at_hand()


@pytest.mark.parametrize("given_up", [(), (0,), (9,), (3, 4), (0, 5, 9), (42,)])
@pytest.mark.parametrize("span", [(0, 10), (2, 6), (4, 4)])
def test_what_is_given_up_is_not_read(faces, tiny_faces, given_up, span):
    expected = [b"" if index in given_up else faces.read(faces.keys[index]) for index in range(*span)]
    for index in given_up:
        if index < len(faces):
            (tiny_faces / faces.keys[index]).write_bytes(b"poison")
    found = list(faces.encoded_without(*span, given_up).as_numpy_iterator())
    assert [element["image"] for element in found] == expected
    assert [element["key"].decode() for element in found] == faces.keys[slice(*span)]
    assert np.all([len(element) == 2 for element in found])

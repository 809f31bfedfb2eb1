from collections import Counter

import pytest

from tfface import data
from tfface.data import prepared
from tfface.errors import UserError

Builder = prepared.builder_class("five_faces")


def test_each_picture_once_in_natural_order(five_faces, jpeg, capsys):
    dataset = data.load_dataset("five_faces")
    assert dataset.keys == ["ann/2.jpg", "ann/9.jpg", "ann/10.jpg", "bo/3.jpg"]
    assert dataset.identities == ["ann", "ann", "ann", "bo"]
    assert [dataset.read(key) for key in dataset.keys] == [jpeg(2), jpeg(9), jpeg(10), jpeg(3)]
    assert "8 files, 4 distinct by content" in capsys.readouterr().err


def test_one_picture_of_two_people_fails_loudly(five_faces, jpeg):
    five_faces.add({"val/cy/1.jpg": jpeg(3)})
    with pytest.raises(UserError, match=r"one picture is of two people.*bo/3\.jpg and .*cy/1\.jpg"):
        data.load_dataset("five_faces")


def test_two_pictures_of_one_name_fail_loudly(five_faces, jpeg):
    five_faces.add({"val/ann/9.jpg": jpeg(77)})
    with pytest.raises(UserError, match=r"two pictures have the name ann/9\.jpg"):
        data.load_dataset("five_faces")


def test_too_few_pictures_fail(five_faces, monkeypatch):
    monkeypatch.setattr(Builder, "EXPECTED", {"": (118, 5)})
    with pytest.raises(UserError, match="holds 4 images of 2 people where five_faces has 118 of 5"):
        data.load_dataset("five_faces")


def test_it_publishes_no_pairs(five_faces):
    with pytest.raises(UserError, match="five_faces has no pair list 'view2': it publishes none"):
        data.load_dataset("five_faces").pairs("view2")


@pytest.mark.registry
def test_the_published_data_set(registry_cache):
    dataset = data.load_dataset("five_faces")
    assert len(dataset) == 118
    assert Counter(dataset.identities) == {
        "madonna": 24,
        "ben_afflek": 19,
        "elton_john": 22,
        "jerry_seinfeld": 26,
        "mindy_kaling": 27,
    }

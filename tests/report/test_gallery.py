import cv2
import numpy as np
import pytest

from tfface.data.crops import crop_stream
from tfface.data.folder import open_folder
from tfface.evaluation.mining import WrongPair
from tfface.preprocessing.images import recipe
from tfface.report.gallery import SHOWN, crops_by_key, draw_gallery

SIDE = 150
"""Of a face in the gallery: crops of this size are pasted as they are."""


@pytest.fixture
def dataset(tiny_faces):
    return open_folder(tiny_faces)


def wrong(dataset, first: int, second: int, rank: int = 1) -> WrongPair:
    keys, people = dataset.keys, dataset.identities
    return WrongPair("false_positive", rank, keys[first], keys[second], people[first], people[second], 0.2, 0.2, 0.4)


def draw(target, dataset, pairs) -> np.ndarray:
    draw_gallery(target, "false positives", pairs, dataset, recipe("center-140"), SIDE)
    return cv2.imread(str(target), cv2.IMREAD_COLOR_RGB)


def test_faces_are_those_that_the_model_sees(dataset):
    chosen = recipe("center-140")
    found = crops_by_key(dataset, chosen, 32, dataset.keys[3:5])
    for key, (crop, _) in zip(dataset.keys[3:5], crop_stream(dataset, chosen, 32, start=3, stop=5), strict=True):
        assert np.array_equal(found[key], np.rint(crop.numpy() * 255).astype(np.uint8))


def test_both_faces_stand_side_by_side(dataset, tmp_path):
    picture = draw(tmp_path / "one.png", dataset, [wrong(dataset, 0, 9)])
    faces = crops_by_key(dataset, recipe("center-140"), SIDE, [dataset.keys[0], dataset.keys[9]])
    for key, left in ((dataset.keys[0], 14), (dataset.keys[9], 14 + SIDE + 4)):
        assert np.array_equal(picture[44 : 44 + SIDE, left : left + SIDE], faces[key])


def test_no_more_pairs_than_can_be_looked_at(dataset, tmp_path):
    many = [wrong(dataset, 0, 9, rank) for rank in range(1, SHOWN + 10)]
    assert draw(tmp_path / "a.png", dataset, many).shape == draw(tmp_path / "b.png", dataset, many[:SHOWN]).shape
    assert draw(tmp_path / "c.png", dataset, many[:5]).shape[0] < draw(tmp_path / "d.png", dataset, many[:9]).shape[0]


def test_a_long_name_stays_below_its_own_face(dataset, tmp_path):
    pair = wrong(dataset, 0, 9)._replace(first_person="W" * 200, second_person="<b>名前</b>\n& more")
    picture = draw(tmp_path / "long.png", dataset, [pair])
    names = picture[44 + SIDE + 2 : 44 + SIDE + 18]
    assert (names[:, 14 : 14 + SIDE] < 128).any()
    assert (names[:, 14 + SIDE : 14 + SIDE + 4] > 250).all(), "the gap between the two names is clear"


def test_none_says_so(dataset, tmp_path):
    picture = draw(tmp_path / "none.png", dataset, [])
    assert picture.shape[0] < 150
    assert (picture[44:] < 200).any(), "a line of text below the title"

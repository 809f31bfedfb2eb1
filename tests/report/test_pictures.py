import numpy as np
import pytest

from tfface.report.pictures import SHOWN, GalleryPair, draw_gallery

SIDE = 150
"""Of a face in the gallery: crops of this size are pasted as they are."""


@pytest.fixture
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)


def pair(faces, rank: int = 1, people: tuple[str, str] = ("Ann", "Bob")) -> GalleryPair:
    return GalleryPair(faces, people, ("0.jpg", "1.jpg"), f"{rank}.  distance 0.200, 0.200 beyond 0.400")


def test_both_faces_stand_side_by_side(faces):
    picture = draw_gallery("false positives", [pair(faces)])
    for face, left in ((faces[0], 14), (faces[1], 14 + SIDE + 4)):
        assert np.array_equal(picture[44 : 44 + SIDE, left : left + SIDE], face)


def test_no_more_pairs_than_can_be_looked_at(faces):
    many = [pair(faces, rank) for rank in range(1, SHOWN + 10)]
    heights = {count: draw_gallery("false positives", many[:count]).shape[0] for count in (5, 9, SHOWN, len(many))}
    assert heights[len(many)] == heights[SHOWN]
    assert heights[5] < heights[9]


def test_a_long_name_stays_below_its_own_face(faces):
    picture = draw_gallery("false positives", [pair(faces, people=("W" * 200, "<b>名前</b>\n& more"))])
    names = picture[44 + SIDE + 2 : 44 + SIDE + 18]
    assert (names[:, 14 : 14 + SIDE] < 128).any()
    assert (names[:, 14 + SIDE : 14 + SIDE + 4] > 250).all(), "the gap between the two names is clear"


def test_none_says_so():
    picture = draw_gallery("false positives", [])
    assert picture.shape[0] < 150
    assert (picture[44:] < 200).any(), "a line of text below the title"

import numpy as np
import pytest

from tfface.artifacts.making import calibration_of
from tfface.data import FaceDataset, FolderFaces, Pairs
from tfface.errors import UserError
from tfface.preprocessing.images import recipe


class Lfw(FolderFaces):
    """LFW in small: of 8 people one each is in View 2's folds 8, 9 and 10 with a pair of each kind."""

    def pairs(self, name: str) -> Pairs:
        assert name == "view2"
        # Photographs 2p and 2p + 1 show person p; fold f (from 0) takes persons 2f - 14 and 2f - 13.
        rows = [
            (0, 1, True, 7),
            (0, 2, False, 7),
            (4, 5, True, 8),
            (4, 6, False, 8),
            (8, 9, True, 9),
            (8, 10, False, 9),
        ]
        first, second, same, fold = (np.array(column) for column in zip(*rows, strict=True))
        return Pairs(name, first, second, same.astype(bool), fold)


@pytest.fixture
def lfw(tmp_path) -> FaceDataset:
    keys = [f"p{person}/{number}.jpg" for person in range(8) for number in range(2)]
    return Lfw("lfw/deepfunneled", "1", keys, [key[:2] for key in keys], None, tmp_path)


def test_of_lfw_nobody_who_validates_or_is_held_out(lfw):
    calibration = calibration_of(lfw, images=100)
    assert set(calibration.photographs.identities) == {"p6", "p7"}
    assert calibration.record()["rule"] == "no one of LFW View 2's folds 8, 9 and 10"
    assert (calibration.record()["photographs"], calibration.record()["people"]) == (4, 2)


def test_a_seeded_draw(some_faces):
    draws = [calibration_of(some_faces, images=3, seed=seed).photographs for seed in (0, 0, 1, 2)]
    assert [len(draw) for draw in draws] == [3, 3, 3, 3]
    assert draws[0].keys == draws[1].keys
    assert len({tuple(draw.keys) for draw in draws}) > 1
    assert draws[0].version != draws[2].version


def test_photographs_that_cannot_be_read_are_left_out(some_faces):
    key = some_faces.keys[0]
    kept = (some_faces.folder / key).read_bytes()
    (some_faces.folder / key).write_bytes(b"text")
    try:
        images = calibration_of(some_faces).images(recipe("whole"), 16)
        assert (images.shape, images.dtype) == ((5, 16, 16, 3), np.float32)
        with pytest.raises(UserError, match=r"no photograph of .* can be read"):
            calibration_of(some_faces.take(np.array([0]), "bad")).images(recipe("whole"), 16)
    finally:
        (some_faces.folder / key).write_bytes(kept)

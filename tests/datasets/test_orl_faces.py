from collections import Counter

import cv2
import numpy as np
import pytest

from tfface import data
from tfface.data import prepared
from tfface.errors import UserError

Builder = prepared.builder_class("orl_faces")


def test_png_without_loss_in_natural_order(orl_faces):
    dataset = data.load_dataset("orl_faces")
    assert dataset.keys == ["s2/9.png", "s2/10.png", "s10/1.png"]
    for key, number in zip(dataset.keys, (9, 10, 1), strict=True):
        image = dataset.read(key)
        assert image.startswith(b"\x89PNG")
        np.testing.assert_array_equal(
            cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED), orl_faces.pixels(number)
        )


def test_what_is_no_picture_is_an_error():
    from orl_faces_dataset_builder import as_png

    with pytest.raises(UserError, match=r"s1/1\.pgm is no picture"):
        as_png(b"P5\n92", "s1/1.pgm")


@pytest.mark.registry
def test_the_published_data_set(registry_cache):
    dataset = data.load_dataset("orl_faces")
    assert (len(dataset), set(Counter(dataset.identities).values())) == (400, {10})
    assert dataset.keys[9:11] == ["s1/10.png", "s2/1.png"]
    assert cv2.imdecode(np.frombuffer(dataset.read("s40/10.png"), np.uint8), cv2.IMREAD_UNCHANGED).shape == (112, 92)

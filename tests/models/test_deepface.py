"""Against the network that the deepface package builds, in Keras 2."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfface.models import deepface

SIDE = 92
"""Smaller than the published 152, where the locally connected kernels take a gigabyte and a minute."""


def at_small_side(layer: type) -> Any:
    def make(*arguments: Any, **named: Any) -> Any:
        return layer(*arguments, **{**named, **({"input_shape": (SIDE, SIDE, 3)} if "input_shape" in named else {})})

    return make


@pytest.fixture(scope="module")
def package_network():
    """(features, whole network) by the deepface package's own code, which needs Keras 2."""
    import tf_keras

    path = Path(importlib.util.find_spec("deepface").origin).parent / "models/facial_recognition/tf/FbDeepFace.py"
    spec = importlib.util.spec_from_file_location("keras_2_deepface", path)
    module = importlib.util.module_from_spec(spec)
    whole = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tensorflow.keras", tf_keras)
        patch.setitem(sys.modules, "tensorflow.keras.models", tf_keras.models)
        patch.setitem(sys.modules, "tensorflow.keras.layers", tf_keras.layers)
        spec.loader.exec_module(module)
        patch.setattr(module, "Convolution2D", at_small_side(module.Convolution2D))
        patch.setattr(module.weight_utils, "download_weights_if_necessary", lambda **_: "")
        patch.setattr(module.weight_utils, "load_model_weights", lambda model, **_: whole.append(model) or model)
        features = module.load_model()
    return features, whole[0]


@pytest.fixture(scope="module")
def file(package_network, randomise, tmp_path_factory) -> Path:
    randomise(package_network[1])
    path = tmp_path_factory.mktemp("deepface") / "VGGFace2_DeepFace_weights_val-0.9034.h5"
    package_network[1].save_weights(path)
    return path


def test_equals_the_deepface_package(package_network, file, make_images, unit, assert_same_embeddings):
    ours = deepface.deepface(input_size=SIDE)
    deepface.load_weights(ours, file)  # the 35 million weights of F8 stay unused
    images = make_images(3, SIDE)
    assert_same_embeddings(np.asarray(ours(images)), unit(package_network[0](images)))


def test_another_size_is_refused(file):
    with pytest.raises(ValueError, match="layer L4: kernel has shape"):
        deepface.load_weights(deepface.deepface(input_size=72), file)


def test_number_of_weights_at_the_published_size_by_hand():
    """152 -C1-> 142 -M2-> 71 -C3-> 63 -L4-> 55 -L5-> (55 - 7) / 2 + 1 = 25 -L6-> 21; F0 21 * 21 * 16 = 7056.

    C1 11*11*3*32 + 32, C3 9*9*32*16 + 16; a locally connected layer has a kernel and biases for
    each place: L4 55*55*(9*9*16*16 + 16), L5 25*25*(7*7*16*16 + 16), L6 21*21*(5*5*16*16 + 16);
    F7 7056*4096 + 4096.
    """
    model = deepface.deepface()
    counts = {layer.name: layer.count_params() for layer in model.layers if layer.weights}
    assert counts == {
        "C1": 11_648,
        "C3": 41_488,
        "L4": 62_774_800,
        "L5": 7_850_000,
        "L6": 2_829_456,
        "F7": 28_905_472,
    }
    assert model.count_params() == 102_412_864


def test_projection():
    assert deepface.deepface(input_size=72, projection=16).output_shape == (None, 16)

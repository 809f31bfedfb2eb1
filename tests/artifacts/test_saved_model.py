import dataclasses
import json

import cv2
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tfface.artifacts.artifact import fixed_recipe
from tfface.artifacts.saved_model import Service, grown_box
from tfface.errors import UserError
from tfface.models._embedder import load_embedder
from tfface.preprocessing.decoding import decode
from tfface.preprocessing.images import crop_files, crop_resize, recipe

PYTHON_ONLY = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction"}


@pytest.fixture(scope="module")
def served(made):
    """The SavedModel loaded anew: signature name -> function of numpy arrays."""
    return made("savedmodel").embedder()


@pytest.fixture(scope="module")
def files(make_photo):
    return [
        cv2.imencode(kind, make_photo(person, 0, 90 + person, 120)[:, :, ::-1])[1].tobytes()
        for person, kind in enumerate([".jpg", ".png", ".jpg"])
    ]


def test_crops_as_the_keras_model_embeds_them(served, tiny_embedder, crops):
    np.testing.assert_allclose(served.embed(crops), tiny_embedder.embed(crops), atol=1e-6)


def test_files_as_the_project_embeds_them(served, tiny_embedder, files):
    expected = tiny_embedder.embed(crop_files(files, recipe("center-140"), 32)[0])
    answer = served.call("embed_jpeg", file=files)
    assert answer["valid"].tolist() == [1, 1, 1]
    np.testing.assert_allclose(answer["embedding"], expected, atol=1e-5)


def test_a_bad_file_does_its_neighbours_no_harm(served, files):
    alone = served.call("embed_jpeg", file=files)["embedding"]
    mixed = [b"", files[0], files[0][:400], b"text", files[1], files[1][:-12], files[2], b"GIF89a"]
    answer = served.call("embed_jpeg", file=mixed)
    assert answer["valid"].tolist() == [0, 1, 0, 0, 1, 0, 1, 0]
    np.testing.assert_allclose(answer["embedding"][[1, 4, 6]], alone, atol=1e-6)
    assert not answer["embedding"][[0, 2, 3, 5, 7]].any()


def test_nothing_but_bad_files_for_a_network_that_takes_no_empty_batch(tiny_embedder):
    from tfface.models.student import inception_resnet_simple

    preset = dataclasses.replace(tiny_embedder.preset, input_size=140, embedding_size=8)
    model = inception_resnet_simple(input_size=140, embedding_size=8)
    service = Service(model, preset, recipe("whole"))
    answer = service.signatures()["embed_jpeg"](tf.constant([b"text"]))
    assert (answer["valid"].numpy().tolist(), answer["embedding"].numpy().tolist()) == ([0], [[0] * 8])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_nothing_but_bad_files(served, count):
    answer = served.call("embed_jpeg", file=np.array([b"text"] * count, object))
    assert answer["valid"].tolist() == [0] * count
    assert answer["embedding"].shape == (count, 16)


def test_boxes_are_those_of_the_recipe(made, tiny_embedder, files):
    preset = dataclasses.replace(tiny_embedder.preset, recipe="mtcnn-v1-margin0.20")
    service = Service(tiny_embedder.model, preset, recipe("whole"))
    pixels = decode(files[0])
    height, width = pixels.shape[:2]
    x, y, wide, high = 30, 20, 50, 60
    box = recipe(preset.recipe).box(height, width, np.array([x, y, wide, high]))
    # Grown by a tenth on each side: 5 px left and right, 6 px above and below.
    assert box.tolist() == [25, 14, 85, 86]
    normalised = [y / height, x / width, (y + high) / height, (x + wide) / width]
    np.testing.assert_allclose(grown_box(tf.constant(normalised), tf.constant(pixels), 0.2), box, atol=1e-4)
    answer = service.signatures()["embed_jpeg_boxes"](tf.constant(files[:1]), tf.constant([normalised]))
    expected = tiny_embedder.embed(crop_resize(pixels, box, 32)[None])
    np.testing.assert_allclose(answer["embedding"], expected, atol=1e-5)


def test_boxes_that_are_none(served, files):
    inside = [0.2, 0.2, 0.8, 0.8]
    boxes = [inside, [0.8, 0.2, 0.2, 0.8], [0.2, 1.1, 0.8, 1.5], [np.nan, 0, 1, 1], [0, 0, np.inf, 1], [-1, -1, 2, 2]]
    answer = served.call("embed_jpeg_boxes", file=[files[0]] * len(boxes), box=np.array(boxes, np.float32))
    assert answer["valid"].tolist() == [1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(("metric", "threshold"), [("cosine", 0.2), ("euclidean", 0.6)])
def test_verify_by_hand(tiny_embedder, crops, metric, threshold):
    preset = dataclasses.replace(tiny_embedder.preset, metric=metric, threshold=threshold)
    service = Service(tiny_embedder.model, preset, recipe("whole"))
    answer = service.signatures()["verify"](tf.constant(crops[[0, 0, 2]]), tf.constant(crops[[0, 1, 3]]))
    a, b = tiny_embedder.embed(crops[[0, 0, 2]]), tiny_embedder.embed(crops[[0, 1, 3]])
    cosine = [1 - float(x @ y) for x, y in zip(a, b, strict=True)]
    expected = cosine if metric == "cosine" else [np.sqrt(max(2 * value, 0)) for value in cosine]
    np.testing.assert_allclose(answer["distance"], expected, atol=2e-3)
    assert answer["same"].numpy().tolist() == [int(value <= threshold) for value in expected]
    assert answer["same"].numpy()[0] == 1


@pytest.mark.parametrize("shape", [(1, 4), (1, 30, 32, 3), (32, 32, 3)])
@pytest.mark.parametrize("signature", ["serving_default", "verify"])
def test_crops_of_another_shape_do_not_end_the_server(made, signature, shape):
    # As a server does it: what is fed is not held against the signature's shape.
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(made("savedmodel").path))
        definition = loaded.signature_def[signature]
        options = config_pb2.CallableOptions(
            feed=[info.name for info in definition.inputs.values()],
            fetch=[info.name for info in definition.outputs.values()],
        )
        call = session._make_callable_from_options(options)
        good = np.zeros((1, 32, 32, 3), np.float32)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"not compatible with expected shape \[\?,32,32,3\]"):
            call(np.zeros(shape, np.float32), *[good] * (len(options.feed) - 1))
        assert len(call(*[good] * len(options.feed))) == len(options.fetch)


def test_core_operations_alone(made):
    data = (made("savedmodel").path / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(data).meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    assert len(nodes) > 100
    assert {node.op for node in nodes} & PYTHON_ONLY == set()


def test_assets_say_what_it_is(made):
    assets = made("savedmodel").path / "assets"
    assert (assets / "labels.txt").read_text().splitlines() == ["different people", "same person"]
    metadata = json.loads((assets / "metadata.json").read_text())
    assert metadata["preset"]["name"] == "tiny/random"
    assert metadata["recipe"] == "center-140"


def test_warm_up_requests_are_answered(made, served):
    path = made("savedmodel").path / "assets.extra" / "tf_serving_warmup_requests"
    asked = []
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        answer = served.call(request.model_spec.signature_name, **inputs)
        assert all(answer.get("valid", [1]))
        asked.append(request.model_spec.signature_name)
    assert sorted(asked) == ["embed_jpeg", "embed_jpeg_boxes", "serving_default", "verify"]


def test_the_recipe_is_one_without_faces(tiny_embedder):
    preset = tiny_embedder.preset
    assert fixed_recipe(None, preset).name == "whole"
    assert fixed_recipe("center-200", preset).name == "center-200"
    detecting = dataclasses.replace(preset, recipe="mtcnn-v1-margin0.20")
    assert fixed_recipe(None, detecting).name == "center-140"
    with pytest.raises(UserError, match="embed_jpeg_boxes"):
        fixed_recipe("mtcnn-v1-margin0.20", preset)


@pytest.mark.parametrize(
    ("format", "quantization", "scale"),
    [
        ("savedmodel", "none", "0..1"),
        ("tflite", "none", "0..1"),
        ("tflite", "float16", "0..255"),
        ("tflite", "int8", "0..1"),
    ],
)
def test_by_its_path_it_is_a_model_of_which_nothing_need_be_said(
    made, tiny_embedder, crops, format, quantization, scale
):
    artifact = made(format, quantization)
    embedder = load_embedder(artifact.path)
    np.testing.assert_allclose(embedder.embed(crops), artifact.embedder().embed(crops), atol=1e-6)
    assert embedder.input_format.scale == scale
    given = {name: getattr(tiny_embedder.preset, name) for name in ("recipe", "metric", "threshold")}
    assert {name: getattr(embedder.preset, name) for name in given} == given
